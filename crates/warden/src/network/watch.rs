//! What the router sees: copies of denied packets (NFLOG) and the ends of flows (conntrack), each with its session's mark.
//!
//! It parses headers that the kernel copied and says what they were; it decides nothing. Payload is never looked at.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};

use super::netlink::{ACK, Message, Part, Socket, attribute, parsed};
use super::rules::LOG_GROUP;

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
const LOG_SEQUENCE: u16 = 12;

const CONNTRACK_DELETE: u16 = 1 << 8 | 2;
const CONNTRACK_DESTROYED_GROUP: u32 = 1 << 2;
const FLOW_ORIGINAL: u16 = 1;
const FLOW_MARK: u16 = 8;
const FLOW_BYTES_ORIGINAL: u16 = 9;
const FLOW_BYTES_REPLY: u16 = 10;
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
    /// Where it wanted to.
    pub destination: Ipv4Addr,
    /// The port there; 0 for protocols without.
    pub port: u16,
    /// Denied packets before this one of which no copy reached the warden.
    pub lost: u64,
}

/// A flow that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The session's mark.
    pub mark: u32,
    /// The IP protocol's number.
    pub protocol: u8,
    /// Where to.
    pub destination: Ipv4Addr,
    /// The port there.
    pub port: u16,
    /// Bytes that the cell sent, IP headers included.
    pub bytes_out: u64,
    /// Bytes that the cell received, IP headers included.
    pub bytes_in: u64,
}

/// One thing seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// A denied packet.
    Denied(Denial),
    /// An ended flow.
    Ended(Flow),
}

/// The sockets that watch the router.
#[derive(Debug)]
pub struct Watch {
    denials: Socket,
    flows: Socket,
    control: Socket,
    next_sequence: Option<u32>,
}

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
        Ok(Self { denials, flows, control: Socket::open(Part::Filter, 0)?, next_sequence: None })
    }

    /// Descriptors that become readable when something was seen.
    #[must_use]
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.denials.as_fd(), self.flows.as_fd()]
    }

    /// What was seen since the last call: at most one packet of denials and one of flows, so that nobody can keep the warden busy.
    pub fn sightings(&mut self) -> Vec<Sighting> {
        let mut seen = Vec::new();
        // An overflow (ENOBUFS) loses copies; the gap in their numbers says how many.
        if let Ok(Some(packet)) = self.denials.receive() {
            for (_, body) in parsed(&packet).filter(|(kind, _)| *kind == NFLOG_PACKET) {
                let sequence = number(body.get(HEADER_BYTES..).and_then(|body| attribute(body, LOG_SEQUENCE)));
                let lost = self.next_sequence.map_or(0, |next| u64::from(sequence.wrapping_sub(next)));
                self.next_sequence = Some(sequence.wrapping_add(1));
                seen.extend(denial(body, lost).map(Sighting::Denied));
            }
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
                return Vec::new();
            }
        };
        parsed(&packet).filter(|(kind, _)| *kind == CONNTRACK_DELETE).filter_map(|(_, body)| flow(body)).map(Sighting::Ended).collect()
    }
}

/// A number in network order; 0 where it is absent.
fn number(value: Option<&[u8]>) -> u32 {
    value.and_then(|value| value.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn denial(body: &[u8], lost: u64) -> Option<Denial> {
    let body = body.get(HEADER_BYTES..)?;
    let packet = attribute(body, LOG_PAYLOAD)?;
    let (version, words) = packet.first().map(|first| (first >> 4, first & 15))?;
    let destination = packet.get(16..20).filter(|_| version == 4)?;
    let protocol = *packet.get(9)?;
    let has_ports =
        matches!(i32::from(protocol), libc::IPPROTO_TCP | libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE | libc::IPPROTO_SCTP | libc::IPPROTO_DCCP);
    let start = usize::from(words) * 4;
    let port = packet.get(start + 2..start + 4).filter(|_| has_ports).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let destination = Ipv4Addr::new(destination[0], destination[1], destination[2], destination[3]);
    Some(Denial { mark: number(attribute(body, LOG_MARK)), interface: number(attribute(body, LOG_INTERFACE)), protocol, destination, port, lost })
}

fn flow(body: &[u8]) -> Option<Flow> {
    let body = body.get(HEADER_BYTES..)?;
    let original = attribute(body, FLOW_ORIGINAL)?;
    let destination: [u8; 4] = attribute(attribute(original, 1)?, 2)?.try_into().ok()?;
    let transport = attribute(original, 2)?;
    let protocol = *attribute(transport, 1)?.first()?;
    let port = attribute(transport, 3).and_then(|port| port.try_into().ok()).map_or(0, u16::from_be_bytes);
    let bytes = |direction| {
        let counters = attribute(body, direction)?;
        attribute(counters, 2)?.try_into().ok().map(u64::from_be_bytes)
    };
    let mark = number(attribute(body, FLOW_MARK));
    let (bytes_out, bytes_in) = (bytes(FLOW_BYTES_ORIGINAL).unwrap_or(0), bytes(FLOW_BYTES_REPLY).unwrap_or(0));
    (mark != 0).then_some(Flow { mark, protocol, destination: destination.into(), port, bytes_out, bytes_in })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the kernel sends holds bytes that a cell chose; no such bytes may stop the warden.
        #[test]
        fn whatever_a_packet_holds_it_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), ihl in 0_u8..16) {
            let _ = (denial(&bytes, 0), flow(&bytes));
            for (_, body) in parsed(&bytes) {
                let _ = (denial(body, 0), flow(body));
            }
            let mut packet = bytes;
            if let Some(first) = packet.first_mut() {
                *first = 4 << 4 | ihl;
            }
            let length = (packet.len() + 4) as u16;
            let body = [&[0; HEADER_BYTES][..], &length.to_ne_bytes(), &LOG_PAYLOAD.to_ne_bytes(), &packet].concat();
            prop_assert_eq!(denial(&body, 7).is_some(), packet.len() >= 20);
        }
    }
}
