//! The holder works. What her terminal shows is filtered, recorded, and shown, in this order.

use std::collections::VecDeque;
use std::time::Duration;

use sulku_audit::{CloseReason, Event as Entry};
use sulku_protocol::{Ask, OUTPUT_CREDIT_BYTES, Tell, WelcomeFrame};

use crate::closing::Closing;
use crate::facts::Facts;
use crate::filter::Filter;
use crate::recording::Recording;
use crate::{Effect, Event, Now, Session};

/// Output is read in quanta of this, so that a flood in one session leaves the others their turn.
const OUTPUT_QUANTUM_BYTES: usize = 16 * 1024;
/// Input timing and resizes wait at most this long for output to travel with.
const RECORDING_FLUSH: Duration = Duration::from_secs(1);
/// So much of a recording may wait for the ledger. Typing beyond it is taken without its moment, resizing ends the session.
const RECORDING_PENDING_BYTES_MAX: usize = 256 * 1024;
/// A session ends when the ledger has not answered for this long.
const RECEIPT_PATIENCE: Duration = Duration::from_secs(30);
/// The gateway's and the warden's timers fire at most this far apart.
const CLOCKS_APART: Duration = Duration::from_secs(1);
/// After the shell's end, a client that shows nothing for this long does not get the rest.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// The same kind of removed sequence gets at most one entry in this time; the entry carries the count.
const REMOVED_EVERY: Duration = Duration::from_secs(1);

/// An answer that the ledger owes, oldest first.
#[derive(Debug)]
enum Owed {
    /// A chunk; this much text is shown when it is kept.
    Chunk(String),
    /// An entry that nothing waits for.
    Entry,
}

/// The state of an open session.
#[derive(Debug)]
pub struct Open {
    facts: Facts,
    opened: Duration,
    recording: Recording,
    filter: Filter,
    /// Text that is in the recording's pending chunk and not yet on its way to the ledger.
    unrecorded: String,
    owed: VecDeque<Owed>,
    /// A chunk is on its way to the ledger since then; the next waits, so that much output makes few chunks.
    chunk_since: Option<Duration>,
    /// Bytes that the client has not yet reported as shown, counting those not yet sent.
    unshown: u32,
    last_input: Duration,
    last_shown: Duration,
    last_recorded: Duration,
    last_removed: Duration,
    exited: Option<(i32, Duration)>,
    output_ended: bool,
    bytes_out: u64,
    bytes_in: u64,
}

impl Open {
    pub(crate) fn new(facts: Facts, now: Now, effects: &mut Vec<Effect>) -> Self {
        let permit = facts.permit();
        effects.push(Effect::Send(Tell::Welcome(WelcomeFrame {
            session: facts.id(),
            permit: permit.id.clone(),
            title: permit.title.clone(),
            person: facts.holder().clone(),
            workspace: permit.workspace.name.to_string(),
            ends: facts.ends(),
            recording: "all that your terminal shows, and when you type".to_owned(),
            off: ["clipboard", "file transfer", "graphics"].map(str::to_owned).to_vec(),
            credit: OUTPUT_CREDIT_BYTES,
        })));
        let elapsed = now.elapsed;
        Self {
            recording: Recording::new(&facts, now.wall, elapsed),
            facts,
            opened: elapsed,
            filter: Filter::default(),
            unrecorded: String::new(),
            owed: VecDeque::new(),
            chunk_since: None,
            unshown: 0,
            last_input: elapsed,
            last_shown: elapsed,
            last_recorded: elapsed,
            last_removed: elapsed,
            exited: None,
            output_ended: false,
            bytes_out: 0,
            bytes_in: 0,
        }
    }

    pub(crate) fn output_room(&self) -> usize {
        // A byte that is no UTF-8 becomes three that are, so a third of the credit is what may safely be read.
        let credit = OUTPUT_CREDIT_BYTES.saturating_sub(self.unshown) as usize / 3;
        let room = if credit < 512 || self.output_ended { 0 } else { credit };
        room.min(OUTPUT_QUANTUM_BYTES)
    }

    pub(crate) const fn drains(&self) -> bool {
        self.exited.is_some()
    }

    pub(crate) fn activity(&self, now: Now) -> (u64, u64) {
        (now.elapsed.saturating_sub(self.last_input).as_secs(), self.bytes_out)
    }

