//! The store of the policy, as a folder: `objects/<SHA-256>` and `revisions/000012.revision`.
//!
//! An object is written once and never changed; a revision appears whole or not at all, under a number that nobody has taken before.
//! Decides nothing: which revision counts is `sulku-policy`'s.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use sulku_policy::store::{self, EXTENSION, Store, file_name};
use sulku_policy::{Digest, NUMBER_MAX, OBJECT_BYTES_MAX, REVISION_BYTES_MAX, Revision, Signed, Tree};

/// A revision that was taken back before it counted. Its number is not given away again.
const WITHDRAWN: &str = "withdrawn";

/// A store in a folder.
pub struct FolderStore {
    folder: PathBuf,
}

/// The right to write, which one process has at a time.
pub struct Locked<'s> {
    store: &'s FolderStore,
    _revisions: File,
}

impl FolderStore {
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Makes the two folders where they are missing and keeps others from writing until the value is dropped.
    pub fn lock(&self) -> anyhow::Result<Locked<'_>> {
        anyhow::ensure!(
            self.folder.is_dir(),
            "{} is no folder; make it, root's and nobody else's to write: install -d -m 0755 {0}",
            self.folder.display()
        );
        for name in ["objects", "revisions"] {
            let folder = self.folder.join(name);
            match fs::create_dir(&folder) {
                Ok(()) => fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).and_then(|()| sync(&self.folder)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(error) => Err(error),
            }
            .with_context(|| format!("{} can't be made; are you root?", folder.display()))?;
        }
        let path = self.folder.join("revisions");
        let revisions = File::open(&path).with_context(|| format!("{} can't be read", path.display()))?;
        flock(&revisions, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("{} is being written by another command; try again when it is done", self.folder.display()))?;
        Ok(Locked { store: self, _revisions: revisions })
    }

    /// The highest number that was ever given, 0 before the first.
    pub fn highest(&self) -> io::Result<u64> {
        let numbers = self.numbers(EXTENSION)?.into_iter().chain(self.numbers(WITHDRAWN)?);
        Ok(numbers.max().unwrap_or(0))
    }

    /// A revision as it is in the store. Nothing about it has been verified.
    pub fn signed(&self, number: u64) -> anyhow::Result<Signed> {
        let bytes = self.revision(number).with_context(|| format!("there is no revision {number} in {}", self.folder.display()))?;
        let signed = Signed::parse(&bytes).with_context(|| format!("revision {number} is damaged"))?;
        anyhow::ensure!(signed.revision.number() == number, "revision {number} says that it is number {}", signed.revision.number());
        Ok(signed)
    }

    fn numbers(&self, extension: &str) -> io::Result<Vec<u64>> {
        let entries = match fs::read_dir(self.folder.join("revisions")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.folder.is_dir() => return Ok(Vec::new()),
            entries => entries?,
        };
        store::numbers(entries.map(|entry| entry.map(|entry| entry.file_name())), extension)
    }

    fn path(&self, number: u64, extension: &str) -> PathBuf {
        self.folder.join("revisions").join(file_name(number, extension))
    }

    fn object_path(&self, sha256: Digest) -> PathBuf {
        self.folder.join("objects").join(sha256.to_string())
    }
}

impl Store for FolderStore {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        self.numbers(EXTENSION)
    }

    fn revision(&self, number: u64) -> io::Result<Vec<u8>> {
        read_bounded(&self.path(number, EXTENSION), REVISION_BYTES_MAX as u64)
    }

    fn object(&self, sha256: Digest) -> io::Result<Vec<u8>> {
        read_bounded(&self.object_path(sha256), OBJECT_BYTES_MAX)
    }
}

impl Locked<'_> {
    /// Puts a tree's files into the store; those that are there stay as they are.
    pub fn put_objects(&self, tree: &Tree) -> anyhow::Result<()> {
        let folder = self.store.folder.join("objects");
        for (path, file) in tree.iter() {
            let object = self.store.object_path(file.sha256());
            // What is damaged is written anew: its name says what it has to be.
            let there = self.store.object(file.sha256()).is_ok_and(|bytes| Digest::of(&bytes) == file.sha256());
            if !there {
                replace(&object, file.text().as_bytes()).with_context(|| format!("{path} can't be written to {}", object.display()))?;
            }
        }
        sync(&folder).with_context(|| format!("{} can't be synced", folder.display()))
    }

    /// Adds a revision. Its files are in the store.
    pub fn publish(&self, signed: &Signed) -> anyhow::Result<()> {
        let number = signed.revision.number();
        let path = self.store.path(number, EXTENSION);
        anyhow::ensure!(number <= NUMBER_MAX && number > self.store.highest()?, "number {number} has been given already; apply again");
        replace(&path, signed.render().as_bytes()).with_context(|| format!("{} can't be written", path.display()))?;
        self.synced()
    }

    /// Writes a revision's file again, with more signatures over the same text.
    pub fn add_signatures(&self, signed: &Signed) -> anyhow::Result<()> {
        let number = signed.revision.number();
        let same = self.store.signed(number)?.revision.digest() == signed.revision.digest();
        anyhow::ensure!(same, "revision {number} has become another one meanwhile; look at it again");
        let path = self.store.path(number, EXTENSION);
        replace(&path, signed.render().as_bytes()).with_context(|| format!("{} can't be written", path.display()))?;
        self.synced()
    }

    /// Takes a revision back.
    pub fn withdraw(&self, revision: &Revision) -> anyhow::Result<()> {
        let (from, to) = (self.store.path(revision.number(), EXTENSION), self.store.path(revision.number(), WITHDRAWN));
        fs::rename(&from, &to).with_context(|| format!("{} can't be renamed", from.display()))?;
        self.synced()
    }

    fn synced(&self) -> anyhow::Result<()> {
        sync(&self.store.folder.join("revisions")).context("the store's folder can't be synced")
    }
}

/// At most as many bytes as there may be, and one more, which tells that there are too many.
pub fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whole or not at all, also when the power goes.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("the path has no folder"))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    // The daemons read it as their own users; the store's folder says who gets that far.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
