//! The holder works. What her terminal shows is filtered, recorded, and shown when its recording is durable, or little ahead of it where
//! the permit says so.

mod away;

use std::time::Duration;

use sulku_audit::wire::Cause;
use sulku_audit::{CloseReason, Event as Entry};
use sulku_permit::Durability;
use sulku_plan::Denied;
use sulku_protocol::{Ask, NoticeFrame, NoticeKind, OUTPUT_CREDIT_BYTES, PAYLOAD_BYTES_MAX, ResumedFrame, Tell, WelcomeFrame};

use crate::closing::{Closing, Work};
use crate::denials::Denials;
use crate::detached::{Detached, Why};
use crate::facts::Facts;
use crate::filter::Filter;
use crate::freeze::{Freeze, Look};
use crate::owed::{Owed, Sent};
use crate::pace::Pace;
use crate::recording::{Recording, RecordingKey};
use crate::tail::{SCREEN_BYTES_MAX, Tail};
use crate::warnings::Warnings;
use crate::window::Window;
use crate::{Effect, Event, Now, Session, words};

/// Output is read in quanta of this, so that a flood in one session leaves the others their turn.
const OUTPUT_QUANTUM_BYTES: usize = 16 * 1024;
/// Input and resizes wait at most this long for output to travel with.
const RECORDING_FLUSH: Duration = Duration::from_secs(1);
/// Where output is shown ahead of its recording, lines are gathered into chunks for this long: well within the window's age.
const GATHER: Duration = Duration::from_millis(100);
/// So many bytes of lines are worth a chunk at once.
const GATHERED_BYTES: usize = 16 * 1024;
/// So much of a recording may wait for the ledger. Beyond it typing is not taken, and resizing ends the session.
const RECORDING_PENDING_BYTES_MAX: usize = 256 * 1024;
/// The gateway's and the warden's timers fire at most this far apart.
const CLOCKS_APART: Duration = Duration::from_secs(1);
/// After the shell's end, a client that shows nothing for this long does not get the rest.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// The same kind of removed sequence gets at most one entry in this time; the entry carries the count.
const REMOVED_EVERY: Duration = Duration::from_secs(1);

/// The state of an open session.
#[derive(Debug)]
pub struct Open {
    facts: Facts,
    opened: Duration,
    recording: Recording,
    filter: Filter,
    /// Output that is not durable yet.
    window: Window,
    owed: Owed,
    freeze: Freeze,
    warnings: Warnings,
    denials: Denials,
    /// When time alone changes something: the next warning, or the end.
    due: Duration,
    /// Bytes that the client has not yet reported as shown, counting those not yet sent.
    unshown: u32,
    pace: Pace,
    last_input: Duration,
    last_shown: Duration,
    last_recorded: Duration,
    last_removed: Duration,
    exited: Option<(i32, Duration)>,
    output_ended: bool,
    bytes_out: u64,
    bytes_in: u64,
    /// What was shown last, where somebody may come to see it again.
    tail: Option<Tail>,
    screen_is: Screen,
    /// Since when nobody is connected.
    away: Option<Duration>,
    size: (u16, u16),
    comers: u64,
}

/// Whether the tail tells how the screen stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Screen {
    /// It does.
    Known,
    /// What another gateway showed is not in it.
    Unknown,
}

impl Open {
    pub(crate) fn new(facts: Facts, key: RecordingKey, now: Now, effects: &mut Vec<Effect>) -> Self {
        effects.push(Effect::Send(Tell::Welcome(welcome(&facts, None))));
        Self::begin(facts, key, now.elapsed, now, effects)
    }

