//! From a draft to an entry in the frame that is written next: sealed by the thread that read it, stamped and numbered by the writer.
//!
//! Writes nothing and answers nobody. What is refused here has left no trace.

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use sulku_audit::entry::{Body, EntryError, Stamp};
use sulku_audit::merkle::sha256;
use sulku_audit::personal::Scope;
use sulku_audit::tile::EntryTooLong;
use sulku_audit::wire::Cause;
use sulku_audit::{Counters, Draft, Event, Hash};

use crate::files::FileError;
use crate::frame::Contents;
use crate::keys::{KeyError, Keys, Sealing};
use crate::random::random;
use crate::server::Reply;

/// What makes the log unable to go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageFailure {
    #[error("the kernel gave no randomness: {0}")]
    Randomness(getrandom::Error),
    #[error(transparent)]
    Key(#[from] FileError),
    #[error("an entry of the ledger's own was refused ({0}); this is a defect of the program")]
    Own(String),
}

/// Why a draft was not taken.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// It can't be kept; nothing of it was.
    Refused(Cause, String),
    /// Nothing can be kept any more.
    Failed(StageFailure),
}

impl Rejection {
    /// For the ledger's own entries, which nobody can be told are refused.
    pub(crate) fn into_failure(self) -> StageFailure {
        match self {
            Self::Refused(_, reason) => StageFailure::Own(reason),
            Self::Failed(failure) => failure,
        }
    }

    /// What the peer is told.
    pub(crate) fn told(self) -> (Cause, String) {
        match self {
            Self::Refused(cause, reason) => (cause, reason),
            Self::Failed(failure) => (Cause::Broken, format!("the ledger can't keep entries: {failure}")),
        }
    }

    fn malformed(error: &impl std::fmt::Display) -> Self {
        Self::Refused(Cause::Malformed, error.to_string())
    }
}

impl From<EntryTooLong> for Rejection {
    fn from(error: EntryTooLong) -> Self {
        Self::malformed(&error)
    }
}

impl From<KeyError> for Rejection {
    fn from(error: KeyError) -> Self {
        match error {
            // A new permit's key finds no room: nothing opens under it for now.
            KeyError::File(error) if error.is_full() => Self::Refused(Cause::Full, format!("the disk is full: {error}")),
            KeyError::File(error) => Self::Failed(error.into()),
            KeyError::Randomness(error) => Self::Failed(StageFailure::Randomness(error)),
            error @ (KeyError::Destroyed(_) | KeyError::Form(..) | KeyError::Holders(_)) => Self::Refused(Cause::NotAllowed, error.to_string()),
        }
    }
}

/// The bytes that came with a request, and their hash.
pub(crate) struct Blob {
    bytes: Vec<u8>,
    /// `None` when there are no bytes.
    sha256: Option<Hash>,
}

impl Blob {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { sha256: (!bytes.is_empty()).then(|| sha256(&[&bytes])), bytes }
    }

    pub(crate) fn none() -> Self {
        Self::new(Vec::new())
    }
}

/// A draft with everything done that needs no number: what is private in it is sealed. The thread that read it does this, so that the
/// writer need not.
pub(crate) struct Prepared {
    /// Boxed, since it is passed on several times and seldom looked at.
    draft: Box<Draft>,
    body: Body,
    /// Of an entry about no permit, the year whose key seals it.
    year: Option<i16>,
    blob: Blob,
}

impl Prepared {
    pub(crate) fn new(keys: &Keys, draft: Draft, blob: Blob) -> Result<Self, Rejection> {
        Self::at(keys, Box::new(draft), blob, Timestamp::now())
    }

    /// What it is about.
    pub(crate) const fn event(&self) -> &Event {
        &self.draft.event
    }

    fn at(keys: &Keys, draft: Box<Draft>, blob: Blob, time: Timestamp) -> Result<Self, Rejection> {
        let scope = Scope::of(draft.permit.as_ref(), time);
        let Sealing { key, pseudonym } = keys.key(&scope, &draft)?;
        let nonce = random().map_err(|error| Rejection::Failed(StageFailure::Randomness(error)))?;
        let body = Body::named(&draft, pseudonym, &key, &nonce).map_err(|error: EntryError| Rejection::malformed(&error))?;
        let year = if let Scope::Year(year) = scope { Some(year) } else { None };
        Ok(Self { draft, body, year, blob })
    }

    /// The same, in the year in which it is stamped.
    fn in_year_of(self, keys: &Keys, time: Timestamp) -> Result<Self, Rejection> {
        match self.year {
            Some(year) if Scope::of(None, time) != Scope::Year(year) => Self::at(keys, self.draft, self.blob, time),
            _ => Ok(self),
        }
    }
}

/// Somebody who waits for an entry to be durable.
pub(crate) struct Waiting {
    pub(crate) reply: Reply,
    pub(crate) draft: Box<Draft>,
    pub(crate) time: Timestamp,
}

/// A frame to write, and who waits for each of its entries.
pub(crate) struct Staged {
    pub(crate) frame: Contents,
    pub(crate) waiting: Vec<Waiting>,
}

/// The counters, and the frame in the making.
pub(crate) struct Stage {
    counters: Counters,
    /// The last entry's; the boot id is that of all.
    stamp: Stamp,
    frame: Contents,
    waiting: Vec<Waiting>,
}

