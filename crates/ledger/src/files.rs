//! Files that survive a crash whole or not at all: written aside, synced, renamed, their folder synced.
//!
//! Appends to no file; the write-ahead log and recordings have their own ways. Every path is made of the log's folder and a name
//! that this program wrote itself, never of a peer's text.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Only the ledger's user reads the log's files; auditors ask the ledger.
pub(crate) const FILE_MODE: u32 = 0o600;
/// A link in the place of a file is an error: nothing of ours is one.
pub(crate) const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();
const FOLDER_MODE: u32 = 0o700;

/// A file of the log that could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The disk or its file system. Told with its cause in one line, since that is what peers and the last log line get.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A file that never changes is there with other bytes.
    #[error("{0} holds other bytes than the log; it was changed, or another program writes here")]
    Conflict(PathBuf),
}

/// Attaches the path to an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |error| FileError::Io(path.to_owned(), error)
}

/// Makes a folder and those above it, and syncs the parent of each that is new.
pub(crate) fn create_folder(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_folder(parent)?;
    }
    DirBuilder::new().mode(FOLDER_MODE).create(path).map_err(at(path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

fn write_aside(path: &Path, bytes: &[u8]) -> Result<PathBuf, FileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&aside).map_err(at(&aside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&aside))?;
    Ok(aside)
}

/// Puts new bytes in a file's place, durably.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let aside = write_aside(path, bytes)?;
    fs::rename(&aside, path).map_err(at(path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Writes files that never change, and syncs their folders together.
#[derive(Debug, Default)]
pub(crate) struct Immutable {
    unsynced: BTreeSet<PathBuf>,
}

impl Immutable {
    /// Writes a file. Where it is there already it must hold the same bytes.
    pub(crate) fn write(&mut self, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
        match fs::read(path) {
            Ok(found) if found == bytes => return Ok(()),
            Ok(_) => return Err(FileError::Conflict(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::Io(path.to_owned(), error)),
        }
        if let Some(parent) = path.parent() {
            create_folder(parent)?;
            self.unsynced.insert(parent.to_owned());
        }
        let aside = write_aside(path, bytes)?;
        fs::rename(&aside, path).map_err(at(path))
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&mut self) -> Result<(), FileError> {
        while let Some(folder) = self.unsynced.first() {
            sync_folder(folder)?;
            self.unsynced.pop_first();
        }
        Ok(())
    }
}
