//! Everything that runs at once: our environment and the peers that are asked in turns.

use sulku_client::Transport;

use crate::machine::Unrest;
use crate::ours::{Ours, STRICT};
use crate::side::Side;
use crate::ssh::Account;
use crate::sshd::{Keys, Sshd};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Rounds in which all sides take their turns.
    pub rounds: usize,
    /// Connections of each side in a round, one at a time.
    pub connects: usize,
    /// Sessions of each side in a round, many at once.
    pub crowd: usize,
    /// Keys of each side in a round.
    pub keys: usize,
    /// And while other sessions flood.
    pub keys_among_floods: usize,
    /// Handshakes of each side in a round.
    pub handshakes: usize,
    /// Rounds of many idle sessions.
    pub memory_rounds: usize,
    /// Idle sessions in played cells.
    pub idle: usize,
    /// Sessions that are revoked at once.
    pub revoked: usize,
    /// Rounds of that.
    pub revocation_rounds: usize,
    /// Rounds in which a gateway is told to stop, and killed.
    pub restart_rounds: usize,
}

impl Size {
    /// Enough to decide by, on a quiet machine.
    pub const FULL: Self = Self {
        rounds: 7,
        connects: 15,
        crowd: 160,
        keys: 300,
        keys_among_floods: 300,
        handshakes: 600,
        memory_rounds: 3,
        idle: 5_000,
        revoked: 1_000,
        revocation_rounds: 3,
        restart_rounds: 5,
    };
    /// Enough to see that all of it works.
    pub const QUICK: Self = Self {
        rounds: 2,
        connects: 3,
        crowd: 40,
        keys: 30,
        keys_among_floods: 40,
        handshakes: 100,
        memory_rounds: 1,
        idle: 200,
        revoked: 100,
        revocation_rounds: 1,
        restart_rounds: 1,
    };
}

/// What runs.
pub struct Bench {
    /// Our side.
    pub ours: Ours,
    /// OpenSSH's server with Ed25519 keys, as long as this runs.
    _sshd_ed25519: Sshd,
    /// And with ECDSA keys.
    pub sshd_ecdsa: Sshd,
    /// Whoever has an account with the first.
    pub ed25519: Account,
    /// And with the second.
    pub ecdsa: Account,
    /// How quiet the machine is.
    pub unrest: Unrest,
}

impl Bench {
    /// Starts all of it.
    ///
    /// # Errors
    /// Something is missing or does not start.
    pub fn raise() -> anyhow::Result<Self> {
        let ours = Ours::raise()?;
        let (sshd_ed25519, sshd_ecdsa) = (Sshd::start(Keys::Ed25519)?, Sshd::start(Keys::Ecdsa)?);
        let (ed25519, ecdsa) = (Account::of(&sshd_ed25519)?, Account::of(&sshd_ecdsa)?);
        Ok(Self { ours, _sshd_ed25519: sshd_ed25519, sshd_ecdsa, ed25519, ecdsa, unrest: Unrest::default() })
    }

    /// Our holder over TLS, shown what is durable.
    ///
    /// # Errors
    /// None.
    pub fn tls(&self) -> anyhow::Result<Side> {
        self.ours.side(Transport::Tls, STRICT)
    }

    /// And over QUIC.
    ///
    /// # Errors
    /// None.
    pub fn quic(&self) -> anyhow::Result<Side> {
        self.ours.side(Transport::Quic, STRICT)
    }
}
