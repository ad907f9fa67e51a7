//! What names or quotes a person, and how an entry keeps it: sealed under a key that can be destroyed, the person under a pseudonym.
//!
//! ```text
//! scope       the permit that the entry is about, or "year:<year of its time>"
//! key id      first 16 bytes of SHA-256("sulku-key/1\n" ‖ scope), in hexadecimal
//! pseudonym   first 10 bytes of HMAC-SHA256(key, "sulku-person/1\n" ‖ person), in Crockford's base 32
//! box         24 bytes nonce ‖ XChaCha20-Poly1305(key, nonce, additional data = the event's name, JSON of the private fields)
//! ```
//!
//! The leaf commits to the box as it is, so a log without its keys verifies as before; nobody reads the box or names the pseudonym
//! any more. One person has one pseudonym in a permit and another in the next. Makes no keys and no nonces: they are arguments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use chacha20poly1305::aead::{Aead as _, AeadInPlace as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::Sha256;
use sulku_permit::{HolderId, PermitId, Pseudonym};
use zeroize::{Zeroize as _, Zeroizing};

use crate::entry::Entry;
use crate::merkle::{Hash, sha256};
use crate::source::{Source, SourceError};

/// Bytes of a box's nonce.
pub const NONCE_BYTES: usize = 24;
/// The longest key file: a permit lists at most 256 holders, and a year has perhaps thousands of operators' and peers' names.
pub const KEY_FILE_BYTES_MAX: usize = 1 << 20;
const HEADER: &str = "sulku-key/1";
/// Before the year in a scope's text.
const YEAR: &str = "year:";
const DESTROYED: &str = "destroyed";

/// A value that names or quotes a person: known in a draft, absent from a leaf.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Private<T>(Option<T>);

impl<T> Private<T> {
    /// The value, unless it is sealed.
    pub const fn known(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The value's place in a leaf.
    #[must_use]
    pub const fn sealed() -> Self {
        Self(None)
    }

    /// Whether the value is absent.
    pub const fn is_sealed(&self) -> bool {
        self.0.is_none()
    }
}

impl<T> From<T> for Private<T> {
    fn from(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Default for Private<T> {
    fn default() -> Self {
        Self::sealed()
    }
}

/// What is there is known, also a `null`; what is not there is [`Default`].
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Private<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

impl<T: fmt::Debug> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("(sealed)"),
        }
    }
}

/// What one key seals.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The entries about a permit.
    Permit(PermitId),
    /// The entries of this year that are about none.
    Year(i16),
}

impl Scope {
    /// What seals an entry about this permit, or about none, of that time.
    #[must_use]
    pub fn of(permit: Option<&PermitId>, time: jiff::Timestamp) -> Self {
        permit.map_or_else(|| Self::Year(time.to_zoned(jiff::tz::TimeZone::UTC).year()), |permit| Self::Permit(permit.clone()))
    }

    /// Reads what `Display` writes; `None` for anything else. No permit's id has a colon.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(YEAR) {
            Some(year) => year.parse().ok().map(Self::Year),
            None => text.parse().ok().map(Self::Permit),
        }
    }

    /// The id of its key.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let hash = sha256(&[HEADER.as_bytes(), b"\n", self.to_string().as_bytes()]).to_string();
        KeyId(hash.chars().take(KEY_ID_CHARS).collect())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permit(permit) => write!(f, "{permit}"),
            Self::Year(year) => write!(f, "{YEAR}{year}"),
        }
    }
}

const KEY_ID_CHARS: usize = 32;

/// A key's name, which tells nothing of what it seals to who does not know the permit's id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(String);

impl KeyId {
    /// Reads what `Display` writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = text.len() == KEY_ID_CHARS && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        fits.then(|| Self(text.to_owned()))
    }

    /// The key's file in the log's folder.
    #[must_use]
    pub fn path(&self) -> String {
        format!("keys/{}", self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key that seals what is private. Wiped from memory when dropped.
#[derive(Clone)]
pub struct PersonalKey(Zeroizing<[u8; 32]>);

impl PersonalKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// What entries call the person.
    #[must_use]
    pub fn pseudonym(&self, person: &HolderId) -> Pseudonym {
        let mut mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(self.0.as_ref()).expect("HMAC takes a key of any length");
        mac.update(b"sulku-person/1\n");
        mac.update(person.as_str().as_bytes());
        let hash = mac.finalize().into_bytes();
        let mut bits = [0; 10];
        bits.copy_from_slice(&hash[..10]);
        Pseudonym::from_hash(bits)
    }

    /// Makes the box of a text in its place: `sealed` is the nonce's [`NONCE_BYTES`], then the text. The nonce must be random and never used
    /// with this key before. `None` if it can't be sealed; then the text is wiped.
    pub(crate) fn seal(&self, event: &str, sealed: &mut Vec<u8>) -> Option<()> {
        let (nonce, text) = sealed.split_first_chunk_mut::<NONCE_BYTES>()?;
        let Ok(tag) = self.cipher().encrypt_in_place_detached((&*nonce).into(), event.as_bytes(), text) else {
            sealed.zeroize();
            return None;
        };
        sealed.extend_from_slice(&tag);
        Some(())
    }

    /// The text in a box; `None` if it was not sealed by this key for this event.
    pub(crate) fn open(&self, event: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        self.cipher().decrypt(nonce.into(), Payload { msg: sealed, aad: event.as_bytes() }).ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.0.as_ref().into())
    }
}

impl fmt::Debug for PersonalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PersonalKey")
    }
}

/// A key with the persons whom entries of its scope name: what the file `keys/<id>` holds, and what goes when it is destroyed.
#[derive(Debug, Clone)]
pub struct KeyFile {
    scope: String,
    key: PersonalKey,
    /// Whom the permit lists, and whoever else an entry has named.
    persons: BTreeSet<HolderId>,
}

