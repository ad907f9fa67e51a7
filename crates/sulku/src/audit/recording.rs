//! A session's recording in a log: what the entries say of it, and its chunks, each checked against its entry before it is opened; all its
//! parts one after the other, where more than one gateway had the session.
//!
//! Shows nothing. Trusts neither the recording's files nor who keeps them: a chunk that is missing, moved, added or changed is an error that
//! names its entry.

use std::time::Duration;

use age::x25519::Identity;
use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use sulku_audit::counters::{Chunk, Counters, Part};
use sulku_audit::reading::Pages;
use sulku_audit::source::read_checkpoint;
use sulku_audit::verify::{ChunkRead, read_chunk};
use sulku_audit::{Entry, Event, Source, Trust};
use sulku_permit::SessionId;
use sulku_recording::SessionKey;

use super::search::{Candidates as _, Direction, Everything};

/// A chunk as its entry names it.
struct Named {
    /// The entry.
    index: u64,
    chunk: Chunk,
    /// When its last line was written, in milliseconds since the recording began.
    ended_ms: u64,
}

/// What one gateway recorded of the session, under a key of its own.
struct PartOfIt {
    /// Its number, from 0.
    number: u32,
    /// When it began, by the ledger's clock.
    began: Timestamp,
    key: (u64, Chunk),
    recipients: Vec<String>,
    durability: String,
    chunks: Vec<Named>,
}

impl PartOfIt {
    /// When its last line was written, since it began.
    fn lasts(&self) -> Duration {
        Duration::from_millis(self.chunks.last().map_or(0, |named| named.ended_ms))
    }
}

/// How the log says that a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The session was closed, and its closing entry counts the chunks.
    Closed,
    /// There is no closing entry.
    Open,
}

/// What the log says of a session's recording.
pub(super) struct Recording {
    session: SessionId,
    /// In order; never empty.
    parts: Vec<PartOfIt>,
    end: End,
}

impl Recording {
    /// Looks a session up in a log, from its end back to the session's first entry; each bundle on the way is proven, and the session's
    /// counter shows that none of its entries is left out.
    ///
    /// # Errors
    /// What was read does not prove, or has no recording of the session, or it was deleted, or its entries contradict each other.
    pub(super) fn find(source: &mut dyn Source, trust: &Trust, session: SessionId) -> anyhow::Result<Self> {
        let mut counters = Counters::default();
        let (mut parts, mut closed, mut deleted) = (Vec::<PartOfIt>::new(), None, None);
        for (index, mut entry) in entries_of(source, trust, session)? {
            // Its permit's other entries were not looked at; the session's are all here, and in order.
            (entry.permit, entry.stamp.permit_seq) = (None, None);
            let chunk = counters.check(&entry).with_context(|| format!("entry {index}"))?;
            match (&*entry.event, chunk) {
                (Event::RecordingBegun { part, recipients, durability, .. }, Some(chunk)) => {
                    let (recipients, durability, began) = (recipients.clone(), durability.clone(), entry.stamp.time);
                    parts.push(PartOfIt { number: *part, began, key: (index, chunk), recipients, durability, chunks: Vec::new() });
                }
                (Event::RecordingChunk { ended_ms, .. }, Some(chunk)) => {
                    let part = parts.last_mut().with_context(|| format!("entry {index}: the recording has not begun"))?;
                    part.chunks.push(Named { index, chunk, ended_ms: *ended_ms });
                }
                (Event::SessionClosed { chunks, from_part, .. }, _) => closed = Some((index, *chunks, *from_part)),
                (Event::RecordingDeleted { .. }, _) => deleted = Some(index),
                _ => {}
            }
        }
        if let Some(index) = deleted {
            bail!("the recording of session {session} was deleted, as entry {index} says; its entries stay, and nothing opens it any more");
        }
        if parts.is_empty() {
            bail!("nothing is recorded of session {session}: it never opened, or has shown nothing yet");
        }
        let end = match closed {
            Some((index, counted, from)) => {
                let found = parts.iter().filter(|part| part.number >= from).map(|part| part.chunks.len() as u64).sum::<u64>();
                ensure!(counted == found, "entry {index} counts {counted} chunks of session {session}, and the log has {found}");
                End::Closed
            }
            None => End::Open,
        };
        Ok(Self { session, parts, end })
    }

    /// How it ended.
    pub(super) const fn end(&self) -> End {
        self.end
    }

