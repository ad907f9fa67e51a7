//! The one thread that writes: takes what waits, has it stamped ([`crate::stage`]), makes it durable with one sync, and only then answers.
//!
//! It alone holds the counters and the write-ahead log. A disk that failed is not tried again: from then on all is refused, and the
//! process ends. Publishing, which takes longer, is another thread's ([`Publishing`]), reached through a bounded channel.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sulku_audit::entry::time_text;
use sulku_audit::personal::Scope;
use sulku_audit::wire::{Cause, ResponseBody};
use sulku_audit::{Draft, Event, LogSigner, Receipt};

use crate::files::FileError;
use crate::flight::Flight;
use crate::frame::{Contents, FULL_BYTES};
use crate::keys::Keys;
use crate::ledger::Alarm;
use crate::publisher::{PublishError, Publisher};
use crate::server::Reply;
use crate::stage::{Blob, Prepared, Rejection, Stage, StageFailure, Waiting};
use crate::wal::Wal;

/// Requests that wait for the writer. Beyond it a connection's next request is not read.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 4096;
/// Frames, and bytes of them, that wait to be published. Beyond it the writer waits: memory stays bounded.
pub(crate) const BACKLOG_FRAMES_MAX: usize = 4096;
/// See above; a second's worth at the rate of a disk.
pub(crate) const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Requests in one sync: few enough that the first of them does not wait long.
const BATCH_REQUESTS_MAX: usize = 1024;
/// What entries say of persons is kept at least this long after the last of them: a year, by the requirements on logs (LG-03).
const KEPT_AT_LEAST: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How often a checkpoint is published when there is something new.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What the writer is asked for.
#[expect(clippy::large_enum_variant, reason = "nearly every command is an append, and the queue of them is bounded")]
pub(crate) enum Command {
    /// Keep this.
    Append { prepared: Prepared, reply: Reply },
    /// Publish a checkpoint over all that was appended before.
    Publish(Reply),
    /// Keep that a key is destroyed; the answer destroys it.
    DestroyKey { scope: Scope, uid: u32, reply: Reply },
    /// Write the last entry and end.
    Stop { reason: String },
}

/// What the publishing thread is asked for.
pub(crate) enum Publishing {
    /// The contents of a durable frame.
    Committed(Contents),
    /// Publish now.
    Now(Reply),
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
    pub(crate) publishing: Sender<Publishing>,
    pub(crate) backlog: Arc<Flight>,
    pub(crate) alarm: Alarm,
    /// Who asked for a checkpoint over what is in the frame and before.
    pub(crate) publish_next: Vec<Reply>,
    /// Whether the last entry was asked for.
    pub(crate) stopped: bool,
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Stage(rejection.into_failure())
    }
}

