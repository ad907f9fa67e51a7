//! A session's recording in a log: what the entries say of it, and its chunks, each checked against its entry before it is opened.
//!
//! Shows nothing. Trusts neither the recording's files nor who keeps them: a chunk that is missing, moved, added or changed is an error that
//! names its entry.

use age::x25519::Identity;
use anyhow::{Context as _, bail, ensure};
use sulku_audit::counters::{Chunk, Counters, Part};
use sulku_audit::verify::{ChunkRead, read_chunk};
use sulku_audit::{Event, Recordings, Source, Trust};
use sulku_permit::SessionId;
use sulku_recording::SessionKey;

/// A chunk as its entry names it.
struct Named {
    /// The entry.
    index: u64,
    chunk: Chunk,
    /// When its last line was written, in milliseconds since the recording began.
    ended_ms: u64,
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
    key: (u64, Chunk),
    recipients: Vec<String>,
    durability: String,
    chunks: Vec<Named>,
    end: End,
}

impl Recording {
    /// Looks a session up in a log, which is verified on the way.
    ///
    /// # Errors
    /// The log does not verify, or has no recording of the session, or it was deleted, or its entries contradict each other.
    pub(super) fn find(source: &mut dyn Source, trust: &Trust, session: SessionId) -> anyhow::Result<Self> {
        let mut counters = Counters::default();
        let (mut begun, mut chunks, mut closed, mut deleted, mut known) = (None, Vec::new(), None, None, false);
        let verified = sulku_audit::verify::verify(source, trust, Recordings::Skip, |index, entry, _| {
            if entry.session != Some(session) {
                return;
            }
            known = true;
            // The verification has checked it already; here it is taken apart again.
            let chunk = counters.count(entry, entry.stamp.time).ok().flatten();
            match (&entry.event, chunk) {
                (Event::RecordingBegun { recipients, durability, .. }, Some(chunk)) => {
                    begun = Some((index, chunk, recipients.clone(), durability.clone()));
                }
                (Event::RecordingChunk { ended_ms, .. }, Some(chunk)) => chunks.push(Named { index, chunk, ended_ms: *ended_ms }),
                (Event::SessionClosed { chunks, .. }, _) => closed = Some((index, *chunks)),
                (Event::RecordingDeleted { .. }, _) => deleted = Some(index),
                _ => {}
            }
        })?;
        ensure!(known, "none of the {} entries is of session {session}; see sulku audit list --event session.opened", verified.entries());
        if let Some(index) = deleted {
            bail!("the recording of session {session} was deleted, as entry {index} says; its entries stay, and nothing opens it any more");
        }
        let Some((index, chunk, recipients, durability)) = begun else {
            bail!("nothing is recorded of session {session}: it never opened, or has shown nothing yet");
        };
        let end = match closed {
            Some((index, counted)) => {
                let found = chunks.len() as u64;
                ensure!(counted == found, "entry {index} counts {counted} chunks of session {session}, and the log has {found}");
                End::Closed
            }
            None => End::Open,
        };
        Ok(Self { session, key: (index, chunk), recipients, durability, chunks, end })
    }

    /// How it ended.
    pub(super) const fn end(&self) -> End {
        self.end
    }

    /// What may be missing at the end of a recording that has none.
    pub(super) fn may_be_missing(&self) -> &'static str {
        if self.durability == "windowed" {
            "at most the last 64 KiB and 250 ms of what its holder saw may be missing"
        } else {
            "nothing that its holder saw is missing"
        }
    }

    /// Its length in seconds, as its entries say.
    pub(super) fn seconds(&self) -> f64 {
        self.chunks.last().map_or(0.0, |named| std::time::Duration::from_millis(named.ended_ms).as_secs_f64())
    }

    /// Opens its key with one of the identities.
    ///
    /// # Errors
    /// The key's file is not what its entry says, or none of the identities opens it.
    pub(super) fn unlock(&self, source: &mut dyn Source, identities: &[Identity]) -> anyhow::Result<SessionKey> {
        let (index, chunk) = &self.key;
        let wrapped = whole(source, *index, chunk)?;
        let opened = identities.iter().find_map(|identity| age::decrypt(identity, &wrapped).ok());
        let mut bytes = zeroize::Zeroizing::new(opened.with_context(|| {
            let whose = self.recipients.join(" or ");
            format!("this identity does not open the recording of session {}; it is for {whose}", self.session)
        })?);
        let bytes: &mut [u8; SessionKey::BYTES] =
            bytes.as_mut_slice().try_into().map_err(|_| anyhow::anyhow!("entry {index}: what is wrapped for the auditors is no key"))?;
        Ok(SessionKey::take(bytes))
    }

    /// Opens one chunk after the other and hands their lines over, each chunk only after it was checked against its entry.
    ///
    /// # Errors
    /// A chunk is not what its entry says; what comes before it was handed over. Or `show` failed.
    pub(super) fn each(&self, source: &mut dyn Source, key: &SessionKey, mut show: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut previous = None;
        for (number, Named { index, chunk, .. }) in (0..).zip(&self.chunks) {
            let bytes = whole(source, *index, chunk)?;
            let lines = sulku_recording::open(key, &self.session, number, previous.as_ref(), &bytes)
                .with_context(|| format!("entry {index}: chunk {number} of the recording is not shown"))?;
            previous = Some(*chunk.sha256.as_bytes());
            show(&lines)?;
        }
        self.ends_where_its_entries_do(source)
    }

    fn ends_where_its_entries_do(&self, source: &mut dyn Source) -> anyhow::Result<()> {
        let Some(last) = self.chunks.last().filter(|_| self.end == End::Closed) else { return Ok(()) };
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
