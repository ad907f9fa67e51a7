//! What the warden and the resolver say to each other: a closed set, one JSON text a packet, as orders and reports are.
//!
//! The resolver has no rights: it stands in the router's network, answers cells' questions for names and looks at the first bytes of
//! their TLS connections. What it learned it tells the warden, which judges it by the plan and lets the address through or not. The
//! first task is [`Task::Serve`]; the channel is the resolver's standard input, a `SOCK_SEQPACKET` socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
pub use sulku_permit::NameCheck;
use sulku_permit::{HostName, NamePattern, Port, Protocol, SessionId};

/// The version of this vocabulary; warden and resolver must agree.
pub const NAMING_VERSION: u32 = 2;
/// The address at which every cell finds the resolver: on the router's own loopback, in a range that is never forwarded (RFC 3927).
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 53);
/// Where the resolver answers questions, over UDP and TCP.
pub const DNS_PORT: u16 = 53;
/// Where the resolver takes TLS connections that the router has turned to it.
pub const TLS_PORT: u16 = 8443;
/// Addresses of one name that are let through; what an answer has beyond is left out of it.
pub const ADDRESSES_MAX: usize = 16;

/// One destination of a session that is listed by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Which names.
    pub names: NamePattern,
    /// At which ports; never empty.
    pub ports: Vec<OpenPort>,
    /// How they are held to the name.
    pub check: NameCheck,
    /// Where their addresses must lie; empty means anywhere public.
    pub within: Vec<IpNet>,
}

/// A port as packets write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenPort {
    /// 1 to 65535.
    pub number: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl From<Port> for OpenPort {
    fn from(Port { number, protocol }: Port) -> Self {
        Self { number, protocol }
    }
}

/// What leads from the router to the resolvers upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// A link: every packet.
    Packets,
    /// A relay: connections alone (RFC 7766 has every resolver take questions over TCP).
    Connections,
}

/// What the warden tells the resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Task {
    /// First, and once.
    Serve {
        /// [`NAMING_VERSION`].
        version: u32,
        /// Which resolvers to ask, in this order; never empty.
        upstream: Vec<SocketAddr>,
        /// How they are reached.
        carries: Carries,
    },
    /// A session begins behind this address; it is sent before the session's first packet can pass.
    Open {
        /// Which session.
        session: SessionId,
        /// Its cell's address, which nobody else can send from.
        address: Ipv4Addr,
        /// What it may reach by name; empty means that every question is refused.
        listed: Vec<Listed>,
    },
    /// The session is over: its connections end at once, its questions get no answer.
    Close {
        /// Which session.
        session: SessionId,
    },
    /// The answer to [`Finding::Resolved`]: the kernel has acknowledged the addresses.
    Opened {
        /// The finding's number.
        question: u64,
    },
    /// The other answer: nothing of it passes; the cell hears SERVFAIL.
    Refused {
        /// The finding's number.
        question: u64,
    },
}

/// What the resolver tells the warden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Finding {
    /// The answer to [`Task::Serve`]: its sockets are open.
    Ready {
        /// [`NAMING_VERSION`].
        version: u32,
    },
    /// A listed name has these addresses. The cell waits for [`Task::Opened`].
    Resolved {
        /// Counts up from 1, one for each such finding.
        question: u64,
        /// Whose question it was.
        session: SessionId,
        /// The name that the cell asked for.
        name: HostName,
        /// 1 to [`ADDRESSES_MAX`] addresses, at the end of the aliases if there are any.
        addresses: Vec<IpAddr>,
        /// For how long, in seconds, from the answer's own time to live and within the resolver's bounds.
        ttl_s: u32,
    },
    /// A TLS connection was let through under this name, before its first byte went out. Addresses are shared by many names: this is
    /// how the flow's entry comes by the one that was meant.
    Passed {
        /// Whose it is.
        session: SessionId,
        /// The port in the cell that it comes from.
        port: u16,
        /// Where it is bound for.
        to: SocketAddr,
        /// The name that its ClientHello gave.
        name: HostName,
    },
    /// Something was denied; the warden makes an entry of it. The resolver bounds how many it sends and counts the rest.
    Denied {
        /// Whose it was.
        session: SessionId,
        /// What it was.
        what: Denied,
        /// Denials of this session before this one that got no finding of their own.
        suppressed: u64,
    },
}

/// What the resolver denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Denied {
    /// A question for a name.
    Question {
        /// The name as it was asked, lower case, bytes that are no letter, digit, hyphen, dot or underscore as `\ddd`; at most 255 bytes.
        name: String,
        /// The record type, as `A`, `TXT` or `TYPE65`.
        record: String,
        /// Why.
        why: QuestionDenied,
    },
    /// A TLS connection.
    Connection {
        /// Where it was bound for.
        to: SocketAddr,
        /// The name that its ClientHello gave, if one was read; as in a question.
        name: Option<String>,
        /// Why.
        why: ConnectionDenied,
    },
}

/// Why a question got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionDenied {
    /// The permit does not list the name.
    NotListed,
    /// The permit lists it as closed.
    Closed,
    /// Below a suffix, the name looks as if it carried something else: too many labels, too long, too many digits.
    LooksLikeATunnel,
    /// Only addresses are told. Questions for other records of a listed name that browsers ask by themselves (HTTPS, SVCB) are answered
    /// empty and are no denial.
    OtherRecord,
    /// The session asks more often than it may.
    TooMany,
    /// The name has private, loopback, link-local or otherwise unusable addresses, or ones outside of what the permit says.
    ForbiddenAddress,
    /// The packet is no question.
    Malformed,
}

/// Why a TLS connection was ended before a byte of it went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectionDenied {
    /// It is no TLS.
    NotTls,
    /// It gives no name (RFC 6066 section 3).
    NoName,
    /// It hides its name (encrypted client hello) behind one that is not listed.
    Hidden,
    /// The permit does not list the name at this port.
    NotListed,
    /// The address was never the answer for that name in this session.
    OtherAddress,
    /// The session has as many connections as it may.
    TooMany,
    /// It did not say enough in time.
    Silent,
    /// The destination itself did not answer.
    Unreachable,
}
