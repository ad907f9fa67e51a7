//! Keys as text, the way Go's `sumdb/note` and C2SP signed-note write them: names, key hashes and types of signatures.
//!
//! ```text
//! public key    <name>+<key hash, 8 hexadecimal digits>+<base64 of the type's byte and the key>
//! private key   PRIVATE+KEY+<name>+<key hash>+<base64 of the type's byte and 32 bytes seed>
//! ```
//!
//! The key hash is the first four bytes of SHA-256 over name, newline, the type's byte and the public key. Signs and verifies nothing
//! itself, and makes no keys: seeds are given. What held a secret here is wiped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::merkle::sha256;

/// The longest key name: it is a line of every checkpoint, and cosignatures give its length in one byte.
pub const NAME_BYTES_MAX: usize = 255;
/// What a private key's text begins with.
pub const PRIVATE: &str = "PRIVATE+KEY+";

/// What a key signs and how, by the number that C2SP signed-note assigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519 over the note's text.
    Ed25519 = 0x01,
    /// Ed25519 over a time and a checkpoint's text (tlog-cosignature).
    Ed25519Cosignature = 0x04,
    /// ML-DSA-44 over signer, time and tree head (tlog-cosignature). A log signs its own checkpoints with it, too.
    MlDsa44 = 0x06,
}

impl Algorithm {
    /// Its byte in keys and key hashes.
    #[must_use]
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::Ed25519Cosignature => "Ed25519 cosignature",
            Self::MlDsa44 => "ML-DSA-44",
        }
    }

    const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            0x01 => Some(Self::Ed25519),
            0x04 => Some(Self::Ed25519Cosignature),
            0x06 => Some(Self::MlDsa44),
            _ => None,
        }
    }
}

/// A text that is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form.
    #[error("the key is not of the form name+hash+base64, in one line")]
    Form,
    /// The name can't be a key's name.
    #[error("a key's name is 1 to {NAME_BYTES_MAX} bytes without spaces, control characters and '+'")]
    Name,
    /// An algorithm that is not known here, or not what is wanted here.
    #[error("the key's type {0:#04x} is none of those used here: 0x01 Ed25519, 0x04 Ed25519 cosignature, 0x06 ML-DSA-44, each in its place")]
    Algorithm(u8),
    /// The hash in the text is not the key's.
    #[error("the key's hash is not that of the key; the text is damaged")]
    Hash,
    /// A private key where a public one belongs.
    #[error("this is a private key; give the public one, and keep this one from others")]
    Private,
}

/// The first bytes of a hash over name, type and key: which key a signature line is about.
pub type KeyHash = [u8; 4];

/// The name, if it can be a key's.
pub(crate) fn parse_name(name: &str) -> Result<String, KeyError> {
    let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '+';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(fits) { Ok(name.to_owned()) } else { Err(KeyError::Name) }
}

pub(crate) fn key_hash(name: &str, algorithm: Algorithm, key: &[u8]) -> KeyHash {
    let [a, b, c, d, ..] = *sha256(&[name.as_bytes(), b"\n", &[algorithm.byte()], key]).as_bytes();
    [a, b, c, d]
}

/// A key as it is named to people: `name+hash`.
pub(crate) fn short(name: &str, hash: KeyHash) -> String {
    format!("{name}+{:08x}", u32::from_be_bytes(hash))
}

pub(crate) fn encode(name: &str, hash: KeyHash, algorithm: Algorithm, key: &[u8]) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 + key.len()));
    bytes.push(algorithm.byte());
    bytes.extend_from_slice(key);
    let encoded = Zeroizing::new(STANDARD.encode(&*bytes));
    Zeroizing::new(format!("{}+{}", short(name, hash), *encoded))
}

/// A key's text in its parts.
pub(crate) struct Decoded<'t> {
    pub(crate) name: &'t str,
    pub(crate) hash: KeyHash,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: Zeroizing<Vec<u8>>,
}

pub(crate) fn decode_public(text: &str) -> Result<Decoded<'_>, KeyError> {
    if text.starts_with(PRIVATE) { Err(KeyError::Private) } else { decode(text) }
}

pub(crate) fn decode_private(text: &str) -> Result<Decoded<'_>, KeyError> {
    decode(text.strip_prefix(PRIVATE).ok_or(KeyError::Form)?)
}

fn decode(text: &str) -> Result<Decoded<'_>, KeyError> {
    let mut parts = text.trim_end_matches('\n').splitn(3, '+');
    let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(KeyError::Form);
    };
    let well_formed = hash.len() == 8 && hash.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    let hash = u32::from_str_radix(hash, 16).ok().filter(|_| well_formed).ok_or(KeyError::Form)?;
    let bytes = Zeroizing::new(STANDARD.decode(key).map_err(|_| KeyError::Form)?);
    let (byte, key) = bytes.split_first().ok_or(KeyError::Form)?;
    let algorithm = Algorithm::of_byte(*byte).ok_or(KeyError::Algorithm(*byte))?;
    Ok(Decoded { name, hash: hash.to_be_bytes(), algorithm, key: Zeroizing::new(key.to_vec()) })
}
