//! The writer: takes what waits, has it stamped ([`crate::stage`]), makes it durable with one sync, and only then answers.
//!
//! There is one; whichever thread holds it writes ([`crate::queue`]). It alone has the counters and the write-ahead log. A disk that
//! failed is not tried again: from then on all is refused, and the process ends. When the disk is full it keeps what closes, from the
//! reserve ([`crate::room`]). Publishing, which takes longer, is another thread's, reached through a bounded [`Handover`].

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sulku_audit::entry::time_text;
use sulku_audit::personal::Scope;
use sulku_audit::wire::{Cause, ResponseBody};
use sulku_audit::{Draft, Event, LogSigner, Receipt};
use sulku_permit::SessionId;

use crate::answers::Gathered;
use crate::clock::{ClockWatch, Reading};
use crate::deletion;
use crate::files::FileError;
use crate::frame::{FRAME_BYTES_MAX, FULL_BYTES};
use crate::handover::Handover;
use crate::keys::Keys;
use crate::ledger::Alarm;
use crate::metrics::Metrics;
use crate::queue::{Queue, Weighed};
use crate::room::{ENTRY_ROOM_BYTES, FLOOR_BYTES, LAST_BYTES, Room, STARTS_FLOOR_BYTES, Share};
use crate::server::Reply;
use crate::stage::{Blob, Prepared, Rejection, Stage, StageFailure, Waiting};
use crate::wal::Wal;

/// Requests in one sync: few enough that the first of them does not wait long.
const BATCH_REQUESTS_MAX: usize = 1024;
/// So many of them are taken from the queue at once, and no more bytes than fill a frame: each taking is a lock that the connections' threads
/// want as well.
const TAKEN_REQUESTS_MAX: usize = 128;
/// What entries say of persons is kept at least this long after the last of them: a year, by the requirements on logs (LG-03).
const KEPT_AT_LEAST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// When the segment in use has less left, there must be a spare: the largest frame may come next, and what closes after it.
const LOW_BYTES: usize = 2 * FRAME_BYTES_MAX + FLOOR_BYTES;

/// What the writer is asked for.
pub(crate) enum Command {
    /// Keep this.
    Append { prepared: Prepared, reply: Reply },
    /// Publish a checkpoint over all that was appended before.
    Publish(Reply),
    /// Keep that a key is destroyed; the answer destroys it.
    DestroyKey { scope: Scope, uid: u32, reply: Reply },
    /// Keep that a recording is deleted; the answer deletes it.
    DeleteRecording { session: SessionId, uid: u32, reply: Reply },
    /// Write the last entry and end.
    Stop { reason: String },
}

impl Command {
    /// Who waits for it.
    fn into_reply(self) -> Option<Reply> {
        match self {
            Self::Append { reply, .. } | Self::DestroyKey { reply, .. } | Self::DeleteRecording { reply, .. } | Self::Publish(reply) => Some(reply),
            Self::Stop { .. } => None,
        }
    }
}

/// What makes the log unable to go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Stage(#[from] StageFailure),
    #[error("entries can't be published")]
    Publisher,
}

pub(crate) struct Writer {
    pub(crate) wal: Wal,
    pub(crate) stage: Stage,
    pub(crate) keys: Arc<Keys>,
    pub(crate) signer: Arc<LogSigner>,
    pub(crate) handover: Arc<Handover>,
    pub(crate) room: Arc<Room>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) alarm: Alarm,
    pub(crate) clock: ClockWatch,
    /// The shortage of which the log has an entry.
    pub(crate) noted: Option<std::time::Instant>,
    /// Who asked for a checkpoint over what is in the frame and before.
    pub(crate) publish_next: Vec<Reply>,
    /// Requests that were taken and are not looked at yet.
    pub(crate) taken: VecDeque<Weighed>,
    /// Answers that are sent when all of a batch are made.
    pub(crate) answers: Gathered,
    /// Why nothing is written any more.
    pub(crate) ended: Option<String>,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Stage(rejection.into_failure())
    }
}

