//! Receipts: the ledger's word that an entry is durable, and what a signed one lets its bearer do.
//!
//! The receipts of `session.opened` and `session.adopted` carry the draft, since what is private is sealed in the entry, and a signature, Ed25519 over
//! `sulku-receipt/2\n<origin>\n<index>\n<leaf hash>\n<time>\n<SHA-256 of the draft's text>\n`, hashes in hexadecimal: the ledger's word
//! that the entry of this number is that draft. So the warden need not trust the gateway that hands it on. It does not show that a checkpoint covers the entry, and it does not expire: who acts on an
//! [`Opening`] checks its end, and that the same session was not opened before.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sulku_permit::{HolderId, PermitId, SessionId};

use crate::entry::time_text;
use crate::event::{Draft, Event};
use crate::merkle::{Hash, sha256};
use crate::note::{Signer, Verifier};

/// The ledger's word that an entry is durable. Comes from the ledger alone; nothing else makes one.
///
/// Only those for `session.opened` and `session.adopted` carry the draft and the signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[must_use]
pub struct Receipt {
    /// The entry's number in the log, from 0.
    index: u64,
    /// RFC 6962 leaf hash of the entry's bytes, in hexadecimal.
    leaf_hash: String,
    /// What a receipt that gives a cell to a gateway has besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    opening: Option<Signed>,
}

/// The ledger's signed word on a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    /// The draft, as JSON text.
    draft: String,
    /// The entry's time.
    time: Timestamp,
    /// The signature, in base 64.
    signature: String,
}

/// A receipt that opens no session.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// It carries no signed draft.
    #[error("the receipt carries no signed draft")]
    Unsigned,
    /// The signature is not the ledger's over this draft, entry, number and origin.
    #[error("the receipt's signature is not the ledger's")]
    Signature,
    /// The text is no draft.
    #[error("the receipt's draft can't be read")]
    Draft(#[from] serde_json::Error),
    /// The entry is another event, or names no session, permit or person.
    #[error("the receipt is for {0}, which opens no session")]
    NotAnOpening(&'static str),
    /// The entry is another event, or names no session, permit or person.
    #[error("the receipt is for {0}, which adopts no session")]
    NotAnAdoption(&'static str),
}

impl Receipt {
    /// The receipt for an entry that is durable. For the ledger alone: it must not be made before the entry is synced.
    pub fn issue(signer: &Signer, index: u64, hash: &Hash, draft: &Draft, time: Timestamp) -> Self {
        let leaf_hash = hash.to_string();
        let gives = matches!(draft.event, Event::SessionOpened { .. } | Event::SessionAdopted { .. });
        let opening = gives.then(|| serde_json::to_string(draft).ok()).flatten().map(|draft| {
            let message = message(signer.name(), index, &leaf_hash, time, &draft);
            Signed { signature: STANDARD.encode(signer.sign(message.as_bytes()).to_bytes()), draft, time }
        });
        Self { index, leaf_hash, opening }
    }

    /// The entry's number in the log, from 0.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// RFC 6962 leaf hash of the entry's bytes, in hexadecimal.
    #[must_use]
    pub fn leaf_hash(&self) -> &str {
        &self.leaf_hash
    }

    /// The session that it says it is for. Nobody has checked that: good for an answer to whoever brings it, and for nothing else.
    #[must_use]
    pub fn claims(&self) -> Option<SessionId> {
        serde_json::from_str::<Draft>(&self.opening.as_ref()?.draft).ok()?.session
    }

    /// Checks that a ledger with one of these keys has kept an entry that opens a session, and says which. There are two keys while one
    /// is being replaced.
    ///
    /// # Errors
    /// The receipt shows no such thing.
    pub fn verify_opening(&self, keys: &[Verifier]) -> Result<Opening, ReceiptError> {
        let (text, time) = self.signed(keys)?;
        let Draft { permit, session, person, event } = serde_json::from_str(text)?;
        let name = event.name();
        let (Event::SessionOpened { from, command, ends, plan, rung, .. }, Some(permit), Some(session), Some(person)) =
            (event, permit, session, person)
        else {
            return Err(ReceiptError::NotAnOpening(name));
        };
        let (Some(from), Some(command)) = (from.known().copied(), command.known().cloned()) else {
            return Err(ReceiptError::NotAnOpening(name));
        };
        Ok(Opening { index: self.index, time, session, permit, person, from, command, ends, plan, rung, draft: text.to_owned() })
    }

    /// Checks that a ledger with one of these keys has kept an entry by which a gateway adopts a session, and says which.
    ///
    /// # Errors
    /// The receipt shows no such thing.
    pub fn verify_adoption(&self, keys: &[Verifier]) -> Result<Adoption, ReceiptError> {
        let (text, time) = self.signed(keys)?;
        let Draft { permit, session, person, event } = serde_json::from_str(text)?;
        let name = event.name();
        match (event, permit, session, person) {
            (Event::SessionAdopted { opening, part, .. }, Some(permit), Some(session), Some(person)) => {
                Ok(Adoption { index: self.index, time, session, permit, person, opening, part })
            }
            _ => Err(ReceiptError::NotAnAdoption(name)),
        }
    }

    /// The draft's text and the entry's time, if one of these keys has signed them.
    fn signed(&self, keys: &[Verifier]) -> Result<(&str, Timestamp), ReceiptError> {
        let Signed { draft, time, signature } = self.opening.as_ref().ok_or(ReceiptError::Unsigned)?;
        let signature = STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok()).ok_or(ReceiptError::Signature)?;
        let message = |key: &Verifier| message(key.name(), self.index, &self.leaf_hash, *time, draft);
        let is_signed = keys.iter().any(|key| key.key().verify_strict(message(key).as_bytes(), &signature).is_ok());
        if is_signed { Ok((draft, *time)) } else { Err(ReceiptError::Signature) }
    }
}

fn message(origin: &str, index: u64, leaf_hash: &str, time: Timestamp, draft: &str) -> String {
    format!("sulku-receipt/2\n{origin}\n{index}\n{leaf_hash}\n{}\n{}\n", time_text(time), sha256(&[draft.as_bytes()]))
}

/// A session whose opening is durable in the ledger. Nothing but a signed receipt makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Opening {
    index: u64,
    time: Timestamp,
    session: SessionId,
    permit: PermitId,
    person: HolderId,
    from: IpAddr,
    command: Option<Vec<String>>,
    ends: Timestamp,
    plan: String,
    rung: String,
    draft: String,
}

