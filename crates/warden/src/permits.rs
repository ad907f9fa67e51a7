//! The warden's own reading of the policy: what the gateway says about a permit is believed only as far as this agrees.
//!
//! Permits come from the store's revision in force, which operators have signed; the warden has their keys from its own configuration.
//! The store is looked at before each launch and reads no file as long as nothing has changed. A revision that is refused changes
//! nothing: what was in force stays so.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sulku_audit::Event;
use sulku_permit::{Failed, PermitSet, Policy, Problem};
use sulku_policy::store::{EXTENSION, InForce, RevisionError, Store, file_name, numbers, read};
use sulku_policy::{Digest, OBJECT_BYTES_MAX, Operators, REVISION_BYTES_MAX, narrows_from, next_meaning};

/// A change younger than this may have a second one in the same tick of the file system's clock, so the store is read once more.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Of a refused revision's problems, so many go into the entry, each shortened to so many characters.
const PROBLEMS_TOLD: usize = 10;
const PROBLEM_CHARS_MAX: usize = 500;

/// The policy by the store.
#[derive(Debug)]
pub struct Permits {
    folder: Folder,
    operators: Operators,
    seen: Option<Look>,
    in_force: Option<Arc<InForce>>,
    meaning: Policy,
    readings: u64,
    /// What was refused when the store was last read, and said so.
    refused: Option<Vec<String>>,
    news: Vec<Event>,
}

/// Why there are no permits to rely on. No cell is launched then.
#[derive(Debug, thiserror::Error)]
pub enum PermitsError {
    /// The store has nothing that counts, and has had nothing since the warden's start.
    #[error("no revision of the policy is in force: {0}")]
    None(String),
}

/// Why the store's newest is not what the warden goes by.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{0} can be written by others than the warden's own user; chown it to that user and chmod go-w")]
    Writable(PathBuf),
    #[error(transparent)]
    Revision(#[from] RevisionError),
    #[error("revision {number} has problems in its files")]
    Problems { number: u64, problems: Vec<Problem> },
}

impl Permits {
    /// The policy of a store, not read yet.
    #[must_use]
    pub fn in_store(folder: PathBuf, operators: Operators) -> Self {
        let meaning = Policy::default();
        Self { folder: Folder(folder), operators, seen: None, in_force: None, meaning, readings: 0, refused: None, news: Vec::new() }
    }

    /// The permits in force now.
    ///
    /// # Errors
    /// There are none.
    pub fn current(&mut self) -> Result<&PermitSet, PermitsError> {
        let now = self.folder.look();
        if self.seen.as_ref() != Some(&now) || !now.is_settled() {
            match self.next() {
                Ok(next) => {
                    self.refused = None;
                    if let Some((in_force, meaning)) = next {
                        let (number, sha256) = (in_force.revision().number(), in_force.revision().digest().to_string());
                        tracing::info!(number, sha256, "a revision of the policy is in force");
                        self.news.push(Event::WardenPolicyActivated { number, sha256 });
                        (self.in_force, self.meaning) = (Some(in_force), meaning);
                        self.readings += 1;
                    }
                }
                Err(refused) => self.refuse(&refused),
            }
            self.seen = Some(now);
        }
        match (&self.in_force, &self.refused) {
            (Some(_), _) => Ok(self.meaning.permits()),
            (None, refused) => Err(PermitsError::None(refused.as_ref().map(|problems| problems.join("; ")).unwrap_or_default())),
        }
    }

    /// Grows each time the permits are others than before.
    #[must_use]
    pub const fn readings(&self) -> u64 {
        self.readings
    }

    /// What has come of looks at the store since this was last asked, for the ledger.
    pub fn news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    fn next(&self) -> Result<Option<(Arc<InForce>, Policy)>, Refused> {
        self.folder.is_roots_alone()?;
        let narrows = |old: &_, new: &_| narrows_from(&self.meaning, old, new);
        let in_force = read(&self.folder, &self.operators, narrows, self.in_force.as_ref())?;
        if self.in_force.as_ref().is_some_and(|before| Arc::ptr_eq(before, &in_force)) {
            return Ok(None);
        }
        let number = in_force.revision().number();
        let meaning = next_meaning(&self.meaning, in_force.tree()).map_err(|problems| Refused::Problems { number, problems })?;
        let problems: Vec<_> = meaning.failed_cases().iter().map(Failed::problem).collect();
        if problems.is_empty() { Ok(Some((in_force, meaning))) } else { Err(Refused::Problems { number, problems }) }
    }

    /// Said once, however often it is found.
    fn refuse(&mut self, refused: &Refused) {
        let problems: Vec<String> = match refused {
            Refused::Problems { number, problems } => problems.iter().map(|problem| format!("revision {number}: {problem}")).collect(),
            other => vec![crate::chain(other)],
        };
        let problems: Vec<String> = problems.iter().take(PROBLEMS_TOLD).map(|problem| problem.chars().take(PROBLEM_CHARS_MAX).collect()).collect();
        if self.refused.as_ref() != Some(&problems) {
            problems.iter().for_each(|problem| tracing::error!(problem, "the policy in the store is refused; what was in force stays so"));
            let in_force = self.in_force.as_ref().map(|in_force| in_force.revision().number());
            self.news.push(Event::WardenPolicyRefused { in_force, problems: problems.clone().into() });
            self.refused = Some(problems);
        }
    }
}

/// The store's folder.
#[derive(Debug)]
struct Folder(PathBuf);

/// What tells a changed store from an unchanged one.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    folders: [Option<Stamp>; 2],
    newest: Option<(u64, Option<Stamp>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Look {
    /// Whether its last change is so long ago that another would have another time.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let stamps = self.folders.iter().flatten().chain(self.newest.iter().filter_map(|(_, stamp)| stamp.as_ref()));
        let young = |stamp: &Stamp| Duration::from_secs(u64::try_from(stamp.changed.0).unwrap_or_default()) + SETTLED_AFTER * 2 > now;
        !stamps.into_iter().any(young)
    }
}

impl Folder {
    /// A quick look, which reads no file.
    fn look(&self) -> Look {
        let newest = self.revisions().unwrap_or_default().into_iter().max();
        Look {
            folders: ["objects", "revisions"].map(|name| stamp(&self.0.join(name))),
            newest: newest.map(|number| (number, stamp(&self.path(number)))),
        }
    }

    /// Signatures tell what is signed; that nobody takes a revision away is the folders' mode.
    fn is_roots_alone(&self) -> Result<(), Refused> {
        for path in [self.0.clone(), self.0.join("objects"), self.0.join("revisions")] {
            match std::fs::metadata(&path) {
                Ok(found) if found.uid() == 0 && found.mode() & 0o022 == 0 => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => return Err(Refused::Writable(path)),
            }
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.0.join("revisions").join(file_name(number, EXTENSION))
    }
}

impl Store for Folder {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        let entries = match std::fs::read_dir(self.0.join("revisions")) {
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
        read_bounded(&self.0.join("objects").join(sha256.to_string()), OBJECT_BYTES_MAX)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = std::fs::metadata(path).ok()?;
    Some(Stamp { inode: found.ino(), length: found.len(), changed: (found.ctime(), found.ctime_nsec()) })
}

/// One byte more than there may be tells that there are too many.
fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
