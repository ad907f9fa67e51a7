//! The only privileged process: builds cells, enforces plans, reaps.
//!
//! It takes a closed set of orders from one gateway and carries out none that the ledger's receipts and its own reading of the signed policy
//! do not bear out. It has no inet socket, no TLS, no thread but one, and parses nothing that a researcher sent.

mod cell;
mod cgroup;
pub mod config;
mod daemon;
pub mod doctor;
mod errand;
mod gateway;
mod images;
pub mod layers;
mod ledger;
mod loopback;
mod naming;
pub mod network;
mod packet;
mod permits;
mod relay;
pub mod rung;
mod seen;
mod sys;
mod verdict;
mod workspace;

pub use daemon::{RunError, run, run_without};

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
