//! The gapless counters: how many entries each permit and session has, and how far each session's recording goes.
//!
//! Inclusion proofs show that an entry is in the log, not that none was left out of a selection. The counters do: the entries about
//! one permit are numbered 0, 1, 2 …, and so are those about one session. The ledger numbers with the same code that auditors
//! check with. Keeps a few words per permit and session, for as long as the log is.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sulku_permit::{PermitId, SessionId};

use crate::entry::Entry;
use crate::event::{Draft, Event};
use crate::merkle::Hash;
use crate::wire::BLOB_BYTES_MAX;

/// Where the log stands, permit by permit and session by session. Its serialised form is the ledger's own (`snapshot`), and no proof.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    permits: HashMap<PermitId, PermitCount>,
    sessions: HashMap<SessionId, SessionCount>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PermitCount {
    entries: u64,
    last: Timestamp,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SessionCount {
    entries: u64,
    chunks: u64,
    recorded_bytes: u64,
    /// Of these, those of the parts before the last.
    #[serde(default)]
    before: Before,
    /// The last part of the recording.
    #[serde(default)]
    part: u32,
    /// Until when the recording is kept at least; `None` before it has begun.
    keep_until: Option<Timestamp>,
    deletion: Deletion,
}

/// What the parts of a recording hold that were finished.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    chunks: u64,
    bytes: u64,
}

/// Whether a recording was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deletion {
    /// It is kept.
    #[default]
    No,
    /// An entry says that its key is gone, and the recording with it.
    Deleted,
}

/// What the log says of a session's recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Its last part, from 0; not every number below need be there.
    pub last_part: u32,
    /// Until when it is kept at least; `None` for one that no `recording.begun` began.
    pub keep_until: Option<Timestamp>,
    /// Whether it was deleted.
    pub deletion: Deletion,
}

/// Which of a recording's files a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The sealed chunks, one after the other.
    Chunks,
    /// The recording's key, wrapped for the auditors.
    Key,
}

impl Part {
    /// The file in the log's folder, of this part of a session's recording.
    #[must_use]
    pub fn path(self, session: &SessionId, number: u32) -> String {
        let ending = match self {
            Self::Chunks => "rec",
            Self::Key => "key",
        };
        if number == 0 { format!("recordings/{session}.{ending}") } else { format!("recordings/{session}.{number}.{ending}") }
    }

    /// The session and the number of the part that a path names.
    #[must_use]
    pub fn parse(path: &str) -> Option<(Self, SessionId, u32)> {
        let (name, ending) = path.strip_prefix("recordings/")?.rsplit_once('.')?;
        let part = match ending {
            "rec" => Self::Chunks,
            "key" => Self::Key,
            _ => return None,
        };
        let (session, number) = match name.split_once('.') {
            None => (name, 0),
            Some((session, number)) => (session, number.parse().ok()?),
        };
        let session = session.parse().ok()?;
        // One name for each file, and no other.
        (part.path(&session, number) == path).then_some((part, session, number))
    }
}

/// A piece of a recording, as an entry names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Whose recording.
    pub session: SessionId,
    /// Which part of it, from 0.
    pub number: u32,
    /// Which of the part's files.
    pub part: Part,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// SHA-256 over it.
    pub sha256: Hash,
}

impl Chunk {
    /// The file that it belongs to, in the log's folder.
    #[must_use]
    pub fn path(&self) -> String {
        self.part.path(&self.session, self.number)
    }
}

/// A draft or an entry that does not continue the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CounterError {
    /// A counter has a gap or a repetition.
    #[error("{what} is {found} where {expected} comes next; entries are missing or out of order")]
    Gap {
        /// `permit_seq` or `session_seq`.
        what: &'static str,
        /// What would continue the log.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A chunk of a recording without a session.
    #[error("a recording's chunk names no session")]
    NoSession,
    /// A chunk does not follow the one before.
    #[error(
        "the chunk is number {chunk} of part {part} at byte {offset}; the recording goes on with number {next_chunk} of part {last} at byte {end}"
    )]
    Misplaced {
        /// Its part.
        part: u32,
        /// The part that has begun last.
        last: u32,
        /// Its number.
        chunk: u64,
        /// Its place.
        offset: u64,
        /// The number that comes next.
        next_chunk: u64,
        /// The recording's end.
        end: u64,
    },
    /// A part of a recording begins again, or one from before.
    #[error("the session's recording, or a later part of it, has begun already")]
    BegunAlready,
    /// An entry about a recording that is gone.
    #[error("the session's recording was deleted")]
    Deleted,
    /// There is nothing to delete.
    #[error("the session has no recording")]
    NoRecording,
    /// A chunk's length or digest can't be one.
    #[error("the chunk's length is not 1 to {BLOB_BYTES_MAX} bytes or its SHA-256 is not 64 hexadecimal digits in lower case")]
    Unfit,
}

/// What a draft or an entry is about, as far as counters go.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'s> {
    /// The permit.
    pub permit: Option<&'s PermitId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The event.
    pub event: &'s Event,
}

impl<'s> From<&'s Draft> for Subject<'s> {
    fn from(draft: &'s Draft) -> Self {
        Self { permit: draft.permit.as_ref(), session: draft.session, event: &draft.event }
    }
}

impl<'s> From<&'s Entry> for Subject<'s> {
    fn from(entry: &'s Entry) -> Self {
        Self { permit: entry.permit.as_ref(), session: entry.session, event: &entry.event }
    }
}

impl Counters {
    /// Permits that have entries.
    #[must_use]
    pub fn permits(&self) -> u64 {
        self.permits.len() as u64
    }

