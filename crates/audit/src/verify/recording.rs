//! Recordings against the entries that commit to them.
//!
//! Looks at bytes and their digests only; what they show is the player's.

use crate::counters::Chunk;
use crate::lanes;
use crate::merkle::sha256;
use crate::source::{Source, SourceError};
use crate::verify::Fault;

/// Chunks whose digests are reckoned together: as many as a vector unit has lanes.
const BATCH_MAX: usize = 16;
/// Bytes of chunks held for that; beyond, fewer are taken together.
const BATCH_BYTES_MAX: u64 = 4 << 20;

/// The file of a session's recording, in the log's folder.
#[must_use]
pub fn recording_path(session: &sulku_permit::SessionId) -> String {
    format!("recordings/{session}.cast")
}

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
    Ok(match source.read_at(&recording_path(&chunk.session), chunk.offset, chunk.length)? {
        None => ChunkRead::Missing,
        Some(bytes) if bytes.len() as u64 != chunk.length => ChunkRead::Short,
        Some(bytes) => ChunkRead::Whole(bytes),
    })
}

/// Chunks that were read and whose digests are not known yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    chunks: Vec<(u64, Chunk, Vec<u8>)>,
    bytes: u64,
}

impl Batch {
    /// Reads the chunk of entry `index`. Its digest is compared with this or a later call.
    pub(super) fn push<S: Source + ?Sized>(&mut self, source: &mut S, index: u64, chunk: Chunk) -> Result<(), Fault> {
        let what = match read_unchecked(source, &chunk) {
            Ok(ChunkRead::Whole(bytes)) => {
                self.bytes += chunk.length;
                self.chunks.push((index, chunk, bytes));
                return if self.chunks.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES_MAX { self.settle() } else { Ok(()) };
            }
            Ok(ChunkRead::Missing) => "the recording is missing",
            Ok(ChunkRead::Short) => "the recording ends before the chunk does",
            Ok(ChunkRead::Changed) => "the recording was changed",
            Err(cause) => {
                self.settle()?;
                return Err(Fault::Unreadable { index, cause: cause.into() });
            }
        };
        // One that came before and is wrong comes first.
        self.settle()?;
        Err(fault(index, &chunk, what))
    }

    /// Compares the digests of all that was read.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        let chunks = std::mem::take(&mut self.chunks);
        self.bytes = 0;
        let bytes: Vec<&[u8]> = chunks.iter().map(|(_, _, bytes)| bytes.as_slice()).collect();
        match lanes::digests(&bytes).iter().zip(&chunks).find(|(digest, (_, chunk, _))| **digest != chunk.sha256) {
            Some((_, (index, chunk, _))) => Err(fault(*index, chunk, "the recording was changed")),
            None => Ok(()),
        }
    }
}

fn fault(index: u64, chunk: &Chunk, what: &'static str) -> Fault {
    let Chunk { session, offset, length, .. } = *chunk;
    Fault::Recording { index, what, session, offset, length }
}
