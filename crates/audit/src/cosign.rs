//! Signatures over checkpoints, of every type that is used here (C2SP signed-note and tlog-cosignature): a log's own, a witness's, a
//! mirror's.
//!
//! ```text
//! type  signed                                                                                    after the key hash in the line
//! 0x01  the note's text                                                                           64 bytes
//! 0x04  "cosignature/v1\ntime <seconds>\n", then the note's text                                  u64 seconds, 64 bytes
//! 0x06  "subtree/v1\n\0", u8 length and signer's name, u64 seconds, u8 length and origin,
//!       u64 0, u64 size, 32 bytes root                                                            u64 seconds, 2,420 bytes
//! ```
//!
//! ML-DSA-44 is FIPS 204's pure form with an empty context, signed without randomness: one input, one signature. Says who signed
//! what and when; whom to believe is [`crate::policy`]'s. Reads no clock: seconds are arguments.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use ml_dsa::{KeyExport as _, KeyInit as _, Keypair as _, MlDsa44, SignatureEncoding as _, Verifier as _};
use zeroize::Zeroizing;

use crate::checkpoint::Checkpoint;
use crate::key::{self, Algorithm, Decoded, KeyError, KeyHash, PRIVATE};
use crate::note::{Note, NoteError, Verifier, signature_line};

/// FIPS 204's sizes for ML-DSA-44.
const ML_DSA_44_PUBLIC_BYTES: usize = 1312;
/// tlog-cosignature: no time is beyond it.
const TIME_MAX: u64 = i64::MAX as u64;
const LABEL: &[u8; 12] = b"subtree/v1\n\0";

/// A checkpoint signature that was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Signed {
    time: Option<u64>,
}

impl Signed {
    /// When the signer says that it signed, in seconds since 1970; `None` where it says nothing about it.
    #[must_use]
    pub const fn time(&self) -> Option<u64> {
        self.time
    }
}

/// A key that verifies checkpoints.
#[derive(Clone)]
pub struct PublicKey {
    name: String,
    hash: KeyHash,
    algorithm: Algorithm,
    bytes: Vec<u8>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Ed25519(VerifyingKey),
    /// Some 20 KB with what verifying needs beforehand, so it is shared.
    MlDsa44(Arc<ml_dsa::VerifyingKey<MlDsa44>>),
}

impl PublicKey {
    fn new(name: &str, algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        let material = match algorithm {
            Algorithm::Ed25519 | Algorithm::Ed25519Cosignature => {
                let bytes: &[u8; 32] = bytes.try_into().map_err(|_| KeyError::Form)?;
                Material::Ed25519(VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Form)?)
            }
            Algorithm::MlDsa44 if bytes.len() == ML_DSA_44_PUBLIC_BYTES => {
                Material::MlDsa44(Arc::new(ml_dsa::VerifyingKey::new_from_slice(bytes).map_err(|_| KeyError::Form)?))
            }
            Algorithm::MlDsa44 => return Err(KeyError::Form),
        };
        let name = key::parse_name(name)?;
        Ok(Self { hash: key::key_hash(&name, algorithm, bytes), name, algorithm, bytes: bytes.to_vec(), material })
    }

    /// Its name: the log's origin, or the witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name and key hash, which is what people compare.
    #[must_use]
    pub fn short(&self) -> String {
        key::short(&self.name, self.hash)
    }

    /// What it signs and how.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The bare key's bytes, which are what makes two keys one.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Looks for this key's signature. Every line in its name must be right; others are not looked at.
    ///
    /// # Errors
    /// There is none, or a wrong one.
    pub fn find(&self, note: &Note<'_>, checkpoint: &Checkpoint) -> Result<Signed, NoteError> {
        let mut outcome = Err(NoteError::Unsigned);
        for signature in note.by(&self.name, self.hash) {
            outcome = Ok(self.verify(note.text(), checkpoint, signature).ok_or(NoteError::Signature)?);
        }
        outcome
    }

    /// Verifies one signature's bytes, as they stand in the line after the key hash.
    #[must_use]
    pub(crate) fn verify(&self, text: &str, checkpoint: &Checkpoint, signature: &[u8]) -> Option<Signed> {
        let (time, signature) = match self.algorithm {
            Algorithm::Ed25519 => (0, signature),
            Algorithm::Ed25519Cosignature | Algorithm::MlDsa44 => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                (u64::from_be_bytes(*time), signature)
            }
        };
        if time > TIME_MAX {
            return None;
        }
        let message = message(self.algorithm, &self.name, time, text, checkpoint);
        match &self.material {
            Material::Ed25519(key) => key.verify_strict(&message, &Signature::from_slice(signature).ok()?).ok()?,
            Material::MlDsa44(key) => key.verify(&message, &ml_dsa::Signature::try_from(signature).ok()?).ok()?,
        }
        // 0 is "no statement about the time" (tlog-cosignature).
        Some(Signed { time: Some(time).filter(|time| *time > 0) })
    }

    /// Verifies a bare signature over bytes that are no checkpoint: see [`crate::rotation`].
    pub(crate) fn verify_bytes(&self, message: &[u8], signature: &[u8]) -> Result<(), NoteError> {
        let verified = match &self.material {
            Material::Ed25519(key) => Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Material::MlDsa44(key) => ml_dsa::Signature::try_from(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        };
        if verified { Ok(()) } else { Err(NoteError::Signature) }
    }
}

