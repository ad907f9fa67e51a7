//! Which files two trees do not share.

use std::fmt;

use crate::tree::{Tree, TreePath};

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is new.
    Added,
    /// It says something else.
    Changed,
    /// It is gone.
    Removed,
}

/// A file that two trees do not share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Where it is.
    pub path: TreePath,
    /// What became of it.
    pub fate: Fate,
}

impl fmt::Display for FileChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::Added => "added",
            Fate::Changed => "changed",
            Fate::Removed => "removed",
        };
        write!(f, "{fate} {}", self.path)
    }
}

/// The files that are in one tree alone or differ, sorted by path.
#[must_use]
pub fn file_changes(before: &Tree, after: &Tree) -> Vec<FileChange> {
    let now = after.iter().filter_map(|(path, file)| match before.get(path.as_str()) {
        None => Some(FileChange { path: path.clone(), fate: Fate::Added }),
        Some(old) if old.sha256() != file.sha256() => Some(FileChange { path: path.clone(), fate: Fate::Changed }),
        Some(_) => None,
    });
    let gone = before.iter().filter(|(path, _)| after.get(path.as_str()).is_none());
    let mut changes: Vec<_> = now.chain(gone.map(|(path, _)| FileChange { path: path.clone(), fate: Fate::Removed })).collect();
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}
