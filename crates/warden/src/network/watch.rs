//! What the router sees: copies of denied packets (NFLOG) and the ends of flows (conntrack), each with its session's mark.
//!
//! It parses headers that the kernel copied and says what they were; it decides nothing. Payload is never looked at.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use sulku_audit::{Observed, WhyDenied};

use super::netlink::{ACK, Message, Part, Socket, attribute, parsed};
use super::rules::{LOG_GROUP, why};

const NFLOG_PACKET: u16 = 4 << 8;
const NFLOG_CONFIG: u16 = 4 << 8 | 1;
const CONFIG_COMMAND: u16 = 1;
const CONFIG_MODE: u16 = 2;
const CONFIG_THRESHOLD: u16 = 5;
const CONFIG_FLAGS: u16 = 6;
const COMMAND_BIND: u8 = 1;
const COPY_PACKET: u8 = 2;
const FLAG_SEQUENCE: u16 = 1;
const LOG_MARK: u16 = 2;
const LOG_INTERFACE: u16 = 4;
const LOG_PAYLOAD: u16 = 9;
const LOG_PREFIX: u16 = 10;
const LOG_SEQUENCE: u16 = 12;

const CONNTRACK_DELETE: u16 = 1 << 8 | 2;
const CONNTRACK_DESTROYED_GROUP: u32 = 1 << 2;
const FLOW_ORIGINAL: u16 = 1;
const FLOW_MARK: u16 = 8;
const FLOW_BYTES_ORIGINAL: u16 = 9;
const FLOW_BYTES_REPLY: u16 = 10;
const FLOW_TIMES: u16 = 20;
const FLOW_MARK_MASK: u16 = 21;

/// Length of the netfilter header before a message's attributes.
const HEADER_BYTES: usize = 4;

/// A packet that a cell sent and the router denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// The session's mark; 0 when the packet came from nobody's address.
    pub mark: u32,
    /// The index of the link it came over.
    pub interface: u32,
    /// The IP protocol's number.
    pub protocol: u8,
    /// Whose address it bears.
    pub source: Ipv4Addr,
    /// The port it came from; 0 for protocols without.
    pub source_port: u16,
    /// Where it wanted to.
    pub destination: Ipv4Addr,
    /// The port there; 0 for protocols without.
    pub port: u16,
    /// Why it did not pass, as the rule that denied it says.
    pub reason: WhyDenied,
}

/// A flow that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The session's mark.
    pub mark: u32,
    /// The IP protocol's number.
    pub protocol: u8,
    /// Where from.
    pub source: Ipv4Addr,
    /// The port there.
    pub source_port: u16,
    /// Where to.
    pub destination: Ipv4Addr,
    /// The port there.
    pub port: u16,
    /// Bytes that the cell sent, IP headers included.
    pub bytes_out: u64,
    /// Bytes that the cell received, IP headers included.
    pub bytes_in: u64,
    /// How long it lasted, if the kernel tells.
    pub lasted: Option<Duration>,
}

/// One thing seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// A denied packet.
    Denied(Denial),
    /// An ended flow.
    Ended(Flow),
    /// Something that the kernel could not keep for the warden, and how many of it, if that is known.
    Lost(Observed, Option<u64>),
}

/// The sockets that watch the router.
#[derive(Debug)]
pub struct Watch {
    denials: Socket,
    flows: Socket,
    control: Socket,
    next_sequence: Option<u32>,
    /// Copies of denied packets were lost then; the gap in their numbers will say how many, if more come.
    overflowed: Option<Instant>,
}

/// A gap in the copies' numbers shows with the next copy. So long without one, the number of those lost is unknown.
const GAP_SHOWS_WITHIN: Duration = Duration::from_secs(5);

impl Watch {
    /// Opens them in the network namespace in which this runs: the router's.
    pub(super) fn open() -> io::Result<Self> {
        let denials = Socket::open(Part::Filter, 0)?.with_room()?;
        let [high, low] = LOG_GROUP.to_be_bytes();
        let config = || Message::new(NFLOG_CONFIG, ACK, &[libc::AF_UNSPEC as u8, 0, high, low]);
        denials.request(&[config().with(CONFIG_COMMAND, &[COMMAND_BIND])])?;
        let mode = [&64_u32.to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
        // At once, not in lots: what a session did is known before the session is gone.
        let settings =
            config().with(CONFIG_MODE, &mode).with(CONFIG_THRESHOLD, &1_u32.to_be_bytes()).with(CONFIG_FLAGS, &FLAG_SEQUENCE.to_be_bytes());
        denials.request(&[settings])?;
        let flows = Socket::open(Part::Filter, CONNTRACK_DESTROYED_GROUP)?.with_room()?;
        Ok(Self { denials, flows, control: Socket::open(Part::Filter, 0)?, next_sequence: None, overflowed: None })
    }

    /// Descriptors that become readable when something was seen.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.denials.as_fd(), self.flows.as_fd()]
    }

