//! A revision: the text that names every file of a policy, and the operators' signatures over it.
//!
//! ```text
//! sulku policy revision 1
//! number 12
//! previous <SHA-256 of the signed text of the revision before, in hexadecimal; or none>
//! made 2026-11-25T01:00:00Z
//! by onni
//! reason one line of words
//! file <SHA-256> <bytes> permits/statins.toml     one line for each file, sorted by path
//! <empty line>
//! signature onni <base64>                         one line for each signature
//! ```
//!
//! What is signed is the text before the empty line, its last newline included: no wrapping, no hash of ours around it, so that openssl
//! verifies it. Operators sign with the keys of their TLS certificates, so no other text that such a key signs may be taken for a revision.
//! Ours begins with a line of its own; TLS 1.3 signs what begins with 64 spaces (RFC 8446, 4.4.3), a certificate or a request for one
//! begins with the byte 0x30, checkpoints and rotations of a log's key begin with a name that has no spaces, and are not signed by operators.
//!
//! Every text has one value and every value one text: what is not written exactly so is no revision.

mod parse;
mod verify;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use sulku_permit::HolderId;

use crate::digest::Digest;
use crate::key::SigningKey;
use crate::tree::TreePath;

pub use parse::ParseError;
pub use verify::{Approved, Signers, Unapproved, verify};
pub(crate) use verify::{enough, short};

/// The first line of every revision.
pub(crate) const TITLE: &str = "sulku policy revision 1";
/// More files than any environment has: 10 000 permits and as many of what they refer to.
pub const FILES_MAX: usize = 20_000;
/// The longest reason.
pub const REASON_CHARS_MAX: usize = 200;
/// More signatures than any rule asks for.
pub const SIGNATURES_MAX: usize = 16;
/// The highest number: that of the file's name has six digits.
pub const NUMBER_MAX: u64 = 999_999;
/// The longest revision, signatures included: the lines of 20 000 files are 4 MB at the most.
pub const REVISION_BYTES_MAX: usize = 8 << 20;
/// The longest signature: ECDSA P-384 in DER is 104 bytes.
const SIGNATURE_BYTES_MAX: usize = 256;

/// One file of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileLine {
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// Where it is.
    pub path: TreePath,
}

/// What a new revision is to say.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its number, higher than any before.
    pub number: u64,
    /// The digest of the revision that it follows; none for the first.
    pub previous: Option<Digest>,
    /// When it is made; fractions of a second are dropped.
    pub made: Timestamp,
    /// The operator who makes it.
    pub by: HolderId,
    /// Why, in one line.
    pub reason: String,
    /// The files, in any order.
    pub files: Vec<FileLine>,
}

/// What a revision says. Nothing about it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    text: String,
    digest: Digest,
    number: u64,
    previous: Option<Digest>,
    made: Timestamp,
    by: HolderId,
    reason: String,
    files: Vec<FileLine>,
}

impl Revision {
    /// A revision that says what the draft says.
    ///
    /// # Errors
    /// What no revision may say; the line is that of the text that it would have had.
    pub fn new(mut draft: Draft) -> Result<Self, ParseError> {
        draft.files.sort_by(|a, b| a.path.cmp(&b.path));
        let previous = draft.previous.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
        let Draft { number, previous: _, made, by, reason, files } = draft;
        let made = made.strftime("%Y-%m-%dT%H:%M:%SZ");
        let mut text = format!("{TITLE}\nnumber {number}\nprevious {previous}\nmade {made}\nby {by}\nreason {reason}\n");
        for FileLine { sha256, bytes, path } in &files {
            text.push_str(&format!("file {sha256} {bytes} {path}\n"));
        }
        parse::text(text)
    }

    /// The text that is signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The SHA-256 of the signed text: the name by which people and entries compare revisions.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The digest of the revision before.
    #[must_use]
    pub const fn previous(&self) -> Option<Digest> {
        self.previous
    }

    /// When it was made, as its maker says.
    #[must_use]
    pub const fn made(&self) -> Timestamp {
        self.made
    }

    /// Who made it, as it says; who signed it, [`verify`] says.
    #[must_use]
    pub const fn by(&self) -> &HolderId {
        &self.by
    }

    /// Why it was made.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Its files, sorted by path.
    #[must_use]
    pub fn files(&self) -> &[FileLine] {
        &self.files
    }

    /// An operator's signature over it.
    #[must_use]
    pub fn sign(&self, operator: HolderId, key: &SigningKey) -> SignatureLine {
        SignatureLine { operator, signature: key.sign(self.text.as_bytes()) }
    }
}

/// A signature, and whose it is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// The operator.
    pub operator: HolderId,
    /// The signature's bytes: DER for ECDSA, 64 bytes for Ed25519.
    pub signature: Vec<u8>,
}

/// A revision with the signatures that came with it. They have not been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub revision: Revision,
    /// Who is said to have signed it.
    pub signatures: Vec<SignatureLine>,
}

impl Signed {
    /// Reads a revision's file.
    ///
    /// # Errors
    /// The first line that is not as it must be.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        parse::signed(bytes)
    }

    /// The text of the revision's file.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = self.revision.text.clone();
        text.push('\n');
        for SignatureLine { operator, signature } in &self.signatures {
            text.push_str(&format!("signature {operator} {}\n", STANDARD.encode(signature)));
        }
        text
    }
}
