//! What changes between two policies, in words: who gains or loses what.
//!
//! Works on what the files mean, not on how they are written. What it can't tell to be narrower it calls a widening.

mod egress;
mod permit;
mod words;

use std::collections::BTreeMap;
use std::fmt;

use sulku_permit::{HolderId, Permit, PermitId, Place, Policy};

/// What a change does to what anybody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Something becomes possible that was not.
    Widens,
    /// Something is no longer possible, and nothing else becomes so.
    Narrows,
    /// Neither: a title, a reason, a note.
    Neither,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The permit that it is about; none for the halt.
    pub permit: Option<PermitId>,
    /// The holder whom it is about, where it is about one.
    pub person: Option<HolderId>,
    /// What it does.
    pub effect: Effect,
    /// In words.
    pub what: String,
    /// The line that says so now; none where the line is gone.
    pub at: Option<Place>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.effect {
            Effect::Widens => "+",
            Effect::Narrows => "-",
            Effect::Neither => " ",
        };
        match &self.permit {
            Some(permit) => write!(f, "{sign} {permit}: {}", self.what),
            None => write!(f, "{sign} {}", self.what),
        }
    }
}

/// Everything that changes, permit by permit; widenings first in each.
#[must_use]
pub fn diff(before: &Policy, after: &Policy) -> Vec<Change> {
    let mut changes = Vec::new();
    match (before.permits().halt(), after.permits().halt()) {
        (None, Some(halt)) => {
            let what = format!("everything is halted, and every session ends: {}", halt.reason);
            changes.push(Change { permit: None, person: None, effect: Effect::Narrows, what, at: Some(halt.at.clone()) });
        }
        (Some(_), None) => {
            let what = "the halt is lifted".to_owned();
            changes.push(Change { permit: None, person: None, effect: Effect::Widens, what, at: None });
        }
        (Some(old), Some(new)) if old.reason != new.reason => {
            let what = format!("everything stays halted: {}", new.reason);
            changes.push(Change { permit: None, person: None, effect: Effect::Neither, what, at: Some(new.at.clone()) });
        }
        _ => {}
    }
    let by_id = |policy: &Policy| -> BTreeMap<PermitId, std::sync::Arc<Permit>> {
        policy.permits().iter().map(|permit| (permit.id.clone(), std::sync::Arc::clone(permit))).collect()
    };
    let (before, after) = (by_id(before), by_id(after));
    for (id, old) in &before {
        match after.get(id) {
            None => changes.push(permit::gone(old)),
            Some(new) if std::sync::Arc::ptr_eq(old, new) => {}
            Some(new) => {
                let mut found = permit::changes(old, new);
                found.sort_by_key(|change| change.effect);
                changes.extend(found);
            }
        }
    }
    changes.extend(after.iter().filter(|(id, _)| !before.contains_key(*id)).map(|(_, new)| permit::new(new)));
    changes
}