    /// One that opened then, and is recorded from now on.
    fn begin(facts: Facts, key: RecordingKey, opened: Duration, now: Now, effects: &mut Vec<Effect>) -> Self {
        let elapsed = now.elapsed;
        let durability = facts.permit().recording.durability;
        let left = left(&facts, opened, now);
        let warnings = Warnings::of_welcome(left);
        let (recording, begun, wrapped) = Recording::begin(&facts, key, now.wall, elapsed);
        let mut owed = Owed::default();
        owed.send(Sent::Entry, elapsed);
        effects.push(Effect::Record(facts.draft(begun), wrapped));
        Self {
            recording,
            tail: facts.stays().map(|_| Tail::default()),
            screen_is: Screen::Known,
            away: None,
            size: facts.asked().size,
            comers: 0,
            facts,
            opened,
            filter: Filter::default(),
            window: Window::new(durability),
            owed,
            freeze: Freeze::default(),
            due: elapsed + warnings.next(left),
            warnings,
            denials: Denials::default(),
            unshown: 0,
            pace: Pace::default(),
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
        // Whoever comes back is shown the screen first, out of the same credit.
        let (all, kept_free) = if self.away.is_some() { (OUTPUT_CREDIT_BYTES, SCREEN_BYTES_MAX) } else { (self.pace.credit(), 0) };
        let credit = (all.saturating_sub(self.unshown) as usize).saturating_sub(kept_free) / 3;
        let room = if credit < 512 || self.output_ended || self.freeze == Freeze::Frozen { 0 } else { credit };
        room.min(OUTPUT_QUANTUM_BYTES)
    }

    pub(crate) fn takes_input(&self) -> bool {
        self.freeze == Freeze::Thawed && self.recording.pending_bytes() < RECORDING_PENDING_BYTES_MAX
    }

    pub(crate) const fn drains(&self) -> bool {
        self.exited.is_some()
    }

    pub(crate) fn activity(&self, now: Now) -> (u64, u64) {
        (now.elapsed.saturating_sub(self.last_input).as_secs(), self.bytes_out)
    }

    /// When lines that are gathered become a chunk, a warning is due or the session ends, if nothing happens before.
    pub(crate) fn wakes(&self) -> Duration {
        let gathers = self.window_is(Durability::Windowed) && !self.owed.has_chunk() && self.recording.pending_output() > 0;
        let gathered = self.recording.oldest().filter(|_| gathers).map(|oldest| oldest + GATHER);
        let (unattended, _) = self.unattended_until();
        gathered.into_iter().fold(self.due.min(unattended), Duration::min)
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.owed.is_empty() && self.recording.oldest().is_none() && self.exited.is_none()
    }

    pub(crate) fn step(mut self: Box<Self>, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Output(bytes) => self.output(&bytes, now, effects),
            Event::Kept(_) => self.kept(now, effects),
            Event::Refused(cause) => {
                self.owed.refused();
                let reason = if cause == Cause::Full { CloseReason::AuditFull } else { CloseReason::AuditFailed };
                return self.close(reason, now, effects);
            }
            Event::AuditGone => return self.close_without_audit(now, effects),
            Event::Asked(Ask::Input(bytes)) => self.input(bytes, now, effects),
            Event::Asked(Ask::Shown(bytes)) => match self.unshown.checked_sub(bytes) {
                Some(unshown) => {
                    (self.unshown, self.last_shown) = (unshown, now.elapsed);
                    self.pace.shows(bytes, now.elapsed);
                }
                None => return self.close(CloseReason::ProtocolError, now, effects),
            },
            // Each resize is recorded, so nobody may resize faster than the ledger keeps.
            Event::Asked(Ask::Resize { .. }) if self.recording.pending_bytes() >= RECORDING_PENDING_BYTES_MAX => {
                return self.close(CloseReason::ProtocolError, now, effects);
            }
            Event::Asked(Ask::Resize { columns, rows }) => self.resize(columns, rows, now, effects),
            // As with what is typed: what nobody records does nothing.
            Event::Asked(Ask::Signal(_)) if self.freeze == Freeze::Frozen => {}
            Event::Asked(Ask::Signal(signal)) => {
                self.last_input = now.elapsed;
                effects.push(Effect::Signal(signal));
            }
            Event::PeerGone if self.stays() => return Detached::let_go(self, Why::Lost, now, effects),
            Event::TakenOver if self.stays() => return Detached::let_go(self, Why::TakenOver, now, effects),
            Event::Asked(Ask::Detach) if self.stays() => return Detached::let_go(self, Why::Asked, now, effects),
            Event::Asked(Ask::Leave) | Event::PeerGone => return self.close(CloseReason::HolderLeft, now, effects),
            Event::Asked(Ask::Hello(_) | Ask::Detach) | Event::PeerBroke => return self.close(CloseReason::ProtocolError, now, effects),
            Event::Exited(status) => {
                self.exited.get_or_insert((status, now.elapsed));
            }
            Event::OutputEnded => {
                self.output_ended = true;
                self.record(now, effects);
            }
            Event::EndNow(reason) => return self.close(reason, now, effects),
            Event::HandedOver if self.stays() => return self.leave(now, effects),
            Event::HandedOver => return self.close(CloseReason::Drain, now, effects),
            Event::Ends(at, reason) => {
                let before = self.facts.until();
                self.facts.end_at(at, reason);
                if self.facts.until() != before {
                    // What she was told of the old end is not true any more.
                    self.warnings = Warnings::default();
                }
                if let Some(reason) = self.time_is_up(now) {
                    return self.close(reason, now, effects);
                }
                self.warn(now, effects);
            }
            Event::WardenLost => return self.close(CloseReason::WardenLost, now, effects),
            // The warden ends cells by its own clock and its own permits, too, and may be a moment ahead.
            Event::Reaped(theirs) => {
                let soon = Now { wall: now.wall.saturating_add(CLOCKS_APART).unwrap_or(now.wall), elapsed: now.elapsed };
                let reason = self.time_is_up(soon).unwrap_or(theirs);
                return self.close(reason, now, effects);
            }
            Event::Tick => {
                if let Some(reason) = self.time_is_up(now) {
                    return self.close(reason, now, effects);
                }
                match self.freeze.look(self.owed.waited(now.elapsed)) {
                    Look::Same => {}
                    Look::Changed(notice) => effects.push(Effect::Send(Tell::Notice(notice))),
                    Look::Over => return self.close(CloseReason::AuditFailed, now, effects),
                }
                self.warn(now, effects);
                self.flush(now, effects);
            }
            Event::Moved(from, policy) => self.append(Entry::SessionMoved { policy, from: from.into() }, Sent::Entry, now, effects),
            Event::Denied(denied) => self.denied(&denied, now, effects),
            // Who drives the session sees to it that nobody comes while somebody is here, nor to one that does not stay.
            Event::Launched | Event::LaunchRefused | Event::TakenOver | Event::TakenUp(_) => {}
        }
        let all_shown = self.output_ended && self.owed.is_empty() && self.window.is_empty();
        if self.exited.is_some() && all_shown { self.close(CloseReason::ShellExited, now, effects) } else { Session::Open(self) }
    }

