//! The warden's own copy of the permits: what the gateway says about a permit is believed only as far as this agrees.
//!
//! The folder is read again when a file in it has changed, so that a launch never rests on a permit that is no more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use sulku_permit::PermitSet;

/// Permits that one host serves.
const PERMITS_MAX: usize = 4_096;

/// The permits' folder and what was read from it.
#[derive(Debug)]
pub struct Permits {
    folder: PathBuf,
    seen: Option<BTreeMap<OsString, Seen>>,
    set: PermitSet,
    readings: u64,
}

/// What tells a changed file from an unchanged one.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

/// Why the permits can't be relied on. No cell is launched then.
#[derive(Debug, thiserror::Error)]
pub enum PermitsError {
    /// The folder or a file in it can't be read.
    #[error("{path} can't be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that others than root can write is no permit.
    #[error("{0} can be written by others than root; chown root:root and chmod go-w")]
    Writable(PathBuf),
    /// More files than a host serves.
    #[error("the permits' folder holds more than {PERMITS_MAX} files")]
    TooMany,
    /// A permit is wrong, or two contradict each other.
    #[error("{0}")]
    Wrong(String),
}

impl Permits {
    /// The permits of a folder, not read yet.
    #[must_use]
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder, seen: None, set: PermitSet::default(), readings: 0 }
    }

    /// The permits as they stand in the folder now.
    ///
    /// # Errors
    /// The folder holds something that is not a good permit; none is relied on then.
    pub fn current(&mut self) -> Result<&PermitSet, PermitsError> {
        let now = self.look()?;
        if self.seen.as_ref() != Some(&now) {
            self.seen = None;
            self.set = self.read(&now)?;
            self.seen = Some(now);
            self.readings += 1;
        }
        Ok(&self.set)
    }

    /// Grows each time the permits are others than before.
    #[must_use]
    pub const fn readings(&self) -> u64 {
        self.readings
    }

    fn look(&self) -> Result<BTreeMap<OsString, Seen>, PermitsError> {
        let unreadable = |source| PermitsError::Unreadable { path: self.folder.clone(), source };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if entry.path().extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            let found = std::fs::metadata(entry.path()).map_err(unreadable)?;
            if found.uid() != 0 || found.mode() & 0o022 != 0 {
                return Err(PermitsError::Writable(entry.path()));
            }
            let seen = Seen { inode: found.ino(), length: found.len(), changed: (found.ctime(), found.ctime_nsec()) };
            files.insert(entry.file_name(), seen);
            if files.len() > PERMITS_MAX {
                return Err(PermitsError::TooMany);
            }
        }
        Ok(files)
    }

    fn read(&self, files: &BTreeMap<OsString, Seen>) -> Result<PermitSet, PermitsError> {
        let first = |problems: Vec<sulku_permit::Problem>| {
            PermitsError::Wrong(problems.first().map_or_else(|| "a permit is wrong".to_owned(), ToString::to_string))
        };
        let mut permits = Vec::with_capacity(files.len());
        for name in files.keys() {
            let path = self.folder.join(name);
            let text = std::fs::read_to_string(&path).map_err(|source| PermitsError::Unreadable { path: path.clone(), source })?;
            permits.push(sulku_permit::parse(&path.display().to_string(), &text).map_err(first)?);
        }
        PermitSet::new(permits).map_err(first)
    }
}
