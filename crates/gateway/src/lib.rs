//! The gateway: listeners, handshake, identity, admission, relay.
//!
//! One port, TCP and UDP. A peer shows a certificate, becomes a [`VerifiedIdentity`](identity::VerifiedIdentity), is admitted or refused, and if
//! admitted gets a session whose every step the ledger has kept before it takes effect.
//!
//! The gateway never forks, never runs a programme, holds no signing key and no capability: cells are the warden's, entries the
//! ledger's. After start it can open no file but those in the folders of authorities and revocation lists, and connect by TCP to
//! nobody.

pub mod adoption;
mod auditors;
mod busy;
pub mod config;
mod confine;
mod connection;
mod daemon;
mod denied;
mod descriptor;
mod identity;
mod known;
mod ledger;
mod listener;
mod lists;
mod operator;
mod policy;
mod readmission;
mod refusals;
mod registry;
mod relay;
mod reset;
mod revisions;
mod revocation;
mod strangers;
mod terminal;
mod tls;
mod transport;
mod warden;

pub use daemon::{StartError, run};

#[cfg(test)]
mod tests;