    fn window_is(&self, durability: Durability) -> bool {
        self.facts.permit().recording.durability == durability
    }

    fn output(&mut self, bytes: &[u8], now: Now, effects: &mut Vec<Effect>) {
        let text = self.filter.pass(bytes);
        self.unshown = self.unshown.saturating_add(u32::try_from(text.len()).unwrap_or(u32::MAX));
        if !text.is_empty() {
            self.recording.output(&text, now.elapsed);
            self.window.push(&text);
            self.show_ahead(now, effects);
        }
        self.record(now, effects);
    }

    /// Sends the next chunk to the ledger, unless one is on its way: so much output makes few chunks.
    fn record(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let oldest = self.recording.oldest().filter(|_| self.recording.pending_output() > 0);
        let due = oldest.is_some_and(|oldest| {
            // Somebody waits for it, or it is time.
            self.window.held() > 0
                || self.exited.is_some()
                || self.recording.pending_bytes() >= GATHERED_BYTES
                || now.elapsed.saturating_sub(oldest) >= GATHER
        });
        if due {
            self.send_chunk(now, effects);
        }
    }

    fn send_chunk(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.owed.has_chunk()
            && let Some(chunk) = self.recording.take()
        {
            self.owed.send(Sent::Chunk { bytes: chunk.bytes.len() as u64, output: chunk.output }, now.elapsed);
            self.last_recorded = now.elapsed;
            effects.push(Effect::Record(self.facts.draft(chunk.event), chunk.bytes));
        }
    }

