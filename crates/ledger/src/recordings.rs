//! Sessions' recordings: chunks that the write-ahead log holds durably are written to their files, and synced before a checkpoint
//! covers their entries.
//!
//! Bytes to the ledger: what they show, and that nothing harmful is in them, is the gateway's matter. Restores nothing but what the
//! write-ahead log still has: a recording that lost bytes from before it stops the ledger, for a person to look.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulku_audit::counters::{Chunk, Part};
use sulku_permit::SessionId;

use crate::disk::{Disk, DiskFile, Open};
use crate::files::{FileError, at, create_folder, replace};

/// Files that are kept open to be synced one by one. Beyond it the whole file system is synced at once, which costs less then.
const OPEN_FILES_MAX: usize = 64;

/// A chunk that was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordingError {
    /// The recording lost bytes that entries name.
    #[error(
        "{path} has {found} bytes where the log has {expected}: it was cut or removed; restore it from a copy, or if there is none \
         run truncate -s {expected} {path}, and verification will name the entries whose bytes are lost"
    )]
    Cut {
        /// The recording.
        path: PathBuf,
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
    disk: Arc<dyn Disk>,
    path: PathBuf,
    unsynced: HashMap<(SessionId, u32), (PathBuf, Box<dyn DiskFile>)>,
    /// Whether files were written that are not in `unsynced`.
    has_more: bool,
}

impl RecordingError {
    /// Whether the disk has no room, and nothing else is wrong.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::File(error) if error.is_full())
    }
}

impl Recordings {
    pub(crate) fn open(disk: Arc<dyn Disk>, path: PathBuf) -> Result<Self, FileError> {
        create_folder(&*disk, &path)?;
        Ok(Self { disk, path, unsynced: HashMap::new(), has_more: false })
    }

    /// Writes a chunk where its entry says. What is there beyond it no entry names, or a later chunk writes it again.
    pub(crate) fn write(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<(), RecordingError> {
        if chunk.part == Part::Key {
            return self.write_key(chunk, bytes);
        }
        if let Some((path, file)) = self.unsynced.get(&(chunk.session, chunk.number)) {
            return write_at_end(path, &**file, chunk, bytes);
        }
        let path = self.file_of(chunk);
        let cut = |path, found| RecordingError::Cut { path, found, expected: chunk.offset };
        let how = if chunk.offset == 0 { Open::OrNew } else { Open::Existing };
        let file = match self.disk.open(&path, how) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(cut(path, 0)),
            Err(error) => return Err(FileError::Io(path, error).into()),
        };
        write_at_end(&path, &*file, chunk, bytes)?;
        if self.unsynced.len() < OPEN_FILES_MAX {
            self.unsynced.insert((chunk.session, chunk.number), (path, file));
        } else {
            self.has_more = true;
        }
        Ok(())
    }

    /// Writes a recording's wrapped key, durably and whole or not at all: it is one small file that never changes.
    fn write_key(&self, chunk: &Chunk, bytes: &[u8]) -> Result<(), RecordingError> {
        Ok(replace(&*self.disk, &self.file_of(chunk), bytes)?)
    }

    /// The file of this folder that a piece belongs to.
    fn file_of(&self, chunk: &Chunk) -> PathBuf {
        Path::new(&chunk.path()).file_name().map_or_else(|| self.path.clone(), |name| self.path.join(name))
    }

    /// Makes all that was written durable. A failure is not tried again, and a full disk is one: what was written may be lost.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        if self.has_more {
            self.disk.sync_all(&self.path).map_err(|error| FileError::Sync(self.path.clone(), error))?;
        } else if !self.unsynced.is_empty() {
            for (path, file) in self.unsynced.values() {
                file.sync().map_err(|error| FileError::Sync(path.clone(), error))?;
            }
            self.disk.sync_folder(&self.path).map_err(at(&self.path))?;
        }
        self.unsynced.clear();
        self.has_more = false;
        Ok(())
    }
}

fn write_at_end(path: &Path, file: &dyn DiskFile, chunk: &Chunk, bytes: &[u8]) -> Result<(), RecordingError> {
    let found = file.length().map_err(at(path))?;
    match found.cmp(&chunk.offset) {
        std::cmp::Ordering::Less => return Err(RecordingError::Cut { path: path.to_owned(), found, expected: chunk.offset }),
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => file.set_length(chunk.offset).map_err(at(path))?,
    }
    Ok(file.write_at(bytes, chunk.offset).map_err(at(path))?)
}