impl Stage {
    pub(crate) fn new(counters: Counters, boot: String) -> Self {
        let stamp = Stamp { time: Timestamp::UNIX_EPOCH, mono_ns: 0, boot, permit_seq: None, session_seq: None, salt: [0; 16] };
        Self { counters, stamp, frame: Contents::default(), waiting: Vec::new() }
    }

    /// How much the frame holds.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.frame.bytes()
    }

    /// Puts an entry into the frame. Its counters count it from here on, so it is either written with the frame or the process ends.
    pub(crate) fn take(&mut self, keys: &Keys, prepared: Prepared, reply: Reply) -> Result<(), (Rejection, Reply)> {
        match self.stage(keys, prepared) {
            Ok((draft, time)) => {
                self.waiting.push(Waiting { reply, draft, time });
                Ok(())
            }
            Err(rejection) => Err((rejection, reply)),
        }
    }

    fn stage(&mut self, keys: &Keys, prepared: Prepared) -> Result<(Box<Draft>, Timestamp), Rejection> {
        let time = Timestamp::now();
        let Prepared { draft, body, year: _, blob } = prepared.in_year_of(keys, time)?;
        let chunk = self.counters.chunk(&*draft).map_err(|error| Rejection::malformed(&error))?;
        match &chunk {
            Some(chunk) if blob.bytes.len() as u64 != chunk.length || blob.sha256 != Some(chunk.sha256) => {
                let found = blob.bytes.len();
                return Err(Rejection::malformed(&format!("the bytes that came are {found}, or have another SHA-256 than the entry says")));
            }
            None if !blob.bytes.is_empty() => return Err(Rejection::malformed(&"only an entry about a recording comes with bytes")),
            _ => {}
        }
        let salt = random().map_err(|error| Rejection::Failed(StageFailure::Randomness(error)))?;
        let (permit_seq, session_seq) = self.counters.next(&*draft);
        let Self { counters, stamp, frame, waiting: _ } = self;
        (stamp.time, stamp.mono_ns, stamp.permit_seq, stamp.session_seq, stamp.salt) = (time, monotonic_ns(), permit_seq, session_seq, salt);
        frame.push_with(|bytes| {
            body.encode_to(stamp, bytes).map_err(|error| Rejection::malformed(&error))?;
            counters.count(&*draft, time).map(drop).map_err(|error| Rejection::malformed(&error))
        })?;
        if let Some(chunk) = chunk {
            frame.push_chunk(chunk, blob.bytes);
        }
        Ok((draft, time))
    }

    /// The frame, if it holds anything; the next one is empty.
    pub(crate) fn take_frame(&mut self) -> Option<Staged> {
        if self.waiting.is_empty() {
            return None;
        }
        // The next one is likely to be as long.
        let next = Contents::with_room_for(self.frame.entries.len());
        let mut frame = std::mem::replace(&mut self.frame, next);
        let room = Vec::with_capacity(self.waiting.len());
        let waiting = std::mem::replace(&mut self.waiting, room);
        frame.hash();
        Some(Staged { frame, waiting })
    }

    /// Those who wait for entries that will not be written.
    pub(crate) fn abandon(&mut self) -> impl Iterator<Item = Reply> {
        self.waiting.drain(..).map(|waiting| waiting.reply)
    }

    /// When the last entry about a permit was taken.
    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }
}

pub(crate) fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sulku_audit::{Entry, tile};

    use super::*;

    /// Prepared in one year and stamped in the next: the key is that of the year in which it is stamped, so that the year's key opens
    /// all of the year's entries and none of another, and goes with them.
    #[test]
    fn an_entry_about_no_permit_is_sealed_with_the_key_of_the_year_that_it_is_stamped_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = Keys::open(folder.path().join("keys")).expect("keys");
        let event = Event::OperatorActed { action: "sessions-listed".to_owned(), from: std::net::IpAddr::from([192, 0, 2, 9]).into() };
        let draft = Draft { person: Some("onni".parse().expect("an id")), ..Draft::new(event) };
        let now = Timestamp::now();
        let last_year: Timestamp = format!("{}-12-31T23:59:59.9Z", now.to_zoned(jiff::tz::TimeZone::UTC).year() - 1).parse().expect("a time");
        let mut stage = Stage::new(Counters::default(), "boot".to_owned());
        for prepared_at in [last_year, now] {
            let prepared = Prepared::at(&keys, Box::new(draft.clone()), Blob::none(), prepared_at).expect("a whole draft");
            assert_eq!(prepared.year.map(Scope::Year), Some(Scope::of(None, prepared_at)), "the control: it was sealed for that year at first");
            assert!(stage.take(&keys, prepared, Reply::nobody()).is_ok());
        }
        let staged = stage.take_frame().expect("two entries");
        let [old, new] = [last_year, now].map(|time| keys.key(&Scope::of(None, time), &draft).expect("a key").key);
        let mut rest = staged.frame.entries.as_slice();
        while let Some((bytes, after)) = tile::split_entry(rest) {
            let entry = Entry::parse(bytes).expect("an entry");
            let opened = |key: &sulku_audit::PersonalKey| {
                let person = draft.person.clone().expect("she is named");
                entry.open(key, &BTreeMap::from([(key.pseudonym(&person), person)]))
            };
            assert_eq!(opened(&new).as_ref(), Some(&draft), "person and address");
            assert_eq!(opened(&old), None);
            rest = after;
        }
    }
}
