//! What a workspace may reach.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Place;
use super::name::{HostName, NamePattern};

/// A transport protocol that may be allowed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// How a destination that is listed by name is held to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameCheck {
    /// TLS connections to port 443 must name a host that the destination lists, at an address that was the answer for that name.
    NameChecked,
    /// The addresses that the name has are reached as if the permit listed them.
    AddressOnly,
    /// Listed and shut: nothing is resolved, nothing passes, whatever a wider pattern says.
    Closed,
}

impl NameCheck {
    /// All of them, the strictest that lets anything through first.
    pub const ALL: &[Self] = &[Self::NameChecked, Self::AddressOnly, Self::Closed];

    /// As permits write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NameChecked => "name-checked",
            Self::AddressOnly => "address-only",
            Self::Closed => "closed",
        }
    }
}

/// What a destination is: addresses, or names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// An address (as a full-length prefix) or a network.
    Network(IpNet),
    /// Hosts by name.
    Names(Names),
}

/// Hosts that a permit lists by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Which.
    pub pattern: NamePattern,
    /// How they are held to the name.
    pub check: NameCheck,
    /// Where their addresses must lie; empty means anywhere public.
    pub within: Vec<IpNet>,
}

impl Reach {
    /// The network, if it is one.
    #[must_use]
    pub const fn network(&self) -> Option<&IpNet> {
        match self {
            Self::Network(network) => Some(network),
            Self::Names(_) => None,
        }
    }

    /// The names, if it is those.
    #[must_use]
    pub const fn names(&self) -> Option<&Names> {
        match self {
            Self::Network(_) => None,
            Self::Names(names) => Some(names),
        }
    }
}

impl fmt::Display for Reach {
    /// A single address without its prefix length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) if network.prefix_len() == network.max_prefix_len() => write!(f, "{}", network.addr()),
            Self::Network(network) => write!(f, "{network}"),
            Self::Names(names) => write!(f, "{}", names.pattern),
        }
    }
}

/// How many new connections a session may open to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// So many, which may also come at once.
    pub connections: u32,
    /// In this time.
    pub per: Period,
}

/// A length of time that rates are given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what they say")]
pub enum Period {
    Second,
    Minute,
    Hour,
}

impl Period {
    /// Its seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per {
            Period::Second => "a second",
            Period::Minute => "a minute",
            Period::Hour => "an hour",
        };
        write!(f, "{} {per}", self.connections)
    }
}

/// How much of a destination one session may use; what is absent is not bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budget {
    /// Bytes that it may send there, IP headers included.
    pub bytes: Option<u64>,
    /// New connections.
    pub connections: Option<Rate>,
}

/// What a workspace may reach, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name, for people.
    pub name: String,
    /// What it is.
    pub to: Reach,
    /// The open ports; never empty.
    pub ports: Vec<Port>,
    /// How much of it a session may use.
    pub budget: Budget,
    /// Why the permit needs it.
    pub reason: String,
    /// Who answers for it, if the permit says.
    pub owner: Option<String>,
    /// When it closes, if before the permit's end.
    pub until: Option<Timestamp>,
    /// Where it is listed.
    pub at: Place,
}

impl Destination {
    /// Whether it lists this address at this port, by its network.
    #[must_use]
    pub fn lists(&self, to: std::net::IpAddr, port: Port) -> bool {
        self.to.network().is_some_and(|network| network.contains(&to)) && self.ports.contains(&port)
    }

    /// Its names, if they mean this one.
    #[must_use]
    pub fn means(&self, name: &HostName) -> Option<&Names> {
        self.to.names().filter(|names| names.pattern.means(name))
    }
}
