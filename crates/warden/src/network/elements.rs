//! One session's elements in the router's map and set: written and removed over a long-lived netlink socket, in microseconds.
//!
//! Every element carries a kernel time-out that ends with the session, so that a permit's end cuts its traffic even if the warden
//! is dead. The warden only names marks that it has given out itself.

use std::io;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use sulku_plan::Allowed;
use sulku_plan::ruleset::{ALLOWED, RELAYED, SESSIONS, TABLE};

use super::netlink::{ACK, CREATE, Message, Part, Socket};
use super::pool::CellNetwork;
use crate::relay::Relay;

const NFPROTO_INET: u8 = 1;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_ELEMENTS: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM << 8 | 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_TIMEOUT: u16 = 4;
const ELEMENT_KEY_END: u16 = 10;
const DATA_VALUE: u16 = 1;
/// Elements in one message, so that no attribute comes near its 64 KiB.
const ELEMENTS_A_MESSAGE: usize = 256;

/// One interval of addresses at one port.
#[derive(Debug, Clone)]
struct Open {
    to: Ipv4Net,
    protocol: u8,
    port: u16,
    until: Option<Timestamp>,
}

/// What leads out of the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// Links, for every packet.
    All,
    /// A relay, for connections: a datagram that nobody carries on is as good as denied.
    Tcp,
}

/// What one live session may do on the network.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The session's mark.
    pub mark: u32,
    /// The name of the router's end of its link.
    interface: String,
    /// Its address.
    address: Ipv4Addr,
    /// Where it may go, without overlaps: a permit that lists an address and port twice is refused.
    to: Vec<Open>,
}

impl Grant {
    /// The grant of a session with this mark behind this link.
    #[must_use]
    pub fn new(mark: u32, network: &CellNetwork, destinations: &[Allowed]) -> Self {
        let open = |allowed: &Allowed| match allowed.to {
            IpNet::V4(network) => {
                Some(Open { to: network.trunc(), protocol: allowed.port.protocol.number(), port: allowed.port.number, until: allowed.until })
            }
            // IPv6 is off in cells; a destination there is as good as denied.
            IpNet::V6(_) => None,
        };
        Self { mark, interface: network.interface(), address: network.address, to: destinations.iter().filter_map(open).collect() }
    }

    fn session_key(&self) -> Vec<u8> {
        let mut key = self.interface.clone().into_bytes();
        key.resize(16, 0);
        key.extend(self.address.octets());
        key
    }

    /// The first and the last key of each interval, and when it closes.
    fn allowed_keys(&self, carried: Carried) -> impl Iterator<Item = (Vec<u8>, Vec<u8>, Option<Timestamp>)> + '_ {
        let key = |address: Ipv4Addr, protocol: u8, port: u16| {
            // In a set of intervals nft compares every field in network order.
            let mut key = self.mark.to_be_bytes().to_vec();
            key.extend(address.octets());
            key.extend([protocol, 0, 0, 0]);
            key.extend(port.to_be_bytes());
            key.extend([0, 0]);
            key
        };
        let is_carried = move |open: &&Open| carried == Carried::All || i32::from(open.protocol) == libc::IPPROTO_TCP;
        self.to
            .iter()
            .filter(is_carried)
            .map(move |Open { to, protocol, port, until }| (key(to.network(), *protocol, *port), key(to.broadcast(), *protocol, *port), *until))
    }
}

/// The writer of elements, and of the relay's list of living cells where there is one: whoever may pass the one passes the other.
#[derive(Debug)]
pub struct Elements {
    socket: Socket,
    relay: Option<Relay>,
}