    /// What was seen since the last call: at most one packet of denials and one of flows, so that nobody can keep the warden busy.
    pub fn sightings(&mut self) -> Vec<Sighting> {
        let mut seen = Vec::new();
        match self.denials.receive() {
            Ok(Some(packet)) => {
                for (_, body) in parsed(&packet).filter(|(kind, _)| *kind == NFLOG_PACKET) {
                    let sequence = number(body.get(HEADER_BYTES..).and_then(|body| attribute(body, LOG_SEQUENCE)));
                    let lost = self.next_sequence.map_or(0, |next| u64::from(sequence.wrapping_sub(next)));
                    self.next_sequence = Some(sequence.wrapping_add(1));
                    seen.extend((lost > 0).then_some(Sighting::Lost(Observed::DeniedPackets, Some(lost))));
                    seen.extend(denial(body).map(Sighting::Denied));
                    self.overflowed = None;
                }
            }
            Ok(None) => {}
            // ENOBUFS: copies were lost.
            Err(_) => drop(self.overflowed.get_or_insert_with(Instant::now)),
        }
        if self.overflowed.is_some_and(|since| since.elapsed() >= GAP_SHOWS_WITHIN) {
            (self.overflowed, self.next_sequence) = (None, None);
            seen.push(Sighting::Lost(Observed::DeniedPackets, None));
        }
        seen.extend(self.ended_flows());
        seen
    }

    /// Ends every flow of the mark. Their last byte counts are seen by the next calls of [`Watch::ended_flows`].
    ///
    /// # Errors
    /// The kernel refused.
    pub fn end_flows(&self, mark: u32) -> io::Result<()> {
        let delete = Message::new(CONNTRACK_DELETE, ACK, &[libc::AF_UNSPEC as u8, 0, 0, 0]);
        self.control.request(&[delete.with(FLOW_MARK, &mark.to_be_bytes()).with(FLOW_MARK_MASK, &u32::MAX.to_be_bytes())]).map(drop)
    }

    /// Flows that ended since the last call: at most one packet of them.
    pub fn ended_flows(&self) -> Vec<Sighting> {
        let packet = match self.flows.receive() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Vec::new(),
            Err(error) => {
                tracing::error!(%error, "ends of flows were lost; their bytes are in no entry");
                return vec![Sighting::Lost(Observed::EndedFlows, None)];
            }
        };
        parsed(&packet).filter(|(kind, _)| *kind == CONNTRACK_DELETE).filter_map(|(_, body)| flow(body)).map(Sighting::Ended).collect()
    }
}

/// A number in network order; 0 where it is absent.
fn number(value: Option<&[u8]>) -> u32 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn denial(body: &[u8]) -> Option<Denial> {
    let body = body.get(HEADER_BYTES..)?;
    let packet = attribute(body, LOG_PAYLOAD)?;
    let (version, words) = packet.first().map(|first| (first >> 4, first & 15))?;
    let address = |from: usize| packet.get(from..from + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(Ipv4Addr::from);
    let (source, destination) = (address(12)?, address(16).filter(|_| version == 4)?);
    let protocol = *packet.get(9)?;
    let has_ports =
        matches!(i32::from(protocol), libc::IPPROTO_TCP | libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE | libc::IPPROTO_SCTP | libc::IPPROTO_DCCP);
    let start = usize::from(words) * 4;
    let port_at = |from: usize| packet.get(from..from + 2).filter(|_| has_ports).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let reason = why(attribute(body, LOG_PREFIX).unwrap_or_default());
    let (mark, interface) = (number(attribute(body, LOG_MARK)), number(attribute(body, LOG_INTERFACE)));
    Some(Denial { mark, interface, protocol, source, source_port: port_at(start), destination, port: port_at(start + 2), reason })
}

fn flow(body: &[u8]) -> Option<Flow> {
    let body = body.get(HEADER_BYTES..)?;
    let original = attribute(body, FLOW_ORIGINAL)?;
    let address = |kind| attribute(attribute(original, 1)?, kind)?.try_into().ok().map(<[u8; 4]>::into);
    let (source, destination) = (address(1)?, address(2)?);
    let transport = attribute(original, 2)?;
    let protocol = *attribute(transport, 1)?.first()?;
    let port = |kind| attribute(transport, kind).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
    let long = |outer, inner| attribute(attribute(body, outer)?, inner)?.try_into().ok().map(u64::from_be_bytes);
    let mark = number(attribute(body, FLOW_MARK));
    let (bytes_out, bytes_in) = (long(FLOW_BYTES_ORIGINAL, 2).unwrap_or(0), long(FLOW_BYTES_REPLY, 2).unwrap_or(0));
    let lasted = long(FLOW_TIMES, 1).zip(long(FLOW_TIMES, 2)).map(|(began, ended)| Duration::from_nanos(ended.saturating_sub(began)));
    let (source_port, port) = (port(2), port(3));
    (mark != 0).then_some(Flow { mark, protocol, source, source_port, destination, port, bytes_out, bytes_in, lasted })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the kernel sends holds bytes that a cell chose; no such bytes may stop the warden.
        #[test]
        fn whatever_a_packet_holds_it_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), ihl in 0_u8..16) {
            let _ = (denial(&bytes), flow(&bytes));
            for (_, body) in parsed(&bytes) {
                let _ = (denial(body), flow(body));
            }
            let mut packet = bytes;
            if let Some(first) = packet.first_mut() {
                *first = 4 << 4 | ihl;
            }
            let length = (packet.len() + 4) as u16;
            let body = [&[0; HEADER_BYTES][..], &length.to_ne_bytes(), &LOG_PAYLOAD.to_ne_bytes(), &packet].concat();
            prop_assert_eq!(denial(&body).is_some(), packet.len() >= 20);
        }
    }
}
