//! Entries: one JSON document each, whose exact bytes are the leaf of the tree.
//!
//! ```text
//! {"v":1,"t":"2026-11-23T08:00:00.000000Z","mono_ns":1,"boot":"…","by":"gateway","permit":"…","permit_seq":0,"session":"…",
//!  "session_seq":0,"person":"…","code":"SLK2301I","event":"session.opened","data":{…},"salt":"…"}
//! ```
//!
//! The bytes are hashed as they are: nothing is canonicalised, and nobody need encode an entry again to check it. Within `v` 1 only
//! optional keys are added. The salt keeps a leaf hash, which proofs of neighbours show, from being guessed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sulku_permit::{HolderId, PermitId, SessionId};

use crate::event::{Draft, Event, Writer};

/// The longest entry that the ledger takes. Half the hard limit, so that a record always fits when keys are added.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// The longest entry there can be: bundles give its length in 16 bits.
pub const ENTRY_BYTES_HARD_MAX: usize = 65_535;
const VERSION: u32 = 1;
/// A boot id is a UUID of 36 characters; room for other forms.
const BOOT_BYTES_MAX: usize = 64;

/// What the ledger adds to a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Wall-clock time, kept to the microsecond.
    pub time: Timestamp,
    /// Nanoseconds of the monotonic clock: the order and distance of entries of one boot, whatever the wall clock does.
    pub mono_ns: u64,
    /// The kernel's boot id.
    pub boot: String,
    /// Entries about the permit before this one, if it is about one.
    pub permit_seq: Option<u64>,
    /// Entries about the session before this one, if it is about one.
    pub session_seq: Option<u64>,
    /// 16 random bytes.
    pub salt: [u8; 16],
}

/// An entry as read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the writer asked to keep.
    pub draft: Draft,
    /// What the ledger added.
    pub stamp: Stamp,
}

/// Bytes that are no entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Longer than any entry may be.
    #[error("{0} bytes are longer than an entry may be")]
    TooLong(usize),
    /// Not the JSON document that an entry is.
    #[error("not an entry: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A later version.
    #[error("version {0} of the entry's format is not known here; use a newer program")]
    Version(u32),
    /// An event that this program does not know.
    #[error("the event {event} ({code}) is not known here; use a newer program")]
    UnknownEvent {
        /// Its name.
        event: String,
        /// Its code.
        code: String,
    },
    /// The code or the writer is not the event's.
    #[error("{event} can't carry the code {code} and be written by the {by:?}")]
    Mismatch {
        /// The event's name.
        event: &'static str,
        /// The code in the entry.
        code: String,
        /// The writer in the entry.
        by: Writer,
    },
    /// A permit or session without its counter, or a counter without what it counts.
    #[error("permit_seq goes with permit and session_seq with session")]
    Counters,
    /// The time is not as entries write it.
    #[error("the time is not of the form 2026-11-23T08:00:00.000000Z")]
    Time,
    /// The salt is not 16 bytes in base 64.
    #[error("the salt is not 16 bytes in base 64")]
    Salt,
    /// The boot id is not one.
    #[error("the boot id is not up to {BOOT_BYTES_MAX} of 0-9 a-z A-Z -")]
    Boot,
}

#[derive(Serialize)]
struct Encoded<'a> {
    v: u32,
    t: String,
    mono_ns: u64,
    boot: &'a str,
    by: Writer,
    #[serde(skip_serializing_if = "Option::is_none")]
    permit: Option<&'a PermitId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    permit_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<&'a HolderId>,
    code: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    salt: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decoded {
    v: u32,
    t: String,
    mono_ns: u64,
    boot: String,
    by: Writer,
    #[serde(default)]
    permit: Option<PermitId>,
    #[serde(default)]
    permit_seq: Option<u64>,
    #[serde(default)]
    session: Option<SessionId>,
    #[serde(default)]
    session_seq: Option<u64>,
    #[serde(default)]
    person: Option<HolderId>,
    code: String,
    event: String,
    data: Value,
    salt: String,
}

/// An entry's bytes.
///
/// # Errors
/// [`EntryError::TooLong`] beyond [`ENTRY_BYTES_MAX`]; [`EntryError::Counters`] when the stamp does not fit the draft.
pub fn encode(draft: &Draft, stamp: &Stamp) -> Result<Vec<u8>, EntryError> {
    if draft.permit.is_some() != stamp.permit_seq.is_some() || draft.session.is_some() != stamp.session_seq.is_some() {
        return Err(EntryError::Counters);
    }
    let bytes = serde_json::to_vec(&Encoded {
        v: VERSION,
        t: time_text(stamp.time),
        mono_ns: stamp.mono_ns,
        boot: &stamp.boot,
        by: draft.event.writer(),
        permit: draft.permit.as_ref(),
        permit_seq: stamp.permit_seq,
        session: draft.session.as_ref(),
        session_seq: stamp.session_seq,
        person: draft.person.as_ref(),
        code: draft.event.code(),
        event: &draft.event,
        salt: STANDARD.encode(stamp.salt),
    })?;
    if bytes.len() > ENTRY_BYTES_MAX { Err(EntryError::TooLong(bytes.len())) } else { Ok(bytes) }
}

/// A time as entries write it: RFC 3339 in UTC, always six digits after the point.
#[must_use]
pub fn time_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

impl Entry {
    /// Reads an entry. An unknown key is an error: what a reader can't understand must not look understood.
    ///
    /// # Errors
    /// The bytes are no entry, or one of a newer program.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_BYTES_HARD_MAX {
            return Err(EntryError::TooLong(bytes.len()));
        }
        let shape: Decoded = match serde_json::from_slice(bytes) {
            Ok(shape) => shape,
            Err(error) => return Err(newer_version(bytes).map_or(EntryError::Malformed(error), EntryError::Version)),
        };
        let Decoded { v, t, mono_ns, boot, by, permit, permit_seq, session, session_seq, person, code, event, data, salt } = shape;
        if v != VERSION {
            return Err(EntryError::Version(v));
        }
        if !Event::TABLE.iter().any(|(name, ..)| *name == event) {
            return Err(EntryError::UnknownEvent { event, code });
        }
        let event: Event = serde_json::from_value(Value::from_iter([("event", Value::from(event)), ("data", data)]))?;
        if event.code() != code || event.writer() != by {
            return Err(EntryError::Mismatch { event: event.name(), code, by });
        }
        if permit.is_some() != permit_seq.is_some() || session.is_some() != session_seq.is_some() {
            return Err(EntryError::Counters);
        }
        if boot.len() > BOOT_BYTES_MAX || !boot.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
            return Err(EntryError::Boot);
        }
        let time: Timestamp = t.parse().map_err(|_| EntryError::Time)?;
        if time_text(time) != t {
            return Err(EntryError::Time);
        }
        let salt = STANDARD.decode(&salt).ok().and_then(|salt| salt.try_into().ok()).ok_or(EntryError::Salt)?;
        let draft = Draft { permit, session, person, event };
        Ok(Self { draft, stamp: Stamp { time, mono_ns, boot, permit_seq, session_seq, salt } })
    }
}

/// The version of a document that is well-formed but of a later version, which may have other keys.
fn newer_version(bytes: &[u8]) -> Option<u32> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value.get("v")?.as_u64().and_then(|v| u32::try_from(v).ok()).filter(|v| *v > VERSION)
}
