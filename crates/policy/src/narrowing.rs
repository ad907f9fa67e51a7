//! Whether a tree allows nothing that another one does not allow.

use crate::tree::{HALT, Tree};

/// Whether `after` only takes away from `before`: a permit's file is gone, or `halt.toml` has come, and nothing else has changed.
///
/// What it can't tell to be narrower is not: then as many operators sign as for anything else.
#[must_use]
pub fn narrows(before: &Tree, after: &Tree) -> bool {
    let kept = after.iter().all(|(path, file)| match before.get(path.as_str()) {
        Some(old) => old.sha256() == file.sha256() || path.as_str() == HALT,
        None => path.as_str() == HALT,
    });
    let gone = before.iter().filter(|(path, _)| after.get(path.as_str()).is_none());
    kept && gone.into_iter().all(|(path, _)| path.folder() == Some("permits"))
}
