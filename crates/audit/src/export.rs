//! All entries about one permit, or of one session, as a text that somebody else checks with the log's key and nothing of the log.
//!
//! ```text
//! sulku-export/1
//! permit <id>                              or: session <id>
//! entries <how many>
//!
//! <checkpoint, a signed note>
//!
//! <number> <entry, base64> <hash, base64>…     the inclusion proof, lowest sibling first; a line an entry
//! ```
//!
//! Holds nothing of other entries but hashes. Each entry is proven against the one checkpoint; that none is missing between two shows
//! in their counters, from 0 on, and that none is missing at the end in the number at the beginning, which is the exporter's word:
//! the log alone can show that nothing more is about the permit. Does no input or output.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sulku_permit::{PermitId, SessionId};

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::entry::{ENTRY_BYTES_HARD_MAX, Entry, EntryError};
use crate::merkle::{Hash, Included, MerkleError, leaf_hash, verify_inclusion};
use crate::note::NOTE_BYTES_MAX;
use crate::policy::Trust;

const HEADER: &str = "sulku-export/1\n";
/// A tree of 2^64 entries is 64 levels high.
const HASHES_MAX: usize = 64;
/// The longest head: three short lines and a note.
pub const HEAD_BYTES_MAX: usize = NOTE_BYTES_MAX + 256;
/// The longest line of an entry: its number, the entry in base 64, the hashes.
pub const LINE_BYTES_MAX: usize = 24 + ENTRY_BYTES_HARD_MAX.div_ceil(3) * 4 + HASHES_MAX * 45;

/// What an export is all of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The entries about a permit.
    Permit(PermitId),
    /// The entries of a session.
    Session(SessionId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit(permit) => write!(f, "permit {permit}"),
            Self::Session(session) => write!(f, "session {session}"),
        }
    }
}

impl Subject {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("permit", id) => id.parse().ok().map(Self::Permit),
            ("session", id) => id.parse().ok().map(Self::Session),
            _ => None,
        }
    }

    /// The entry's count among those of the subject; `None` if it is none of them.
    #[must_use]
    pub fn count_of(&self, entry: &Entry) -> Option<u64> {
        match self {
            Self::Permit(permit) => entry.stamp.permit_seq.filter(|_| entry.permit.as_ref() == Some(permit)),
            Self::Session(session) => entry.stamp.session_seq.filter(|_| entry.session == Some(*session)),
        }
    }
}

/// An export that does not show what it should.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Its beginning is not of the form.
    #[error("not an export: sulku-export/1, what it is of, how many entries, a blank line, a checkpoint, a blank line")]
    Head,
    /// The checkpoint can't be trusted.
    #[error("the export's checkpoint can't be trusted")]
    Checkpoint(#[from] CheckpointError),
    /// A line is not of the form.
    #[error("line {0} of the entries is not number, entry and hashes")]
    Line(u64),
    /// The proof does not lead to the checkpoint.
    #[error("entry {index} is not proven")]
    Merkle {
        /// Its number.
        index: u64,
        /// Why.
        #[source]
        cause: MerkleError,
    },
    /// The bytes are no entry.
    #[error("entry {index}")]
    Entry {
        /// Its number.
        index: u64,
        /// Why.
        #[source]
        cause: EntryError,
    },
    /// An entry of something else.
    #[error("entry {index} is not of {subject}")]
    Foreign {
        /// Its number.
        index: u64,
        /// What the export is of.
        subject: Subject,
    },
    /// Something was left out.
    #[error("entry {index} counts {found} before it where the export has {expected}: entries are missing or out of order")]
    Gap {
        /// Its number.
        index: u64,
        /// Entries in the export before it.
        expected: u64,
        /// Entries that it says were before it.
        found: u64,
    },
    /// The end is missing, or there is more than there should be.
    #[error("the export has {found} entries, not the {expected} that its beginning says")]
    Count {
        /// What the beginning says.
        expected: u64,
        /// What is there.
        found: u64,
    },
}

