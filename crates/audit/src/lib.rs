//! The audit's language: events, their encoding as entries, the Merkle tree over them, proofs, checkpoints, verification.
//!
//! What the gateway, the warden and the ledger say to each other about entries is here ([`event`], [`wire`], [`receipt`]), and all
//! that an auditor needs to check a log without trusting who kept it ([`verify`], [`proof`]). The formats are those of
//! RFC 6962 and C2SP (tlog-tiles, tlog-checkpoint, signed-note, tlog-proof), so that tools which others wrote can check it too.
//!
//! This crate never reads files, sockets, the clock or randomness: bytes, times and salts are arguments.

pub mod checkpoint;
pub mod cosign;
pub mod counters;
mod ending;
pub mod entry;
pub mod event;
pub mod export;
pub mod key;
pub mod lanes;
pub mod log_key;
pub mod merkle;
pub mod note;
mod observed;
pub mod ocsf;
pub mod personal;
pub mod policy;
pub mod proof;
pub mod reading;
pub mod receipt;
pub mod rotation;
pub mod source;
pub mod tile;
pub mod verify;
pub mod wire;
pub mod witness;

pub use checkpoint::Checkpoint;
pub use cosign::{PublicKey, SecretKey};
pub use counters::{Counters, Part, Recorded};
pub use ending::CloseReason;
pub use entry::{Body, Entry, Stamp};
pub use event::{Draft, Event, Writer};
pub use log_key::{LogKeys, LogSigner};
pub use merkle::Hash;
pub use note::{Signer, Verifier};
pub use observed::{DriftOutcome, Observed, Process, ProgramEnd, WhyDenied};
pub use personal::{Keyring, PersonalKey, Private};
pub use policy::Trust;
pub use proof::EntryProof;
pub use receipt::{Adoption, Opening, Receipt, ReceiptError};
pub use source::{Source, SourceError};
pub use verify::{Fault, Recordings, Verified};
