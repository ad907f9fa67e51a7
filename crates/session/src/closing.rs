//! The end: the cell is reaped, what the ledger still owes is awaited, and then the closing entry is kept, with the totals of what was.
//!
//! The closing entry is asked for last, so that it counts the chunks that were kept and no others.

use std::time::Duration;

use sulku_audit::wire::Cause;
use sulku_audit::{CloseReason, Event as Entry};
use sulku_permit::RefusalCode;
use sulku_protocol::{ClosedFrame, RefusedFrame, Tell};

use crate::owed::Owed;
use crate::{Effect, Event, Facts, Now, Session, words};

/// What a session was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) reason: CloseReason,
    pub(crate) bytes_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) duration: Duration,
    pub(crate) exit_status: Option<i32>,
}

/// Whether the holder knows that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// She does not.
    Waits,
    /// She was told.
    WasTold,
}

/// Whether the warden still has the cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellIs {
    /// It has, or may have.
    There,
    /// It has not.
    Gone,
}

/// Where the closing entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClosingEntry {
    /// Behind what the ledger owes.
    Waits,
    /// On its way to the ledger.
    Asked,
    /// Kept, or never to be.
    Settled,
}

/// Waits for the ledger and the warden.
#[derive(Debug)]
pub struct Closing {
    facts: Facts,
    work: Work,
    /// What the ledger owes from before the end.
    owed: Owed,
    entry: ClosingEntry,
    /// The warden still has the cell.
    cell: bool,
    /// The client, if there is one, knows the session as open: it was welcomed.
    was_open: bool,
    holder: Holder,
}

impl Closing {
    /// The session never had a cell.
    pub(crate) fn without_cell(facts: Facts, reason: CloseReason, holder: Holder, now: Now, effects: &mut Vec<Effect>) -> Session {
        let closing = Self { cell: false, was_open: false, holder, ..Self::new(facts, Work::none(reason, now), Owed::default()) };
        closing.settle(effects)
    }

    /// The cell was just built, but the session is over already.
    pub(crate) fn with_cell(facts: Facts, reason: CloseReason, now: Now, effects: &mut Vec<Effect>) -> Session {
        effects.push(Effect::EndCell(reason));
        Self { was_open: false, ..Self::new(facts, Work::none(reason, now), Owed::default()) }.settle(effects)
    }

    /// The session was another gateway's, and did not become this one's. Nobody was connected.
    pub(crate) fn unattended(facts: Facts, reason: CloseReason, owed: Owed, cell: CellIs, now: Now, effects: &mut Vec<Effect>) -> Session {
        if cell == CellIs::There {
            effects.push(Effect::EndCell(reason));
        }
        Self { was_open: false, cell: cell == CellIs::There, ..Self::new(facts, Work::none(reason, now), owed) }.settle(effects)
    }

    /// The ledger would not even keep the opening entry: nothing was opened.
    pub(crate) fn unrecorded(cause: Option<Cause>, holder: Holder, effects: &mut Vec<Effect>) -> Session {
        if holder == Holder::Waits {
            Self::refuse_for_audit(cause.unwrap_or(Cause::Broken), effects);
        }
        let full = cause == Some(Cause::Full);
        Session::Closed(if full { CloseReason::AuditFull } else { CloseReason::AuditFailed })
    }

    /// Tells a holder that her session does not open because the ledger does not keep it.
    pub(crate) fn refuse_for_audit(cause: Cause, effects: &mut Vec<Effect>) {
        refuse(RefusedFrame { advice: words::advice(cause), ..RefusedFrame::plain(RefusalCode::AuditUnavailable) }, effects);
    }

    /// The session was open, and somebody was connected to it, or at most about to be.
    pub(crate) fn after_work(facts: Facts, work: Work, owed: Owed, was_open: bool, effects: &mut Vec<Effect>) -> Session {
        let mut closing = Self { cell: work.reason != CloseReason::WardenLost, was_open, ..Self::new(facts, work, owed) };
        if closing.cell {
            effects.push(Effect::EndCell(work.reason));
        }
        // A ledger that has kept her waiting for so long may go on doing so.
        if work.reason == CloseReason::AuditFailed {
            closing.tell(effects);
        }
        closing.settle(effects)
    }

