//! A log in a folder: the ledger's own, a copy of it, or a mirror's.
//!
//! Reading a copy leaves no entry in the log; the live log is read through the ledger ([`crate::client`]), which does.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use sulku_audit::tile::BUNDLE_BYTES_MAX;
use sulku_audit::{Source, SourceError};

/// A log in a folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// The log in this folder.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    fn open<T>(&self, path: &str, read: impl FnOnce(File) -> io::Result<T>) -> Result<Option<T>, SourceError> {
        match File::open(self.0.join(path)).and_then(read) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SourceError { path: self.0.join(path).display().to_string(), cause: error.into() }),
        }
    }
}

impl Source for Folder {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        self.open(path, |file| {
            let mut bytes = Vec::new();
            // One byte more than any file of the log has, so that a longer one is noticed and not cut.
            file.take(BUNDLE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    }

    fn read_at(&mut self, path: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.open(path, |file| {
            let left = file.metadata()?.len().saturating_sub(offset).min(length);
            let mut bytes = vec![0; usize::try_from(left).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        })
    }
}
