//! The one thread that writes: takes what waits, stamps it, makes it durable with one sync, and only then answers.
//!
//! It alone holds the counters and the write-ahead log. A disk that failed is not tried again: from then on all is refused, and the
//! process ends. Publishing, which takes longer, is another thread's ([`Publishing`]), reached through a bounded channel.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use sulku_audit::entry::{self, EntryError};
use sulku_audit::merkle::{leaf_hash, sha256};
use sulku_audit::wire::ResponseBody;
use sulku_audit::{Counters, Draft, Event, Hash, Receipt, Signer, Stamp};

use crate::files::FileError;
use crate::flight::Flight;
use crate::frame::{Contents, FULL_BYTES};
use crate::ledger::Alarm;
use crate::publisher::{PublishError, Publisher};
use crate::server::Reply;
use crate::wal::Wal;

/// Requests that wait for the writer. Beyond it a connection's next request is not read.
pub(crate) const QUEUE_REQUESTS_MAX: usize = 4096;
/// Frames, and bytes of them, that wait to be published. Beyond it the writer waits: memory stays bounded.
pub(crate) const BACKLOG_FRAMES_MAX: usize = 4096;
/// See above; a second's worth at the rate of a disk.
pub(crate) const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Requests in one sync: few enough that the first of them does not wait long.
const BATCH_REQUESTS_MAX: usize = 1024;
/// How often a checkpoint is published when there is something new.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// What the writer is asked for.
#[expect(clippy::large_enum_variant, reason = "nearly every command is an append, and the queue of them is bounded")]
pub(crate) enum Command {
    /// Keep this; with a chunk of a recording as blob.
    Append { draft: Draft, blob: Blob, reply: Reply },
    /// Publish a checkpoint over all that was appended before.
    Publish(Reply),
    /// Write the last entry and end.
    Stop { reason: String },
}

/// The bytes that came with a request. The thread that read them has hashed them, so that the writer need not.
pub(crate) struct Blob {
    bytes: Vec<u8>,
    sha256: Hash,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { sha256: sha256(&[&bytes]), bytes }
    }
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
    #[error("the kernel gave no randomness: {0}")]
    Randomness(getrandom::Error),
    #[error("entries can't be published")]
    Publisher,
}

pub(crate) struct Writer {
    pub(crate) wal: Wal,
    pub(crate) counters: Counters,
    pub(crate) signer: Arc<Signer>,
    pub(crate) boot: String,
    pub(crate) publishing: Sender<Publishing>,
    pub(crate) backlog: Arc<Flight>,
    pub(crate) alarm: Alarm,
    /// The frame in the making, and who waits for each of its entries.
    pub(crate) frame: Contents,
    pub(crate) waiting: Vec<Waiting>,
    /// Who asked for a checkpoint over what is in the frame and before.
    pub(crate) publish_next: Vec<Reply>,
    /// Whether the last entry was asked for.
    pub(crate) stopped: bool,
}

/// Somebody who waits for an entry to be durable.
pub(crate) struct Waiting {
    reply: Reply,
    draft: Draft,
    at: usize,
    length: usize,
}

/// Why a draft was not taken.
enum Rejection {
    /// It can't be kept; nothing of it was.
    Refused(String),
    /// Nothing can be kept any more.
    Failed(Failure),
}

impl Writer {
    /// Writes until told to stop, or until the disk fails; then refuses all that comes until nobody can ask any more.
    pub(crate) fn run(mut self, commands: &Receiver<Command>) {
        if let Err(failure) = self.write_until_stopped(commands) {
            let reason = format!("the ledger can't keep entries: {failure}");
            let refuse = |reply: Reply| reply.send(ResponseBody::Refused { reason: reason.clone() });
            self.waiting.drain(..).map(|waiting| waiting.reply).chain(self.publish_next.drain(..)).for_each(refuse);
            self.alarm.sound(reason.clone());
            // The publisher ends when nothing more can come.
            drop(self.publishing);
            if self.stopped {
                return;
            }
            while let Ok(command) = commands.recv() {
                match command {
                    Command::Append { reply, .. } | Command::Publish(reply) => refuse(reply),
                    Command::Stop { .. } => return,
                }
            }
        }
    }

