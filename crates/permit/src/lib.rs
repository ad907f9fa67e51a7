//! Permit documents and admission: who may use what, from where, until when.
//!
//! A permit is one TOML 1.0 file; images, datasets, networks, calendars and authorities that several permits use have files of their
//! own. [`parse`] turns one permit's text into a [`Permit`] or into every [`Problem`] at once; [`Policy::read`] does it for all files
//! together; a [`PermitSet`] holds permits that do not contradict each other; [`admit`] decides whether a person may open a session
//! now, and [`decide`] says why. What a document does not name is denied, and a key it misspells is an error.
//!
//! This crate never reads files, the clock, randomness or the environment: text, time and addresses are arguments.

mod admission;
mod decision;
mod document;
mod hours;
mod ids;
mod model;
mod refusal;
mod set;
mod shape;
mod tree;

pub use admission::{Admission, EndCause, Request, admit};
pub use decision::{Action, Decision, Denial, Question, Reason, Target, decide};
pub use document::{Case, Expected, PERMIT_BYTES_MAX, PermitFile, Shared, SharedKind, parse, parse_with};
pub use hours::Hours;
pub use ids::{HolderId, IdError, PermitId, Pseudonym, SessionId, SharedName, WorkspaceName};
pub use model::{
    Assurance, Budget, Controller, Credential, Dataset, Destination, Durability, Halt, Holder, HostName, Identity, Image, ImageDigest, NameCheck,
    NameError, NamePattern, Names, Note, OutputChecker, Period, Permit, Place, Port, Problem, Programs, Protocol, Rate, Reach, Recording, Resources,
    Role, Rung, SessionLimits, Status, Suspension, TerminalRecording, Validity, Workspace,
};
pub use refusal::{Refusal, RefusalCode};
pub use set::PermitSet;
pub use tree::{Failed, Policy, Source};

#[cfg(test)]
mod tests;
