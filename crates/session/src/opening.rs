//! The opening entry is on its way to the ledger. Nothing of the session exists yet.

use std::time::Duration;

use sulku_audit::CloseReason;
use sulku_audit::wire::Cause;

use crate::closing::{Closing, Holder};
use crate::launching::Launching;
use crate::recording::RecordingKey;
use crate::{Effect, Event, Facts, Now, Session};

/// A holder waits this long for the ledger to keep her opening entry; then she is told that it does not.
const OPENING_PATIENCE: Duration = Duration::from_secs(10);

/// Waits for the receipt.
#[derive(Debug)]
pub struct Opening {
    facts: Facts,
    key: RecordingKey,
    /// Why the session is to close as soon as the ledger has answered.
    leaving: Option<CloseReason>,
    holder: Holder,
}

impl Opening {
    pub(crate) fn new(facts: Facts, key: RecordingKey, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Append(facts.opening()));
        Self { facts, key, leaving: None, holder: Holder::Waits }
    }

    pub(crate) fn step(mut self, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Kept(receipt) => match self.leaving {
                // The entry stands, so its closing entry must, too.
                Some(reason) => Closing::without_cell(self.facts, reason, self.holder, now, effects),
                None => Session::Launching(Launching::new(self.facts, self.key, receipt, now, effects)),
            },
            // Nothing was opened, so nothing is closed in the ledger.
            Event::Refused(cause) => Closing::unrecorded(Some(cause), self.holder, effects),
            Event::AuditGone => Closing::unrecorded(None, self.holder, effects),
            Event::Tick if self.holder == Holder::Waits && now.elapsed >= OPENING_PATIENCE => {
                self.holder = Holder::WasTold;
                Closing::refuse_for_audit(Cause::Broken, effects);
                self.leave(CloseReason::AuditFailed)
            }
            Event::PeerGone => self.leave(CloseReason::HolderLeft),
            Event::PeerBroke => self.leave(CloseReason::ProtocolError),
            Event::EndNow(reason) => self.leave(reason),
            // Nothing of it exists yet that could be left to another gateway.
            Event::HandedOver => self.leave(CloseReason::Drain),
            Event::Ends(at, reason) => {
                self.facts.end_at(at, reason);
                Session::Opening(self)
            }
            Event::WardenLost => self.leave(CloseReason::WardenLost),
            Event::Asked(sulku_protocol::Ask::Leave) => self.leave(CloseReason::HolderLeft),
            Event::Asked(_) => self.leave(CloseReason::ProtocolError),
            Event::Denied(_)
            | Event::Tick
            | Event::Launched
            | Event::LaunchRefused
            | Event::Exited(_)
            | Event::Reaped(_)
            | Event::Output(_)
            | Event::OutputEnded
            | Event::TakenOver
            | Event::TakenUp(_)
            | Event::Moved(..) => Session::Opening(self),
        }
    }

    fn leave(mut self, reason: CloseReason) -> Session {
        self.leaving.get_or_insert(reason);
        Session::Opening(self)
    }
}