impl Writer {
    /// Writes one batch of what waits. When the disk fails, refuses that and all that comes until nobody can ask any more.
    pub(crate) fn write_batch(&mut self, queue: &Queue) {
        if self.ended.is_none()
            && let Err(failure) = self.write(queue)
        {
            let reason = format!("the ledger can't keep entries: {failure}");
            let refuse = |reply: Reply| reply.refuse(Cause::Broken, reason.clone());
            self.stage.abandon().chain(self.publish_next.drain(..)).for_each(refuse);
            self.alarm.sound(reason.clone());
            self.handover.close();
            self.ended = Some(reason);
        }
        while let Some(reason) = &self.ended {
            if self.taken.is_empty() {
                queue.take(&mut self.taken, TAKEN_REQUESTS_MAX, FULL_BYTES);
            }
            match self.taken.pop_front().map(|(command, _)| command) {
                Some(Command::Stop { .. }) => {
                    for reply in queue.close().into_iter().filter_map(Command::into_reply) {
                        reply.refuse(Cause::Broken, reason.clone());
                    }
                }
                Some(command) => command.into_reply().into_iter().for_each(|reply| reply.refuse(Cause::Broken, reason.clone())),
                None => return,
            }
        }
    }

    /// Appends an entry of the ledger's own, at once.
    pub(crate) fn append_own(&mut self, event: Event) -> Result<(), String> {
        let appended = self.note_surroundings().and_then(|()| self.take_own(event)).and_then(|()| self.commit());
        appended.map_err(|failure| failure.to_string())
    }

    /// Puts an entry of the ledger's own into the frame. That it can't be made is a defect, and ends the log as a failed disk does.
    fn take_own(&mut self, event: Event) -> Result<(), Failure> {
        let prepared = Prepared::new(&self.keys, Draft::new(event), Blob::none())?;
        self.stage.take(&self.keys, prepared, Reply::nobody()).map_err(|(rejection, _)| rejection.into())
    }

    fn write(&mut self, queue: &Queue) -> Result<(), Failure> {
        if self.alarm.has_sounded() {
            return Err(Failure::Publisher);
        }
        self.note_surroundings()?;
        let (mut requests, mut stopped) = (0, None);
        while requests < BATCH_REQUESTS_MAX && self.stage.frame_bytes() < FULL_BYTES && stopped.is_none() {
            if self.taken.is_empty() {
                queue.take(&mut self.taken, TAKEN_REQUESTS_MAX, FULL_BYTES);
            }
            let Some((command, _)) = self.taken.pop_front() else { break };
            requests += 1;
            match command {
                Command::Append { prepared, reply } => self.take(prepared, reply)?,
                Command::Publish(reply) => self.publish_next.push(reply),
                Command::DestroyKey { scope, uid, reply } => self.order_destruction(&scope, uid, reply)?,
                Command::DeleteRecording { session, uid, reply } => self.order_deletion(session, uid, reply)?,
                Command::Stop { reason } => {
                    self.take_own(Event::LedgerStopped { reason })?;
                    stopped = Some("the ledger has stopped".to_owned());
                }
            }
        }
        queue.put_back(&mut self.taken);
        self.commit()?;
        self.handover.ask(self.publish_next.drain(..));
        if stopped.is_some() {
            self.ended = stopped;
            // The publisher ends when nothing more can come.
            self.handover.close();
            for reply in queue.close().into_iter().filter_map(Command::into_reply) {
                reply.refuse(Cause::Broken, "the ledger has stopped".to_owned());
            }
        }
        Ok(())
    }

