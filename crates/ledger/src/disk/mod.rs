//! The disk as the write path sees it: everything that the ledger writes, renames, removes or syncs goes through [`Disk`].
//!
//! There is a real one, and for tests one in memory that loses, reorders and tears what was not synced. Decides nothing about the
//! log: names, formats and the order of writes are its users' matter. Knows no error that is worth a second try.

mod aligned;
mod real;
#[cfg(test)]
pub(crate) mod simulated;

use std::fmt;
use std::io;
use std::path::Path;

pub(crate) use aligned::Aligned;
pub(crate) use real::RealDisk;

/// What direct writes are multiples of, in length, place and memory: the largest sector and page that disks have here.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// How a log's segment is written. Which one it is goes into the operator's log at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// `O_DIRECT|O_DSYNC`: past the page cache, durable when the write returns.
    Direct,
    /// The file system refuses `O_DIRECT`: written to the page cache, then `fdatasync`.
    WriteThenSync,
}

impl fmt::Display for WriteMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "O_DIRECT|O_DSYNC",
            Self::WriteThenSync => "write and fdatasync",
        })
    }
}

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Empty, made if it is not there.
    Empty,
    /// As it is; made if it is not there.
    OrNew,
    /// As it is; must be there.
    Existing,
}

/// A file that can be written to.
pub(crate) trait DiskFile: fmt::Debug + Send {
    /// Writes all of these bytes at this place.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, and the file's length.
    fn sync(&self) -> io::Result<()>;
    /// The file's length.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file, or lengthens it with zeroes.
    fn set_length(&self, length: u64) -> io::Result<()>;
}

/// A file of the log's segments.
pub(crate) trait LogFile: fmt::Debug + Send {
    /// Writes whole blocks at a block's beginning. They are durable when this returns.
    fn write_durably(&self, blocks: &Aligned, offset: u64) -> io::Result<()>;
    /// How it does that.
    fn mode(&self) -> WriteMode;
}

/// Where the log's files are. Every path is within the log's folder.
pub(crate) trait Disk: fmt::Debug + Send + Sync {
    /// A file's bytes.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Opens a file to write to.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that is there, to write whole blocks durably.
    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;
    /// Whether there is such a file or folder.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// The names in a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>>;
    /// Makes a folder.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes everything durable that was written to the file system of this folder.
    fn sync_all(&self, folder: &Path) -> io::Result<()>;
}

/// Whether an error says that the disk has no room. What could not be written then may be tried again: nothing of it was taken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
