//! Verification of a whole log against its key: what an auditor runs, trusting nobody who kept it.
//!
//! Reads the log once, tile by tile, and builds the tree again: every entry against its hash, every tile against the tiles below,
//! the root against the signed checkpoint, every entry's form, the gapless counters, the old keys' word where keys change, and each recording against its entries. The
//! first thing wrong is named by the number of its entry.
//!
//! Comes in two parts, so that it can be spread over threads by whoever has some: a [`Portion`] is a bundle that is checked by
//! itself, in any order; a [`Sequence`] takes what was checked, in the log's order. Memory grows with permits and sessions, some
//! hundred bytes each, and not with entries.
//!
//! Shows that the log is whole up to its checkpoint and that nothing in it was changed. That no newer checkpoint was held back only
//! a witness can show. Reads no clock and no files itself: see [`Source`].

use jiff::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::counters::CounterError;
use crate::entry::{Entry, EntryError};
use crate::policy::Trust;
use crate::rotation::RotationError;
use crate::source::{ReadError, Source, read_checkpoint};
use crate::tile::TILE_WIDTH;

mod portion;
mod recording;
mod sequence;

pub use portion::{Checked, Portion};
pub use recording::{ChunkRead, read_chunk};
pub use sequence::Sequence;

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
    /// A change of the log's keys that the old keys have not signed.
    #[error("entry {index} claims to change the log's keys, and is not to be believed: {cause}")]
    Rotation {
        /// The entry.
        index: u64,
        /// Why.
        cause: RotationError,
    },
    /// A recording is missing or other than its entry says.
    #[error("entry {index}: {what} ({path} from byte {offset}, {length} bytes)")]
    Recording {
        /// The chunk's entry.
        index: u64,
        /// What is wrong.
        what: &'static str,
        /// The recording's file.
        path: String,
        /// Where the chunk begins.
        offset: u64,
        /// Its length.
        length: u64,
    },
    /// The wrapped key of a recording is not the one that its entry names.
    #[error("entry {index}: {path} is not the key that the entry names")]
    RecordingKey {
        /// The entry.
        index: u64,
        /// Its file.
        path: String,
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
    deleted: u64,
    period: Option<(Timestamp, Timestamp)>,
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

    /// Recordings that entries say were deleted; 0 with [`Recordings::Skip`].
    #[must_use]
    pub const fn deleted(&self) -> u64 {
        self.deleted
    }

    /// The first entry's time and the last one's; `None` for an empty log.
    #[must_use]
    pub const fn period(&self) -> Option<(Timestamp, Timestamp)> {
        self.period
    }
}

/// Checks a whole log and shows each entry, with its number and its exact bytes, to `visit` on the way. What was shown holds only
/// once all of it has been checked.
///
/// # Errors
/// The first thing wrong.
pub fn verify<S: Source + ?Sized>(
    source: &mut S,
    trust: &Trust,
    recordings: Recordings,
    mut visit: impl FnMut(u64, &Entry, &[u8]),
) -> Result<Verified, Fault> {
    let (_, checkpoint) = read_checkpoint(source, trust)?;
    let bundles = checkpoint.size.div_ceil(TILE_WIDTH);
    let mut sequence = Sequence::new(checkpoint, recordings);
    for number in 0..bundles {
        let portion = Portion::read(source, number, sequence.size())?;
        sequence.take(source, &mut portion.check(), &mut visit)?;
    }
    sequence.finish(source)
}
