//! What is told to the ledger, and what follows when it can't be: no record, no cell.

use std::time::{Duration, Instant};

use sulku_audit::Draft;

use super::{Mode, Warden};
use crate::cgroup::Motion;
use crate::ledger::{LedgerError, Pending};

/// How often a ledger that is away is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Warden {
    /// Asks the ledger to keep an event; `None` if it can't be asked, and then nothing goes on unrecorded.
    ///
    /// Receipts are heard by the loop alone, after the caller has noted what waits for this one.
    pub(super) fn record(&mut self, draft: Draft) -> Option<Pending> {
        match self.ledger.append(draft).and_then(|pending| self.ledger.send().map(|()| pending)) {
            Ok(pending) => Some(pending),
            Err(error) => {
                self.ledger_lost(&error);
                None
            }
        }
    }

    /// What has come of looks at the policy's store.
    pub(super) fn tell_of_policy(&mut self) {
        for event in self.judge.news() {
            self.record(Draft::new(event));
        }
    }

    pub(super) fn hear_ledger(&mut self) {
        match self.ledger.turn() {
            Ok(receipts) => receipts.iter().for_each(|(pending, receipt)| {
                self.release(*pending, receipt);
                self.go_on_deleting(*pending);
            }),
            Err(error) => return self.ledger_lost(&error),
        }
        // The connection stands: what closes is kept over it, and asked for once. Asked for over a new one again and again, it would fill what
        // a full disk has left.
        if let Some(reason) = self.ledger.take_refusal() {
            if self.mode == Mode::Serving {
                tracing::error!(reason, "the ledger would not keep an entry; all cells stand still");
            }
            self.nothing_goes_on();
        }
    }

    fn ledger_lost(&mut self, error: &LedgerError) {
        tracing::error!(error = crate::chain(error), "the ledger is lost; all cells stand still");
        self.ledger.disconnect();
        self.nothing_goes_on();
    }

    fn nothing_goes_on(&mut self) {
        if self.mode == Mode::Serving {
            self.mode = Mode::Unrecorded(Instant::now());
        }
        self.set_motion_of_all(Motion::Frozen);
    }

    /// A ledger that is away is looked for, and all that it has not acknowledged is sent again; one that refuses is asked again.
    pub(super) fn look_after_the_ledger(&mut self) {
        let Mode::Unrecorded(since) = self.mode else { return };
        let now = Instant::now();
        if now.duration_since(self.ledger.tried()) >= LOOK_EVERY {
            if self.ledger.descriptor().is_none() {
                if self.ledger.reconnect().is_err() {
                    return;
                }
            } else if let Err(error) = self.ledger.ask_again() {
                return self.ledger_lost(&error);
            }
        }
        // It is back when it has kept what it had not.
        if self.ledger.descriptor().is_some() && self.ledger.is_settled() {
            tracing::info!(away_ms = since.elapsed().as_millis(), "the ledger is back");
            self.mode = Mode::Serving;
            if !self.rules.are_broken() {
                self.set_motion_of_all(Motion::Thawed);
            }
        }
    }

    pub(super) fn set_motion_of_all(&mut self, motion: Motion) {
        for (session, cell) in self.cells.iter().filter(|(_, cell)| cell.is_alive() && cell.orphaned_until.is_none()) {
            if let Err(error) = cell.set_motion(motion) {
                tracing::error!(%session, %error, "a cell could not be frozen or thawed");
            }
        }
    }
}
