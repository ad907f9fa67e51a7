//! Operators' keys: those of their certificates. ECDSA on P-256 with SHA-256, ECDSA on P-384 with SHA-384, Ed25519.
//!
//! A public key is its `SubjectPublicKeyInfo` (RFC 5280) in DER and base64, so it is what stands in the certificate and what openssl reads.
//! An ECDSA signature is in DER, Ed25519's is its 64 bytes: what openssl writes and verifies.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::pkcs8::spki::SubjectPublicKeyInfoRef;
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// The longest key that is looked at: a private key of RSA with 16 384 bits in PEM is 13 KB.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// RFC 8017, appendix C.
const RSA: &str = "1.2.840.113549.1.1.1";
const P256_OR_P384: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";

/// A key that operators can't sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64, not DER, or not that of a public key.
    #[error("this is no public key (SubjectPublicKeyInfo, DER in base64, one line); write what `sulku policy key --certificate FILE` prints")]
    Public,
    /// Not PEM, or not that of a private key.
    #[error("this is no private key in PEM (PKCS#8 or SEC1); give the file that belongs to the operator's certificate")]
    Private,
    /// A private key behind a passphrase.
    #[error("the private key is encrypted; give it without a passphrase, in a file that only you can read: openssl pkey -in FILE -out PLAIN")]
    Encrypted,
    /// RSA.
    #[error("the key is RSA, which signs no revisions; have a certificate issued for a key on P-256, P-384 or Ed25519")]
    Rsa,
    /// Anything else.
    #[error("keys of this kind sign no revisions; have a certificate issued for a key on P-256, P-384 or Ed25519")]
    Kind,
}

/// A public key that an operator's signatures are verified with.
#[derive(Clone, PartialEq, Eq)]
pub struct OperatorKey {
    material: Material,
    der: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq)]
enum Material {
    P256(Box<p256::ecdsa::VerifyingKey>),
    P384(Box<p384::ecdsa::VerifyingKey>),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

impl OperatorKey {
    /// The key of a `SubjectPublicKeyInfo` in DER, as a certificate has it.
    ///
    /// # Errors
    /// It is none that signs revisions.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        if der.len() > KEY_BYTES_MAX {
            return Err(KeyError::Public);
        }
        let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| KeyError::Public)?;
        let material = match info.algorithm.oid.to_string().as_str() {
            RSA => return Err(KeyError::Rsa),
            ED25519 => {
                let key = ed25519_dalek::VerifyingKey::from_public_key_der(der).map_err(|_| KeyError::Public)?;
                // With a weak key, one signature fits many texts.
                if key.is_weak() {
                    return Err(KeyError::Public);
                }
                Material::Ed25519(Box::new(key))
            }
            P256_OR_P384 => p256::ecdsa::VerifyingKey::from_public_key_der(der)
                .map(|key| Material::P256(Box::new(key)))
                .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_der(der).map(|key| Material::P384(Box::new(key))))
                .map_err(|_| KeyError::Kind)?,
            _ => return Err(KeyError::Kind),
        };
        let key = Self::new(material)?;
        // One key has one text, so a compressed point is not another key.
        if key.der == der { Ok(key) } else { Err(KeyError::Public) }
    }

    fn new(material: Material) -> Result<Self, KeyError> {
        let document = match &material {
            Material::P256(key) => key.to_public_key_der(),
            Material::P384(key) => key.to_public_key_der(),
            Material::Ed25519(key) => key.to_public_key_der(),
        };
        Ok(Self { der: document.map_err(|_| KeyError::Public)?.into_vec(), material })
    }

    /// The key's `SubjectPublicKeyInfo` in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// What it signs with, in words.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self.material {
            Material::P256(_) => "ECDSA P-256 with SHA-256",
            Material::P384(_) => "ECDSA P-384 with SHA-384",
            Material::Ed25519(_) => "Ed25519",
        }
    }

    /// Whether the signature over the bytes is this key's.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::P256(key) => p256::ecdsa::Signature::from_der(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Material::P384(key) => p384::ecdsa::Signature::from_der(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Material::Ed25519(key) => {
                ed25519_dalek::Signature::from_slice(signature).is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
        }
    }
}

