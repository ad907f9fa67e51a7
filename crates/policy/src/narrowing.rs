//! Whether a tree allows nothing that another one does not allow.

use sulku_permit::{Policy, Problem, Source};

use crate::diff::{Effect, diff};
use crate::tree::Tree;

/// Whether `after` only takes away from `before`: every change narrows, and there is at least one.
///
/// What it can't tell to be narrower is not: then as many operators sign as for anything else. That includes files that say the same
/// in other words, and cases, which say what is meant.
#[must_use]
pub fn narrows(before: &Tree, after: &Tree) -> bool {
    narrows_from(&Policy::default(), before, after)
}

/// The same for who knows a policy that most of the files are of: those are not read again.
#[must_use]
pub fn narrows_from(known: &Policy, before: &Tree, after: &Tree) -> bool {
    let Ok(old) = next_meaning(known, before) else { return false };
    let Ok(new) = next_meaning(&old, after) else { return false };
    let changes = diff(&old, &new);
    !changes.is_empty() && changes.iter().all(|change| change.effect == Effect::Narrows) && old.cases() == new.cases()
}

/// What the files of a tree mean.
///
/// # Errors
/// Every problem of every file.
pub fn meaning(tree: &Tree) -> Result<Policy, Vec<Problem>> {
    next_meaning(&Policy::default(), tree)
}

/// What the files of a tree mean, of which most are as they were in another policy.
///
/// # Errors
/// Every problem of every file.
pub fn next_meaning(before: &Policy, tree: &Tree) -> Result<Policy, Vec<Problem>> {
    before.next(tree.iter().map(|(path, file)| Source { path: path.as_str(), shown: path.as_str(), text: file.text() }))
}
