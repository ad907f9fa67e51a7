//! A permit as the program knows it: everything checked, nothing optional that has a default.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{HolderId, PermitId, WorkspaceName};

/// A line of a permit's file: what a decision is founded on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One thing wrong with a permit: where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File and line.
    pub at: Place,
    /// The column, counted from 1 in characters.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.at, self.column, self.what, self.help)
    }
}

impl std::error::Error for Problem {}

/// A data permit: names persons, data, purpose and period.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    /// Its diary number.
    pub id: PermitId,
    /// Its title.
    pub title: String,
    /// What the data may be used for.
    pub purpose: String,
    /// The health data access body that issued it.
    pub issuer: String,
    /// From when until when it holds.
    pub validity: Validity,
    /// The persons it lists; never empty.
    pub holders: Vec<Holder>,
    /// The environment it grants.
    pub workspace: Workspace,
    /// The data it grants.
    pub datasets: Vec<Dataset>,
    /// What the workspace may reach; all else is dropped.
    pub egress: Vec<Destination>,
    /// How long, how many, from where.
    pub session: SessionLimits,
    /// What a session may use up.
    pub resources: Resources,
    /// What is recorded.
    pub recording: Recording,
    /// Where it was read from; the line is that of its id.
    pub at: Place,
}

impl Permit {
    /// The person of that id, if the permit lists her.
    #[must_use]
    pub fn holder(&self, id: &HolderId) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.id == *id)
    }
}

/// A half-open period: `from` is inside it, `until` is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub until: Timestamp,
    /// The line that sets `from`.
    pub from_at: Place,
    /// The line that sets `until`.
    pub until_at: Place,
}

/// A natural person whom a permit lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The name that entries and commands use.
    pub id: HolderId,
    /// The name that people use; never matched against anything.
    pub name: String,
    /// What her certificate must show.
    pub identity: Identity,
    /// When her own right ends, if before the permit.
    pub until: Option<Timestamp>,
    /// Where she is listed.
    pub at: Place,
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
}

/// The isolated environment of one permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its name; one permit, one workspace.
    pub name: WorkspaceName,
    /// Where it is named.
    pub at: Place,
}

/// Data that the permit grants, mounted read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Its folder on the host.
    pub path: PathBuf,
    /// Where the workspace sees it, below `/data`.
    pub mounted_at: PathBuf,
    /// Where it is granted.
    pub at: Place,
}

/// A transport protocol that may be allowed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A port of a protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// 1 to 65535.
    pub number: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

/// What a workspace may reach, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name, for people.
    pub name: String,
    /// An address (as a full-length prefix) or a network.
    pub to: IpNet,
    /// The open ports; never empty.
    pub ports: Vec<Port>,
    /// Why the permit needs it.
    pub reason: String,
    /// Where it is listed.
    pub at: Place,
}

/// How long a session lasts, how many there are, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions that one person may have open at once.
    pub max_per_person: u32,
    /// The longest a session lasts.
    pub max_length: Duration,
    /// A session without input for this long is closed.
    pub idle_disconnect: Duration,
    /// The networks a holder may connect from; never empty.
    pub from_networks: Vec<IpNet>,
    /// Where the networks are listed, or the permit's own line.
    pub from_networks_at: Place,
}

/// What one session may use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: u32,
}

/// What is recorded of a session, how surely, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// What is recorded of its terminal.
    pub terminal: TerminalRecording,
    /// When output is shown: before or after its recording is durable.
    pub durability: Durability,
    /// Whole days, counted from the session's opening, before which the recording may not be deleted.
    pub retention_days: u32,
}

/// What is recorded of a terminal. Output always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalRecording {
    /// All output, and when the holder typed; never what she typed.
    OutputAndInputTiming,
    /// All output, and what the holder typed, passwords included.
    OutputAndInput,
}

/// When a terminal's output is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once its recording is durable.
    Strict,
    /// At once, while little of it is not durable yet.
    Windowed,
}

impl Durability {
    /// As permits and entries write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Windowed => "windowed",
        }
    }
}

impl TerminalRecording {
    /// As permits and entries write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutputAndInputTiming => "output-and-input-timing",
            Self::OutputAndInput => "output-and-input",
        }
    }
}