    fn kept(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if let Some(Sent::Chunk { bytes: _, output }) = self.owed.kept() {
            let durable = self.window.kept(output);
            self.show(durable, effects);
        }
        if let Look::Changed(notice) = self.freeze.look(self.owed.waited(now.elapsed)) {
            effects.push(Effect::Send(Tell::Notice(notice)));
        }
        self.show_ahead(now, effects);
        self.record(now, effects);
    }

    fn show_ahead(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.away.is_none()
            && let Some(text) = self.window.take_ahead(now.elapsed)
        {
            self.show(text, effects);
        }
    }

    /// Shows text to the holder if she is here, in frames that are not too long.
    fn show(&mut self, text: String, effects: &mut Vec<Effect>) {
        if let Some(tail) = &mut self.tail {
            tail.push(&text);
        }
        if self.away.is_none() {
            self.send(text, effects);
        }
    }

    fn send(&mut self, text: String, effects: &mut Vec<Effect>) {
        self.bytes_out += text.len() as u64;
        let bytes = text.into_bytes();
        if bytes.len() > PAYLOAD_BYTES_MAX {
            effects.extend(bytes.chunks(PAYLOAD_BYTES_MAX).map(|frame| Effect::Send(Tell::Output(frame.to_vec()))));
        } else if !bytes.is_empty() {
            effects.push(Effect::Send(Tell::Output(bytes)));
        }
    }

    fn resize(&mut self, columns: u16, rows: u16, now: Now, effects: &mut Vec<Effect>) {
        self.size = (columns, rows);
        self.recording.resized(columns, rows, now.elapsed);
        effects.push(Effect::Resize(columns, rows));
    }

    /// What was typed goes to the driver, which holds it while [`Open::takes_input`] says so. The client's credit bounds it.
    fn input(&mut self, bytes: Vec<u8>, now: Now, effects: &mut Vec<Effect>) {
        self.last_input = now.elapsed;
        self.bytes_in += bytes.len() as u64;
        self.recording.typed(&bytes, now.elapsed);
        effects.push(Effect::Type(bytes));
    }

    fn flush(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.record(now, effects);
        if now.elapsed.saturating_sub(self.last_recorded) >= RECORDING_FLUSH {
            self.send_chunk(now, effects);
        }
        if now.elapsed.saturating_sub(self.last_removed) >= REMOVED_EVERY {
            self.last_removed = now.elapsed;
            self.tell_removed(now, effects);
        }
    }

