//! Verification of a whole log against its key: what an auditor runs, trusting nobody who kept it.
//!
//! Reads the log once, tile by tile, and builds the tree again: every entry against its hash, every tile against the tiles below,
//! the root against the signed checkpoint, every entry's form, the gapless counters, and each recording against its entries. The
//! first thing wrong is named by the number of its entry. Memory grows with permits and sessions, not with entries.
//!
//! Shows that the log is whole up to its checkpoint and that nothing in it was changed. That no newer checkpoint was held back only
//! a witness can show. Reads no clock and no files itself: see [`Source`].

use jiff::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::counters::{Chunk, CounterError, Counters};
use crate::entry::{Entry, EntryError};
use crate::merkle::{Hash, leaf_hash, sha256};
use crate::note::Verifier;
use crate::source::{ReadError, Source, SourceError, read_bundle, read_checkpoint, read_hashes};
use crate::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};

/// Whether recordings are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recordings {
    /// Each chunk is read and compared with its entry.
    Check,
    /// Only the entries are checked; for a copy of the log without recordings.
    Skip,
}

/// The first thing wrong with a log.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A part of the log is missing or can't be trusted.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// A part that holds an entry is missing or damaged.
    #[error("entry {index}")]
    Unreadable {
        /// The first entry that can't be had.
        index: u64,
        /// Why.
        #[source]
        cause: ReadError,
    },
    /// The bundle ends inside the entry.
    #[error("entry {0}: its bundle ends before it does")]
    CutShort(u64),
    /// The bundle holds more than it should.
    #[error("entry {0}: its bundle holds bytes after its last entry")]
    Surplus(u64),
    /// The entry's bytes are not those that were hashed.
    #[error("entry {0}: its bytes are not those that the tree was built from; it was changed")]
    Changed(u64),
    /// The bytes are no entry.
    #[error("entry {index}: {cause}")]
    Entry {
        /// The entry.
        index: u64,
        /// Why.
        cause: EntryError,
    },
    /// A counter has a gap, or a recording does not continue.
    #[error("entry {index}: {cause}")]
    Counter {
        /// The entry.
        index: u64,
        /// Why.
        cause: CounterError,
    },
    /// A recording is missing or other than its entry says.
    #[error("entry {index}: {what} (recordings/{session}.cast from byte {offset}, {length} bytes)")]
    Recording {
        /// The chunk's entry.
        index: u64,
        /// What is wrong.
        what: &'static str,
        /// Whose recording.
        session: sulku_permit::SessionId,
        /// Where the chunk begins.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// A tile does not follow from the tiles below it.
    #[error("entry {index}: {path} does not follow from the entries; the tree was changed")]
    Tile {
        /// The first entry that the tile covers.
        index: u64,
        /// The tile.
        path: String,
    },
    /// All entries and tiles fit each other, but not the signed root.
    #[error("the {size} entries do not have the root that the checkpoint signs; the log was written again")]
    Root {
        /// The checkpoint's size.
        size: u64,
    },
}

/// A log that is whole: what was checked. Nothing but [`verify`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Verified {
    checkpoint: Checkpoint,
    permits: u64,
    sessions: u64,
    chunks: u64,
    recorded_bytes: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

impl Verified {
    /// The checkpoint that covers it.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Entries checked.
    #[must_use]
    pub const fn entries(&self) -> u64 {
        self.checkpoint.size
    }

    /// Permits that have entries.
    #[must_use]
    pub const fn permits(&self) -> u64 {
        self.permits
    }

    /// Sessions that have entries.
    #[must_use]
    pub const fn sessions(&self) -> u64 {
        self.sessions
    }

    /// Recordings' chunks checked; 0 with [`Recordings::Skip`].
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Recordings' bytes checked; 0 with [`Recordings::Skip`].
    #[must_use]
    pub const fn recorded_bytes(&self) -> u64 {
        self.recorded_bytes
    }

    /// The first entry's time and the last one's; `None` for an empty log.
    #[must_use]
    pub fn period(&self) -> Option<(Timestamp, Timestamp)> {
        self.first.zip(self.last)
    }
}

/// The file of a session's recording, in the log's folder.
#[must_use]
pub fn recording_path(session: &sulku_permit::SessionId) -> String {
    format!("recordings/{session}.cast")
}

