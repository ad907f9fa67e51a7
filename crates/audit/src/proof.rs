//! C2SP tlog-proof: one entry's evidence as a text that is checked offline, with the entry's bytes and the log's key.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index <entry's number>
//! <hash, base64>            the inclusion proof, lowest sibling first
//!
//! <checkpoint, a signed note>
//! ```
//!
//! Carries no entry and nothing of its neighbours but hashes. Writes no extra data, and ignores it in the proofs of others, since no
//! signature covers it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::entry::{Entry, EntryError};
use crate::merkle::{Hash, Included, MerkleError, inclusion_proof, leaf_hash, verify_inclusion};
use crate::policy::Trust;
use crate::source::{ReadError, Source, TileNodes, read_bundle, read_checkpoint_over};
use crate::tile::{TILE_WIDTH, Tile, TileKind, split_entry};

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// A tree of 2^64 entries is 64 levels high.
const HASHES_MAX: usize = 64;

/// An inclusion proof with the checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryProof {
    index: u64,
    hashes: Vec<Hash>,
    checkpoint: String,
}

/// A proof that proves nothing, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// Not of the form.
    #[error("not a C2SP tlog-proof")]
    Form,
    /// The checkpoint can't be trusted.
    #[error("the proof's checkpoint can't be trusted")]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead from the entry to the checkpoint.
    #[error("the proof does not lead from the entry to the checkpoint")]
    Merkle(#[from] MerkleError),
    /// The log could not be read.
    #[error("the log could not be read")]
    Read(#[from] ReadError),
    /// There is no such entry yet.
    #[error("there is no entry {index}; the log has {size} entries so far, numbered from 0")]
    NoSuchEntry {
        /// The number that was asked for.
        index: u64,
        /// Entries that the checkpoint covers.
        size: u64,
    },
    /// The bytes are no entry.
    #[error("the proven bytes can't be read")]
    Entry(#[from] EntryError),
}

impl EntryProof {
    /// Makes the proof for an entry of a log, and gives the entry's bytes with it. Both are checked before they are given.
    ///
    /// # Errors
    /// There is no such entry, or the log is damaged where it had to be read.
    pub fn make<S: Source + ?Sized>(source: &mut S, trust: &Trust, index: u64) -> Result<(Self, Vec<u8>), ProofError> {
        let (note, checkpoint) = read_checkpoint_over(source, trust, index)?;
        let size = checkpoint.size;
        let bundle = Tile::in_tree(TileKind::Entries, index / TILE_WIDTH, size).filter(|_| index < size);
        let bundle = read_bundle(source, bundle.ok_or(ProofError::NoSuchEntry { index, size })?)?;
        let cut_short = || ReadError::Damaged(format!("the bundle of entry {index}"), "it ends too soon");
        let mut rest = bundle.as_slice();
        for _ in 0..index % TILE_WIDTH {
            rest = split_entry(rest).ok_or_else(cut_short)?.1;
        }
        let entry = split_entry(rest).ok_or_else(cut_short)?.0;
        let hashes = inclusion_proof(&mut TileNodes::new(source, size), index, size)?;
        let proof = Self { index, hashes, checkpoint: String::from_utf8_lossy(&note).into_owned() };
        let _: Proven = proof.verify(entry, trust)?;
        Ok((proof, entry.to_vec()))
    }

    /// The proof's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let hashes: String = self.hashes.iter().map(|hash| hash.to_base64() + "\n").collect();
        format!("{HEADER}index {}\n{hashes}\n{}", self.index, self.checkpoint)
    }

    /// Reads a proof's text. It proves nothing yet.
    ///
    /// # Errors
    /// [`ProofError::Form`].
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let (head, checkpoint) = text.strip_prefix(HEADER).and_then(|rest| rest.split_once("\n\n")).ok_or(ProofError::Form)?;
        let mut lines = head.split('\n').peekable();
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            STANDARD.decode(extra).map_err(|_| ProofError::Form)?;
            lines.next();
        }
        let number = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(ProofError::Form)?;
        let index: u64 = number.parse().map_err(|_| ProofError::Form)?;
        let hashes: Option<Vec<Hash>> = lines.map(Hash::from_base64).collect();
        match hashes {
            Some(hashes) if index.to_string() == number && hashes.len() <= HASHES_MAX => {
                Ok(Self { index, hashes, checkpoint: checkpoint.to_owned() })
            }
            _ => Err(ProofError::Form),
        }
    }

    /// Checks that this entry is in the log of this key.
    ///
    /// # Errors
    /// It is not, or the proof does not show it.
    pub fn verify(&self, entry: &[u8], trust: &Trust) -> Result<Proven, ProofError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), trust)?;
        let included = verify_inclusion(&leaf_hash(entry), self.index, checkpoint.size, &checkpoint.root, &self.hashes)?;
        Ok(Proven { entry: Entry::parse(entry)?, included, checkpoint })
    }
}

/// An entry that is in the log of a key. Nothing but [`EntryProof::verify`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Proven {
    entry: Entry,
    included: Included,
    checkpoint: Checkpoint,
}

impl Proven {
    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Its number.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.included.index()
    }

    /// The checkpoint that covers it.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}