impl From<&Verifier> for PublicKey {
    fn from(verifier: &Verifier) -> Self {
        let (name, bytes) = (verifier.name().to_owned(), verifier.key().as_bytes().to_vec());
        let hash = key::key_hash(&name, Algorithm::Ed25519, &bytes);
        Self { name, hash, algorithm: Algorithm::Ed25519, bytes, material: Material::Ed25519(*verifier.key()) }
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Decoded { name, hash, algorithm, key } = key::decode_public(text)?;
        let public = Self::new(name, algorithm, &key)?;
        if public.hash == hash { Ok(public) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key::encode(&self.name, self.hash, self.algorithm, &self.bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.algorithm.name(), self.short())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.algorithm, &self.bytes) == (&other.name, other.algorithm, &other.bytes)
    }
}

impl Eq for PublicKey {}

/// A key that signs checkpoints. Wiped when dropped.
pub struct SecretKey {
    public: PublicKey,
    secret: Secret,
}

enum Secret {
    Ed25519(Box<SigningKey>),
    MlDsa44(Box<ml_dsa::SigningKey<MlDsa44>>),
}

impl SecretKey {
    /// The key of that name and type made of 32 random bytes.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, algorithm: Algorithm, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let (secret, public) = match algorithm {
            Algorithm::Ed25519 | Algorithm::Ed25519Cosignature => {
                let key = SigningKey::from_bytes(seed);
                let public = key.verifying_key().as_bytes().to_vec();
                (Secret::Ed25519(Box::new(key)), public)
            }
            Algorithm::MlDsa44 => {
                let key = Box::new(ml_dsa::SigningKey::<MlDsa44>::from_seed(&(*seed).into()));
                let public = key.verifying_key().to_bytes().to_vec();
                (Secret::MlDsa44(key), public)
            }
        };
        Ok(Self { public: PublicKey::new(name, algorithm, &public)?, secret })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The private key as text.
    #[must_use]
    pub fn to_private_text(&self) -> Zeroizing<String> {
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(match &self.secret {
            Secret::Ed25519(key) => *key.as_bytes(),
            Secret::MlDsa44(key) => (*key.as_seed()).into(),
        });
        let PublicKey { name, hash, algorithm, .. } = &self.public;
        Zeroizing::new([PRIVATE, &key::encode(name, *hash, *algorithm, &*seed)].concat())
    }

    /// The signature line over a checkpoint. `time` is in seconds since 1970; 0 says nothing about it, and Ed25519 of type 0x01 never does.
    #[must_use]
    pub fn sign(&self, checkpoint: &Checkpoint, time: u64) -> String {
        self.sign_text(&checkpoint.text(), checkpoint, time)
    }

    /// The same for a note whose text has extension lines: both forms of Ed25519 cover them, ML-DSA-44 does not.
    #[must_use]
    pub fn sign_text(&self, text: &str, checkpoint: &Checkpoint, time: u64) -> String {
        let PublicKey { name, hash, algorithm, .. } = &self.public;
        let time = time.min(TIME_MAX);
        let bare = self.sign_bytes(&message(*algorithm, name, time, text, checkpoint));
        match algorithm {
            Algorithm::Ed25519 => signature_line(name, *hash, &bare),
            Algorithm::Ed25519Cosignature | Algorithm::MlDsa44 => signature_line(name, *hash, &[&time.to_be_bytes()[..], &bare].concat()),
        }
    }

    /// The bare signature over bytes.
    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
            Secret::MlDsa44(key) => ml_dsa::Signer::sign(&**key, message).to_bytes().to_vec(),
        }
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let Decoded { name, hash, algorithm, key } = key::decode_private(text)?;
        let seed: Zeroizing<[u8; 32]> = Zeroizing::new(key.as_slice().try_into().map_err(|_| KeyError::Form)?);
        let secret = Self::from_seed(name, algorithm, &seed)?;
        if secret.public.hash == hash { Ok(secret) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public.short())
    }
}

/// The bytes that a signature of this type is over.
fn message(algorithm: Algorithm, signer: &str, time: u64, text: &str, checkpoint: &Checkpoint) -> Vec<u8> {
    match algorithm {
        Algorithm::Ed25519 => text.as_bytes().to_vec(),
        Algorithm::Ed25519Cosignature => format!("cosignature/v1\ntime {time}\n{text}").into_bytes(),
        Algorithm::MlDsa44 => {
            let mut message = LABEL.to_vec();
            push_name(&mut message, signer);
            message.extend_from_slice(&time.to_be_bytes());
            push_name(&mut message, &checkpoint.origin);
            message.extend_from_slice(&0_u64.to_be_bytes());
            message.extend_from_slice(&checkpoint.size.to_be_bytes());
            message.extend_from_slice(checkpoint.root.as_bytes());
            message
        }
    }
}

/// A name with its length in one byte. Keys' names are no longer than that, and [`Checkpoint`] takes no longer origin.
fn push_name(message: &mut Vec<u8>, name: &str) {
    message.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    message.extend_from_slice(name.as_bytes());
}