    /// Sessions that have entries.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// The time of the last entry about the permit.
    #[must_use]
    pub fn last_about(&self, permit: &PermitId) -> Option<Timestamp> {
        self.permits.get(permit).map(|count| count.last)
    }

    /// What the log says of the session's recording, if there is one.
    #[must_use]
    pub fn recording(&self, session: &SessionId) -> Option<Recorded> {
        let SessionCount { entries: _, chunks, recorded_bytes: bytes, before: _, part: last_part, keep_until, deletion } =
            *self.sessions.get(session)?;
        (keep_until.is_some() || chunks > 0).then_some(Recorded { chunks, bytes, last_part, keep_until, deletion })
    }

    /// The sessions whose recordings were deleted, each with its last part, in no order.
    pub fn deleted(&self) -> impl Iterator<Item = (SessionId, u32)> + '_ {
        self.sessions.iter().filter(|(_, count)| count.deletion == Deletion::Deleted).map(|(session, count)| (*session, count.part))
    }

    /// The counters that an entry of this draft gets: `permit_seq` and `session_seq`.
    #[must_use]
    pub fn next<'s>(&self, subject: impl Into<Subject<'s>>) -> (Option<u64>, Option<u64>) {
        let Subject { permit, session, event: _ } = subject.into();
        let permit = permit.map(|permit| self.permits.get(permit).map_or(0, |count| count.entries));
        let session = session.map(|session| self.sessions.get(&session).map_or(0, |count| count.entries));
        (permit, session)
    }

    /// The piece of a recording that the draft is about, if it is about one.
    ///
    /// # Errors
    /// It does not continue the session's recording.
    pub fn chunk<'s>(&self, subject: impl Into<Subject<'s>>) -> Result<Option<Chunk>, CounterError> {
        let Subject { permit: _, session, event } = subject.into();
        if !matches!(event, Event::RecordingBegun { .. } | Event::RecordingChunk { .. } | Event::RecordingDeleted { .. }) {
            return Ok(None);
        }
        let session = session.ok_or(CounterError::NoSession)?;
        let count = self.sessions.get(&session).copied().unwrap_or_default();
        if count.deletion == Deletion::Deleted {
            return Err(CounterError::Deleted);
        }
        let is_new = count.keep_until.is_none() && count.chunks == 0;
        let (number, part, offset, length, sha256) = match event {
            // Of a gateway that took a session over, the first part may be the session's first, if the one before did not come to any.
            Event::RecordingBegun { part, key_sha256, key_length, .. } if is_new || *part > count.part => {
                (*part, Part::Key, 0, *key_length, key_sha256)
            }
            Event::RecordingBegun { .. } => return Err(CounterError::BegunAlready),
            Event::RecordingChunk { part, chunk, offset, length, sha256, .. } => {
                let (next_chunk, end) = (count.chunks - count.before.chunks, count.recorded_bytes - count.before.bytes);
                // What a gateway that died had sent may come after its successor has begun.
                if (*part, *chunk, *offset) != (count.part, next_chunk, end) {
                    return Err(CounterError::Misplaced { part: *part, last: count.part, chunk: *chunk, offset: *offset, next_chunk, end });
                }
                (*part, Part::Chunks, *offset, *length, sha256)
            }
            _ if count.keep_until.is_none() && count.chunks == 0 => return Err(CounterError::NoRecording),
            _ => return Ok(None),
        };
        let sha256 = Hash::from_hex(sha256).filter(|_| (1..=BLOB_BYTES_MAX as u64).contains(&length)).ok_or(CounterError::Unfit)?;
        Ok(Some(Chunk { session, number, part, offset, length, sha256 }))
    }

    /// Counts what becomes the log's next entry, of this time, with the counters that [`Counters::next`] gave it.
    ///
    /// # Errors
    /// It does not continue its session's recording; nothing is counted.
    pub fn count<'s>(&mut self, subject: impl Into<Subject<'s>>, time: Timestamp) -> Result<Option<Chunk>, CounterError> {
        let subject = subject.into();
        let chunk = self.chunk(subject)?;
        if let Some(permit) = subject.permit {
            match self.permits.get_mut(permit) {
                Some(count) => (count.entries, count.last) = (count.entries + 1, time),
                None => drop(self.permits.insert(permit.clone(), PermitCount { entries: 1, last: time })),
            }
        }
        if let Some(session) = subject.session {
            let count = self.sessions.entry(session).or_default();
            count.entries += 1;
            match subject.event {
                Event::RecordingBegun { part, keep_until, .. } => {
                    count.before = Before { chunks: count.chunks, bytes: count.recorded_bytes };
                    count.part = *part;
                    count.keep_until = count.keep_until.max(Some(*keep_until));
                }
                Event::RecordingChunk { length, .. } => (count.chunks, count.recorded_bytes) = (count.chunks + 1, count.recorded_bytes + length),
                Event::RecordingDeleted { .. } => count.deletion = Deletion::Deleted,
                _ => {}
            }
        }
        Ok(chunk)
    }

    /// Checks that an entry continues the log, and counts it.
    ///
    /// # Errors
    /// It does not; nothing is counted.
    pub fn check(&mut self, entry: &Entry) -> Result<Option<Chunk>, CounterError> {
        let (permit, session) = self.next(entry);
        let gap = |what, expected: Option<u64>, found: Option<u64>| match (expected, found) {
            (Some(expected), Some(found)) if expected != found => Err(CounterError::Gap { what, expected, found }),
            _ => Ok(()),
        };
        gap("permit_seq", permit, entry.stamp.permit_seq)?;
        gap("session_seq", session, entry.stamp.session_seq)?;
        self.count(entry, entry.stamp.time)
    }
}
