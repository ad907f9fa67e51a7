//! Entries: one JSON document each, whose exact bytes are the leaf of the tree.
//!
//! ```text
//! {"v":1,"t":"2026-11-23T08:00:00.000000Z","mono_ns":1,"boot":"…","by":"gateway","permit":"…","permit_seq":0,"session":"…",
//!  "session_seq":0,"person":"<pseudonym>","code":"SLK2301I","event":"session.opened","data":{…},"sealed":"…","salt":"…"}
//! ```
//!
//! The person is a pseudonym, and what is private in the event is in the box `sealed` ([`crate::personal`]).
//!
//! The bytes are hashed as they are: nothing is canonicalised, and nobody need encode an entry again to check it. Within `v` 1 only
//! optional keys are added. The salt keeps a leaf hash, which proofs of neighbours show, from being guessed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, IgnoredAny, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sulku_permit::{HolderId, PermitId, Pseudonym, SessionId};
use zeroize::Zeroize as _;

use crate::event::{Draft, Event, Privacy, Writer};
use crate::personal::{NONCE_BYTES, PersonalKey};

mod time;

pub use time::time_text;

/// The longest entry that the ledger takes. Half the hard limit, so that a record always fits when keys are added.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// The longest entry there can be: bundles give its length in 16 bits.
pub const ENTRY_BYTES_HARD_MAX: usize = 65_535;
const VERSION: u32 = 1;
/// Most entries' text without what is stamped is shorter, and most boxes are.
const BODY_BYTES: usize = 512;
const BOX_BYTES: usize = 256;
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

/// An entry as read back. What is private in it is sealed; [`Entry::open`] gives the draft back to who has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The permit it is about, if one.
    pub permit: Option<PermitId>,
    /// The session it is about, if one.
    pub session: Option<SessionId>,
    /// The person it is about, under the name that the permit's key gives her.
    pub person: Option<Pseudonym>,
    /// What happened, its private fields sealed. Set aside: the largest is ten times the size of most, and a log's readers move millions.
    pub event: Box<Event>,
    /// The box with the private fields, if the event has any.
    pub sealed: Option<Vec<u8>>,
    /// What the ledger added.
    pub stamp: Stamp,
}

/// A draft that is ready to become an entry: all of it but what the ledger stamps.
#[derive(Debug, Clone)]
pub struct Body {
    by: Writer,
    /// The permit and the session with their keys, and from [`Body::rest_at`] on the document from `person` to the box, as all will stand in
    /// the entry.
    text: Vec<u8>,
    /// Where the permit ends, if there is one.
    permit_end: Option<usize>,
    /// Where the session ends, if there is one.
    session_end: Option<usize>,
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
    /// A private field of a draft is missing.
    #[error("{event} has no {field}; a draft tells all of its event")]
    Unknown {
        /// The event's name.
        event: &'static str,
        /// The field.
        field: &'static str,
    },
    /// What is private stands open, or a box is missing or too many.
    #[error("what is private in {0} is not in its sealed box, or it has a box and nothing private")]
    Unsealed(&'static str),
    /// The salt is not 16 bytes in base 64.
    #[error("the salt is not 16 bytes in base 64")]
    Salt,
    /// The boot id is not one.
    #[error("the boot id is not up to {BOOT_BYTES_MAX} of 0-9 a-z A-Z -")]
    Boot,
}

/// The keys of an entry's document, but for `data`. Borrows from the entry's bytes: a log of ten million is read in seconds.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    V,
    T,
    MonoNs,
    Boot,
    By,
    Permit,
    PermitSeq,
    Session,
    SessionSeq,
    Person,
    Code,
    Event,
    Data,
    Sealed,
    Salt,
}

/// An entry's document. What is in `data` is read by the event's own reader where it stands, since the event's name comes before it.
struct Decoded<'a> {
    v: u32,
    t: Cow<'a, str>,
    mono_ns: u64,
    boot: Cow<'a, str>,
    by: Writer,
    permit: Option<PermitId>,
    permit_seq: Option<u64>,
    session: Option<SessionId>,
    session_seq: Option<u64>,
    person: Option<Pseudonym>,
    code: Cow<'a, str>,
    name: Cow<'a, str>,
    /// `None`: no event of this program has that name.
    event: Option<Box<Event>>,
    sealed: Option<Cow<'a, str>>,
    salt: Cow<'a, str>,
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Decoded<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DecodedVisitor(PhantomData))
    }
}

struct DecodedVisitor<'a>(PhantomData<Decoded<'a>>);

/// Puts a value in its place, once.
fn put<E: serde::de::Error, T>(place: &mut Option<T>, key: &'static str, value: T) -> Result<(), E> {
    if place.replace(value).is_some() { Err(E::duplicate_field(key)) } else { Ok(()) }
}

