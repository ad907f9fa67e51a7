//! Files that survive a crash whole or not at all: written aside, synced, renamed, their folder synced.
//!
//! Appends to no file; the write-ahead log and recordings have their own ways. Every path is made of the log's folder and a name
//! that this program wrote itself, never of a peer's text.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::disk::{Disk, Open, is_full};

/// Only the ledger's user reads the log's files; auditors ask the ledger.
pub(crate) const FILE_MODE: u32 = 0o600;
/// A link in the place of a file is an error: nothing of ours is one.
pub(crate) const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();
/// The same for folders.
pub(crate) const FOLDER_MODE: u32 = 0o700;
/// So many new files are synced one by one. More of them cost less by syncing the whole file system: each sync of a file waits for
/// the file system's journal.
const SYNCED_ALONE_MAX: usize = 8;

/// A file of the log that could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The disk or its file system. Told with its cause in one line, since that is what peers and the last log line get.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// What was written before may be lost, whatever a second sync says.
    #[error("{0} could not be synced: {1}")]
    Sync(PathBuf, io::Error),
    /// A file that never changes is there with other bytes.
    #[error("{0} holds other bytes than the log; it was changed, or another program writes here")]
    Conflict(PathBuf),
}

impl FileError {
    /// Whether the disk has no room, and nothing else is wrong.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io(_, error) if is_full(error))
    }
}

/// Attaches the path to an error.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |error| FileError::Io(path.to_owned(), error)
}

/// Makes a folder and those above it, and syncs the parent of each that is new.
pub(crate) fn create_folder(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    if disk.exists(path).map_err(at(path))? {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_folder(disk, parent)?;
    }
    disk.create_folder(path).map_err(at(path))?;
    path.parent().map_or(Ok(()), |parent| disk.sync_folder(parent).map_err(at(parent)))
}

fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    PathBuf::from(aside)
}

/// Puts new bytes in a file's place, durably.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let aside = aside(path);
    let file = disk.open(&aside, Open::Empty).map_err(at(&aside))?;
    file.write_at(bytes, 0).and_then(|()| file.sync()).map_err(at(&aside))?;
    disk.rename(&aside, path).map_err(at(path))?;
    path.parent().map_or(Ok(()), |parent| disk.sync_folder(parent).map_err(at(parent)))
}

/// Writes files that never change, durably and together. Those that are there already must hold the same bytes, so that whoever met
/// a full disk, or died, can do it again.
pub(crate) fn write_immutable(disk: &dyn Disk, files: &[(PathBuf, &[u8])]) -> Result<(), FileError> {
    let (mut folders, mut written) = (BTreeSet::new(), Vec::new());
    for (path, bytes) in files {
        match disk.read(path) {
            Ok(found) if found == *bytes => {
                // Who wrote it may have died before its name was durable.
                folders.extend(path.parent());
                continue;
            }
            Ok(_) => return Err(FileError::Conflict(path.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::Io(path.clone(), error)),
        }
        if let Some(parent) = path.parent().filter(|parent| !folders.contains(parent)) {
            create_folder(disk, parent)?;
            folders.insert(parent);
        }
        let aside = aside(path);
        let file = disk.open(&aside, Open::Empty).map_err(at(&aside))?;
        file.write_at(bytes, 0).map_err(at(&aside))?;
        let kept_open = (written.len() < SYNCED_ALONE_MAX).then_some(file);
        written.push((aside, path, kept_open));
    }
    match written.first() {
        Some((first, _, _)) if written.len() > SYNCED_ALONE_MAX => {
            let folder = first.parent().unwrap_or(first);
            disk.sync_all(folder).map_err(at(folder))?;
        }
        _ => {
            for (aside, _, file) in &written {
                file.iter().try_for_each(|file| file.sync()).map_err(at(aside))?;
            }
        }
    }
    for (aside, path, _) in &written {
        disk.rename(aside, path).map_err(at(path))?;
    }
    folders.iter().try_for_each(|folder| disk.sync_folder(folder).map_err(at(folder)))
}