    fn tell_removed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for removed in self.filter.take_removed() {
            let event = Entry::SequenceRemoved { kind: removed.kind.to_owned(), count: removed.count, bytes: removed.bytes };
            self.owed.send(Sent::Entry, now.elapsed);
            effects.push(Effect::Append(self.facts.draft(event)));
        }
    }

    /// Tells the holder what her cell was denied, and has all of it remembered.
    fn denied(&mut self, denied: &Denied, now: Now, effects: &mut Vec<Effect>) {
        let text = words::denied(denied, self.facts.permit());
        if let Some(telling) = self.denials.note(&text, denied.more, now.elapsed) {
            let text = words::telling(&text, &telling);
            effects.push(Effect::Send(Tell::Notice(NoticeFrame { kind: NoticeKind::Denied, text })));
        }
        effects.push(Effect::Remember(text));
    }

    /// Warns the holder when her session's end is near.
    fn warn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let left = self.left(now);
        if self.warnings.due(left) {
            let text = words::ending(left, self.ends_because(left, now));
            effects.push(Effect::Send(Tell::Notice(NoticeFrame { kind: NoticeKind::Ending, text })));
        }
        self.due = now.elapsed + self.warnings.next(left);
    }

    fn left(&self, now: Now) -> Duration {
        left(&self.facts, self.opened, now)
    }

    /// Why the session ends that has so much time left. By the clock that never jumps it may be the longest one first.
    fn ends_because(&self, left: Duration, now: Now) -> CloseReason {
        let lasts = now.elapsed.saturating_sub(self.opened) + left;
        if lasts >= self.facts.permit().session.max_length { CloseReason::LongestSession } else { self.facts.until().1 }
    }

    /// When it ends if its holder does nothing and nobody comes, and why.
    fn unattended_until(&self) -> (Duration, CloseReason) {
        match (self.away, self.facts.stays()) {
            // She types nothing because nobody is here to type.
            (Some(away), Some(stays)) => (away + stays, CloseReason::Abandoned),
            _ => (self.last_input + self.facts.permit().session.idle_disconnect, CloseReason::Idle),
        }
    }

    fn time_is_up(&self, now: Now) -> Option<CloseReason> {
        let since = |then: Duration| now.elapsed.saturating_sub(then);
        let left = self.left(now);
        let (unattended_until, unattended) = self.unattended_until();
        if left.is_zero() {
            Some(self.ends_because(left, now))
        } else if now.elapsed >= unattended_until {
            Some(unattended)
        } else {
            let stuck = self.exited.is_some_and(|(_, when)| since(when.max(self.last_shown)) >= DRAIN_PATIENCE);
            stuck.then_some(CloseReason::ShellExited)
        }
    }

    fn close(mut self: Box<Self>, reason: CloseReason, now: Now, effects: &mut Vec<Effect>) -> Session {
        // A ledger that refuses or does not answer is asked for nothing more than the closing entry.
        if !matches!(reason, CloseReason::AuditFailed | CloseReason::AuditFull) {
            if let Some((status, _)) = self.exited {
                self.recording.exited(status, now.elapsed);
            }
            self.hand_over_rest(now, effects);
        }
        let work = self.work(reason, now);
        Closing::after_work(self.facts, work, self.owed, self.away.is_none(), effects)
    }

    /// Asks the ledger to keep all that was not sent to it yet.
    fn hand_over_rest(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.tell_removed(now, effects);
        while let Some(chunk) = self.recording.take() {
            self.owed.send(Sent::Chunk { bytes: chunk.bytes.len() as u64, output: chunk.output }, now.elapsed);
            effects.push(Effect::Record(self.facts.draft(chunk.event), chunk.bytes));
        }
    }

    /// The ledger is gone for good: not even the closing entry can be kept.
    fn close_without_audit(self: Box<Self>, now: Now, effects: &mut Vec<Effect>) -> Session {
        let work = self.work(CloseReason::AuditFailed, now);
        Closing::without_audit(self.facts, work, self.away.is_none(), effects)
    }

    fn work(&self, reason: CloseReason, now: Now) -> Work {
        Work {
            reason,
            bytes_out: self.bytes_out,
            bytes_in: self.bytes_in,
            duration: now.elapsed.saturating_sub(self.opened),
            exit_status: self.exited.map(|(status, _)| status),
        }
    }
}

fn welcome(facts: &Facts, resumed: Option<ResumedFrame>) -> WelcomeFrame {
    let permit = facts.permit();
    WelcomeFrame {
        session: facts.id(),
        permit: permit.id.clone(),
        title: permit.title.clone(),
        person: facts.holder().clone(),
        workspace: permit.workspace.name.to_string(),
        ends: facts.until().0,
        recording: words::recorded(permit.recording),
        off: ["clipboard", "file transfer", "graphics"].map(str::to_owned).to_vec(),
        credit: OUTPUT_CREDIT_BYTES,
        stays_s: facts.stays().map(|stays| stays.as_secs()),
        resumed,
    }
}

/// How long a session that opened then may still last, by the civil clock and by the one that never jumps.
fn left(facts: &Facts, opened: Duration, now: Now) -> Duration {
    let civil = Duration::try_from(facts.until().0.duration_since(now.wall)).unwrap_or_default();
    civil.min(facts.permit().session.max_length.saturating_sub(now.elapsed.saturating_sub(opened)))
}
