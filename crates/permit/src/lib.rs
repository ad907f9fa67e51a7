//! Permit documents and admission: who may use what, from where, until when.
//!
//! A permit is one TOML 1.0 file. [`parse`] turns its text into a [`Permit`] or into every [`Problem`] at once, each with file,
//! line and column; [`PermitSet::new`] checks several permits against each other; [`admit`] decides whether a person may open
//! a session now. What a document does not name is denied, and a key it misspells is an error.
//!
//! This crate never reads files, the clock, randomness or the environment: text, time and addresses are arguments.

mod admission;
mod document;
mod ids;
mod measure;
mod model;
mod set;
mod shape;

pub use admission::{Admission, Refusal, RefusalCode, Request, admit};
pub use document::{PERMIT_BYTES_MAX, parse};
pub use ids::{HolderId, IdError, PermitId, Pseudonym, SessionId, WorkspaceName};
pub use model::{
    Credential, Dataset, Destination, Durability, Holder, Identity, Permit, Place, Port, Problem, Protocol, Recording, Resources, SessionLimits,
    TerminalRecording, Validity, Workspace,
};
pub use set::PermitSet;

#[cfg(test)]
mod tests;
