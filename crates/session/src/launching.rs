//! The opening entry is durable; the warden builds the cell.

use std::time::Duration;

use sulku_audit::{CloseReason, Receipt};
use sulku_protocol::Ask;

use crate::closing::{Closing, Holder};
use crate::open::Open;
use crate::recording::RecordingKey;
use crate::{Effect, Event, Facts, Now, Session};

/// A warden that has neither built nor refused a cell for this long will not; it gives up on a build after 10 s itself.
const LAUNCH_PATIENCE: Duration = Duration::from_secs(15);

/// Waits for the warden. Made from a receipt alone.
#[derive(Debug)]
pub struct Launching {
    facts: Facts,
    key: RecordingKey,
    /// Why the session is to close as soon as the warden has answered: an order that was given can't be taken back.
    leaving: Option<CloseReason>,
    ordered: Duration,
}

impl Launching {
    pub(crate) fn new(facts: Facts, key: RecordingKey, receipt: Receipt, now: Now, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Launch(receipt));
        Self { facts, key, leaving: None, ordered: now.elapsed }
    }

    pub(crate) fn step(mut self, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Launched => match self.leaving {
                Some(reason) => Closing::with_cell(self.facts, reason, now, effects),
                None => Session::Open(Box::new(Open::new(self.facts, self.key, now, effects))),
            },
            Event::LaunchRefused => Closing::without_cell(self.facts, CloseReason::CellFailed, Holder::Waits, now, effects),
            Event::WardenLost => Closing::without_cell(self.facts, CloseReason::WardenLost, Holder::Waits, now, effects),
            Event::AuditGone => self.leave(CloseReason::AuditFailed),
            Event::PeerGone | Event::Asked(Ask::Leave) => self.leave(CloseReason::HolderLeft),
            Event::PeerBroke | Event::Asked(_) => self.leave(CloseReason::ProtocolError),
            Event::EndNow(reason) => self.leave(reason),
            Event::HandedOver => self.leave(CloseReason::Drain),
            Event::Ends(at, reason) => {
                self.facts.end_at(at, reason);
                Session::Launching(self)
            }
            // The order to end it follows the order to build it, so that nothing is left of either.
            Event::Tick if now.elapsed.saturating_sub(self.ordered) >= LAUNCH_PATIENCE => {
                Closing::with_cell(self.facts, self.leaving.unwrap_or(CloseReason::CellFailed), now, effects)
            }
            // The ledger owes nothing while the warden builds.
            Event::Kept(_) | Event::Refused(_) => Session::Launching(self),
            Event::Denied(_)
            | Event::Tick
            | Event::Exited(_)
            | Event::Reaped(_)
            | Event::Output(_)
            | Event::OutputEnded
            | Event::TakenOver
            | Event::TakenUp(_)
            | Event::Moved(..) => Session::Launching(self),
        }
    }

    fn leave(mut self, reason: CloseReason) -> Session {
        self.leaving.get_or_insert(reason);
        Session::Launching(self)
    }
}
