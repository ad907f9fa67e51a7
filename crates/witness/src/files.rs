//! Files that survive a crash whole or not at all: written aside, synced, renamed, their folder synced.
//!
//! The ledger has the same habits in a file of its own; a witness links nothing of a ledger.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path} could not be read or written")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub cause: io::Error,
}

pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    move |cause| FileError { path: path.to_owned(), cause }
}

/// Makes a folder and those above it, and syncs the parent of each that is new.
pub(crate) fn create_folder(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent)?;
    }
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(path)(error)),
        _ => {}
    }
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(at(path))
}

/// Puts new bytes in a file's place, durably.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    let aside = PathBuf::from(aside);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&aside).map_err(at(&aside))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(&aside))?;
    fs::rename(&aside, path).map_err(at(path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(at(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(at(path))
}

/// A file's bytes, or `None` if there is none. A longer file than `bytes_max` is an error.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(at(path))?;
    if bytes.len() as u64 > bytes_max {
        return Err(at(path)(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than the {bytes_max} bytes that it can have"))));
    }
    Ok(Some(bytes))
}
