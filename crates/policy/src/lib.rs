//! The policy in force: a tree of files, the revisions that name it, and the operators' signatures that make a revision count.
//!
//! A [`Revision`] is a text that names every file of a [`Tree`] by its SHA-256, and the revision before it. Operators sign that text
//! with the keys of their certificates. [`store::read`] finds the revision in force among those that a [`store::Store`] holds; what it
//! returns is made nowhere else, so nothing unsigned can be put in force.
//!
//! Never reads files, the clock, randomness or the environment: who reads the store for it, and where, is theirs to say. What the files
//! of a tree mean is `sulku-permit`'s.

mod changes;
mod diff;
mod digest;
mod key;
mod narrowing;
mod operators;
mod revision;
pub mod store;
mod tree;

pub use changes::{Fate, FileChange, file_changes};
pub use diff::{Change, Effect, diff};
pub use digest::{Digest, DigestError};
pub use key::{KeyError, OperatorKey, SigningKey};
pub use narrowing::{meaning, narrows, narrows_from, next_meaning};
pub use operators::{Approval, Operator, Operators, OperatorsError};
pub use revision::{
    Approved, Draft, FILES_MAX, FileLine, NUMBER_MAX, ParseError, REASON_CHARS_MAX, REVISION_BYTES_MAX, Revision, SIGNATURES_MAX, SignatureLine,
    Signed, Signers, Unapproved, verify,
};
pub use tree::{FOLDERS, File, HALT, OBJECT_BYTES_MAX, PathError, TREE_BYTES_MAX, Tree, TreePath};

#[cfg(test)]
mod tests;
