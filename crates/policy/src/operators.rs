//! Whose signatures count, and how many it takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sulku_permit::HolderId;

use crate::key::OperatorKey;
use crate::revision::SIGNATURES_MAX;

/// More keys than any environment has operators, old keys that still count for a while included.
const KEYS_MAX: usize = 64;

/// `[approval]` in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Approval {
    /// How many operators have to sign a revision that does not only narrow.
    pub signatures: usize,
}

impl Default for Approval {
    fn default() -> Self {
        Self { signatures: 1 }
    }
}

/// One key of an operator. While she changes her key she has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name that revisions and entries use.
    pub id: HolderId,
    /// The key that she signs with.
    pub key: OperatorKey,
}

/// Operators who can't sign revisions together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperatorsError {
    /// One key for two persons: four eyes would be two.
    #[error("{first} and {second} have the same key; give each operator her own")]
    SharedKey {
        /// Who is named first.
        first: HolderId,
        /// Who is named second.
        second: HolderId,
    },
    /// More signatures than there are operators to sign, or none.
    #[error("{needed} signatures are wanted of {operators} operators; ask for 1 to {operators} under [approval]")]
    Needed {
        /// How many are asked for.
        needed: usize,
        /// How many persons have keys.
        operators: usize,
    },
    /// More keys than is sensible.
    #[error("there are more than {KEYS_MAX} operators' keys; take out those that sign nothing any more")]
    TooMany,
}

/// The operators whose signatures count, and how many of them a revision needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operators {
    keys: Vec<Operator>,
    needed: usize,
}

impl Operators {
    /// Operators who sign revisions together; `needed` of them make one count.
    ///
    /// # Errors
    /// They can't: see [`OperatorsError`].
    pub fn new(keys: Vec<Operator>, needed: usize) -> Result<Self, OperatorsError> {
        if keys.len() > KEYS_MAX {
            return Err(OperatorsError::TooMany);
        }
        let mut owners = BTreeMap::new();
        for Operator { id, key } in &keys {
            match owners.insert(key.to_string(), id) {
                Some(first) if first != id => return Err(OperatorsError::SharedKey { first: first.clone(), second: id.clone() }),
                _ => {}
            }
        }
        let persons = keys.iter().map(|operator| &operator.id).collect::<BTreeSet<_>>().len();
        if needed == 0 || needed > persons || needed > SIGNATURES_MAX {
            return Err(OperatorsError::Needed { needed, operators: persons.min(SIGNATURES_MAX) });
        }
        Ok(Self { keys, needed })
    }

    /// How many operators make a revision count.
    #[must_use]
    pub const fn needed(&self) -> usize {
        self.needed
    }

    /// Every key.
    pub fn iter(&self) -> impl Iterator<Item = &Operator> {
        self.keys.iter()
    }

    /// The keys of one operator; none for who is no operator.
    pub fn keys_of<'a>(&'a self, id: &'a HolderId) -> impl Iterator<Item = &'a OperatorKey> {
        self.keys.iter().filter(move |operator| operator.id == *id).map(|operator| &operator.key)
    }
}