    /// Keeps entries of what changed since the last batch: the clock, and whether the disk has room.
    fn note_surroundings(&mut self) -> Result<(), Failure> {
        if let Some(by_ms) = self.clock.check(&Reading { time: Timestamp::now(), mono_ns: crate::stage::monotonic_ns() }) {
            tracing::warn!(by_ms, "the wall clock jumped");
            self.take_own(Event::LedgerClockJumped { by_ms })?;
        }
        if self.wal.room_bytes() < LOW_BYTES && !self.room.is_full() {
            match self.wal.prepare_spare() {
                Err(error) if error.is_full() => self.room.lack(&error),
                prepared => prepared?,
            }
        }
        match (self.room.shortage(), self.noted) {
            (Some(shortage), None) => {
                self.noted = Some(shortage.since);
                let reserve_bytes = self.wal.reserve_bytes()? as u64;
                self.take_own(Event::LedgerFull { what: shortage.what, reserve_bytes })
            }
            (None, Some(since)) => {
                self.noted = None;
                self.take_own(Event::LedgerHasRoom { after_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX) })
            }
            _ => Ok(()),
        }
    }

    fn take(&mut self, prepared: Prepared, reply: Reply) -> Result<(), Failure> {
        if self.noted.is_some()
            && let Some(reason) = self.find_no_room(prepared.event())?
        {
            reply.refuse(Cause::Full, reason);
            return Ok(());
        }
        match self.stage.take(&self.keys, prepared, reply) {
            Ok(()) => Ok(()),
            Err((Rejection::Refused(cause, reason), reply)) => {
                reply.refuse(cause, reason);
                Ok(())
            }
            Err((Rejection::Failed(failure), reply)) => {
                reply.refuse(Cause::Broken, format!("the ledger can't keep entries: {failure}"));
                Err(failure.into())
            }
        }
    }

    /// Why an event finds no room in the reserve, if it finds none. What should close and finds none ends the ledger in order.
    fn find_no_room(&mut self, event: &Event) -> Result<Option<String>, Failure> {
        let floor = match Share::of(event) {
            Share::None => return Ok(Some(format!("the disk is full, and {} is not kept until it has room", event.name()))),
            Share::AboveStartsFloor => STARTS_FLOOR_BYTES,
            Share::AboveFloor => FLOOR_BYTES,
            Share::BelowFloor => LAST_BYTES,
        };
        if self.wal.reserve_bytes()? >= floor + self.stage.frame_bytes() + ENTRY_ROOM_BYTES {
            return Ok(None);
        }
        if floor == STARTS_FLOOR_BYTES {
            return Ok(Some(format!("the disk is full, and what is left of the reserve is for what closes; {} waits for room", event.name())));
        }
        let reason = "the disk is full, and the ledger's reserve is used up but for its last entries; make room and start it again";
        self.alarm.stop(reason);
        Ok(Some(reason.to_owned()))
    }

    /// Keeps the entry that a key is destroyed, if nothing that it seals is younger than what must be kept.
    fn order_destruction(&mut self, scope: &Scope, uid: u32, reply: Reply) -> Result<(), Failure> {
        let now = Timestamp::now();
        let last = match scope {
            Scope::Permit(permit) => self.stage.counters().last_about(permit),
            // The year's last instant is its key's last use.
            Scope::Year(year) => {
                jiff::civil::Date::new(year + 1, 1, 1).ok().and_then(|day| day.to_zoned(TimeZone::UTC).ok()).map(|day| day.timestamp())
            }
        };
        match last {
            None => reply.refuse(Cause::Malformed, format!("no entry is about {scope}")),
            Some(last) if now.duration_since(last) < KEPT_AT_LEAST => {
                let reason =
                    format!("the last entry about {scope} is of {}; what it says of persons is kept for a year from then on", time_text(last));
                reply.refuse(Cause::NotAllowed, reason);
            }
            Some(_) => {
                let event = Event::KeyDestroyed { key: scope.key_id().to_string(), scope: scope.to_string(), uid };
                return self.take(Prepared::new(&self.keys, Draft::new(event), Blob::none())?, reply);
            }
        }
        Ok(())
    }

    /// Keeps the entry that a recording is deleted, if its permit lets it be deleted now. About no permit, so that it can be written
    /// when the permit's key is gone already.
    fn order_deletion(&mut self, session: SessionId, uid: u32, reply: Reply) -> Result<(), Failure> {
        match deletion::order(self.stage.counters(), &session, uid, Timestamp::now()) {
            Ok(event) => {
                let draft = Draft { session: Some(session), ..Draft::new(event) };
                let last_part = self.stage.counters().recording(&session).map_or(0, |recorded| recorded.last_part);
                self.take(Prepared::new(&self.keys, draft, Blob::none())?, reply.of_parts(last_part))
            }
            Err(reason) => {
                reply.refuse(Cause::NotAllowed, reason);
                Ok(())
            }
        }
    }

    /// Makes the frame durable, then answers.
    fn commit(&mut self) -> Result<(), Failure> {
        let Some(mut staged) = self.stage.take_frame() else { return Ok(()) };
        let first = self.wal.next();
        if let Err(error) = self.wal.commit(&staged.frame) {
            // Whoever waits for these entries hears with the rest that they are not kept.
            self.publish_next.extend(staged.waiting.into_iter().map(|waiting| waiting.reply));
            return Err(error.into());
        }
        self.metrics.committed(staged.frame.hashes.len(), self.wal.next());
        for ((index, hash), Waiting { reply, draft, time }) in (first..).zip(&staged.frame.hashes).zip(staged.waiting) {
            if let Event::PolicyActivated { number, .. } = draft.event {
                self.metrics.policy(number);
            }
            let answer = ResponseBody::Kept(Receipt::issue(self.signer.receipts(), index, hash, &draft, time));
            reply.add(answer, &[], &mut self.answers);
            staged.frame.counted.push((draft, time));
        }
        // Sent now: to hand the frame over may take waiting.
        self.answers.send();
        self.handover.put(staged.frame).map_err(|_| Failure::Publisher)
    }
}