    pub(crate) fn step(mut self: Box<Self>, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Output(bytes) => self.output(&bytes, now, effects),
            Event::Kept(_) => self.kept(now, effects),
            Event::Asked(Ask::Input(bytes)) => self.input(bytes, now, effects),
            Event::Asked(Ask::Shown(bytes)) => match self.unshown.checked_sub(bytes) {
                Some(unshown) => (self.unshown, self.last_shown) = (unshown, now.elapsed),
                None => return self.close(CloseReason::ProtocolError, now, effects),
            },
            // Each resize is recorded, so nobody may resize faster than the ledger keeps.
            Event::Asked(Ask::Resize { .. }) if self.recording.pending_bytes() >= RECORDING_PENDING_BYTES_MAX => {
                return self.close(CloseReason::ProtocolError, now, effects);
            }
            Event::Asked(Ask::Resize { columns, rows }) => {
                self.recording.resized(columns, rows, now.elapsed);
                effects.push(Effect::Resize(columns, rows));
            }
            Event::Asked(Ask::Signal(signal)) => {
                self.last_input = now.elapsed;
                effects.push(Effect::Signal(signal));
            }
            Event::Asked(Ask::Leave) | Event::PeerGone => return self.close(CloseReason::HolderLeft, now, effects),
            Event::Asked(Ask::Hello(_)) | Event::PeerBroke => return self.close(CloseReason::ProtocolError, now, effects),
            Event::Exited(status) => {
                self.exited.get_or_insert((status, now.elapsed));
            }
            Event::OutputEnded => self.output_ended = true,
            Event::EndNow(reason) => return self.close(reason, now, effects),
            Event::AuditFailed => return self.close(CloseReason::AuditFailed, now, effects),
            Event::WardenLost => return self.close(CloseReason::WardenLost, now, effects),
            // The warden ends cells by its own clock, too, and may be a moment ahead.
            Event::Reaped => {
                let soon = Now { wall: now.wall.saturating_add(CLOCKS_APART).unwrap_or(now.wall), elapsed: now.elapsed };
                let reason = self.time_is_up(soon).unwrap_or(CloseReason::CellFailed);
                return self.close(reason, now, effects);
            }
            Event::Tick => {
                if let Some(reason) = self.time_is_up(now) {
                    return self.close(reason, now, effects);
                }
                self.flush(now, effects);
            }
            Event::Launched | Event::LaunchRefused => {}
        }
        let all_shown = self.output_ended && self.owed.is_empty() && self.unrecorded.is_empty();
        if self.exited.is_some() && all_shown { self.close(CloseReason::ShellExited, now, effects) } else { Session::Open(self) }
    }

    fn output(&mut self, bytes: &[u8], now: Now, effects: &mut Vec<Effect>) {
        let text = self.filter.pass(bytes);
        self.unshown = self.unshown.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        if !text.is_empty() {
            self.recording.output(&text, now.elapsed);
            self.unrecorded.push_str(&text);
        }
        self.record(now, effects);
    }

    /// Sends the pending chunk to the ledger, unless one is on its way.
    fn record(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.chunk_since.is_none()
            && let Some((event, chunk)) = self.recording.take()
        {
            self.owed.push_back(Owed::Chunk(std::mem::take(&mut self.unrecorded)));
            (self.chunk_since, self.last_recorded) = (Some(now.elapsed), now.elapsed);
            effects.push(Effect::Record(self.facts.draft(event), chunk));
        }
    }

    fn kept(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(Owed::Chunk(text)) = self.owed.pop_front() {
            self.chunk_since = None;
            self.bytes_out += text.len() as u64;
            show(text, effects);
            if !self.unrecorded.is_empty() {
                self.record(now, effects);
            }
        }
    }

    fn input(&mut self, bytes: Vec<u8>, now: Now, effects: &mut Vec<Effect>) {
        self.last_input = now.elapsed;
        self.bytes_in += bytes.len() as u64;
        if self.recording.pending_bytes() < RECORDING_PENDING_BYTES_MAX {
            self.recording.typed(now.elapsed);
        }
        effects.push(Effect::Type(bytes));
    }

    fn flush(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if now.elapsed.saturating_sub(self.last_recorded) >= RECORDING_FLUSH {
            self.record(now, effects);
        }
        if now.elapsed.saturating_sub(self.last_removed) >= REMOVED_EVERY {
            self.last_removed = now.elapsed;
            self.tell_removed(effects);
        }
    }

    fn tell_removed(&mut self, effects: &mut Vec<Effect>) {
        for removed in self.filter.take_removed() {
            let event = Entry::SequenceRemoved { kind: removed.kind.to_owned(), count: removed.count, bytes: removed.bytes };
            self.owed.push_back(Owed::Entry);
            effects.push(Effect::Append(self.facts.draft(event)));
        }
    }

    fn time_is_up(&self, now: Now) -> Option<CloseReason> {
        let since = |then: Duration| now.elapsed.saturating_sub(then);
        let limits = &self.facts.permit().session;
        if self.chunk_since.is_some_and(|sent| since(sent) >= RECEIPT_PATIENCE) {
            Some(CloseReason::AuditFailed)
        } else if now.wall >= self.facts.ends() || since(self.opened) >= limits.max_length {
            let longest = since(self.opened) + Duration::from_secs(1) >= limits.max_length;
            Some(if longest { CloseReason::LongestSession } else { CloseReason::PermitEnded })
        } else if since(self.last_input) >= limits.idle_disconnect {
            Some(CloseReason::Idle)
        } else {
            let stuck = self.exited.is_some_and(|(_, when)| since(when.max(self.last_shown)) >= DRAIN_PATIENCE);
            stuck.then_some(CloseReason::ShellExited)
        }
    }

    fn close(mut self: Box<Self>, reason: CloseReason, now: Now, effects: &mut Vec<Effect>) -> Session {
        let exit_status = self.exited.map(|(status, _)| status);
        let audit_lives = reason != CloseReason::AuditFailed;
        if audit_lives {
            self.tell_removed(effects);
            if let Some((status, _)) = self.exited {
                self.recording.exited(status, now.elapsed);
            }
            if let Some((event, chunk)) = self.recording.take() {
                self.owed.push_back(Owed::Entry);
                effects.push(Effect::Record(self.facts.draft(event), chunk));
            }
        }
        let duration = now.elapsed.saturating_sub(self.opened);
        let entry = Entry::SessionClosed {
            reason,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            exit_status,
            chunks: self.recording.chunks(),
            recorded_bytes: self.recording.bytes(),
        };
        Closing::after_work(self.facts, reason, exit_status, entry, self.owed.len(), effects)
    }
}

/// Sends text in frames of a quantum, cut between characters.
fn show(text: String, effects: &mut Vec<Effect>) {
    let mut rest = text.into_bytes();
    while rest.len() > OUTPUT_QUANTUM_BYTES {
        let tail = rest.split_off(OUTPUT_QUANTUM_BYTES);
        effects.push(Effect::Send(Tell::Output(std::mem::replace(&mut rest, tail))));
    }
    if !rest.is_empty() {
        effects.push(Effect::Send(Tell::Output(rest)));
    }
}
