//! A log's keys are replaced: the old pair's word about the new pair, and how a reader who knows only the old one follows it.
//!
//! ```text
//! sulku-key-rotation/1
//! <origin>
//! old <public key>      one line for each of the old keys, in their order
//! new <public key>      the same for the new ones
//! ```
//!
//! Each old key signs these lines, each ended by a newline; the entry `ledger.key-rotated` carries both lists and, in base 64, the
//! signatures one after the other: 64 bytes by Ed25519, 2,420 by ML-DSA-44. For some time both pairs sign each checkpoint, so readers
//! change when it suits them. The entry shows that the old key's keeper wanted the change; a key that was stolen wants what the thief
//! wants, which is why people compare the new key's hash by another way as well.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::cosign::PublicKey;
use crate::key::Algorithm;
use crate::log_key::{LogKeyError, LogKeys, LogSigner};

/// What `ledger.key-rotated` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The public keys that signed until then.
    pub old: Vec<String>,
    /// Those that sign from then on.
    pub new: Vec<String>,
    /// The old keys' signatures.
    pub signature: String,
}

/// A rotation that shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RotationError {
    /// Its keys can't be read.
    #[error("its keys can't be read")]
    Keys(#[from] LogKeyError),
    /// It is about another log.
    #[error("it is about the log {found:?}, not about {expected:?}")]
    Origin {
        /// The log that it is in.
        expected: String,
        /// The log that its keys name.
        found: String,
    },
    /// A signature is not the old key's.
    #[error("the signature of {0} does not match: whoever wrote it did not have that key")]
    Forged(String),
}

/// Where a reader's keys lead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Followed {
    /// Each change: the number of its entry, and the keys that sign from there on.
    pub changes: Vec<(u64, LogKeys)>,
    /// The keys that the last change, or none, leads to.
    pub keys: LogKeys,
}

impl Rotation {
    /// The old pair's word about the new one; `None` where no pair is being replaced.
    #[must_use]
    pub fn sign(signer: &LogSigner) -> Option<Self> {
        let previous = signer.previous()?;
        let (old, new) = (previous.own_keys(), signer.own_keys());
        let signature = STANDARD.encode(previous.sign_bytes(statement(&old, &new).as_bytes()).concat());
        Some(Self { old: lines(&old), new: lines(&new), signature })
    }

    /// The new keys, if the old ones are or include those that the reader trusts and have signed; `None` if it is about others.
    ///
    /// # Errors
    /// It can't be read, is another log's, or is not signed by the old keys.
    pub fn verify(&self, trusted: &LogKeys) -> Result<Option<LogKeys>, RotationError> {
        let (old, new): (LogKeys, LogKeys) = (self.old.join("\n").parse()?, self.new.join("\n").parse()?);
        if !trusted.keys().iter().all(|key| old.keys().contains(key)) {
            return Ok(None);
        }
        self.check(trusted.origin())?;
        Ok(Some(new))
    }

    /// Checks that the keys are this log's, and that the old ones have signed the change. Whether they were ever the log's this does not
    /// show: that takes a reader who knows them ([`Rotation::verify`]).
    ///
    /// # Errors
    /// As [`Rotation::verify`].
    pub fn check(&self, origin: &str) -> Result<(), RotationError> {
        let (old, new): (LogKeys, LogKeys) = (self.old.join("\n").parse()?, self.new.join("\n").parse()?);
        if let Some(found) = [&old, &new].into_iter().find(|keys| keys.origin() != origin) {
            return Err(RotationError::Origin { expected: origin.to_owned(), found: found.origin().to_owned() });
        }
        let statement = statement(&old, &new);
        let signatures = STANDARD.decode(&self.signature).unwrap_or_default();
        let mut rest = signatures.as_slice();
        for key in old.keys() {
            let forged = || RotationError::Forged(key.short());
            let (signature, after) = rest.split_at_checked(signature_bytes(key)).ok_or_else(forged)?;
            key.verify_bytes(statement.as_bytes(), signature).map_err(|_| forged())?;
            rest = after;
        }
        if rest.is_empty() { Ok(()) } else { Err(RotationError::Forged(old.keys()[0].short())) }
    }
}

/// Follows a log's rotations, in the order of their entries, from the keys that a reader trusts.
///
/// # Errors
/// The entry's number, and why it can't be believed.
pub fn follow<'r>(trusted: LogKeys, rotations: impl IntoIterator<Item = &'r (u64, Rotation)>) -> Result<Followed, (u64, RotationError)> {
    let mut followed = Followed { changes: Vec::new(), keys: trusted };
    for (index, rotation) in rotations {
        if let Some(new) = rotation.verify(&followed.keys).map_err(|error| (*index, error))? {
            // A ledger that crashes before it signs with the new pair says it again.
            if new != followed.keys {
                followed.changes.push((*index, new.clone()));
                followed.keys = new;
            }
        }
    }
    Ok(followed)
}

fn statement(old: &LogKeys, new: &LogKeys) -> String {
    let lines = |word: &str, keys: &LogKeys| keys.keys().iter().map(|key| format!("{word} {key}\n")).collect::<String>();
    format!("sulku-key-rotation/1\n{}\n{}{}", old.origin(), lines("old", old), lines("new", new))
}

fn lines(keys: &LogKeys) -> Vec<String> {
    keys.keys().iter().map(PublicKey::to_string).collect()
}

const fn signature_bytes(key: &PublicKey) -> usize {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ed25519Cosignature => 64,
        Algorithm::MlDsa44 => 2420,
    }
}