impl Writer {
    /// Writes until told to stop, or until the disk fails; then refuses all that comes until nobody can ask any more.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        if let Err(failure) = self.write_until_stopped(commands) {
            let reason = format!("the ledger can't keep entries: {failure}");
            let refuse = |reply: Reply| reply.refuse(Cause::Broken, reason.clone());
            self.stage.abandon().chain(self.publish_next.drain(..)).for_each(refuse);
            self.alarm.sound(reason.clone());
            // The publisher ends when nothing more can come.
            drop(self.publishing);
            if self.stopped {
                return;
            }
            while let Ok(command) = commands.recv() {
                match command {
                    Command::Append { reply, .. } | Command::DestroyKey { reply, .. } | Command::Publish(reply) => refuse(reply),
                    Command::Stop { .. } => return,
                }
            }
        }
    }

    /// Appends an entry of the ledger's own, at once.
    pub(crate) fn append_own(&mut self, event: Event) -> Result<(), String> {
        match self.take_own(event) {
            Ok(()) => self.commit().map_err(|failure| failure.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Puts an entry of the ledger's own into the frame. That it can't be made is a defect, and ends the log as a failed disk does.
    fn take_own(&mut self, event: Event) -> Result<(), Failure> {
        let prepared = Prepared::new(&self.keys, Draft::new(event), Blob::none())?;
        self.stage.take(&self.keys, prepared, Reply::nobody()).map_err(|(rejection, _)| rejection.into())
    }

    fn write_until_stopped(&mut self, commands: &Receiver<Command>) -> Result<(), Failure> {
        while let Ok(first) = commands.recv() {
            let (mut next, mut requests) = (Some(first), 0);
            if self.alarm.has_sounded() {
                // Whatever came is refused with the rest: nothing of it is staged yet.
                self.refuse_first(next.take());
                return Err(Failure::Publisher);
            }
            while let Some(command) = next.take() {
                requests += 1;
                match command {
                    Command::Append { prepared, reply } => self.take(prepared, reply)?,
                    Command::Publish(reply) => self.publish_next.push(reply),
                    Command::DestroyKey { scope, uid, reply } => self.order_destruction(&scope, uid, reply)?,
                    Command::Stop { reason } => {
                        self.take_own(Event::LedgerStopped { reason })?;
                        self.stopped = true;
                    }
                }
                let full = requests >= BATCH_REQUESTS_MAX || self.stage.frame_bytes() >= FULL_BYTES;
                if !full && !self.stopped {
                    next = commands.try_recv().ok();
                }
            }
            self.commit()?;
            for reply in self.publish_next.drain(..) {
                self.publishing.send(Publishing::Now(reply)).map_err(|_| Failure::Publisher)?;
            }
            if self.stopped {
                break;
            }
        }
        Ok(())
    }

    fn refuse_first(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Append { reply, .. } | Command::DestroyKey { reply, .. } | Command::Publish(reply)) => self.publish_next.push(reply),
            Some(Command::Stop { .. }) => self.stopped = true,
            None => {}
        }
    }

    fn take(&mut self, prepared: Prepared, reply: Reply) -> Result<(), Failure> {
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

    /// Makes the frame durable, then answers.
    fn commit(&mut self) -> Result<(), Failure> {
        let Some(staged) = self.stage.take_frame() else { return Ok(()) };
        let first = self.wal.next();
        self.wal.commit(&staged.frame)?;
        for ((index, hash), Waiting { reply, draft, time }) in (first..).zip(&staged.frame.hashes).zip(staged.waiting) {
            reply.send(ResponseBody::Kept(Receipt::issue(self.signer.receipts(), index, hash, &draft, time)));
        }
        self.backlog.board(staged.frame.bytes()).map_err(|_| Failure::Publisher)?;
        self.publishing.send(Publishing::Committed(staged.frame)).map_err(|_| Failure::Publisher)
    }
}

/// Publishes what the writer committed: every second when there is something new, when asked, and at the end.
pub(crate) fn publish_until_done(mut publisher: Publisher, work: &Receiver<Publishing>, backlog: &Flight, alarm: &Alarm) {
    let mut asked = None;
    if let Err(error) = publish_loop(&mut publisher, work, backlog, &mut asked) {
        let reason = format!("the ledger can't publish: {error}");
        alarm.sound(reason.clone());
        backlog.break_off();
        let refuse = |reply: Reply| reply.refuse(Cause::Broken, reason.clone());
        asked.into_iter().for_each(refuse);
        // The writer hears the alarm and ends; what it had sent before is durable, and is published at the next start.
        for work in work.iter() {
            if let Publishing::Now(reply) = work {
                refuse(reply);
            }
        }
    }
}

fn publish_loop(publisher: &mut Publisher, work: &Receiver<Publishing>, backlog: &Flight, asked: &mut Option<Reply>) -> Result<(), PublishError> {
    let mut last = Instant::now();
    loop {
        let something_new = publisher.size() > publisher.signed();
        let wait = if something_new { PUBLISH_EVERY.saturating_sub(last.elapsed()) } else { PUBLISH_EVERY };
        match work.recv_timeout(wait) {
            Ok(Publishing::Committed(contents)) => {
                publisher.push_contents(&contents)?;
                backlog.leave(contents.bytes());
            }
            Ok(Publishing::Now(reply)) => {
                *asked = Some(reply);
                let size = publisher.publish()?;
                last = Instant::now();
                if let Some(reply) = asked.take() {
                    reply.send(ResponseBody::Published { size });
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                publisher.publish()?;
                return Ok(());
            }
        }
        if publisher.size() > publisher.signed() && last.elapsed() >= PUBLISH_EVERY {
            publisher.publish()?;
            last = Instant::now();
        }
        publisher.prepare();
    }
}
