//! Recordings against the entries that commit to them.
//!
//! Looks at bytes and their digests only; what they show is the player's.

use std::collections::BTreeMap;

use sulku_permit::SessionId;

use crate::counters::{Chunk, Part};
use crate::entry::Entry;
use crate::event::Event;
use crate::lanes;
use crate::merkle::sha256;
use crate::source::{Source, SourceError};
use crate::verify::Fault;
use crate::wire::BLOB_BYTES_MAX;

/// Chunks whose digests are reckoned together: as many as a vector unit has lanes.
const BATCH_MAX: usize = 16;
/// Bytes of chunks held for that; beyond, fewer are taken together.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// What a recording holds where an entry says that a chunk is.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkRead {
    /// The chunk, with the length and the digest that its entry names.
    Whole(Vec<u8>),
    /// There is no such recording.
    Missing,
    /// It ends too soon.
    Short,
    /// Other bytes.
    Changed,
}

/// Reads a chunk of a recording and compares it with its entry.
///
/// # Errors
/// It could not be read.
pub fn read_chunk<S: Source + ?Sized>(source: &mut S, chunk: &Chunk) -> Result<ChunkRead, SourceError> {
    Ok(match read_unchecked(source, chunk)? {
        ChunkRead::Whole(bytes) if sha256(&[&bytes]) != chunk.sha256 => ChunkRead::Changed,
        read => read,
    })
}

/// Reads as much as the entry says, without a look at the digest.
fn read_unchecked<S: Source + ?Sized>(source: &mut S, chunk: &Chunk) -> Result<ChunkRead, SourceError> {
    Ok(match source.read_at(&chunk.path(), chunk.offset, chunk.length)? {
        None => ChunkRead::Missing,
        Some(bytes) if bytes.len() as u64 != chunk.length => ChunkRead::Short,
        Some(bytes) => ChunkRead::Whole(bytes),
    })
}

/// What must be in the files of recordings, as it is gathered entry by entry.
///
/// A recording that is gone is a fault unless a later entry says that it was deleted, so it is known at the end only.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// Chunks that were read and whose digests are not known yet.
    batch: Vec<(u64, Chunk, Vec<u8>)>,
    batch_bytes: u64,
    /// Sessions of which something is missing, with the first that is and its entry.
    missing: BTreeMap<SessionId, (u64, Chunk)>,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) deleted: u64,
}

impl Recorded {
    /// Looks at what an entry says about recordings. The digest of a chunk is compared with this or a later call.
    pub(super) fn take<S: Source + ?Sized>(&mut self, source: &mut S, index: u64, entry: &Entry, chunk: Option<Chunk>) -> Result<(), Fault> {
        let outcome = match (&*entry.event, entry.session) {
            (Event::RecordingDeleted { .. }, Some(session)) => {
                self.missing.remove(&session);
                self.deleted += 1;
                Ok(())
            }
            _ => match chunk {
                Some(chunk) if chunk.part == Part::Key => self.take_key(source, index, chunk),
                Some(chunk) => self.take_chunk(source, index, chunk),
                None => Ok(()),
            },
        };
        if outcome.is_err() || self.batch.len() >= BATCH_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            // Of two things that are wrong, the one that came before comes first.
            self.settle()?;
        }
        outcome
    }

    fn take_chunk<S: Source + ?Sized>(&mut self, source: &mut S, index: u64, chunk: Chunk) -> Result<(), Fault> {
        let fault = |what| fault(index, what, &chunk);
        match read_unchecked(source, &chunk).map_err(|cause| Fault::Unreadable { index, cause: cause.into() })? {
            ChunkRead::Whole(bytes) => {
                self.chunks += 1;
                self.bytes += chunk.length;
                self.batch_bytes += chunk.length;
                self.batch.push((index, chunk, bytes));
            }
            ChunkRead::Missing => drop(self.missing.entry(chunk.session).or_insert((index, chunk))),
            ChunkRead::Short => return Err(fault("the recording ends before the chunk does")),
            ChunkRead::Changed => return Err(fault("the recording was changed")),
        }
        Ok(())
    }

    fn take_key<S: Source + ?Sized>(&mut self, source: &mut S, index: u64, key: Chunk) -> Result<(), Fault> {
        // One byte more than it has, so that a longer one is noticed.
        let bytes = source.read_at(&key.path(), 0, key.length.min(BLOB_BYTES_MAX as u64) + 1);
        match bytes.map_err(|cause| Fault::Unreadable { index, cause: cause.into() })? {
            None => drop(self.missing.entry(key.session).or_insert((index, key))),
            Some(bytes) if bytes.len() as u64 == key.length && sha256(&[&bytes]) == key.sha256 => {}
            Some(_) => return Err(Fault::RecordingKey { index, path: key.path() }),
        }
        Ok(())
    }

    /// Compares the digests of all that was read.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let bytes: Vec<&[u8]> = batch.iter().map(|(_, _, bytes)| bytes.as_slice()).collect();
        match lanes::digests(&bytes).iter().zip(&batch).find(|(digest, (_, chunk, _))| **digest != chunk.sha256) {
            Some((_, (index, chunk, _))) => Err(fault(*index, "the recording was changed", chunk)),
            None => Ok(()),
        }
    }

    /// At the log's end: the first recording that is gone without an entry that says so.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let first = self.missing.iter().min_by_key(|(_, (index, _))| *index);
        first.map_or(Ok(()), |(_, (index, chunk))| Err(fault(*index, "the recording is missing, and no entry says that it was deleted", chunk)))
    }
}

fn fault(index: u64, what: &'static str, chunk: &Chunk) -> Fault {
    Fault::Recording { index, what, path: chunk.path(), offset: chunk.offset, length: chunk.length }
}
