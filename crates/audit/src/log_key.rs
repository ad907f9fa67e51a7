//! A log's keys: what signs its checkpoints and receipts, and what verifies them.
//!
//! A log has a pair under one name: Ed25519, which every tool of this kind can check, and ML-DSA-44, whose signatures keep their worth
//! when somebody has a quantum computer. Checkpoints carry both; receipts, of which there are many and which live for seconds, only
//! Ed25519's. While a key is being replaced, the old pair and the new one sign side by side.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::checkpoint::Checkpoint;
use crate::cosign::{PublicKey, SecretKey};
use crate::key::{Algorithm, KeyError};
use crate::note::{Signer, Verifier};

/// A public file holds a pair, or two while a key is being replaced; more is a mistake.
const KEYS_MAX: usize = 8;

/// A text that is not a log's keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogKeyError {
    /// A line is no key.
    #[error("line {line}: {cause}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// Why.
        cause: KeyError,
    },
    /// A key of another log among them.
    #[error("line {line}: the key is of {found:?}, the first one of {expected:?}; a file holds the keys of one log")]
    Origins {
        /// The line, from 1.
        line: usize,
        /// Whose key it is.
        found: String,
        /// Whose the first one is.
        expected: String,
    },
    /// The same key twice.
    #[error("line {0}: the same key again")]
    Twice(usize),
    /// None at all, or too many.
    #[error("it holds {0} keys; a log has a pair of them, Ed25519 and ML-DSA-44, each in a line of its own")]
    Count(usize),
    /// Not a pair.
    #[error("it does not hold an Ed25519 key and an ML-DSA-44 key; make a pair with `sulku audit keygen`")]
    Pair,
}

/// The public keys of one log, all of which must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeys {
    /// Never empty, all of one name.
    keys: Vec<PublicKey>,
}

impl LogKeys {
    /// The keys of one log.
    ///
    /// # Errors
    /// They are none, too many, of several logs, or of a type that signs no log.
    pub fn new(keys: Vec<PublicKey>) -> Result<Self, LogKeyError> {
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(LogKeyError::Count(keys.len()));
        }
        for (at, key) in keys.iter().enumerate() {
            if key.algorithm() == Algorithm::Ed25519Cosignature {
                return Err(LogKeyError::Line { line: at + 1, cause: KeyError::Algorithm(key.algorithm().byte()) });
            }
            if key.name() != keys[0].name() {
                return Err(LogKeyError::Origins { line: at + 1, found: key.name().to_owned(), expected: keys[0].name().to_owned() });
            }
            if keys[..at].contains(key) {
                return Err(LogKeyError::Twice(at + 1));
            }
        }
        Ok(Self { keys })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.keys[0].name()
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Those that verify receipts.
    #[must_use]
    pub fn verifiers(&self) -> Vec<Verifier> {
        self.keys.iter().filter_map(|key| key.to_string().parse().ok()).collect()
    }
}

impl FromStr for LogKeys {
    type Err = LogKeyError;
    fn from_str(text: &str) -> Result<Self, LogKeyError> {
        let parse = |(at, line): (usize, &str)| line.parse().map_err(|cause| LogKeyError::Line { line: at + 1, cause });
        Self::new(text.trim_end().split('\n').enumerate().take(KEYS_MAX + 1).map(parse).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for LogKeys {
    /// One key a line, each with its newline: the public file's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.keys.iter().try_for_each(|key| writeln!(f, "{key}"))
    }
}

impl From<Verifier> for LogKeys {
    fn from(verifier: Verifier) -> Self {
        Self { keys: vec![PublicKey::from(&verifier)] }
    }
}

/// A log's private pair. Wiped when dropped.
pub struct LogSigner {
    receipts: Signer,
    post_quantum: SecretKey,
    previous: Option<Box<LogSigner>>,
}

impl LogSigner {
    /// The pair of that name made of 32 random bytes each.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seeds(origin: &str, ed25519: &[u8; 32], ml_dsa_44: &[u8; 32]) -> Result<Self, KeyError> {
        let receipts = Signer::from_seed(origin, ed25519)?;
        Ok(Self { receipts, post_quantum: SecretKey::from_seed(origin, Algorithm::MlDsa44, ml_dsa_44)?, previous: None })
    }

    /// The same, with the pair that it replaces, which signs checkpoints beside it.
    ///
    /// # Errors
    /// It is another log's, or the same pair.
    pub fn replacing(self, previous: Self) -> Result<Self, LogKeyError> {
        let mut keys = self.own_keys().keys;
        keys.extend(previous.own_keys().keys);
        LogKeys::new(keys)?;
        Ok(Self { previous: Some(Box::new(previous)), ..self })
    }

    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.receipts.name()
    }

    /// What signs receipts.
    #[must_use]
    pub const fn receipts(&self) -> &Signer {
        &self.receipts
    }

    /// The pair that this one replaces.
    #[must_use]
    pub fn previous(&self) -> Option<&Self> {
        self.previous.as_deref()
    }

    /// The pair's public half, without the previous pair's.
    #[must_use]
    pub fn own_keys(&self) -> LogKeys {
        LogKeys { keys: vec![PublicKey::from(&self.receipts.verifier()), self.post_quantum.public().clone()] }
    }

    /// A checkpoint as a note, signed by each of its keys.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint, time: u64) -> String {
        let mut note = format!("{}\n", checkpoint.text());
        let mut pair = Some(self);
        while let Some(LogSigner { receipts, post_quantum, previous }) = pair {
            note += &receipts.sign_line(&checkpoint.text());
            note += &post_quantum.sign(checkpoint, time);
            pair = previous.as_deref();
        }
        note
    }

    /// The bare signatures of this pair alone over bytes that are no checkpoint: Ed25519's, ML-DSA-44's.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> [Vec<u8>; 2] {
        [self.receipts.sign(message).to_bytes().to_vec(), self.post_quantum.sign_bytes(message)]
    }

    /// The private file's text: a line for each key.
    #[must_use]
    pub fn to_private_text(&self) -> Zeroizing<String> {
        Zeroizing::new([self.receipts.to_private_text().as_str(), "\n", &self.post_quantum.to_private_text(), "\n"].concat())
    }
}

impl FromStr for LogSigner {
    type Err = LogKeyError;
    fn from_str(text: &str) -> Result<Self, LogKeyError> {
        let (receipts, post_quantum) = text.trim_end().split_once('\n').ok_or(LogKeyError::Pair)?;
        let receipts: Signer = receipts.parse().map_err(|cause| LogKeyError::Line { line: 1, cause })?;
        let post_quantum: SecretKey = post_quantum.parse().map_err(|cause| LogKeyError::Line { line: 2, cause })?;
        if post_quantum.public().algorithm() != Algorithm::MlDsa44 {
            return Err(LogKeyError::Pair);
        }
        LogKeys::new(vec![PublicKey::from(&receipts.verifier()), post_quantum.public().clone()])?;
        Ok(Self { receipts, post_quantum, previous: None })
    }
}

impl fmt::Debug for LogSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogSigner({})", self.origin())
    }
}
