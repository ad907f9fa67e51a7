//! C2SP tlog-checkpoint: a log's name, size and root as a signed note.
//!
//! ```text
//! <origin>
//! <entries, decimal>
//! <root, base64>
//!
//! — <origin> <signature>
//! ```
//!
//! Says nothing about earlier checkpoints; that one continues another takes a consistency proof ([`crate::merkle`]).

use crate::key::NAME_BYTES_MAX;
use crate::merkle::Hash;
use crate::note::{Note, NoteError};
use crate::policy::Trust;

/// A log's state: its first `size` entries have this root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
}

/// A checkpoint that can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note around it.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A key that must have signed it has not.
    #[error("the checkpoint carries no signature by {key}, but by {by}; if the log's key was changed, `sulku audit keys` follows the change")]
    Unsigned {
        /// The key's name and hash.
        key: String,
        /// Who has signed.
        by: String,
    },
    /// A signature in the name of a key that is trusted is not that key's.
    #[error("the signature in the name of {0} does not match")]
    Signature(String),
    /// No log of the policy has signed it.
    #[error("no log that the policy names has signed it; it carries signatures by {0}")]
    Log(String),
    /// Too few witnesses have cosigned it.
    #[error("the policy's quorum is not reached: {0}")]
    Quorum(String),
    /// The text is not origin, size, root.
    #[error("the signed text is not a checkpoint: origin, size, root, each a line")]
    Form,
    /// It is of another log.
    #[error("the checkpoint is of the log {found:?}, not of {expected:?}")]
    Origin {
        /// The log that was asked for.
        expected: String,
        /// The log that it names.
        found: String,
    },
}

impl Checkpoint {
    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64())
    }

    /// Reads the text; lines after the third are extensions and are ignored, as the specification asks.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let checkpoint = Self { origin: origin.to_owned(), size: size.parse().ok()?, root: Hash::from_base64(root)? };
        // `parse` is laxer than the specification: it takes leading zeroes and a sign.
        // A longer origin than a key's name can be fits no cosignature.
        let well_formed = (1..=NAME_BYTES_MAX).contains(&origin.len()) && checkpoint.size.to_string() == size && lines.all(|line| !line.is_empty());
        if well_formed { Some(checkpoint) } else { None }
    }

    /// The checkpoint in a note, if it carries the signatures that `trust` demands.
    ///
    /// # Errors
    /// The note is malformed, lacks a signature, carries a wrong one by a key that is trusted, or is of another log.
    pub fn open(note: &[u8], trust: &Trust) -> Result<Self, CheckpointError> {
        Ok(trust.open(note)?.checkpoint)
    }

    /// The checkpoint in a note that nobody has verified yet.
    ///
    /// # Errors
    /// The note or its text is malformed.
    pub fn of_note(note: &Note<'_>) -> Result<Self, CheckpointError> {
        Self::parse(note.text()).ok_or(CheckpointError::Form)
    }
}
