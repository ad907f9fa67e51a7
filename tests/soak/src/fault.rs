//! What is done to the product, and what of what happens to a session each of them explains.

use std::fmt;
use std::time::Duration;

use sulku_stage::Daemon;

use crate::network::Weather;

/// Something that is done to the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A daemon is killed with SIGKILL, and started anew a second later, as systemd would.
    Killed(Daemon),
    /// The gateway is told to stop, and started anew.
    GatewayRestarted,
    /// The ledger's file system has no room.
    DiskFull,
    /// The ledger's disk takes so many requests a second.
    DiskSlow(u32),
    /// The ledger does not run: what it looks like when its disk stands still.
    LedgerStopped,
    /// The host's clock shows so many seconds more, or less, and then the right time again.
    ClockSet(i64),
    /// The receiver of syslog reads nothing.
    SinkStalled,
    /// The network between holders and gateway loses, delays and reorders packets.
    BadWeather(Weather),
    /// It lets nothing through.
    CutOff,
    /// The holders' computer has another address from one moment to the next.
    Moved,
    /// A certificate with open sessions is withdrawn, and its holder has another.
    CertificateRevoked,
    /// A permit with open sessions is revoked by a signed revision, and given back by another.
    PermitRevoked,
    /// Peers that connect and say nothing.
    HalfOpen,
    /// Peers that send what is no TLS and no QUIC.
    Garbage,
    /// A holder's certificate whose peer sends frames that are too large or none.
    BadFrames,
    /// Peers with certificates that are refused, as fast as they can.
    Strangers,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed(daemon) => write!(f, "kill -9 of the {}", daemon.name()),
            Self::GatewayRestarted => f.write_str("the gateway is told to stop"),
            Self::DiskFull => f.write_str("the ledger's disk is full"),
            Self::DiskSlow(requests) => write!(f, "the ledger's disk takes {requests} writes a second"),
            Self::LedgerStopped => f.write_str("the ledger stands still"),
            Self::ClockSet(seconds) => write!(f, "the host's clock is {} s {}", seconds.abs(), if *seconds < 0 { "behind" } else { "ahead" }),
            Self::SinkStalled => f.write_str("the syslog receiver reads nothing"),
            Self::BadWeather(weather) => write!(f, "the network {weather}"),
            Self::CutOff => f.write_str("the network lets nothing through"),
            Self::Moved => f.write_str("the holders' address changes"),
            Self::CertificateRevoked => f.write_str("a certificate is revoked"),
            Self::PermitRevoked => f.write_str("a permit is revoked, then given back"),
            Self::HalfOpen => f.write_str("peers connect and say nothing"),
            Self::Garbage => f.write_str("peers send garbage over TCP and UDP"),
            Self::BadFrames => f.write_str("a holder's client breaks the protocol"),
            Self::Strangers => f.write_str("refused certificates, as fast as they come"),
        }
    }
}

impl Fault {
    /// How long it can be felt after it is over: a gateway's grace for what it can't record is 30 s, and its clients' patience is more.
    pub const FELT_FOR: Duration = Duration::from_secs(75);

    /// What it does to what is under way to the record is done so soon after it is over.
    pub const CUTS_OFF_FOR: Duration = Duration::from_secs(5);

    fn is_of_the_record(self) -> bool {
        matches!(self, Self::Killed(Daemon::Ledger) | Self::DiskFull | Self::DiskSlow(_) | Self::LedgerStopped)
    }

    fn ends_a_gateway(self) -> bool {
        self.is_of_the_record() || matches!(self, Self::Killed(Daemon::Gateway | Daemon::Warden) | Self::GatewayRestarted)
    }

    /// Whether it explains that a session was closed for this reason.
    pub fn explains_closing(self, reason: &str) -> bool {
        match reason {
            "warden-lost" | "cell-failed" => self.is_of_the_record() || self == Self::Killed(Daemon::Warden),
            "gateway-lost" | "drain" => self.ends_a_gateway(),
            "audit-failed" => self.is_of_the_record(),
            "audit-full" => self == Self::DiskFull,
            "revoked" => self == Self::CertificateRevoked,
            "permit-revoked" => self == Self::PermitRevoked,
            _ => false,
        }
    }

    /// Whether it explains that a session was refused, or that the gateway was not reached, for this reason.
    pub fn explains_refusal(self, reason: &str) -> bool {
        match reason {
            "audit-unavailable" => self.is_of_the_record(),
            "cell-unavailable" => self.is_of_the_record() || matches!(self, Self::Killed(Daemon::Warden) | Self::PermitRevoked | Self::ClockSet(_)),
            "certificate-revoked" => self == Self::CertificateRevoked,
            "permit-revoked" => self == Self::PermitRevoked,
            "draining" | "no-such-session" => self.ends_a_gateway(),
            "not-reached" => self.ends_a_gateway() || matches!(self, Self::BadWeather(_) | Self::CutOff | Self::Moved),
            _ => false,
        }
    }

    /// Whether a daemon may have ended by itself since this was done: who can't record does not go on.
    pub fn explains_end(self, of: Daemon) -> bool {
        match of {
            Daemon::Gateway => self.is_of_the_record() || self == Self::Killed(Daemon::Warden),
            Daemon::Warden => self.is_of_the_record(),
            Daemon::Ledger | Daemon::Courier => false,
        }
    }

    /// Whether it may cut off what a windowed session has shown and not recorded.
    pub fn may_cut_off(self) -> bool {
        self.ends_a_gateway()
    }

    /// Whether sessions' lives are in danger: only when nobody ends may what a daemon keeps be compared over time.
    pub fn kills(self) -> bool {
        matches!(self, Self::Killed(_) | Self::GatewayRestarted)
    }
}