/// An export's beginning.
#[must_use]
pub fn head(subject: &Subject, entries: u64, checkpoint: &str) -> String {
    format!("{HEADER}{subject}\nentries {entries}\n\n{checkpoint}\n")
}

/// An entry's line.
#[must_use]
pub fn line(index: u64, entry: &[u8], proof: &[Hash]) -> String {
    let hashes: String = proof.iter().map(|hash| format!(" {}", hash.to_base64())).collect();
    format!("{index} {}{hashes}\n", STANDARD.encode(entry))
}

/// An entry of an export that is in the log.
#[derive(Debug)]
#[must_use]
pub struct Exported {
    included: Included,
    entry: Entry,
    bytes: Vec<u8>,
}

impl Exported {
    /// Its number.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.included.index()
    }

    /// What it says.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its exact bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// An export that is being checked, line by line.
#[derive(Debug)]
pub struct Check {
    subject: Subject,
    entries: u64,
    checkpoint: Checkpoint,
    taken: u64,
}

/// An export that is whole, as far as it can show. Nothing but [`Check::finish`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Whole {
    /// What it is of.
    pub subject: Subject,
    /// How many entries.
    pub entries: u64,
    /// What they are proven against.
    pub checkpoint: Checkpoint,
}

impl Check {
    /// Reads the head, up to and with the blank line after the checkpoint.
    ///
    /// # Errors
    /// [`ExportError::Head`] or [`ExportError::Checkpoint`].
    pub fn begin(head: &str, trust: &Trust) -> Result<Self, ExportError> {
        let rest = head.strip_prefix(HEADER).ok_or(ExportError::Head)?;
        let (subject, rest) = rest.split_once('\n').ok_or(ExportError::Head)?;
        let (entries, rest) = rest.strip_prefix("entries ").and_then(|rest| rest.split_once("\n\n")).ok_or(ExportError::Head)?;
        let note = rest.strip_suffix('\n').filter(|note| note.ends_with('\n')).ok_or(ExportError::Head)?;
        let subject = Subject::parse(subject).ok_or(ExportError::Head)?;
        let count: u64 = entries.parse().map_err(|_| ExportError::Head)?;
        if count.to_string() != entries {
            return Err(ExportError::Head);
        }
        Ok(Self { subject, entries: count, checkpoint: Checkpoint::open(note.as_bytes(), trust)?, taken: 0 })
    }

    /// Checks the next line, without its line break.
    ///
    /// # Errors
    /// What is wrong with it, or was left out before it.
    pub fn take(&mut self, line: &str) -> Result<Exported, ExportError> {
        let form = || ExportError::Line(self.taken + 1);
        let mut parts = line.split(' ');
        let (Some(number), Some(entry)) = (parts.next(), parts.next()) else { return Err(form()) };
        let index: u64 = number.parse().map_err(|_| form())?;
        let bytes = STANDARD.decode(entry).map_err(|_| form())?;
        let proof: Vec<Hash> = parts.map(Hash::from_base64).collect::<Option<_>>().ok_or_else(form)?;
        if index.to_string() != number || proof.len() > HASHES_MAX {
            return Err(form());
        }
        let Checkpoint { size, root, .. } = &self.checkpoint;
        let included = verify_inclusion(&leaf_hash(&bytes), index, *size, root, &proof).map_err(|cause| ExportError::Merkle { index, cause })?;
        let entry = Entry::parse(&bytes).map_err(|cause| ExportError::Entry { index, cause })?;
        let found = self.subject.count_of(&entry).ok_or_else(|| ExportError::Foreign { index, subject: self.subject.clone() })?;
        if found != self.taken {
            return Err(ExportError::Gap { index, expected: self.taken, found });
        }
        self.taken += 1;
        Ok(Exported { included, entry, bytes })
    }

    /// After the last line: whether all came that was announced.
    ///
    /// # Errors
    /// [`ExportError::Count`].
    pub fn finish(self) -> Result<Whole, ExportError> {
        let Self { subject, entries, checkpoint, taken } = self;
        if taken == entries { Ok(Whole { subject, entries, checkpoint }) } else { Err(ExportError::Count { expected: entries, found: taken }) }
    }
}
