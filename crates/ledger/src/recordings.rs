//! Sessions' recordings: each chunk is written at the recording's end and synced before its entry is.
//!
//! Bytes to the ledger: what they show, and that nothing harmful is in them, is the gateway's matter. A crash may leave bytes that no
//! entry names at a recording's end; they are cut off before the next chunk, since nobody had a receipt for them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use sulku_audit::counters::Chunk;
use sulku_audit::merkle::sha256;
use sulku_permit::SessionId;

use crate::files::{FILE_MODE, FileError, at, create_folder, sync_folder};

/// A chunk that was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChunkError {
    /// The bytes that came are not those that the entry names.
    #[error("the chunk that came has {found} bytes or another SHA-256 than the entry says ({expected} bytes)")]
    Mismatch {
        /// Bytes that came.
        found: usize,
        /// Bytes that the entry names.
        expected: u64,
    },
    /// The recording lost bytes that entries name.
    #[error("the recording of {session} has {found} bytes on the disk where the log has {expected}; it was cut")]
    Cut {
        /// Whose recording.
        session: SessionId,
        /// Bytes on the disk.
        found: u64,
        /// Bytes that the log's entries name.
        expected: u64,
    },
    /// The disk or its file system.
    #[error(transparent)]
    File(#[from] FileError),
}

/// The recordings' folder, and the files written since the last sync.
#[derive(Debug)]
pub(crate) struct Recordings {
    folder: PathBuf,
    unsynced: HashMap<SessionId, (PathBuf, File)>,
    has_new: bool,
}

impl Recordings {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, FileError> {
        create_folder(&folder)?;
        Ok(Self { folder, unsynced: HashMap::new(), has_new: false })
    }

    /// How many files wait for a sync.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// Writes a chunk, not yet durably.
    pub(crate) fn write(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<(), ChunkError> {
        let Chunk { session, offset, length, sha256: digest } = *chunk;
        if bytes.len() as u64 != length || sha256(&[bytes]) != digest {
            return Err(ChunkError::Mismatch { found: bytes.len(), expected: length });
        }
        if !self.unsynced.contains_key(&session) {
            let path = self.folder.join(format!("{session}.cast"));
            let mut options = OpenOptions::new();
            options.write(true).create(offset == 0).mode(FILE_MODE).custom_flags(libc::O_NOFOLLOW);
            let file = match options.open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ChunkError::Cut { session, found: 0, expected: offset }),
                Err(error) => return Err(FileError::Io(path, error).into()),
            };
            let found = file.metadata().map_err(at(&path))?.len();
            match found.cmp(&offset) {
                std::cmp::Ordering::Less => return Err(ChunkError::Cut { session, found, expected: offset }),
                std::cmp::Ordering::Equal => {}
                std::cmp::Ordering::Greater => file.set_len(offset).map_err(at(&path))?,
            }
            self.has_new |= offset == 0;
            self.unsynced.insert(session, (path, file));
        }
        if let Some((path, file)) = self.unsynced.get(&session) {
            file.write_all_at(bytes, offset).map_err(at(path))?;
        }
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        for (path, file) in self.unsynced.values() {
            file.sync_data().map_err(at(path))?;
        }
        self.unsynced.clear();
        if std::mem::take(&mut self.has_new) { sync_folder(&self.folder) } else { Ok(()) }
    }
}
