//! Sessions' recordings: chunks that the write-ahead log holds durably are written to their files, and synced before a checkpoint
//! covers their entries.
//!
//! Bytes to the ledger: what they show, and that nothing harmful is in them, is the gateway's matter. Restores nothing but what the
//! write-ahead log still has: a recording that lost bytes from before it stops the ledger, for a person to look.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sulku_audit::counters::Chunk;
use sulku_permit::SessionId;

use crate::files::{FILE_MODE, FileError, NO_LINK, at, create_folder, sync_folder};

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
    path: PathBuf,
    folder: File,
    unsynced: HashMap<SessionId, (PathBuf, File)>,
    /// Whether files were written that are not in `unsynced`.
    has_more: bool,
}

impl Recordings {
    pub(crate) fn open(path: PathBuf) -> Result<Self, FileError> {
        create_folder(&path)?;
        let folder = File::open(&path).map_err(at(&path))?;
        Ok(Self { path, folder, unsynced: HashMap::new(), has_more: false })
    }

    /// Writes a chunk where its entry says. What is there beyond it no entry names, or a later chunk writes it again.
    pub(crate) fn write(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<(), RecordingError> {
        if let Some((path, file)) = self.unsynced.get(&chunk.session) {
            return write_at_end(path, file, chunk, bytes);
        }
        let path = self.path.join(format!("{}.cast", chunk.session));
        let cut = |path, found| RecordingError::Cut { path, found, expected: chunk.offset };
        let mut options = OpenOptions::new();
        options.write(true).create(chunk.offset == 0).mode(FILE_MODE).custom_flags(NO_LINK);
        let file = match options.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(cut(path, 0)),
            Err(error) => return Err(FileError::Io(path, error).into()),
        };
        write_at_end(&path, &file, chunk, bytes)?;
        if self.unsynced.len() < OPEN_FILES_MAX {
            self.unsynced.insert(chunk.session, (path, file));
        } else {
            self.has_more = true;
        }
        Ok(())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        if std::mem::take(&mut self.has_more) {
            rustix::fs::syncfs(&self.folder).map_err(|errno| FileError::Io(self.path.clone(), errno.into()))?;
        } else if !self.unsynced.is_empty() {
            for (path, file) in self.unsynced.values() {
                file.sync_data().map_err(at(path))?;
            }
            sync_folder(&self.path)?;
        }
        self.unsynced.clear();
        Ok(())
    }
}

fn write_at_end(path: &Path, file: &File, chunk: &Chunk, bytes: &[u8]) -> Result<(), RecordingError> {
    let found = file.metadata().map_err(at(path))?.len();
    match found.cmp(&chunk.offset) {
        std::cmp::Ordering::Less => return Err(RecordingError::Cut { path: path.to_owned(), found, expected: chunk.offset }),
        std::cmp::Ordering::Equal => {}
        std::cmp::Ordering::Greater => file.set_len(chunk.offset).map_err(at(path))?,
    }
    Ok(file.write_all_at(bytes, chunk.offset).map_err(at(path))?)
}
