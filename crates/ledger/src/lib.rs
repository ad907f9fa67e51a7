//! The ledger: keeps the audit's entries durably, signs and publishes checkpoints, serves auditors.
//!
//! The one process with the signing key. It takes entries over a unix socket from those whose user id may write them, answers when
//! they are on the disk and never before, and lets nobody change or remove one: there is no such request. What it can't keep it
//! refuses, and a disk that failed once is not tried again: the process ends, and with it every session that would go unrecorded.
//!
//! It speaks no network protocol, opens no file outside its folder, decides on no permit, and does not look into recordings.
//! The log's files, byte for byte: docs/protocol/ledger.md.

mod answers;
pub mod client;
mod clock;
pub mod config;
mod deletion;
mod disk;
pub mod exposition;
mod files;
mod flight;
pub mod folder;
mod frame;
mod handover;
mod holders;
pub mod key;
mod keys;
mod ledger;
mod metrics;
pub mod privilege;
mod publisher;
mod publishing;
mod queue;
mod random;
mod recordings;
mod recover;
mod room;
mod segment;
mod server;
#[cfg(test)]
mod simulation;
mod snapshot;
mod stage;
pub mod verification;
mod wal;
mod witnessed;
mod witnessing;
mod writer;
#[cfg(test)]
mod writer_tests;

pub use config::Settings;
pub use ledger::{Broken, Ledger, StartError, Stopper};
