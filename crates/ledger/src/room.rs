//! Whether the disk has room, and what is kept when it has none.
//!
//! The reserve is what is left of the segment in use and the spare one, zeroed and the ledger's already. When the next spare can't be
//! made, or publishing finds no room, the ledger is full: what opens or shows something is refused, what closes something is kept, until
//! there is room or the reserve is down to its floor. Frees no room itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sulku_audit::Event;
use sulku_audit::entry::ENTRY_BYTES_MAX;

use crate::disk::BLOCK_BYTES;
use crate::segment::SEGMENT_BYTES;

/// What is left in the reserve when the ledger stops in order: for the last entries and for breaking the glass.
pub(crate) const FLOOR_BYTES: usize = 1 << 20;
/// What must be left for what closes when a gateway or a warden starts on a full disk: half of a segment. So nobody who starts them again
/// and again uses the reserve up.
pub(crate) const STARTS_FLOOR_BYTES: usize = SEGMENT_BYTES / 2;
/// What breaking the glass leaves of that: the ledger's own last entries.
pub(crate) const LAST_BYTES: usize = 256 << 10;
/// The most that an entry takes of a segment when it is written by itself.
pub(crate) const ENTRY_ROOM_BYTES: usize = ENTRY_BYTES_MAX + 2 * BLOCK_BYTES;

/// Set by the publisher, seen by the writer.
#[derive(Debug, Default)]
pub(crate) struct Room {
    is_full: AtomicBool,
    since: Mutex<Option<Shortage>>,
}

/// Since when there is no room, and for what.
#[derive(Debug, Clone)]
pub(crate) struct Shortage {
    pub(crate) since: Instant,
    pub(crate) what: String,
}

impl Room {
    /// There is none, for this.
    pub(crate) fn lack(&self, what: &impl std::fmt::Display) {
        let mut shortage = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if shortage.is_none() {
            tracing::error!(%what, "the disk is full: no session opens until there is room");
            *shortage = Some(Shortage { since: Instant::now(), what: what.to_string() });
            self.is_full.store(true, Ordering::Release);
        }
    }

    /// There is room.
    pub(crate) fn have(&self) {
        if self.is_full() {
            tracing::info!("the disk has room again");
            *self.since.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.is_full.store(false, Ordering::Release);
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    pub(crate) fn shortage(&self) -> Option<Shortage> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What must be left of the reserve after an entry, when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// It is not kept.
    None,
    /// It is kept while there is far more than the floor.
    AboveStartsFloor,
    /// It is kept above the floor.
    AboveFloor,
    /// It is kept below the floor too.
    BelowFloor,
}

impl Share {
    /// An event's.
    pub(crate) const fn of(event: &Event) -> Self {
        match event {
            Event::OperatorBrokeGlass { .. } => Self::BelowFloor,
            // What a gateway and a warden say when they start: without it they end again, and nobody can reach what is open.
            Event::GatewayStarted { .. }
            | Event::PolicyActivated { .. }
            | Event::PolicyRefused { .. }
            | Event::PolicyHolders { .. }
            | Event::WardenPolicyActivated { .. }
            | Event::WardenPolicyRefused { .. }
            | Event::CrlLoaded { .. }
            | Event::CrlStale { .. }
            | Event::WardenStarted { .. } => Self::AboveStartsFloor,
            // What ends, what an operator or an auditor does, and what the ledger has to say.
            Event::SessionClosed { .. }
            | Event::CellReaped { .. }
            | Event::EgressAllowed { .. }
            | Event::ObservationLost { .. }
            | Event::RulesetDrifted { .. }
            | Event::RulesetRestored { .. }
            | Event::OperatorActed { .. }
            | Event::GatewayStopped { .. }
            | Event::WardenStopped { .. }
            | Event::WorkspaceDeletionBegun { .. }
            | Event::WorkspaceDeleted { .. }
            | Event::GatewayLost { .. }
            | Event::ResolverEnded { .. }
            | Event::AuditRead { .. }
            | Event::AuditRefused { .. }
            | Event::KeyDestroyed { .. }
            | Event::RecordingDeleted { .. }
            | Event::LedgerStarted { .. }
            | Event::LedgerStopped { .. }
            | Event::LedgerFull { .. }
            | Event::LedgerHasRoom { .. }
            | Event::LedgerKeyRotated { .. }
            | Event::LedgerUnwitnessed { .. }
            | Event::LedgerWitnessed { .. }
            | Event::LedgerClockJumped { .. } => Self::AboveFloor,
            // What opens or shows something; and what any stranger can cause, who must not use the reserve up.
            _ => Self::None,
        }
    }
}