    /// How many parts it has.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// What may be missing at the end of a part whose gateway died.
    pub(super) fn may_be_missing(&self) -> &'static str {
        if self.parts.iter().any(|part| part.durability == "windowed") {
            "at most the last 64 KiB and 250 ms of what its holder saw may be missing"
        } else {
            "nothing that its holder saw is missing"
        }
    }

    /// Its length in seconds, as its entries say.
    pub(super) fn seconds(&self) -> f64 {
        self.parts.iter().fold(Duration::ZERO, |clock, part| clock.max(self.since_first(part)) + part.lasts()).as_secs_f64()
    }

    /// When a part began, since the first did.
    fn since_first(&self, part: &PartOfIt) -> Duration {
        let first = self.parts.first().map_or(part.began, |first| first.began);
        Duration::try_from(part.began.duration_since(first)).unwrap_or_default()
    }

    /// Opens the keys of its parts with one of the identities.
    ///
    /// # Errors
    /// A key's file is not what its entry says, or none of the identities opens it.
    pub(super) fn unlock(&self, source: &mut dyn Source, identities: &[Identity]) -> anyhow::Result<Vec<SessionKey>> {
        self.parts.iter().map(|part| self.unlock_part(part, source, identities)).collect()
    }

    fn unlock_part(&self, part: &PartOfIt, source: &mut dyn Source, identities: &[Identity]) -> anyhow::Result<SessionKey> {
        let (index, chunk) = &part.key;
        let wrapped = whole(source, *index, chunk)?;
        let opened = identities.iter().find_map(|identity| age::decrypt(identity, &wrapped).ok());
        let mut bytes = zeroize::Zeroizing::new(opened.with_context(|| {
            let whose = part.recipients.join(" or ");
            format!("this identity does not open the recording of session {}; it is for {whose}", self.session)
        })?);
        let bytes: &mut [u8; SessionKey::BYTES] =
            bytes.as_mut_slice().try_into().map_err(|_| anyhow::anyhow!("entry {index}: what is wrapped for the auditors is no key"))?;
        Ok(SessionKey::take(bytes))
    }

    /// Opens one chunk after the other and hands their lines over, each chunk only after it was checked against its entry. Parts after the
    /// first have no header: they go on at the time since the first at which they began.
    ///
    /// # Errors
    /// A chunk is not what its entry says; what comes before it was handed over. Or `show` failed.
    pub(super) fn each(&self, source: &mut dyn Source, keys: &[SessionKey], mut show: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut clock = Duration::ZERO;
        for (place, (part, key)) in self.parts.iter().zip(keys).enumerate() {
            let gap = self.since_first(part).saturating_sub(clock);
            let mut previous = None;
            for (number, Named { index, chunk, .. }) in (0..).zip(&part.chunks) {
                let bytes = whole(source, *index, chunk)?;
                let lines = sulku_recording::open(key, &self.session, number, previous.as_ref(), &bytes)
                    .with_context(|| format!("entry {index}: chunk {number} of part {} of the recording is not shown", part.number))?;
                previous = Some(*chunk.sha256.as_bytes());
                if place > 0 && number == 0 {
                    show(&sulku_recording::cast::continued(&lines, gap).with_context(|| format!("entry {index}"))?)?;
                } else {
                    show(&lines)?;
                }
            }
            clock += gap + part.lasts();
        }
        self.parts.iter().try_for_each(|part| self.ends_where_its_entries_do(part, source))
    }

    fn ends_where_its_entries_do(&self, part: &PartOfIt, source: &mut dyn Source) -> anyhow::Result<()> {
        let Some(last) = part.chunks.last().filter(|_| self.end == End::Closed) else { return Ok(()) };
        let end = last.chunk.offset + last.chunk.length;
        let beyond = source.read_at(&last.chunk.path(), end, 1)?;
        ensure!(
            beyond.is_none_or(|bytes| bytes.is_empty()),
            "the recording goes on beyond byte {end}, where its last entry ({}) ends it",
            last.index
        );
        Ok(())
    }
}

/// A session's entries, each with its number, in the log's order.
fn entries_of(source: &mut dyn Source, trust: &Trust, session: SessionId) -> anyhow::Result<Vec<(u64, Entry)>> {
    let (_, checkpoint) = read_checkpoint(source, trust)?;
    let size = checkpoint.size;
    let mut pages = Pages::new(source, checkpoint)?;
    // Whatever names the session, or could in escapes, is parsed; of all else nothing is.
    let (name, escape) = (session.to_string(), memchr::memmem::Finder::new(b"\\u"));
    let name = memchr::memmem::Finder::new(&name);
    let may_name = |bytes: &[u8]| name.find(bytes).is_some() || escape.find(bytes).is_some();
    let mut candidates = Everything::new(0..size, Direction::Backward);
    let mut found = Vec::new();
    while let Some(range) = candidates.next() {
        let bundle = pages.bundle_of(range.start)?;
        for (index, bytes) in bundle.entries().rev().filter(|(_, bytes)| may_name(bytes)) {
            let entry = Entry::parse(bytes).with_context(|| format!("entry {index}"))?;
            if entry.session != Some(session) {
                continue;
            }
            let is_first = entry.stamp.session_seq == Some(0);
            found.push((index, entry));
            if is_first {
                found.reverse();
                return Ok(found);
            }
        }
    }
    match found.last() {
        None => bail!("none of the {size} entries is of session {session}; see sulku audit list --event session.opened"),
        Some((index, _)) => bail!("entry {index} is the first of session {session} and is not numbered so; entries are missing"),
    }
}

/// The bytes that an entry names, exactly.
fn whole(source: &mut dyn Source, index: u64, chunk: &Chunk) -> anyhow::Result<Vec<u8>> {
    let what = match chunk.part {
        Part::Chunks => "the recording",
        Part::Key => "the recording's key",
    };
    match read_chunk(source, chunk)? {
        ChunkRead::Whole(bytes) => Ok(bytes),
        ChunkRead::Missing => bail!("entry {index}: {what} is missing, and no entry says that it was deleted"),
        ChunkRead::Short => bail!("entry {index}: {what} ends before the entry says; it was cut"),
        ChunkRead::Changed => bail!("entry {index}: {what} was changed; it is not shown further"),
    }
}
