//! What a workspace may reach.

use std::fmt;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Place;

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

/// What a workspace may reach, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name, for people.
    pub name: String,
    /// An address (as a full-length prefix) or a network.
    pub to: IpNet,
    /// The open ports; never empty.
    pub ports: Vec<Port>,
    /// Why the permit needs it.
    pub reason: String,
    /// Who answers for it, if the permit says.
    pub owner: Option<String>,
    /// When it closes, if before the permit's end.
    pub until: Option<Timestamp>,
    /// Where it is listed.
    pub at: Place,
}
