//! What can go wrong, in words for the person at the keyboard: what happened, then what to do.

use std::fmt;
use std::io;

use sulku_permit::{PermitId, RefusalCode};
use sulku_protocol::{FrameError, SessionRow};

/// The gateway's no: a normal outcome, with a reason and an advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The reason's stable name.
    pub code: RefusalCode,
    /// What to do.
    pub advice: String,
    /// The permits to choose from, where that is the reason.
    pub choices: Vec<PermitId>,
    /// The sessions to choose from, where that is the reason.
    pub sessions: Vec<SessionRow>,
}

impl From<RefusalCode> for Refused {
    fn from(code: RefusalCode) -> Self {
        Self { code, advice: code.advice().to_owned(), choices: Vec::new(), sessions: Vec::new() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the gateway refused ({}); {}", self.code, self.advice)?;
        let mut before = " (one of ";
        for choice in &self.choices {
            write!(f, "{before}{choice}")?;
            before = ", ";
        }
        f.write_str(if self.choices.is_empty() { "" } else { ")" })
    }
}

/// What is wrong with the certificate that the gateway showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayFault {
    /// Another authority issued it.
    UnknownIssuer,
    /// Its time has passed or not yet come, by this computer's clock.
    Expired,
    /// It is for another name, or malformed.
    WrongName,
    /// It is not one for a server.
    Unsuitable,
}

impl fmt::Display for GatewayFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownIssuer => {
                "the gateway's certificate is not from the authority in your profile; check `gateway` and `authority` there, and call the operator before you go on"
            }
            Self::Expired => "the gateway's certificate is not valid at this time; check this computer's clock, then call the operator",
            Self::WrongName => "the gateway's certificate is for another name; check `gateway` and `server_name` in your profile",
            Self::Unsuitable => "the gateway's certificate is not one for a gateway; call the operator",
        })
    }
}

/// Why a request to the gateway got no good answer.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The gateway said no. Also when it said so by a TLS alert or a QUIC close code.
    #[error("{0}")]
    Refused(Refused),
    /// The gateway said no, and its reason did not arrive.
    #[error("the gateway refused, and its reason did not arrive; try again, and call its operator when it happens again")]
    Unexplained,
    /// The gateway has no room.
    #[error("the gateway has no room just now; try again in a minute")]
    Busy,
    /// What answered did not prove that it is the gateway.
    #[error("{0}")]
    GatewayCertificate(GatewayFault),
    /// No address belongs to the name.
    #[error("there is no host named {host}; check `gateway` in your profile, and whether you need your organisation's network")]
    NameNotFound {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The host is there, and no program listens on the port.
    #[error("nothing listens at {gateway}; check host and port in your profile, or ask the operator whether the gateway runs")]
    NothingListens {
        /// Host and port.
        gateway: String,
    },
    /// Silence.
    #[error("no answer from {gateway} over {over}; check your network connection, and whether a firewall is between")]
    NoAnswer {
        /// Host and port.
        gateway: String,
        /// QUIC, TLS or both.
        over: &'static str,
    },
    /// Something else listens there.
    #[error("what answers at {gateway} is no Sulku gateway; check host and port in your profile")]
    NotAGateway {
        /// Host and port.
        gateway: String,
    },
    /// The gateway has a trouble of its own.
    #[error("the gateway at {gateway} has a trouble of its own; try again later or call its operator")]
    GatewayTrouble {
        /// Host and port.
        gateway: String,
    },
    /// The network failed.
    #[error("the connection to {gateway} failed; check your network connection and try again")]
    Network {
        /// Host and port.
        gateway: String,
        /// How.
        source: io::Error,
    },
    /// The command names no program.
    #[error("the command's first word is empty; name a program")]
    NoProgram,
    /// The command is longer than a gateway takes.
    #[error("the command is too long; put it into a script in the workspace")]
    TooLong,
    /// The gateway broke the protocol.
    #[error("the gateway does not speak this client's protocol; use the client that this environment offers")]
    Frame(#[source] FrameError),
    /// The gateway answered another question.
    #[error("the gateway's answer does not belong to the question; use the client that this environment offers")]
    OutOfPhase,
}

impl DialError {
    /// Whether it may be better in a moment, with nobody doing anything about it.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Refused(refused) => matches!(refused.code, RefusalCode::Draining | RefusalCode::AuditUnavailable | RefusalCode::TooManyConnections),
            Self::Busy
            | Self::NameNotFound { .. }
            | Self::NothingListens { .. }
            | Self::NoAnswer { .. }
            | Self::GatewayTrouble { .. }
            | Self::Network { .. }
            | Self::Unexplained => true,
            Self::GatewayCertificate(_) | Self::NotAGateway { .. } | Self::NoProgram | Self::TooLong | Self::Frame(_) | Self::OutOfPhase => false,
        }
    }
}

/// Why an open session ended without being closed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The gateway ended it without a frame.
    #[error("{0}")]
    Refused(Refused),
    /// The gateway went away, or the network did.
    #[error("the connection broke off before the session was closed; check your network connection, then connect again")]
    Cut(#[source] io::Error),
    /// The gateway broke the protocol.
    #[error("the gateway broke the protocol and was left; call its operator")]
    Frame(#[source] FrameError),
    /// A frame that belongs before the session or to another one, or that reports input which was never sent.
    #[error("the gateway sent what does not belong into a session and was left; call its operator")]
    OutOfPhase,
}