/// Checks a whole log and shows each entry, with its number and its exact bytes, to `visit` on the way. What was shown holds only once all of it has
/// been checked.
///
/// # Errors
/// The first thing wrong.
pub fn verify<S: Source + ?Sized>(
    source: &mut S,
    key: &Verifier,
    recordings: Recordings,
    mut visit: impl FnMut(u64, &Entry, &[u8]),
) -> Result<Verified, Fault> {
    let (_, checkpoint) = read_checkpoint(source, key)?;
    let mut counters = Counters::default();
    let mut tree = TiledTree::default();
    let (mut chunks, mut recorded_bytes, mut first, mut last) = (0, 0, None, None);
    let bundles = checkpoint.size.div_ceil(TILE_WIDTH);
    for number in 0..bundles {
        let mut index = number * TILE_WIDTH;
        let unreadable = |cause| Fault::Unreadable { index: number * TILE_WIDTH, cause };
        let (Some(bundle), Some(level_0)) =
            (Tile::in_tree(TileKind::Entries, number, checkpoint.size), Tile::in_tree(TileKind::Hashes(0), number, checkpoint.size))
        else {
            break;
        };
        let hashes = read_hashes(source, level_0).map_err(unreadable)?;
        let bytes = read_bundle(source, bundle).map_err(unreadable)?;
        let mut rest = bytes.as_slice();
        for hash in hashes {
            let (entry_bytes, after) = tile::split_entry(rest).ok_or(Fault::CutShort(index))?;
            rest = after;
            let leaf = leaf_hash(entry_bytes);
            if leaf != hash {
                return Err(Fault::Changed(index));
            }
            let entry = Entry::parse(entry_bytes).map_err(|cause| Fault::Entry { index, cause })?;
            let chunk = counters.check(&entry).map_err(|cause| Fault::Counter { index, cause })?;
            if let (Some(chunk), Recordings::Check) = (chunk, recordings) {
                check_chunk(source, index, &chunk)?;
                chunks += 1;
                recorded_bytes += chunk.length;
            }
            first = first.or(Some(entry.stamp.time));
            last = Some(entry.stamp.time);
            visit(index, &entry, entry_bytes);
            tree.push(leaf);
            index += 1;
        }
        // Where the full bundle stands in for a partial one, it goes on beyond the checkpoint.
        if bundle.extent() == tile::Extent::Full && !rest.is_empty() {
            return Err(Fault::Surplus(index - 1));
        }
        for (tile, hashes) in tree.take_full() {
            check_tile(source, tile, &hashes)?;
        }
    }
    for (tile, hashes) in tree.partial() {
        check_tile(source, tile, hashes)?;
    }
    if tree.size() != checkpoint.size || tree.root() != checkpoint.root {
        return Err(Fault::Root { size: checkpoint.size });
    }
    let (permits, sessions) = (counters.permits(), counters.sessions());
    Ok(Verified { checkpoint, permits, sessions, chunks, recorded_bytes, first, last })
}

/// Compares a tile with what the entries give. Level 0 was compared entry by entry.
fn check_tile<S: Source + ?Sized>(source: &mut S, tile: Tile, expected: &[Hash]) -> Result<(), Fault> {
    let TileKind::Hashes(level @ 1..) = tile.kind else { return Ok(()) };
    let index = (tile.number * TILE_WIDTH) << (tile::TILE_HEIGHT * u32::from(level));
    let found = read_hashes(source, tile).map_err(|cause| Fault::Unreadable { index, cause })?;
    if found == expected { Ok(()) } else { Err(Fault::Tile { index, path: tile.to_string() }) }
}

fn check_chunk<S: Source + ?Sized>(source: &mut S, index: u64, chunk: &Chunk) -> Result<(), Fault> {
    let Chunk { session, offset, length, .. } = *chunk;
    let fault = |what| Fault::Recording { index, what, session, offset, length };
    match read_chunk(source, chunk) {
        Ok(ChunkRead::Whole(_)) => Ok(()),
        Ok(ChunkRead::Missing) => Err(fault("the recording is missing")),
        Ok(ChunkRead::Short) => Err(fault("the recording ends before the chunk does")),
        Ok(ChunkRead::Changed) => Err(fault("the recording was changed")),
        Err(cause) => Err(Fault::Unreadable { index, cause: cause.into() }),
    }
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
    let Some(bytes) = source.read_at(&recording_path(&chunk.session), chunk.offset, chunk.length)? else {
        return Ok(ChunkRead::Missing);
    };
    Ok(if bytes.len() as u64 != chunk.length {
        ChunkRead::Short
    } else if sha256(&[&bytes]) != chunk.sha256 {
        ChunkRead::Changed
    } else {
        ChunkRead::Whole(bytes)
    })
}