/// A session that another gateway takes over, durable in the ledger. Nothing but a signed receipt makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Adoption {
    index: u64,
    time: Timestamp,
    session: SessionId,
    permit: PermitId,
    person: HolderId,
    opening: u64,
    part: u32,
}

impl Adoption {
    /// The entry's number in the log.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// When the ledger took the entry.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Whether it is of this session, of its permit and person, and names its recording's next part.
    #[must_use]
    pub fn is_of(&self, opening: &Opening, part: u32) -> bool {
        let Self { index: _, time: _, session, permit, person, opening: number, part: own } = self;
        (session, permit, person, number, own) == (&opening.session, &opening.permit, &opening.person, &opening.index, &part)
    }
}

impl Opening {
    /// The entry's draft, as JSON text, with all that is private in it.
    #[must_use]
    pub fn draft(&self) -> &str {
        &self.draft
    }

    /// The entry's number in the log.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// When the ledger took the entry.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The permit that it is under.
    #[must_use]
    pub const fn permit(&self) -> &PermitId {
        &self.permit
    }

    /// The person whose session it is.
    #[must_use]
    pub const fn person(&self) -> &HolderId {
        &self.person
    }

    /// Where she is.
    #[must_use]
    pub const fn from(&self) -> IpAddr {
        self.from
    }

    /// The command, if she asked for one instead of a shell.
    #[must_use]
    pub fn command(&self) -> Option<&[String]> {
        self.command.as_deref()
    }

    /// When the session ends at the latest.
    #[must_use]
    pub const fn ends(&self) -> Timestamp {
        self.ends
    }

    /// SHA-256 of the plan that the cell must follow, in hexadecimal.
    #[must_use]
    pub fn plan(&self) -> &str {
        &self.plan
    }

    /// The isolation rung that the entry names.
    #[must_use]
    pub fn rung(&self) -> &str {
        &self.rung
    }
}
