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

use crate::merkle::Hash;
use crate::note::{NoteError, Signer, Verifier};

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
        let well_formed = !origin.is_empty() && checkpoint.size.to_string() == size && lines.all(|line| !line.is_empty());
        if well_formed { Some(checkpoint) } else { None }
    }

    /// As a note signed by the log.
    #[must_use]
    pub fn sign(&self, signer: &Signer) -> String {
        signer.sign_note(&self.text())
    }

    /// The checkpoint in a note that this log's key has signed.
    ///
    /// # Errors
    /// The note is malformed, not signed by the key, or of another log.
    pub fn open(note: &[u8], key: &Verifier) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(key.open(note)?).ok_or(CheckpointError::Form)?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Origin { expected: key.name().to_owned(), found: checkpoint.origin })
        }
    }
}
