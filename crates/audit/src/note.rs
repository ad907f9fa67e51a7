//! C2SP signed-note with Ed25519: a text, a blank line, and signature lines; keys as Go's `sumdb/note` writes them.
//!
//! ```text
//! signature line   — <name> <base64 of 4 bytes key hash, 64 bytes signature>
//! public key       <name>+<key hash, 8 hexadecimal digits>+<base64 of 0x01, 32 bytes>
//! private key      PRIVATE+KEY+<name>+<key hash>+<base64 of 0x01, 32 bytes seed>
//! ```
//!
//! The key hash is the first four bytes of SHA-256 over name, newline, 0x01 and the public key. Makes no keys: seeds are given.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::merkle::sha256;

/// Ed25519, in the specification's numbering.
const ALGORITHM: u8 = 0x01;
/// The longest key name: it is a line of every checkpoint and receipt.
const NAME_BYTES_MAX: usize = 255;
/// More signatures than any note of ours carries; a note beyond it is an attempt to keep us busy.
const SIGNATURES_MAX: usize = 100;
/// The longest note that is looked at.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
const PRIVATE: &str = "PRIVATE+KEY+";

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form.
    #[error("the key is not of the form name+hash+base64, in one line")]
    Form,
    /// The name can't be a key's name.
    #[error("a key's name is 1 to {NAME_BYTES_MAX} bytes without spaces, control characters and '+'")]
    Name,
    /// Another algorithm than Ed25519.
    #[error("the key is not an Ed25519 key (type 0x01)")]
    Algorithm,
    /// The hash in the text is not the key's.
    #[error("the key's hash is not that of the key; the text is damaged")]
    Hash,
}

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

/// The private half: signs notes and receipts.
pub struct Signer {
    name: String,
    hash: [u8; 4],
    key: SigningKey,
}

impl Signer {
    /// The key of that name made of 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let key = SigningKey::from_bytes(seed);
        let name = parse_name(name)?;
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

    /// The private key as text. The caller keeps it secret and wipes it.
    #[must_use]
    pub fn to_private_text(&self) -> String {
        format!("{PRIVATE}{}", encode_key(&self.name, self.hash, self.key.as_bytes()))
    }

    /// The signed note of this text, which ends with a newline.
    #[must_use]
    pub fn sign_note(&self, text: &str) -> String {
        let mut signature = self.hash.to_vec();
        signature.extend_from_slice(&self.sign(text.as_bytes()).to_bytes());
        format!("{text}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature))
    }

    /// The bare signature over bytes.
    pub(crate) fn sign(&self, message: &[u8]) -> Signature {
        self.key.sign(message)
    }
}

impl FromStr for Signer {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, hash, seed) = decode_key(text.strip_prefix(PRIVATE).ok_or(KeyError::Form)?)?;
        let signer = Self::from_seed(name, &seed)?;
        if signer.hash == hash { Ok(signer) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.name)
    }
}

/// The public half: opens notes.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    hash: [u8; 4],
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
        let note = std::str::from_utf8(note).map_err(|_| NoteError::Form)?;
        if note.len() > NOTE_BYTES_MAX || note.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Form);
        }
        let (text, signatures) = note.rfind("\n\n").and_then(|at| Some((note.get(..=at)?, note.get(at + 2..)?))).ok_or(NoteError::Form)?;
        let lines: Vec<&str> = signatures.strip_suffix('\n').ok_or(NoteError::Form)?.split('\n').collect();
        let mut outcome = Err(NoteError::Unsigned);
        if lines.len() > SIGNATURES_MAX {
            return Err(NoteError::Form);
        }
        for line in lines {
            let (name, encoded) = line.strip_prefix("\u{2014} ").and_then(|line| line.split_once(' ')).ok_or(NoteError::Form)?;
            let decoded = STANDARD.decode(encoded).map_err(|_| NoteError::Form)?;
            let (hash, signature) = decoded.split_first_chunk::<4>().ok_or(NoteError::Form)?;
            if name == self.name && *hash == self.hash {
                let signature = Signature::from_slice(signature).map_err(|_| NoteError::Signature)?;
                self.key.verify_strict(text.as_bytes(), &signature).map_err(|_| NoteError::Signature)?;
                outcome = Ok(text);
            }
        }
        outcome
    }
}

impl FromStr for Verifier {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, hash, key) = decode_key(text)?;
        let (name, key) = (parse_name(name)?, VerifyingKey::from_bytes(&key).map_err(|_| KeyError::Form)?);
        if key_hash(&name, &key) == hash { Ok(Self { name, hash, key }) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_key(&self.name, self.hash, self.key.as_bytes()))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verifier({self})")
    }
}

fn parse_name(name: &str) -> Result<String, KeyError> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(fits) { Ok(name.to_owned()) } else { Err(KeyError::Name) }
}

fn key_hash(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let [a, b, c, d, ..] = *sha256(&[name.as_bytes(), b"\n", &[ALGORITHM], key.as_bytes()]).as_bytes();
    [a, b, c, d]
}

fn encode_key(name: &str, hash: [u8; 4], key: &[u8; 32]) -> String {
    let mut bytes = vec![ALGORITHM];
    bytes.extend_from_slice(key);
    format!("{name}+{:08x}+{}", u32::from_be_bytes(hash), STANDARD.encode(bytes))
}

fn decode_key(text: &str) -> Result<(&str, [u8; 4], [u8; 32]), KeyError> {
    let mut parts = text.trim_end_matches('\n').splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::Form);
    };
    let well_formed = hash.len() == 8 && hash.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    let hash = u32::from_str_radix(hash, 16).ok().filter(|_| well_formed).ok_or(KeyError::Form)?;
    match STANDARD.decode(key).map_err(|_| KeyError::Form)?.split_first() {
        Some((&ALGORITHM, key)) => Ok((name, hash.to_be_bytes(), key.try_into().map_err(|_| KeyError::Form)?)),
        Some(_) => Err(KeyError::Algorithm),
        None => Err(KeyError::Form),
    }
}
