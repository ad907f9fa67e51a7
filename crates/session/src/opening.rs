//! The opening entry is on its way to the ledger. Nothing of the session exists yet.

use sulku_audit::CloseReason;

use crate::closing::Closing;
use crate::launching::Launching;
use crate::{Effect, Event, Facts, Now, Session};

/// Waits for the receipt.
#[derive(Debug)]
pub struct Opening {
    facts: Facts,
    /// Why the session is to close as soon as the ledger has answered.
    leaving: Option<CloseReason>,
}

impl Opening {
    pub(crate) fn new(facts: Facts, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Append(facts.opening()));
        Self { facts, leaving: None }
    }

    pub(crate) fn step(self, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Kept(receipt) => match self.leaving {
                // The entry stands, so its closing entry must, too.
                Some(reason) => Closing::without_cell(self.facts, reason, now, effects),
                None => Session::Launching(Launching::new(self.facts, receipt, now, effects)),
            },
            // Nothing was opened, so nothing is closed in the ledger.
            Event::AuditFailed => Closing::unrecorded(&self.facts, effects),
            Event::PeerGone => self.leave(CloseReason::HolderLeft),
            Event::PeerBroke => self.leave(CloseReason::ProtocolError),
            Event::EndNow(reason) => self.leave(reason),
            Event::WardenLost => self.leave(CloseReason::WardenLost),
            Event::Asked(sulku_protocol::Ask::Leave) => self.leave(CloseReason::HolderLeft),
            Event::Asked(_) => self.leave(CloseReason::ProtocolError),
            Event::Tick | Event::Launched | Event::LaunchRefused | Event::Exited(_) | Event::Reaped | Event::Output(_) | Event::OutputEnded => {
                Session::Opening(self)
            }
        }
    }

    fn leave(mut self, reason: CloseReason) -> Session {
        self.leaving.get_or_insert(reason);
        Session::Opening(self)
    }
}
