//! C2SP tlog-witness: what a log asks of a witness, and how the witness decides.
//!
//! ```text
//! old <entries of the checkpoint that the witness cosigned last>
//! <hash, base64>            the consistency proof from there to the new checkpoint
//!
//! <the new checkpoint, a signed note>
//! ```
//!
//! Pure: who keeps the state and who carries the bytes is elsewhere. A decision to cosign ([`Advance`]) must be on the disk before
//! anybody hears of it, and no second one may be made from the same state.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cosign::{PublicKey, SecretKey};
use crate::merkle::{Hash, verify_consistency};
use crate::note::{NOTE_BYTES_MAX, Note};
use crate::policy::Trust;

/// The path of the request, after the service's prefix.
pub const ADD_CHECKPOINT: &str = "/add-checkpoint";
/// What the answer to a request with a wrong old size is called.
pub const SIZE_TYPE: &str = "text/x.tlog.size";
/// tlog-witness: more hashes no proof has.
const HASHES_MAX: usize = 63;
/// The longest request: a note, and the lines before it.
pub const REQUEST_BYTES_MAX: usize = NOTE_BYTES_MAX + 64 + 64 * HASHES_MAX;

/// A request that is not of the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an add-checkpoint request: {0}")]
pub struct Malformed(pub &'static str);

/// A request, of which nothing has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint<'r> {
    old: u64,
    proof: Vec<Hash>,
    note: &'r [u8],
    checkpoint: Checkpoint,
}

/// A request's bytes.
#[must_use]
pub fn encode(old: u64, proof: &[Hash], note: &str) -> String {
    let hashes: String = proof.iter().map(|hash| hash.to_base64() + "\n").collect();
    format!("old {old}\n{hashes}\n{note}")
}

impl<'r> AddCheckpoint<'r> {
    /// Reads a request.
    ///
    /// # Errors
    /// It is not of the form, or longer than any is.
    pub fn parse(body: &'r [u8]) -> Result<Self, Malformed> {
        if body.len() > REQUEST_BYTES_MAX {
            return Err(Malformed("it is longer than any is"));
        }
        let text = std::str::from_utf8(body).map_err(|_| Malformed("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(Malformed("it has no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(Malformed("its first line is not old and a number"))?;
        let size: u64 = old.parse().map_err(|_| Malformed("its first line is not old and a number"))?;
        if size.to_string() != old {
            return Err(Malformed("the old size has a sign or leading zeroes"));
        }
        let proof: Vec<Hash> = lines
            .take(HASHES_MAX + 1)
            .map(Hash::from_base64)
            .collect::<Option<_>>()
            .ok_or(Malformed("a line of the proof is not a hash in base64"))?;
        if proof.len() > HASHES_MAX {
            return Err(Malformed("the proof has more than 63 hashes"));
        }
        let parsed = Note::parse(note.as_bytes()).map_err(|_| Malformed("the checkpoint is not a signed note"))?;
        let checkpoint = Checkpoint::of_note(&parsed).map_err(|_| Malformed("the note's text is not a checkpoint"))?;
        Ok(Self { old: size, proof, note: note.as_bytes(), checkpoint })
    }

    /// The log that it claims to be of.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.checkpoint.origin
    }

    /// The checkpoint, as a note.
    #[must_use]
    pub const fn note(&self) -> &'r [u8] {
        self.note
    }
}

/// A checkpoint that may be cosigned, once it is on the disk. Nothing but [`decide`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Advance {
    checkpoint: Checkpoint,
    text: String,
    restored: Option<u64>,
}

impl Advance {
    /// What will be the last checkpoint cosigned.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What the request shows about the witness's own state: that it cosigned more entries once than it knows of.
    #[must_use]
    pub const fn restored(&self) -> Option<u64> {
        self.restored
    }

    /// The cosignature lines of these keys. For whoever has made the new state durable.
    #[must_use]
    pub fn cosign(&self, keys: &[SecretKey], time: u64) -> String {
        keys.iter().map(|key| key.sign_text(&self.text, &self.checkpoint, time)).collect()
    }
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No log of that name is known.
    #[error("no log of this origin is known here")]
    UnknownLog,
    /// It is not signed as the log signs.
    #[error("it is not signed by the log's keys: {0}")]
    Signature(CheckpointError),
    /// It is older than what it claims to continue.
    #[error("the old size is larger than the checkpoint's")]
    OldBeyondNew,
    /// The client does not know what was cosigned last.
    #[error("the checkpoint that was cosigned last has {0} entries")]
    Conflict(u64),
    /// The log has signed two trees of one size.
    #[error("another tree of {0} entries was cosigned already: the log has forked")]
    Fork(u64),
    /// The proof does not lead from the last checkpoint to this one.
    #[error("the consistency proof does not lead from the last checkpoint to this one")]
    Proof,
}

/// What a refusal is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// None: anybody can send this, and a log that lags behind does.
    None,
    /// The log has signed something that does not follow from the last checkpoint, or the client made a bad proof.
    Suspicion,
    /// The log has signed two histories.
    Fork,
}

impl Refusal {
    /// The status of HTTP that the specification gives it.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::UnknownLog => 404,
            Self::Signature(_) => 403,
            Self::OldBeyondNew => 400,
            Self::Conflict(_) | Self::Fork(_) => 409,
            Self::Proof => 422,
        }
    }

    /// What it is worth.
    #[must_use]
    pub const fn evidence(&self) -> Evidence {
        match self {
            Self::Fork(_) => Evidence::Fork,
            Self::Proof => Evidence::Suspicion,
            _ => Evidence::None,
        }
    }
}

/// Decides on a request. `trusted` holds each way in which the log may have signed (two while its key is being replaced), `known` is
/// the checkpoint that was cosigned last, `own` are the witness's keys.
///
/// # Errors
/// Why it is not cosigned.
pub fn decide(request: &AddCheckpoint<'_>, trusted: &[Trust], known: Option<&Checkpoint>, own: &[PublicKey]) -> Result<Advance, Refusal> {
    let mut outcome = Err(Refusal::UnknownLog);
    for trust in trusted.iter().filter(|trust| trust.origin() == request.origin()) {
        outcome = trust.open(request.note).map_err(Refusal::Signature);
        if outcome.is_ok() {
            break;
        }
    }
    let checkpoint = outcome?.checkpoint;
    if request.old > checkpoint.size {
        return Err(Refusal::OldBeyondNew);
    }
    let (size, root) = known.map_or_else(|| (0, crate::merkle::empty_root()), |known| (known.size, known.root));
    // Whatever the client says about the old size: two trees of one size, both signed, are a fork.
    if known.is_some() && checkpoint.size == size && checkpoint.root != root {
        return Err(Refusal::Fork(size));
    }
    if request.old != size {
        return Err(Refusal::Conflict(size));
    }
    if verify_consistency(size, &root, checkpoint.size, &checkpoint.root, &request.proof).is_err() {
        return Err(Refusal::Proof);
    }
    let note = Note::parse(request.note).map_err(|error| Refusal::Signature(error.into()))?;
    let cosigned_before = own.iter().any(|key| key.find(&note, &checkpoint).is_ok());
    let restored = (cosigned_before && checkpoint.size > size).then_some(checkpoint.size);
    Ok(Advance { text: note.text().to_owned(), checkpoint, restored })
}
