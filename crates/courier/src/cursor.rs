//! Files of the courier's own that survive a crash whole or not at all: each sink's cursor, and the last head of the log.
//!
//! A cursor is the number of the first entry that the sink's receiver may not have. It never moves before the receiver has what lies
//! behind it, and it names the log, so that a courier which is pointed at another log does not begin in its middle.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file of ours is some hundred bytes; a checkpoint with many signatures a few thousand.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const FILE_MODE: u32 = 0o600;

/// A cursor that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorError {
    /// The file can't be read or written.
    #[error("{0} could not be used")]
    Io(PathBuf, #[source] io::Error),
    /// It is no cursor.
    #[error("{0} is no cursor; if it is lost, remove it: the sink then gets the log from its configured beginning")]
    Malformed(PathBuf),
    /// It is of another log.
    #[error("{file} is a cursor in the log {found:?}, not in {expected:?}; give the sink another name, or remove the file")]
    OtherLog {
        /// The cursor's file.
        file: PathBuf,
        /// The log that it is of.
        found: String,
        /// The log that is followed.
        expected: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    v: u32,
    origin: String,
    next: u64,
}

/// How far a sink is, on the disk.
#[derive(Debug)]
pub(crate) struct Cursor {
    file: PathBuf,
    origin: String,
    next: Option<u64>,
}

impl Cursor {
    /// The cursor in that file; one that has not begun if there is none.
    pub(crate) fn open(file: PathBuf, origin: &str) -> Result<Self, CursorError> {
        let next = match read(&file).map_err(|error| CursorError::Io(file.clone(), error))? {
            None => None,
            Some(bytes) => match serde_json::from_slice::<Document>(&bytes) {
                Ok(Document { v: 1, origin: found, next }) if found == origin => Some(next),
                Ok(Document { v: 1, origin: found, .. }) => return Err(CursorError::OtherLog { file, found, expected: origin.to_owned() }),
                _ => return Err(CursorError::Malformed(file)),
            },
        };
        Ok(Self { file, origin: origin.to_owned(), next })
    }

    /// The first entry that the receiver may not have; `None` for a sink that has not begun.
    pub(crate) const fn next(&self) -> Option<u64> {
        self.next
    }

    /// Moves it, on the disk first.
    pub(crate) fn save(&mut self, next: u64) -> Result<(), CursorError> {
        if self.next == Some(next) {
            return Ok(());
        }
        let document = Document { v: 1, origin: self.origin.clone(), next };
        let bytes = serde_json::to_vec(&document).map_err(io::Error::from).map_err(|error| CursorError::Io(self.file.clone(), error))?;
        replace(&self.file, &bytes).map_err(|error| CursorError::Io(self.file.clone(), error))?;
        self.next = Some(next);
        Ok(())
    }
}

/// A small file's bytes, if there is one.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(found) if found.len() > FILE_BYTES_MAX => return Err(io::Error::other("too long for a file of the courier's")),
        Ok(_) => {}
    }
    fs::read(path).map(Some)
}

/// Puts bytes in the place of a file: aside, synced, renamed, the folder synced.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = aside(path);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn aside(path: &Path) -> PathBuf {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".tmp");
    PathBuf::from(aside)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_found_again_and_only_in_its_own_log() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("siem.cursor");
        let mut cursor = Cursor::open(file.clone(), "a/log").unwrap();
        assert_eq!(cursor.next(), None);
        cursor.save(41).unwrap();
        assert_eq!(Cursor::open(file.clone(), "a/log").unwrap().next(), Some(41));
        assert!(matches!(Cursor::open(file.clone(), "another/log"), Err(CursorError::OtherLog { .. })));
        fs::write(&file, "{").unwrap();
        assert!(matches!(Cursor::open(file, "a/log"), Err(CursorError::Malformed(_))));
    }
}