/// What a key's file can be.
#[derive(Debug, Clone)]
pub enum KeyState {
    /// The key is there.
    Kept(KeyFile),
    /// It was destroyed.
    Destroyed,
}

/// A text that is no key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key's file: sulku-key/1, scope, key, and a line for each person")]
pub struct KeyFileForm;

impl KeyFile {
    /// A new key for a scope.
    #[must_use]
    pub fn new(scope: &Scope, key: PersonalKey) -> Self {
        Self { scope: scope.to_string(), key, persons: BTreeSet::new() }
    }

    /// What it seals.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PersonalKey {
        &self.key
    }

    /// The persons whom entries of the scope may name.
    #[must_use]
    pub const fn persons(&self) -> &BTreeSet<HolderId> {
        &self.persons
    }

    /// Adds persons; says whether any was new, so that the file is to be written again.
    pub fn add<'p>(&mut self, persons: impl IntoIterator<Item = &'p HolderId>) -> Names {
        let before = self.persons.len();
        for person in persons {
            if !self.persons.contains(person) {
                self.persons.insert(person.clone());
            }
        }
        if self.persons.len() > before { Names::New } else { Names::Known }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let key = Hash::from_bytes(*self.key.0).to_string();
        let mut text = Zeroizing::new(format!("{HEADER}\nscope {}\nkey {key}\n", self.scope));
        self.persons.iter().for_each(|person| text.push_str(&format!("person {person}\n")));
        text
    }

    /// What a destroyed key's file says.
    #[must_use]
    pub fn destroyed_text() -> String {
        format!("{HEADER}\n{DESTROYED}\n")
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`KeyFileForm`].
    pub fn parse(text: &str) -> Result<KeyState, KeyFileForm> {
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(KeyFileForm)?;
        if rest.strip_suffix('\n') == Some(DESTROYED) {
            return Ok(KeyState::Destroyed);
        }
        let mut lines = rest.strip_suffix('\n').ok_or(KeyFileForm)?.split('\n');
        let scope = lines.next().and_then(|line| line.strip_prefix("scope ")).ok_or(KeyFileForm)?;
        let key = lines.next().and_then(|line| line.strip_prefix("key ")).and_then(Hash::from_hex).ok_or(KeyFileForm)?;
        let persons: Option<BTreeSet<HolderId>> = lines.map(|line| line.strip_prefix("person ")?.parse().ok()).collect();
        let key = PersonalKey::from_random(*key.as_bytes());
        Ok(KeyState::Kept(Self { scope: scope.to_owned(), key, persons: persons.ok_or(KeyFileForm)? }))
    }
}

/// Whether persons were new to a key's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Names {
    /// At least one was.
    New,
    /// All were there.
    Known,
}

/// The keys that a reader has at hand, fetched as entries need them.
#[derive(Debug, Default)]
pub struct Keyring {
    keys: HashMap<Scope, Opened>,
}

/// What a reader can know of a scope's persons.
#[derive(Debug)]
enum Opened {
    Key(PersonalKey, BTreeMap<Pseudonym, HolderId>),
    Destroyed,
    Missing,
}

/// What a reader can see of what is private in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// All of it: the draft as its writer gave it.
    Open(Box<crate::event::Draft>),
    /// Nothing: the key was destroyed.
    Destroyed,
    /// Nothing: the key is not with this copy of the log.
    NoKey,
    /// Nothing: the box is not what this key sealed; the ledger that wrote it was not honest, or the key's file was changed.
    Damaged,
}

impl Keyring {
    /// What this reader can see of what is private in an entry.
    ///
    /// # Errors
    /// The key's file could not be read.
    pub fn open<S: Source + ?Sized>(&mut self, source: &mut S, entry: &Entry) -> Result<Sight, SourceError> {
        let scope = Scope::of(entry.permit.as_ref(), entry.stamp.time);
        Ok(match self.of(source, &scope)? {
            Opened::Key(key, persons) => entry.open(key, persons).map_or(Sight::Damaged, |draft| Sight::Open(Box::new(draft))),
            Opened::Destroyed => Sight::Destroyed,
            Opened::Missing => Sight::NoKey,
        })
    }

    /// What entries of the scope call the person; `None` without its key.
    ///
    /// # Errors
    /// The key's file could not be read.
    pub fn pseudonym<S: Source + ?Sized>(&mut self, source: &mut S, scope: &Scope, person: &HolderId) -> Result<Option<Pseudonym>, SourceError> {
        Ok(match self.of(source, scope)? {
            Opened::Key(key, _) => Some(key.pseudonym(person)),
            Opened::Destroyed | Opened::Missing => None,
        })
    }

    fn of<S: Source + ?Sized>(&mut self, source: &mut S, scope: &Scope) -> Result<&Opened, SourceError> {
        if !self.keys.contains_key(scope) {
            let path = scope.key_id().path();
            let failed = |cause: Box<dyn std::error::Error + Send + Sync>| SourceError { path: path.clone(), cause };
            let opened = match source.read(&path)? {
                None => Opened::Missing,
                Some(bytes) => match KeyFile::parse(std::str::from_utf8(&bytes).map_err(|error| failed(error.into()))?) {
                    Ok(KeyState::Kept(file)) => {
                        let names = file.persons.iter().map(|person| (file.key.pseudonym(person), person.clone())).collect();
                        Opened::Key(file.key, names)
                    }
                    Ok(KeyState::Destroyed) => Opened::Destroyed,
                    Err(error) => return Err(failed(error.into())),
                },
            };
            self.keys.insert(scope.clone(), opened);
        }
        Ok(self.keys.get(scope).expect("it was put there above"))
    }
}