impl<'de: 'a, 'a> Visitor<'de> for DecodedVisitor<'a> {
    type Value = Decoded<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry's document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Decoded<'a>, A::Error> {
        let (mut v, mut t, mut mono_ns, mut boot, mut by, mut code, mut salt) = (None, None, None, None, None, None, None);
        let (mut permit, mut permit_seq, mut session, mut session_seq, mut person, mut sealed) = (None, None, None, None, None, None);
        let (mut name, mut early): (Option<Text<'a>>, Option<&'a RawValue>) = (None, None);
        let mut event: Option<Option<Box<Event>>> = None;
        while let Some(key) = map.next_key()? {
            match key {
                Key::V => put(&mut v, "v", map.next_value()?)?,
                Key::T => put(&mut t, "t", map.next_value::<Text<'a>>()?.0)?,
                Key::MonoNs => put(&mut mono_ns, "mono_ns", map.next_value()?)?,
                Key::Boot => put(&mut boot, "boot", map.next_value::<Text<'a>>()?.0)?,
                Key::By => put(&mut by, "by", map.next_value()?)?,
                Key::Permit => put(&mut permit, "permit", map.next_value()?)?,
                Key::PermitSeq => put(&mut permit_seq, "permit_seq", map.next_value()?)?,
                Key::Session => put(&mut session, "session", map.next_value()?)?,
                Key::SessionSeq => put(&mut session_seq, "session_seq", map.next_value()?)?,
                Key::Person => put(&mut person, "person", map.next_value()?)?,
                Key::Code => put(&mut code, "code", map.next_value::<Text<'a>>()?.0)?,
                Key::Event => put(&mut name, "event", map.next_value::<Text<'a>>()?)?,
                Key::Data => match &name {
                    Some(Text(name)) if is_known(name) => {
                        let parts = NameAndData { name: Some(name), data: Some(&mut map) };
                        put(&mut event, "data", Some(Box::new(Event::deserialize(MapAccessDeserializer::new(parts))?)))?;
                    }
                    Some(_) => {
                        let IgnoredAny = map.next_value()?;
                        put(&mut event, "data", None)?;
                    }
                    None => put(&mut early, "data", map.next_value()?)?,
                },
                Key::Sealed => put(&mut sealed, "sealed", map.next_value::<Option<Text<'a>>>()?.map(|text| text.0))?,
                Key::Salt => put(&mut salt, "salt", map.next_value::<Text<'a>>()?.0)?,
            }
        }
        let missing = serde::de::Error::missing_field;
        let name = name.ok_or_else(|| missing("event"))?.0;
        // No ledger of ours writes the data before the event's name, but as JSON it is the same document.
        let event = match (event, early) {
            (Some(event), None) => event,
            (None, Some(data)) if is_known(&name) => Some(Box::new(with_name(&name, data).map_err(serde::de::Error::custom)?)),
            (None, Some(_)) => None,
            (None, None) => return Err(missing("data")),
            (Some(_), Some(_)) => return Err(serde::de::Error::duplicate_field("data")),
        };
        Ok(Decoded {
            v: v.ok_or_else(|| missing("v"))?,
            t: t.ok_or_else(|| missing("t"))?,
            mono_ns: mono_ns.ok_or_else(|| missing("mono_ns"))?,
            boot: boot.ok_or_else(|| missing("boot"))?,
            by: by.ok_or_else(|| missing("by"))?,
            permit: permit.flatten(),
            permit_seq: permit_seq.flatten(),
            session: session.flatten(),
            session_seq: session_seq.flatten(),
            person: person.flatten(),
            code: code.ok_or_else(|| missing("code"))?,
            name,
            event,
            sealed: sealed.flatten(),
            salt: salt.ok_or_else(|| missing("salt"))?,
        })
    }
}

fn is_known(name: &str) -> bool {
    Event::TABLE.iter().any(|(known, ..)| *known == name)
}

/// An event of a known name, from data that was set aside.
fn with_name(name: &str, data: &RawValue) -> serde_json::Result<Event> {
    Event::deserialize(serde_json::json!({ "event": name, "data": serde_json::from_str::<Value>(data.get())? }))
}

impl Body {
    /// Names the person by her pseudonym and seals what is private. `nonce` is random, and used for nothing else.
    ///
    /// # Errors
    /// [`EntryError::Unknown`]: a private field is missing. [`EntryError::Malformed`]: the event can't be written as JSON.
    pub fn new(draft: &Draft, key: &PersonalKey, nonce: &[u8; NONCE_BYTES]) -> Result<Self, EntryError> {
        Self::named(draft, draft.person.as_ref().map(|person| key.pseudonym(person)), key, nonce)
    }

    /// The same, for who has computed the person's pseudonym before: it is the key's name for `draft.person`.
    ///
    /// # Errors
    /// As [`Body::new`].
    pub fn named(draft: &Draft, pseudonym: Option<Pseudonym>, key: &PersonalKey, nonce: &[u8; NONCE_BYTES]) -> Result<Self, EntryError> {
        let Draft { permit, session, person: _, event } = draft;
        let mut text = Vec::with_capacity(BODY_BYTES);
        // Nothing that is written here needs an escape: ids and codes have no such characters.
        let permit_end = permit.as_ref().map(|permit| {
            text.extend_from_slice(b"\"permit\":\"");
            text.extend_from_slice(permit.as_str().as_bytes());
            text.push(b'"');
            text.len()
        });
        let session_end = session.map(|session| {
            let _never_fails = write!(text, "\"session\":\"{session}\"");
            text.len()
        });
        if let Some(pseudonym) = pseudonym {
            let _never_fails = write!(text, "\"person\":\"{pseudonym}\",");
        }
        text.extend_from_slice(b"\"code\":\"");
        text.extend_from_slice(event.code().as_bytes());
        text.extend_from_slice(b"\",");
        let mut sealed = Vec::with_capacity(BOX_BYTES);
        sealed.extend_from_slice(nonce);
        if let Err(field) = event.write_private(&mut sealed) {
            sealed.zeroize();
            return Err(EntryError::Unknown { event: event.name(), field });
        }
        let is_private = sealed.len() > NONCE_BYTES;
        // Sealed before anything else can fail: from here on nothing private stands open.
        if is_private {
            key.seal(event.name(), &mut sealed).ok_or(EntryError::Unsealed(event.name()))?;
        }
        let begin = text.len();
        if is_private {
            serde_json::to_writer(&mut text, &event.without_private())?;
        } else {
            serde_json::to_writer(&mut text, event)?;
        }
        // The event is an object of its own, whose members become the entry's.
        text.remove(begin);
        text.pop();
        if is_private {
            text.extend_from_slice(b",\"sealed\":\"");
            let begin = text.len();
            text.resize(begin + sealed.len().div_ceil(3) * 4, 0);
            STANDARD.encode_slice(sealed, &mut text[begin..]).map_err(|_| EntryError::Unsealed(event.name()))?;
            text.push(b'"');
        }
        Ok(Self { by: event.writer(), text, permit_end, session_end })
    }

    /// Where the document goes on after the permit and the session.
    fn rest_at(&self) -> usize {
        self.session_end.or(self.permit_end).unwrap_or(0)
    }

    /// The entry's bytes.
    ///
    /// # Errors
    /// [`EntryError::TooLong`] beyond [`ENTRY_BYTES_MAX`]; [`EntryError::Counters`] when the stamp does not fit the draft;
    /// [`EntryError::Boot`] when its boot id is none.
    pub fn encode(&self, stamp: &Stamp) -> Result<Vec<u8>, EntryError> {
        let mut bytes = Vec::with_capacity(256 + self.text.len());
        self.encode_to(stamp, &mut bytes)?;
        Ok(bytes)
    }

    /// Adds the entry's bytes to others.
    ///
    /// # Errors
    /// As [`Body::encode`]; `bytes` is as it was.
    pub fn encode_to(&self, stamp: &Stamp, bytes: &mut Vec<u8>) -> Result<(), EntryError> {
        let begin = bytes.len();
        let encoded = self.encode_parts(stamp, bytes).and_then(|()| match bytes.len() - begin {
            length if length > ENTRY_BYTES_MAX => Err(EntryError::TooLong(length)),
            _ => Ok(()),
        });
        if encoded.is_err() {
            bytes.truncate(begin);
        }
        encoded
    }

    fn encode_parts(&self, stamp: &Stamp, bytes: &mut Vec<u8>) -> Result<(), EntryError> {
        let Stamp { time, mono_ns, boot, permit_seq, session_seq, salt } = stamp;
        if !is_boot_id(boot) {
            return Err(EntryError::Boot);
        }
        // Nothing that is written here needs an escape: ids, a boot id and base 64 have no such characters.
        bytes.extend_from_slice(b"{\"v\":1,\"t\":\"");
        time::push_time(bytes, *time);
        bytes.extend_from_slice(b"\",\"mono_ns\":");
        push_number(bytes, *mono_ns);
        bytes.extend_from_slice(b",\"boot\":\"");
        bytes.extend_from_slice(boot.as_bytes());
        bytes.extend_from_slice(b"\",\"by\":\"");
        bytes.extend_from_slice(self.by.name().as_bytes());
        bytes.extend_from_slice(b"\",");
        let mut begin = 0;
        for (end, seq, key) in [(self.permit_end, permit_seq, &b",\"permit_seq\":"[..]), (self.session_end, session_seq, b",\"session_seq\":")] {
            match (end, seq) {
                (Some(end), Some(seq)) => {
                    bytes.extend_from_slice(&self.text[begin..end]);
                    bytes.extend_from_slice(key);
                    push_number(bytes, *seq);
                    bytes.push(b',');
                    begin = end;
                }
                (None, None) => {}
                _ => return Err(EntryError::Counters),
            }
        }
        bytes.extend_from_slice(&self.text[self.rest_at()..]);
        bytes.extend_from_slice(b",\"salt\":\"");
        let mut text = [0; 24];
        let length = STANDARD.encode_slice(salt, &mut text).expect("16 bytes are 24 characters in base 64");
        bytes.extend_from_slice(&text[..length]);
        bytes.extend_from_slice(b"\"}");
        Ok(())
    }
}

/// Adds a number in decimal.
fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    // 2^64 has 20 digits.
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&digits[at..]);
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
        // Of a text that is known to be UTF-8 no string need be looked at again.
        let shape = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(bytes),
        };
        let shape: Decoded<'_> = match shape {
            Ok(shape) => shape,
            Err(error) => return Err(newer_version(bytes).map_or(EntryError::Malformed(error), EntryError::Version)),
        };
        let Decoded { v, t, mono_ns, boot, by, permit, permit_seq, session, session_seq, person, code, name, event, sealed, salt } = shape;
        if v != VERSION {
            return Err(EntryError::Version(v));
        }
        let Some(event) = event else {
            return Err(EntryError::UnknownEvent { event: name.into_owned(), code: code.into_owned() });
        };
        if event.code() != code || event.writer() != by {
            return Err(EntryError::Mismatch { event: event.name(), code: code.into_owned(), by });
        }
        if permit.is_some() != permit_seq.is_some() || session.is_some() != session_seq.is_some() {
            return Err(EntryError::Counters);
        }
        match (event.privacy(), &sealed) {
            (Privacy::Nothing, None) | (Privacy::Sealed, Some(_)) => {}
            (Privacy::Sealed, None) if event.gained_private() => {}
            _ => return Err(EntryError::Unsealed(event.name())),
        }
        let sealed = sealed.map(|sealed| STANDARD.decode(sealed.as_bytes())).transpose().map_err(|_| EntryError::Unsealed(event.name()))?;
        if !is_boot_id(&boot) {
            return Err(EntryError::Boot);
        }
        let time = time::parse_time(&t).ok_or(EntryError::Time)?;
        let salt = parse_salt(&salt).ok_or(EntryError::Salt)?;
        let boot = boot.into_owned();
        Ok(Self { permit, session, person, event, sealed, stamp: Stamp { time, mono_ns, boot, permit_seq, session_seq, salt } })
    }

    /// The draft that it was made of; `None` if the key is another, or `persons` does not have its pseudonym.
    #[must_use]
    pub fn open(&self, key: &PersonalKey, persons: &BTreeMap<Pseudonym, HolderId>) -> Option<Draft> {
        let event = match &self.sealed {
            Some(sealed) => self.event.with_private(serde_json::from_slice(&key.open(self.event.name(), sealed)?).ok()?)?,
            None if self.event.gained_private() => (*self.event).clone(),
            None => self.event.with_private(Map::new())?,
        };
        let person = match &self.person {
            Some(pseudonym) => Some(persons.get(pseudonym)?.clone()),
            None => None,
        };
        Some(Draft { permit: self.permit.clone(), session: self.session, person, event })
    }
}