impl FromStr for OperatorKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::Public);
        }
        Self::from_der(&STANDARD.decode(text).map_err(|_| KeyError::Public)?)
    }
}

impl<'de> Deserialize<'de> for OperatorKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.der))
    }
}

impl fmt::Debug for OperatorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OperatorKey({} {self})", self.algorithm())
    }
}

/// A private key that signs revisions. Wiped when dropped.
pub struct SigningKey {
    secret: Secret,
    public: OperatorKey,
}

enum Secret {
    P256(Box<p256::ecdsa::SigningKey>),
    P384(Box<p384::ecdsa::SigningKey>),
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

impl SigningKey {
    /// The key of a PEM text: PKCS#8 (`PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`), other blocks before or after it left aside.
    ///
    /// # Errors
    /// It is none that signs revisions.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.len() > KEY_BYTES_MAX {
            return Err(KeyError::Private);
        }
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        if text.contains("-----BEGIN RSA PRIVATE KEY-----") {
            return Err(KeyError::Rsa);
        }
        if let Some(block) = block(text, "PRIVATE KEY") {
            return Self::from_pkcs8(&block);
        }
        let block = block(text, "EC PRIVATE KEY").ok_or(KeyError::Private)?;
        let secret = p256::SecretKey::from_sec1_pem(&block)
            .map(|key| Secret::P256(Box::new(key.into())))
            .or_else(|_| p384::SecretKey::from_sec1_pem(&block).map(|key| Secret::P384(Box::new(key.into()))));
        Self::new(secret.map_err(|_| KeyError::Kind)?)
    }

    fn from_pkcs8(pem: &str) -> Result<Self, KeyError> {
        let (_, document) = p256::pkcs8::SecretDocument::from_pem(pem).map_err(|_| KeyError::Private)?;
        let info: p256::pkcs8::PrivateKeyInfo<'_> = document.decode_msg().map_err(|_| KeyError::Private)?;
        Self::new(match info.algorithm.oid.to_string().as_str() {
            RSA => return Err(KeyError::Rsa),
            ED25519 => Secret::Ed25519(Box::new(ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map_err(|_| KeyError::Private)?)),
            P256_OR_P384 => p256::ecdsa::SigningKey::from_pkcs8_pem(pem)
                .map(|key| Secret::P256(Box::new(key)))
                .or_else(|_| p384::ecdsa::SigningKey::from_pkcs8_pem(pem).map(|key| Secret::P384(Box::new(key))))
                .map_err(|_| KeyError::Kind)?,
            _ => return Err(KeyError::Kind),
        })
    }

    fn new(secret: Secret) -> Result<Self, KeyError> {
        let public = OperatorKey::new(match &secret {
            Secret::P256(key) => Material::P256(Box::new(*key.verifying_key())),
            Secret::P384(key) => Material::P384(Box::new(*key.verifying_key())),
            Secret::Ed25519(key) => Material::Ed25519(Box::new(key.verifying_key())),
        })?;
        Ok(Self { secret, public })
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> &OperatorKey {
        &self.public
    }

    /// The signature over the bytes. ECDSA's nonce is made from key and bytes (RFC 6979), so this needs no randomness.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.secret {
            Secret::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Secret::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Secret::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(secret, {:?})", self.public)
    }
}

/// The first block of that label, in lines as PEM's strict form has them.
fn block(text: &str, label: &str) -> Option<Zeroizing<String>> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = text.split_once(&begin)?;
    let (body, _) = rest.split_once(&end)?;
    let mut block = Zeroizing::new(String::with_capacity(KEY_BYTES_MAX));
    for part in [&begin, body.trim_ascii(), &end] {
        part.lines().for_each(|line| {
            block.push_str(line.trim_ascii());
            block.push('\n');
        });
    }
    Some(block)
}
