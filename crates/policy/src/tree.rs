//! The files of a policy: which there may be, and what they say.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::digest::Digest;

/// The folders of a policy.
pub const FOLDERS: &[&str] = &["authorities", "calendars", "datasets", "images", "networks", "permits"];
/// The file that, while it is there, lets nobody in.
pub const HALT: &str = "halt.toml";
/// The largest file; the longest real permits are a few KiB.
pub const OBJECT_BYTES_MAX: u64 = sulku_permit::PERMIT_BYTES_MAX as u64;
/// All files together: 20 000 of 12 KiB.
pub const TREE_BYTES_MAX: u64 = 256 << 20;
/// The longest file name.
const NAME_BYTES_MAX: usize = 100;
const EXTENSION: &str = ".toml";

/// A path that no file of a policy has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no file of a policy; its files are FOLDER/NAME.toml and {HALT}, FOLDER one of {}, NAME of A-Z a-z 0-9 . _ - with a letter or digit first and no two dots together, {NAME_BYTES_MAX} bytes at most", FOLDERS.join(" "))]
pub struct PathError {
    text: String,
}

/// Where a file is in a policy: `permits/statins.toml`. Safe to join to a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath(Arc<str>);

impl TreePath {
    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that it is in; none for `halt.toml`.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        self.0.split_once('/').map(|(folder, _)| folder)
    }
}

impl FromStr for TreePath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        let good = text == HALT || text.split_once('/').is_some_and(|(folder, name)| FOLDERS.contains(&folder) && is_name(name));
        if good { Ok(Self(text.into())) } else { Err(PathError { text: text.chars().take(NAME_BYTES_MAX).collect() }) }
    }
}

fn is_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(EXTENSION) else { return false };
    name.len() <= NAME_BYTES_MAX
        && stem.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c))
        && !name.contains("..")
}

impl Borrow<str> for TreePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreePath({})", self.0)
    }
}

/// A file of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    sha256: Digest,
    text: Arc<str>,
}

impl File {
    /// A file of that text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self { sha256: Digest::of(text.as_bytes()), text: text.into() }
    }

    /// The SHA-256 of its text.
    #[must_use]
    pub const fn sha256(&self) -> Digest {
        self.sha256
    }

    /// What it says.
    #[must_use]
    pub const fn text(&self) -> &Arc<str> {
        &self.text
    }
}

/// The files of a policy, by their paths. Says nothing of who wants them in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    files: BTreeMap<TreePath, File>,
}

impl Tree {
    /// The file of that path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// Every file, sorted by path.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&TreePath, &File)> {
        self.files.iter()
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

impl FromIterator<(TreePath, File)> for Tree {
    fn from_iter<I: IntoIterator<Item = (TreePath, File)>>(files: I) -> Self {
        Self { files: files.into_iter().collect() }
    }
}
