//! Recordings: what a session's terminal showed, as asciicast v3 lines, sealed into chunks that only auditors can open.
//!
//! ```text
//! lines ──zstd──▶ method byte ‖ bytes ──ChaCha20-Poly1305──▶ chunk ──SHA-256──▶ the entry recording.chunk
//! ```
//!
//! Each chunk is bound to its session, its number and the chunk before it, so that none can be left out, moved or taken from another
//! recording. The key is made for one session and wrapped for the auditors by whoever calls ([`SessionKey`]); this crate makes none,
//! reads no files, no clock and no randomness, and decides nothing about when a chunk is made.

pub mod cast;
pub mod key;
pub mod sealed;

pub use cast::{Began, Cast, Header, Line, LineError, Lines};
pub use key::SessionKey;
pub use sealed::{LINES_BYTES_MAX, OpenError, SealedChunk, Sealer, open, sha256};
