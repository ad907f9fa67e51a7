//! The end: the cell is reaped and the closing entry kept, side by side; then the holder is told.

use sulku_audit::{CloseReason, Event as Entry};
use sulku_protocol::{ClosedFrame, RefusedFrame, Tell};

use crate::{Effect, Event, Facts, Now, Session};
use sulku_permit::RefusalCode;

/// Waits for the ledger and the warden.
#[derive(Debug)]
pub struct Closing {
    reason: CloseReason,
    exit_status: Option<i32>,
    /// Answers that the ledger owes; the last is for the closing entry. `None` when it owes none any more.
    owed: Option<usize>,
    /// The warden still has the cell.
    cell: bool,
    /// The session was open, so the client knows it as one.
    was_open: bool,
}

impl Closing {
    /// The session never had a cell.
    pub(crate) fn without_cell(facts: Facts, reason: CloseReason, now: Now, effects: &mut Vec<Effect>) -> Session {
        Self::before_work(facts, reason, false, now, effects)
    }

    /// The cell was just built, but the session is over already.
    pub(crate) fn with_cell(facts: Facts, reason: CloseReason, now: Now, effects: &mut Vec<Effect>) -> Session {
        Self::before_work(facts, reason, true, now, effects)
    }

    /// The ledger would not even keep the opening entry: nothing was opened.
    pub(crate) fn unrecorded(_facts: &Facts, effects: &mut Vec<Effect>) -> Session {
        refuse(RefusalCode::AuditUnavailable, effects);
        Session::Closed(CloseReason::AuditFailed)
    }

    fn before_work(facts: Facts, reason: CloseReason, cell: bool, now: Now, effects: &mut Vec<Effect>) -> Session {
        let duration_ms = u64::try_from(now.elapsed.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry::SessionClosed { reason, bytes_out: 0, bytes_in: 0, duration_ms, exit_status: None, chunks: 0, recorded_bytes: 0 };
        if cell {
            effects.push(Effect::EndCell(reason));
        }
        let owed = append(&facts, reason, entry, 0, effects);
        Self { reason, exit_status: None, owed, cell, was_open: false }.settle(effects)
    }

    /// The session was open.
    pub(crate) fn after_work(
        facts: Facts,
        reason: CloseReason,
        exit_status: Option<i32>,
        entry: Entry,
        owed: usize,
        effects: &mut Vec<Effect>,
    ) -> Session {
        let cell = reason != CloseReason::WardenLost;
        if cell {
            effects.push(Effect::EndCell(reason));
        }
        let owed = append(&facts, reason, entry, owed, effects);
        Self { reason, exit_status, owed, cell, was_open: true }.settle(effects)
    }

    pub(crate) fn step(mut self, event: Event, _now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Kept(_) => {
                self.owed = self.owed.and_then(|owed| owed.checked_sub(1)).filter(|owed| *owed > 0);
                if self.owed.is_none() {
                    self.tell(effects);
                }
            }
            Event::AuditFailed if self.owed.is_some() => {
                self.owed = None;
                self.reason = CloseReason::AuditFailed;
                self.tell(effects);
            }
            Event::Reaped | Event::WardenLost | Event::LaunchRefused => self.cell = false,
            Event::AuditFailed
            | Event::Launched
            | Event::Exited(_)
            | Event::Output(_)
            | Event::OutputEnded
            | Event::Asked(_)
            | Event::PeerGone
            | Event::PeerBroke
            | Event::EndNow(_)
            | Event::Tick => {}
        }
        self.done()
    }

    fn settle(self, effects: &mut Vec<Effect>) -> Session {
        if self.owed.is_none() {
            self.tell(effects);
        }
        self.done()
    }

    fn done(self) -> Session {
        if self.owed.is_none() && !self.cell { Session::Closed(self.reason) } else { Session::Closing(self) }
    }

    fn tell(&self, effects: &mut Vec<Effect>) {
        if self.was_open {
            let message = in_words(self.reason).to_owned();
            effects.push(Effect::Send(Tell::Closed(ClosedFrame { reason: name(self.reason), message, exit_status: self.exit_status })));
            effects.push(Effect::HangUp);
        } else {
            let code = match self.reason {
                CloseReason::AuditFailed | CloseReason::AuditFull => RefusalCode::AuditUnavailable,
                CloseReason::Drain => RefusalCode::Draining,
                CloseReason::ProtocolError => RefusalCode::ProtocolError,
                CloseReason::PermitEnded => RefusalCode::PermitExpired,
                CloseReason::Revoked => RefusalCode::CertificateRevoked,
                _ => RefusalCode::CellUnavailable,
            };
            refuse(code, effects);
        }
    }
}

/// Asks for the closing entry. A ledger that has failed is not asked again.
fn append(facts: &Facts, reason: CloseReason, entry: Entry, owed: usize, effects: &mut Vec<Effect>) -> Option<usize> {
    if reason == CloseReason::AuditFailed {
        return None;
    }
    effects.push(Effect::Append(facts.draft(entry)));
    Some(owed + 1)
}

fn refuse(code: RefusalCode, effects: &mut Vec<Effect>) {
    effects.push(Effect::Send(Tell::Refused(RefusedFrame::plain(code))));
    effects.push(Effect::HangUp);
}

/// The reason's stable name, as the ledger writes it.
fn name(reason: CloseReason) -> String {
    serde_json::to_value(reason).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The reason for the holder: what happened, and what she can do.
const fn in_words(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::HolderLeft => "you left; what ran in the session was ended",
        CloseReason::ShellExited => "the session is over",
        CloseReason::Idle => "nothing was typed for as long as the permit allows; connect again to go on",
        CloseReason::LongestSession => "the longest session that the permit allows is over; connect again to go on",
        CloseReason::PermitEnded => "the permit has ended, or your part in it",
        CloseReason::Revoked => "your certificate was withdrawn; ask the environment's operator",
        CloseReason::Operator => "an operator ended the session; ask the environment's operator why",
        CloseReason::Drain => "the environment is being restarted; connect again in a minute",
        CloseReason::ProtocolError => "your client said something that the gateway does not understand; update it",
        CloseReason::AuditFailed => "the environment can't keep its records just now, so nothing may go on; call its operator",
        CloseReason::AuditFull => "the environment's records have no room left, so nothing may go on; call its operator",
        CloseReason::CellFailed => "your workspace could not be built; call the environment's operator",
        CloseReason::GatewayLost | CloseReason::WardenLost => "your workspace broke; connect again, and call the operator if it happens twice",
    }
}