/// An event as its derived reader wants it, an object of name and data in this order, while its data is read from the entry's own.
struct NameAndData<'n, 'm, A> {
    name: Option<&'n str>,
    data: Option<&'m mut A>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for NameAndData<'_, '_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Self::Error> {
        let key: Option<StrDeserializer<'_, Self::Error>> = match self {
            Self { name: Some(_), .. } => Some("event".into_deserializer()),
            Self { data: Some(_), .. } => Some("data".into_deserializer()),
            _ => None,
        };
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Self::Error> {
        match (self.name.take(), &mut self.data) {
            (Some(name), _) => seed.deserialize::<StrDeserializer<'_, Self::Error>>(name.into_deserializer()),
            (None, data) => match data.take() {
                Some(map) => map.next_value_seed(seed),
                None => Err(serde::de::Error::custom("an event has a name and data, and nothing more")),
            },
        }
    }
}

fn parse_salt(text: &str) -> Option<[u8; 16]> {
    // 24 characters, the last two of them padding.
    let mut bytes = [0; 18];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

fn is_boot_id(boot: &str) -> bool {
    boot.len() <= BOOT_BYTES_MAX && boot.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

/// The version of a document that is well-formed but of a later version, which may have other keys.
fn newer_version(bytes: &[u8]) -> Option<u32> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value.get("v")?.as_u64().and_then(|v| u32::try_from(v).ok()).filter(|v| *v > VERSION)
}