impl Elements {
    /// Opens the socket in the network namespace in which this runs: the router's.
    pub(super) fn open(relay: Option<Relay>) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Part::Filter, 0)?, relay })
    }

    /// Turns connections to the relay, where there is one.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn turn_to_relay(&self) -> io::Result<()> {
        let tcp = [element(&[libc::IPPROTO_TCP as u8], None, None, None)];
        if self.relay.is_some() { self.batch(messages(NEW_ELEMENTS, CREATE, RELAYED, &tcp)) } else { Ok(()) }
    }

    /// The relay, where there is one.
    #[must_use]
    pub const fn relay(&self) -> Option<&Relay> {
        self.relay.as_ref()
    }

    /// Lets the session's packets through for so long, and to each destination until that closes.
    ///
    /// # Errors
    /// The kernel refused; nothing of the session is there then.
    pub fn admit(&self, grant: &Grant, now: Timestamp, ends: Timestamp) -> io::Result<()> {
        if let Some(relay) = &self.relay {
            relay.open(grant.address)?;
        }
        let ms = |end: Timestamp| u64::try_from(end.duration_since(now).as_millis()).unwrap_or_default();
        let lasts_ms = ms(ends).max(1);
        let session = element(&grant.session_key(), None, Some(grant.mark), Some(lasts_ms));
        let open = |(first, last, until): (Vec<u8>, Vec<u8>, Option<Timestamp>)| {
            let lasts_ms = until.map_or(lasts_ms, |until| ms(until).min(lasts_ms));
            (lasts_ms > 0).then(|| element(&first, Some(&last), None, Some(lasts_ms)))
        };
        let allowed: Vec<_> = grant.allowed_keys(self.carried()).filter_map(open).collect();
        self.batch(messages(NEW_ELEMENTS, CREATE, ALLOWED, &allowed).chain(messages(NEW_ELEMENTS, CREATE, SESSIONS, &[session])))
    }

    /// Lets nothing of the session through any more, in either direction.
    ///
    /// # Errors
    /// The kernel refused. A session that has no elements is none: that is what was asked.
    pub fn revoke(&self, grant: &Grant) -> io::Result<()> {
        // The session's element alone cuts it off; it goes first and by itself.
        let session = element(&grant.session_key(), None, None, None);
        let cut = missing_is_gone(self.batch(messages(DELETE_ELEMENTS, 0, SESSIONS, &[session])));
        // What has passed the router already is in the relay's hands.
        let closed = self.relay.as_ref().map_or(Ok(()), |relay| relay.close(grant.address));
        cut.and(closed)?;
        let allowed: Vec<_> = grant.allowed_keys(self.carried()).map(|(first, last, _)| element(&first, Some(&last), None, None)).collect();
        // An element that timed out makes the kernel refuse the batch; without their session the rest are inert and time out too.
        missing_is_gone(self.batch(messages(DELETE_ELEMENTS, 0, ALLOWED, &allowed)))
    }

    fn carried(&self) -> Carried {
        if self.relay.is_some() { Carried::Tcp } else { Carried::All }
    }

    fn batch(&self, messages: impl Iterator<Item = Message>) -> io::Result<()> {
        let edge = |kind| Message::new(kind, 0, &[0, 0, 0, 10]);
        let batch: Vec<_> = [edge(BATCH_BEGIN)].into_iter().chain(messages).chain([edge(BATCH_END)]).collect();
        self.socket.request(&batch).map(drop)
    }
}

fn missing_is_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn messages<'a>(kind: u16, flags: u16, set: &'static str, elements: &'a [Element]) -> impl Iterator<Item = Message> + 'a {
    elements.chunks(ELEMENTS_A_MESSAGE).map(move |elements| {
        Message::new(kind, ACK | flags, &[NFPROTO_INET, 0, 0, 0]).with_name(LIST_TABLE, TABLE).with_name(LIST_SET, set).with_nested(
            LIST_ELEMENTS,
            |list| {
                elements.iter().fold(list, |list, Element { key, key_end, data, timeout_ms }| {
                    list.with_nested(LIST_ELEMENT, |element| {
                        let mut element = element.with_nested(ELEMENT_KEY, |inside| inside.with(DATA_VALUE, key));
                        if let Some(key_end) = key_end {
                            element = element.with_nested(ELEMENT_KEY_END, |inside| inside.with(DATA_VALUE, key_end));
                        }
                        if let Some(data) = data {
                            element = element.with_nested(ELEMENT_DATA, |inside| inside.with(DATA_VALUE, &data.to_ne_bytes()));
                        }
                        if let Some(timeout_ms) = timeout_ms {
                            element = element.with(ELEMENT_TIMEOUT, &timeout_ms.to_be_bytes());
                        }
                        element
                    })
                })
            },
        )
    })
}

struct Element {
    key: Vec<u8>,
    key_end: Option<Vec<u8>>,
    data: Option<u32>,
    timeout_ms: Option<u64>,
}

fn element(key: &[u8], key_end: Option<&[u8]>, data: Option<u32>, timeout_ms: Option<u64>) -> Element {
    Element { key: key.to_vec(), key_end: key_end.map(<[u8]>::to_vec), data, timeout_ms }
}
