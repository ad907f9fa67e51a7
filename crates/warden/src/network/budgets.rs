//! What becomes of sessions' budgets when the rules are mended: they go on with what they have left, and never begin anew.
//!
//! The kernel counts them. Where its count is gone, or somebody else has had a hand in it, a budget counts as used up: of bytes nothing
//! is left, of connections one at once and then as many as its rate brings.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::contents::Contents;
use super::grant::Purse;

/// What happened to the objects that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// They are where they were.
    Kept,
    /// They went with their table.
    Gone,
}

/// What is known of budgets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budgets<'a> {
    /// As they were found.
    pub(super) found: &'a Contents,
    /// Those that somebody else has made or deleted.
    pub(super) doubted: &'a BTreeSet<String>,
    /// Whether they are there still.
    pub(super) place: Place,
}

impl Budgets<'_> {
    /// Sees to it that there is a budget as it must be. Whether it counts as used up, though nobody knows that it is.
    pub(super) fn put(&self, batch: &mut Batch, purse: Purse, mark: u32) -> bool {
        let mut taken = false;
        if let Some((name, bytes)) = purse.bytes(mark) {
            let used = self.found.used(&name).filter(|_| !self.doubted.contains(&name));
            taken = used.is_none();
            if used.is_some() && self.place == Place::Kept {
                batch.settle_quota(&name, bytes);
            } else {
                batch.destroy_quota(&name);
                batch.add_quota(&name, bytes, used.unwrap_or(bytes));
            }
        }
        if let Some((name, rate)) = purse.rate(mark) {
            let known = self.place == Place::Kept && self.found.has_limit(&name) && !self.doubted.contains(&name);
            if !known {
                batch.destroy_limit(&name);
                batch.add_limit(&name, rate.connections, rate.per.seconds(), 1);
            }
            taken |= !known;
        }
        taken
    }
}
