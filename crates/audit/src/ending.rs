//! How a session comes to its end, as entries name it, and what else has the same cause.

use serde::{Deserialize, Serialize};
use sulku_permit::{EndCause, RefusalCode};

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The holder left, or her connection broke and the session was not one that stays without.
    HolderLeft,
    /// The shell or the command ended.
    ShellExited,
    /// No input for as long as the permit allows.
    Idle,
    /// Without a connection for as long as the permit allows.
    Abandoned,
    /// The longest session that the permit allows.
    LongestSession,
    /// The permit or her part in it ended.
    PermitEnded,
    /// Her certificate's own time ended.
    CertificateEnded,
    /// The hours that the permit allows ended.
    OutsideHours,
    /// The certificate was revoked.
    Revoked,
    /// Its authority's list of revoked certificates is too old to tell whether it was.
    RevocationUnknown,
    /// The permit was revoked.
    PermitRevoked,
    /// The permit was suspended.
    Suspended,
    /// Her part in the permit was taken back.
    HolderRevoked,
    /// Everything was halted.
    Halted,
    /// The permit or the environment asks for more than it did: network, role, assurance, isolation.
    NoLongerAdmitted,
    /// An operator ended it.
    Operator,
    /// The gateway was stopped.
    Drain,
    /// The peer broke the protocol.
    ProtocolError,
    /// The audit could not keep what had to be kept.
    AuditFailed,
    /// The audit's disk is full: it keeps this, and nothing that is shown.
    AuditFull,
    /// The cell could not be built, or broke.
    CellFailed,
    /// The gateway died; the warden closed what it left.
    GatewayLost,
    /// The warden died, and the cells with it.
    WardenLost,
}

impl CloseReason {
    /// Its stable name, as entries write it.
    #[must_use]
    pub fn name(self) -> String {
        serde_json::to_value(self).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Why an open session ends that would be refused now.
    #[must_use]
    pub const fn of_refusal(code: RefusalCode) -> Self {
        match code {
            RefusalCode::PermitExpired | RefusalCode::PermitNotYetValid | RefusalCode::HolderExpired | RefusalCode::HolderNotYetValid => {
                Self::PermitEnded
            }
            RefusalCode::CertificateExpired => Self::CertificateEnded,
            RefusalCode::CertificateRevoked => Self::Revoked,
            RefusalCode::RevocationUnknown => Self::RevocationUnknown,
            RefusalCode::PermitRevoked => Self::PermitRevoked,
            RefusalCode::PermitSuspended => Self::Suspended,
            RefusalCode::HolderRevoked | RefusalCode::NotAHolder => Self::HolderRevoked,
            RefusalCode::OutsideHours => Self::OutsideHours,
            RefusalCode::Halted => Self::Halted,
            RefusalCode::CertificateMissing
            | RefusalCode::CertificateUnknownIssuer
            | RefusalCode::CertificateInvalid
            | RefusalCode::AmbiguousIdentity
            | RefusalCode::ChooseAPermit
            | RefusalCode::ChooseASession
            | RefusalCode::RoleOpensNoSession
            | RefusalCode::AssuranceTooLow
            | RefusalCode::IsolationTooWeak
            | RefusalCode::SourceNotAllowed
            | RefusalCode::TooManySessions
            | RefusalCode::TooManyConnections
            | RefusalCode::PermitFull
            | RefusalCode::NotAnOperator
            | RefusalCode::WorkspaceKept
            | RefusalCode::NoSuchSession => Self::NoLongerAdmitted,
            RefusalCode::Draining => Self::Drain,
            RefusalCode::AuditUnavailable => Self::AuditFailed,
            RefusalCode::CellUnavailable => Self::CellFailed,
            RefusalCode::ProtocolError => Self::ProtocolError,
        }
    }

    /// Why a session ends whose end is set by this.
    #[must_use]
    pub const fn of_end(cause: EndCause) -> Self {
        match cause {
            EndCause::PermitEnd | EndCause::HolderEnd => Self::PermitEnded,
            EndCause::CertificateEnd => Self::CertificateEnded,
            EndCause::Hours => Self::OutsideHours,
            EndCause::LongestSession => Self::LongestSession,
        }
    }

    /// What is told to a holder whose session ends for this before it was open.
    #[must_use]
    pub const fn refusal(self) -> RefusalCode {
        match self {
            Self::AuditFailed | Self::AuditFull => RefusalCode::AuditUnavailable,
            Self::Drain => RefusalCode::Draining,
            Self::ProtocolError => RefusalCode::ProtocolError,
            Self::PermitEnded => RefusalCode::PermitExpired,
            Self::CertificateEnded => RefusalCode::CertificateExpired,
            Self::OutsideHours => RefusalCode::OutsideHours,
            Self::Revoked => RefusalCode::CertificateRevoked,
            Self::RevocationUnknown => RefusalCode::RevocationUnknown,
            Self::PermitRevoked => RefusalCode::PermitRevoked,
            Self::Suspended => RefusalCode::PermitSuspended,
            Self::HolderRevoked => RefusalCode::HolderRevoked,
            Self::Halted => RefusalCode::Halted,
            Self::NoLongerAdmitted => RefusalCode::NotAHolder,
            Self::HolderLeft
            | Self::ShellExited
            | Self::Idle
            | Self::Abandoned
            | Self::LongestSession
            | Self::Operator
            | Self::CellFailed
            | Self::GatewayLost
            | Self::WardenLost => RefusalCode::CellUnavailable,
        }
    }
}
