//! The audit's language: events, their encoding as entries, the Merkle tree over them, proofs, checkpoints, verification.
//!
//! What the gateway, the warden and the ledger say to each other about entries is here ([`event`], [`wire`]), and all that an
//! auditor needs to check a log without trusting who kept it. This crate never reads files, sockets or the clock.

pub mod event;
pub mod wire;

pub use event::{CloseReason, Draft, Event, Writer};
pub use wire::Receipt;
