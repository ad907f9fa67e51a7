//! Who a person is, and what a certificate shows of her.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use super::Place;
use crate::ids::HolderId;

/// A natural person whom a permit lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name that entries and commands use.
    pub id: HolderId,
    /// The name that people use; never matched against anything.
    pub name: String,
    /// What her certificate must show.
    pub identity: Identity,
    /// What she may do; never empty.
    pub roles: Vec<Role>,
    /// The line that says so.
    pub roles_at: Place,
    /// When her own right begins, if after the permit.
    pub from: Option<Timestamp>,
    /// When her own right ends, if before the permit.
    pub until: Option<Timestamp>,
    /// Since when her right is taken back, and the line that says so, if it is.
    pub revoked: Option<(Timestamp, Place)>,
    /// Where she is listed.
    pub at: Place,
}

/// Who decides on what may leave. Never a holder of the same permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChecker {
    /// The name that entries and commands use.
    pub id: HolderId,
    /// The name that people use.
    pub name: String,
    /// What her certificate must show.
    pub identity: Identity,
    /// Where she is listed.
    pub at: Place,
}

/// What a holder may do under a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Work in the workspace.
    Analyst,
    /// Ask for results to be let out.
    ExportRequester,
    /// Be named and shown in records; opens no session.
    Observer,
}

impl Role {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Analyst, Self::ExportRequester, Self::Observer];

    /// As permits write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Analyst => "analyst",
            Self::ExportRequester => "export-requester",
            Self::Observer => "observer",
        }
    }
}

/// How surely an authority knows whom it gave a certificate: the levels of Regulation (EU) 910/2014, article 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assurance {
    /// Low.
    Low,
    /// Substantial.
    Substantial,
    /// High.
    High,
}

impl Assurance {
    /// All of them, the lowest first.
    pub const ALL: &[Self] = &[Self::Low, Self::Substantial, Self::High];

    /// As permits and configurations write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Substantial => "substantial",
            Self::High => "high",
        }
    }
}

impl FromStr for Assurance {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        Self::ALL.iter().copied().find(|level| level.name() == text).ok_or("write \"low\", \"substantial\" or \"high\"")
    }
}

/// What identifies one person in a certificate. Matched exactly; a common name is no identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// A URI subject alternative name in SPIFFE form.
    Uri(String),
    /// A configured issuer and the subject's `serialNumber` (as FINEID's SATU).
    Serial {
        /// The issuer's name in the gateway's configuration.
        issuer: String,
        /// The subject's `serialNumber` attribute.
        serial_number: String,
    },
    /// SHA-256 of the certificate's SubjectPublicKeyInfo.
    Key([u8; 32]),
}

impl Identity {
    /// The identity that a document's keys `uri`, `issuer`, `subject_serial_number` and `key_sha256` name.
    ///
    /// # Errors
    /// What to write instead: they name none, or more than one.
    pub fn of_document(
        uri: Option<String>,
        issuer: Option<String>,
        subject_serial_number: Option<String>,
        key_sha256: Option<String>,
    ) -> Result<Self, &'static str> {
        match (uri, issuer, subject_serial_number, key_sha256) {
            (Some(uri), None, None, None) if is_spiffe_id(&uri) => Ok(Self::Uri(uri)),
            (Some(_), None, None, None) => {
                Err("write a SPIFFE id: spiffe://trust-domain/path, lower-case domain, no query, no fragment, no empty segment")
            }
            (None, Some(issuer), Some(serial_number), None) if !issuer.is_empty() && !serial_number.is_empty() => {
                Ok(Self::Serial { issuer, serial_number })
            }
            (None, None, None, Some(hex)) => {
                digest(&hex).map(Self::Key).ok_or("write the 64 hexadecimal digits of the SHA-256 of the SubjectPublicKeyInfo")
            }
            _ => Err("write exactly one of { uri }, { issuer, subject_serial_number } or { key_sha256 }"),
        }
    }
}

/// The SPIFFE ID grammar, section 2 of the SPIFFE ID specification, with a path.
fn is_spiffe_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("spiffe://") else { return false };
    let Some((domain, path)) = rest.split_once('/') else { return false };
    let domain_ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-_".contains(c);
    let path_ok = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    uri.len() <= 2048
        && !domain.is_empty()
        && domain.len() <= 255
        && domain.chars().all(domain_ok)
        && path.split('/').all(|segment| !segment.is_empty() && segment != "." && segment != ".." && segment.chars().all(path_ok))
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(digest)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Serial { issuer, serial_number } => write!(f, "{issuer} serialNumber {serial_number}"),
            Self::Key(digest) => {
                f.write_str("key sha256:")?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// What a verified certificate shows of the person who holds its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Every identity that the certificate carries: its URIs, its issuer with serial number, its key.
    pub identities: Vec<Identity>,
    /// First instant at which the certificate is no longer valid.
    pub expires: Timestamp,
    /// The assurance of the authority that issued it, where the configuration gives one.
    pub assurance: Option<Assurance>,
}