    /// The session was open, and the ledger is gone: there is no closing entry.
    pub(crate) fn without_audit(facts: Facts, work: Work, was_open: bool, effects: &mut Vec<Effect>) -> Session {
        effects.push(Effect::EndCell(work.reason));
        Self { entry: ClosingEntry::Settled, was_open, ..Self::new(facts, work, Owed::default()) }.settle(effects)
    }

    fn new(facts: Facts, work: Work, owed: Owed) -> Self {
        Self { facts, work, owed, entry: ClosingEntry::Waits, cell: true, was_open: true, holder: Holder::Waits }
    }

    pub(crate) fn step(mut self, event: Event, _now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Kept(_) if self.entry == ClosingEntry::Asked => self.entry = ClosingEntry::Settled,
            Event::Kept(_) => drop(self.owed.kept()),
            Event::Refused(_) if self.entry == ClosingEntry::Asked => self.lose_the_ledger(),
            Event::Refused(_) => self.owed.refused(),
            Event::AuditGone if self.entry != ClosingEntry::Settled => self.lose_the_ledger(),
            Event::Reaped(_) | Event::WardenLost | Event::LaunchRefused => self.cell = false,
            Event::AuditGone
            | Event::Launched
            | Event::Exited(_)
            | Event::Output(_)
            | Event::OutputEnded
            | Event::Asked(_)
            | Event::Denied(_)
            | Event::PeerGone
            | Event::PeerBroke
            | Event::TakenOver
            | Event::TakenUp(_)
            | Event::Moved(..)
            | Event::EndNow(_)
            | Event::Ends(..)
            | Event::HandedOver
            | Event::Tick => {}
        }
        self.settle(effects)
    }

    /// There will be no closing entry.
    fn lose_the_ledger(&mut self) {
        self.entry = ClosingEntry::Settled;
        self.work.reason = CloseReason::AuditFailed;
    }

    /// Asks for the closing entry when its turn has come, tells the holder when it is kept, and is done when the cell is gone, too.
    fn settle(mut self, effects: &mut Vec<Effect>) -> Session {
        if self.entry == ClosingEntry::Waits && self.owed.is_empty() {
            self.entry = ClosingEntry::Asked;
            effects.push(Effect::Append(self.facts.draft(self.closing_entry())));
        }
        if self.entry == ClosingEntry::Settled {
            self.tell(effects);
        }
        if self.entry == ClosingEntry::Settled && !self.cell { Session::Closed(self.work.reason) } else { Session::Closing(self) }
    }

    fn closing_entry(&self) -> Entry {
        let Work { reason, bytes_out, bytes_in, duration, exit_status } = self.work;
        let (chunks, recorded_bytes) = self.owed.recorded();
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Entry::SessionClosed { reason, bytes_out, bytes_in, duration_ms, exit_status, chunks, recorded_bytes, from_part: self.facts.part() }
    }

    fn tell(&mut self, effects: &mut Vec<Effect>) {
        if std::mem::replace(&mut self.holder, Holder::WasTold) == Holder::WasTold {
            return;
        }
        let Work { reason, exit_status, .. } = self.work;
        if self.was_open {
            let message = words::closed(reason).to_owned();
            effects.push(Effect::Send(Tell::Closed(ClosedFrame { reason: reason.name(), message, exit_status })));
            effects.push(Effect::HangUp);
        } else {
            // What failed is that she came too late, where the session was built long ago.
            let too_late = matches!(reason, CloseReason::ShellExited | CloseReason::Abandoned | CloseReason::Operator);
            refuse(RefusedFrame::plain(if too_late { RefusalCode::NoSuchSession } else { reason.refusal() }), effects);
        }
    }
}

impl Work {
    /// Nothing was done yet.
    fn none(reason: CloseReason, now: Now) -> Self {
        Self { reason, bytes_out: 0, bytes_in: 0, duration: now.elapsed, exit_status: None }
    }
}

fn refuse(frame: RefusedFrame, effects: &mut Vec<Effect>) {
    effects.push(Effect::Send(Tell::Refused(frame)));
    effects.push(Effect::HangUp);
}