    /// Appends an entry of the ledger's own, at once.
    pub(crate) fn append_own(&mut self, event: Event) -> Result<(), String> {
        match self.stage(Draft::new(event), Blob::new(Vec::new()), Reply::nobody()) {
            Ok(()) => self.commit().map_err(|failure| failure.to_string()),
            Err(Rejection::Refused(reason)) => Err(reason),
            Err(Rejection::Failed(failure)) => Err(failure.to_string()),
        }
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
                    Command::Append { draft, blob, reply } => self.take(draft, blob, reply)?,
                    Command::Publish(reply) => self.publish_next.push(reply),
                    Command::Stop { reason } => {
                        self.take(Draft::new(Event::LedgerStopped { reason }), Blob::new(Vec::new()), Reply::nobody())?;
                        self.stopped = true;
                    }
                }
                let full = requests >= BATCH_REQUESTS_MAX || self.frame.bytes() >= FULL_BYTES;
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
            Some(Command::Append { reply, .. } | Command::Publish(reply)) => self.publish_next.push(reply),
            Some(Command::Stop { .. }) => self.stopped = true,
            None => {}
        }
    }

    fn take(&mut self, draft: Draft, blob: Blob, reply: Reply) -> Result<(), Failure> {
        let refusal = reply.handle();
        match self.stage(draft, blob, reply) {
            Ok(()) => Ok(()),
            Err(Rejection::Refused(reason)) => {
                refusal.send(ResponseBody::Refused { reason });
                Ok(())
            }
            Err(Rejection::Failed(failure)) => {
                refusal.send(ResponseBody::Refused { reason: format!("the ledger can't keep entries: {failure}") });
                Err(failure)
            }
        }
    }

    /// Puts an entry into the frame. Its counters count it from here on, so it is either written with the frame or the process ends.
    fn stage(&mut self, draft: Draft, blob: Blob, reply: Reply) -> Result<(), Rejection> {
        let refused = |error: &dyn std::fmt::Display| Rejection::Refused(error.to_string());
        let chunk = self.counters.chunk(&draft).map_err(|error| refused(&error))?;
        match &chunk {
            Some(chunk) if blob.bytes.len() as u64 != chunk.length || blob.sha256 != chunk.sha256 => {
                let found = blob.bytes.len();
                return Err(Rejection::Refused(format!("the chunk that came has {found} bytes, or another SHA-256 than the entry says")));
            }
            None if !blob.bytes.is_empty() => return Err(Rejection::Refused("only a recording's chunk comes with bytes".to_owned())),
            _ => {}
        }
        let (permit_seq, session_seq) = self.counters.next(&draft);
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| Rejection::Failed(Failure::Randomness(error)))?;
        let stamp = Stamp { time: Timestamp::now(), mono_ns: monotonic_ns(), boot: self.boot.clone(), permit_seq, session_seq, salt };
        let bytes = entry::encode(&draft, &stamp).map_err(|error: EntryError| refused(&error))?;
        self.counters.count(&draft).map_err(|error| refused(&error))?;
        let at = self.frame.entries.len() + 2;
        let chunk = chunk.map(|chunk| (chunk, blob.bytes));
        self.frame.push(&bytes, leaf_hash(&bytes), chunk).map_err(|error| refused(&error))?;
        self.waiting.push(Waiting { reply, draft, at, length: bytes.len() });
        Ok(())
    }

    /// Makes the frame durable, then answers.
    fn commit(&mut self) -> Result<(), Failure> {
        if self.frame.hashes.is_empty() {
            return Ok(());
        }
        let first = self.wal.next();
        self.wal.commit(&self.frame)?;
        let frame = std::mem::take(&mut self.frame);
        for ((index, hash), Waiting { reply, draft, at, length }) in (first..).zip(&frame.hashes).zip(self.waiting.drain(..)) {
            let receipt = Receipt::issue(&self.signer, index, hash, &draft, &frame.entries[at..at + length]);
            reply.send(ResponseBody::Kept(receipt));
        }
        self.backlog.board(frame.bytes()).map_err(|_| Failure::Publisher)?;
        self.publishing.send(Publishing::Committed(frame)).map_err(|_| Failure::Publisher)
    }
}

fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Publishes what the writer committed: every second when there is something new, when asked, and at the end.
pub(crate) fn publish_until_done(mut publisher: Publisher, work: &Receiver<Publishing>, backlog: &Flight, alarm: &Alarm) {
    let mut asked = None;
    if let Err(error) = publish_loop(&mut publisher, work, backlog, &mut asked) {
        let reason = format!("the ledger can't publish: {error}");
        alarm.sound(reason.clone());
        backlog.break_off();
        let refuse = |reply: Reply| reply.send(ResponseBody::Refused { reason: reason.clone() });
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
