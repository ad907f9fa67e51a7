//! The policy in force, and where it comes from: a store of revisions that operators have signed. Nothing else is loaded.
//!
//! Reads and decides; what is recorded of it and when it takes effect is [`crate::revisions`]'s.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulku_permit::{Failed, PermitSet, Policy, Problem};
use sulku_policy::store::{EXTENSION, InForce, RevisionError, Store, file_name, numbers, read};
use sulku_policy::{Digest, OBJECT_BYTES_MAX, Operators, OperatorsError, REVISION_BYTES_MAX, narrows_from, next_meaning};

use crate::config::Config;

/// A store that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It is not there.
    #[error("{path} can't be read; make the folder that policy names, and put the policy into it with `sulku policy apply`")]
    Missing {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody could sign anything.
    #[error(transparent)]
    Operators(#[from] OperatorsError),
}

/// Why a revision is not put in force.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// None counts, or none can be verified.
    #[error(transparent)]
    Revision(#[from] RevisionError),
    /// Its files are wrong, or a case comes out otherwise than it says.
    #[error("revision {number} has problems in its files")]
    Problems {
        /// Which.
        number: u64,
        /// All of them.
        problems: Vec<Problem>,
    },
}

impl Refused {
    /// The problems one by one, for the ledger.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Revision(error) => vec![crate::warden::chain(error)],
            Self::Problems { number, problems } => problems.iter().map(|problem| format!("revision {number}: {problem}")).collect(),
        }
    }
}

/// A policy that may be put in force. Made from what the store and its signatures say, and otherwise empty.
#[derive(Debug, Default)]
pub struct Current {
    in_force: Option<Arc<InForce>>,
    meaning: Policy,
}

impl Current {
    /// Its permits.
    #[must_use]
    pub fn permits(&self) -> &PermitSet {
        self.meaning.permits()
    }

    /// What its files mean.
    #[must_use]
    pub const fn meaning(&self) -> &Policy {
        &self.meaning
    }

    /// The revision that it is.
    #[must_use]
    pub const fn in_force(&self) -> Option<&Arc<InForce>> {
        self.in_force.as_ref()
    }

    /// The revision's number.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.in_force.as_ref().map(|in_force| in_force.revision().number())
    }

    /// Number and digest, as entries have it; `none` if there is no revision.
    #[must_use]
    pub fn name(&self) -> String {
        let name = |in_force: &Arc<InForce>| format!("{} {}", in_force.revision().number(), in_force.revision().digest());
        self.in_force.as_ref().map_or_else(|| "none".to_owned(), name)
    }
}

/// The store, and whose signatures count.
#[derive(Debug)]
pub struct PolicyStore {
    folder: PathBuf,
    operators: Operators,
}

/// What tells a changed store from an unchanged one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Look {
    folders: [Option<Stamp>; 2],
    newest: Option<(u64, Option<Stamp>)>,
}

/// Inode, change's time, length.
type Stamp = (u64, i64, i64, u64);

impl PolicyStore {
    /// The store of that configuration.
    ///
    /// # Errors
    /// There is no such folder. What is in it is looked at later.
    pub fn open(config: &Config) -> Result<Self, PolicyError> {
        let path = &config.policy;
        std::fs::read_dir(path).map_err(|source| PolicyError::Missing { path: path.clone(), source })?;
        Ok(Self { folder: path.clone(), operators: config.operators()? })
    }

    /// A quick look, which reads no file.
    #[must_use]
    pub fn look(&self) -> Look {
        let newest = self.revisions().unwrap_or_default().into_iter().max();
        Look {
            folders: ["objects", "revisions"].map(|name| stamp(&self.folder.join(name))),
            newest: newest.map(|number| (number, stamp(&self.path(number)))),
        }
    }

    /// The policy that is to be in force, if it is another than before.
    ///
    /// # Errors
    /// What there is is refused; what was in force before stays so.
    pub fn next(&self, before: &Current) -> Result<Option<Current>, Refused> {
        let narrows = |old: &_, new: &_| narrows_from(&before.meaning, old, new);
        let in_force = read(self, &self.operators, narrows, before.in_force.as_ref())?;
        if before.in_force.as_ref().is_some_and(|before| Arc::ptr_eq(before, &in_force)) {
            return Ok(None);
        }
        let refused = |problems| Refused::Problems { number: in_force.revision().number(), problems };
        let meaning = next_meaning(&before.meaning, in_force.tree()).map_err(refused)?;
        let failed: Vec<_> = meaning.failed_cases().iter().map(Failed::problem).collect();
        if failed.is_empty() { Ok(Some(Current { in_force: Some(in_force), meaning })) } else { Err(refused(failed)) }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join("revisions").join(file_name(number, EXTENSION))
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|found| (found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
}

impl Store for PolicyStore {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(self.folder.join("revisions")) {
            // Nothing has been applied yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        numbers(entries.map(|entry| entry.map(|entry| entry.file_name())), EXTENSION)
    }

    fn revision(&self, number: u64) -> io::Result<Vec<u8>> {
        read_bounded(&self.path(number), REVISION_BYTES_MAX as u64)
    }

    fn object(&self, sha256: Digest) -> io::Result<Vec<u8>> {
        read_bounded(&self.folder.join("objects").join(sha256.to_string()), OBJECT_BYTES_MAX)
    }
}

/// One byte more than there may be tells that there are too many.
fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
