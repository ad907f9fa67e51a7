//! The ledger from outside: through its socket, its folder, and the way its process ends.
//!
//! Needs root, for peers of several user ids and for a small file system to fill. Without root these tests fail and say so.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod disk;
mod durability;
mod keys;
mod peers;
mod recordings;
mod recovery;
mod rotation;
mod settings;
mod support;
mod witnesses;
