//! C2SP signed-note: a text, a blank line, and signature lines; and Ed25519's keys over such texts.
//!
//! ```text
//! signature line   — <name> <base64 of 4 bytes key hash, signature>
//! ```
//!
//! Keys' texts are in [`crate::key`]; signatures of other types than Ed25519, which are over checkpoints alone, in [`crate::cosign`].
//! Which signatures a note must carry, [`crate::policy`] says.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

pub use crate::key::KeyError;
use crate::key::{self, Algorithm, Decoded, KeyHash, PRIVATE};

/// More signatures than any note of ours carries; a note beyond it is an attempt to keep us busy.
const SIGNATURES_MAX: usize = 100;
/// The longest note that is looked at: a signature of ML-DSA-44 is 3.3 KB of text, and a checkpoint may carry a dozen.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// What a signature line begins with.
const DASH: &str = "\u{2014} ";

/// A note that can't be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form.
    #[error("not a signed note: a text, a blank line, and lines of signatures")]
    Form,
    /// None of the signatures is by the key.
    #[error("no signature by the key that is trusted")]
    Unsigned,
    /// A signature that claims to be by the key is not.
    #[error("the signature does not match")]
    Signature,
}

/// A note in its parts. Nothing about it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'n> {
    text: &'n str,
    lines: Vec<SignatureLine<'n>>,
}

/// A signature line in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine<'n> {
    /// The line as it is, without its newline.
    pub line: &'n str,
    /// The key's name.
    pub name: &'n str,
    /// The key's hash.
    pub hash: KeyHash,
    /// The signature's bytes.
    pub signature: Vec<u8>,
}

impl<'n> Note<'n> {
    /// Takes a note apart.
    ///
    /// # Errors
    /// [`NoteError::Form`].
    pub fn parse(note: &'n [u8]) -> Result<Self, NoteError> {
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Form)?;
        if note.len() > NOTE_BYTES_MAX || note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Form);
        }
        let (text, signatures) = note.rfind("\n\n").and_then(|at| Some((note.get(..=at)?, note.get(at + 2..)?))).ok_or(NoteError::Form)?;
        Ok(Self { text, lines: parse_lines(signatures)? })
    }

    /// The text that is signed, its last newline included.
    #[must_use]
    pub const fn text(&self) -> &'n str {
        self.text
    }

    /// The signature lines, in their order.
    #[must_use]
    pub fn lines(&self) -> &[SignatureLine<'n>] {
        &self.lines
    }

    /// The signatures that this name and hash claim.
    pub(crate) fn by(&self, name: &str, hash: KeyHash) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().filter(move |line| line.name == name && line.hash == hash).map(|line| line.signature.as_slice())
    }
}

/// Takes signature lines apart, each ended by a newline; at least one.
///
/// # Errors
/// [`NoteError::Form`].
pub fn parse_lines(text: &str) -> Result<Vec<SignatureLine<'_>>, NoteError> {
    let lines: Vec<&str> = text.strip_suffix('\n').ok_or(NoteError::Form)?.split('\n').take(SIGNATURES_MAX + 1).collect();
    if lines.len() > SIGNATURES_MAX {
        return Err(NoteError::Form);
    }
    let parse = |line| {
        let (name, encoded) = Option::and_then(str::strip_prefix(line, DASH), |rest| rest.split_once(' ')).ok_or(NoteError::Form)?;
        let decoded = STANDARD.decode(encoded).map_err(|_| NoteError::Form)?;
        let (hash, signature) = decoded.split_first_chunk::<4>().ok_or(NoteError::Form)?;
        Ok(SignatureLine { line, name, hash: *hash, signature: signature.to_vec() })
    };
    lines.into_iter().map(parse).collect()
}

/// A signature line with its newline.
pub(crate) fn signature_line(name: &str, hash: KeyHash, signature: &[u8]) -> String {
    format!("{DASH}{name} {}\n", STANDARD.encode([&hash, signature].concat()))
}

/// The private half of an Ed25519 key: signs notes and receipts. Wiped when dropped.
pub struct Signer {
    name: String,
    hash: KeyHash,
    key: SigningKey,
}

impl Signer {
    /// The key of that name made of 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let name = key::parse_name(name)?;
        Ok(Self { hash: key_hash(&name, &key.verifying_key()), name, key })
    }

    /// Its name, which is the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        Verifier { name: self.name.clone(), hash: self.hash, key: self.key.verifying_key() }
    }

    /// The private key as text.
    #[must_use]
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let text = key::encode(&self.name, self.hash, Algorithm::Ed25519, self.key.as_bytes());
        Zeroizing::new([PRIVATE, &text].concat())
    }

    /// The signed note of this text, which ends with a newline.
    #[must_use]
    pub fn sign_note(&self, text: &str) -> String {
        format!("{text}\n{}", self.sign_line(text))
    }

    /// The signature line for a note of this text.
    #[must_use]
    pub fn sign_line(&self, text: &str) -> String {
        signature_line(&self.name, self.hash, &self.sign(text.as_bytes()).to_bytes())
    }

    /// The bare signature over bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        self.key.sign(message)
    }
}

impl FromStr for Signer {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Decoded { name, hash, algorithm, key } = key::decode_private(text)?;
        let seed = Zeroizing::new(ed25519_bytes(algorithm, &key)?);
        let signer = Self::from_seed(name, &seed)?;
        if signer.hash == hash { Ok(signer) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.name)
    }
}

/// The public half of an Ed25519 key: opens notes.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    hash: KeyHash,
    key: VerifyingKey,
}

impl Verifier {
    /// Its name, which is the log's origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bare key.
    #[must_use]
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The text of a note that this key has signed. Signatures by others are ignored; a wrong one in this key's name spoils all.
    ///
    /// # Errors
    /// Not a note, or not signed by this key.
    pub fn open<'n>(&self, note: &'n [u8]) -> Result<&'n str, NoteError> {
        let note = Note::parse(note)?;
        let mut outcome = Err(NoteError::Unsigned);
        for signature in note.by(&self.name, self.hash) {
            let signature = Signature::from_slice(signature).map_err(|_| NoteError::Signature)?;
            self.key.verify_strict(note.text().as_bytes(), &signature).map_err(|_| NoteError::Signature)?;
            outcome = Ok(note.text());
        }
        outcome
    }
}

impl FromStr for Verifier {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Decoded { name, hash, algorithm, key } = key::decode_public(text)?;
        let key = VerifyingKey::from_bytes(&ed25519_bytes(algorithm, &key)?).map_err(|_| KeyError::Form)?;
        let name = key::parse_name(name)?;
        if key_hash(&name, &key) == hash { Ok(Self { name, hash, key }) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key::encode(&self.name, self.hash, Algorithm::Ed25519, self.key.as_bytes()))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({self})")
    }
}

fn key_hash(name: &str, key: &VerifyingKey) -> KeyHash {
    key::key_hash(name, Algorithm::Ed25519, key.as_bytes())
}

fn ed25519_bytes(algorithm: Algorithm, key: &[u8]) -> Result<[u8; 32], KeyError> {
    match algorithm {
        Algorithm::Ed25519 => key.try_into().map_err(|_| KeyError::Form),
        other => Err(KeyError::Algorithm(other.byte())),
    }
}
