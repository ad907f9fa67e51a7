//! A session that another gateway opened and lost: the entry by which this one has it is on its way to the ledger, or the warden has been
//! given its receipt. Until the warden answers, what runs in it stands still.

use std::time::Duration;

use sulku_audit::CloseReason;
use sulku_audit::wire::Cause;

use crate::closing::{CellIs, Closing};
use crate::detached::Detached;
use crate::owed::{Owed, Sent};
use crate::recording::RecordingKey;
use crate::{Effect, Event, Facts, Now, Session};

/// Ledger and warden together have this long; a warden that no gateway answers reaps the cell by itself.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(15);

/// Waits for the ledger, then for the warden.
#[derive(Debug)]
pub struct Adopting {
    facts: Facts,
    key: RecordingKey,
    owed: Owed,
    began: Duration,
    /// Why the session is to close as soon as it is known how far the adoption came.
    leaving: Option<CloseReason>,
}

impl Adopting {
    pub(crate) fn new(facts: Facts, key: RecordingKey, now: Now, effects: &mut Vec<Effect>) -> Self {
        let mut owed = Owed::default();
        owed.send(Sent::Entry, now.elapsed);
        effects.push(Effect::Append(facts.adoption(now.wall)));
        Self { facts, key, owed, began: now.elapsed, leaving: None }
    }

    pub(crate) fn step(mut self, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Kept(receipt) => {
                self.owed.kept();
                if let Some(reason) = self.leaving {
                    return self.close(reason, CellIs::There, now, effects);
                }
                effects.push(Effect::Adopt(receipt));
                Session::Adopting(self)
            }
            Event::Launched => match self.leaving {
                Some(reason) => self.close(reason, CellIs::There, now, effects),
                None => Session::Detached(Box::new(Detached::adopted(self.facts, self.key, now, effects))),
            },
            Event::Refused(cause) => {
                self.owed.refused();
                let reason = if cause == Cause::Full { CloseReason::AuditFull } else { CloseReason::AuditFailed };
                self.close(reason, CellIs::There, now, effects)
            }
            Event::AuditGone => self.close(CloseReason::AuditFailed, CellIs::There, now, effects),
            // Why, the warden has written down.
            Event::LaunchRefused => self.close(CloseReason::NoLongerAdmitted, CellIs::There, now, effects),
            Event::Reaped(reason) => self.close(reason, CellIs::Gone, now, effects),
            Event::WardenLost => self.close(CloseReason::WardenLost, CellIs::Gone, now, effects),
            Event::EndNow(reason) => {
                self.leaving.get_or_insert(reason);
                Session::Adopting(self)
            }
            Event::Ends(at, reason) => {
                self.facts.end_at(at, reason);
                Session::Adopting(self)
            }
            Event::Tick if now.elapsed.saturating_sub(self.began) >= ADOPTION_PATIENCE => {
                let late = if self.owed.is_empty() { CloseReason::CellFailed } else { CloseReason::AuditFailed };
                let reason = self.leaving.unwrap_or(late);
                self.close(reason, CellIs::There, now, effects)
            }
            // It is the next gateway's, as far as it ever was this one's.
            Event::HandedOver => Session::Left,
            Event::Tick
            | Event::Denied(_)
            | Event::Exited(_)
            | Event::Output(_)
            | Event::OutputEnded
            | Event::Asked(_)
            | Event::PeerGone
            | Event::PeerBroke
            | Event::TakenOver
            | Event::TakenUp(_)
            | Event::Moved(..) => Session::Adopting(self),
        }
    }

    fn close(self, reason: CloseReason, cell: CellIs, now: Now, effects: &mut Vec<Effect>) -> Session {
        Closing::unattended(self.facts, reason, self.owed, cell, now, effects)
    }
}
