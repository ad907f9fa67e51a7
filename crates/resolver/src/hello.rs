//! The first bytes of a TLS connection: which name they give. Pure, and strict.
//!
//! A server may read what this reader did not see, or the other way round; so whatever two readers could understand differently is
//! not TLS here: a hello that shares its record with something else, an extension that comes twice, two names, bytes left over.

/// The longest hello. Those of browsers with hybrid keys have less than 2,000 bytes.
pub const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Records that one hello may be cut into. Each costs 5 bytes more.
const RECORDS_MAX: usize = 16;
/// A record's head (RFC 8446 section 5.1).
pub const RECORD_HEAD_BYTES: usize = 5;
/// The longest record that says something in the clear (RFC 8446 section 5.1).
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// The type of records with a handshake in them.
pub const HANDSHAKE: u8 = 22;
/// The type of a ClientHello (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// The extension with the name (RFC 6066 section 3).
const SERVER_NAME: u16 = 0;
/// Encrypted client hello (RFC 9849), and the draft before it that hid the name alone.
const HIDING: [u16; 2] = [0xfe0d, 0xffce];

/// What a ClientHello says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name that it gives, as its bytes are.
    pub name: Option<Vec<u8>>,
    /// Whether it has an encrypted hello, or something that looks like one.
    pub hides: Hides,
}

/// Whether a hello hides another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hides {
    /// What it says is all.
    Nothing,
    /// There is another, or random bytes in its place; nobody but the server can tell.
    Perhaps,
}

/// It is no TLS, or no such TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a ClientHello")]
pub struct NotTls;

/// Reads a hello from the beginning of these bytes, and says how many are its. `None`: it is not whole yet.
///
/// # Errors
/// [`NotTls`].
pub fn read(bytes: &[u8]) -> Result<Option<(Hello, usize)>, NotTls> {
    let mut message: Vec<u8> = Vec::new();
    let mut at = 0;
    for _ in 0..RECORDS_MAX {
        let Some((head, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<RECORD_HEAD_BYTES>) else {
            return bytes.get(at..).map_or(Err(NotTls), begins).map(|()| None);
        };
        begins(head)?;
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(NotTls);
        }
        let whole = rest.len() >= length;
        message.extend_from_slice(&rest[..length.min(rest.len())]);
        at += RECORD_HEAD_BYTES + length;
        let Some((head, body)) = message.split_first_chunk::<4>() else {
            if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
                return Err(NotTls);
            }
            if whole { continue } else { return Ok(None) }
        };
        let expected = usize::try_from(u32::from_be_bytes([0, head[1], head[2], head[3]])).map_err(|_| NotTls)?;
        if head[0] != CLIENT_HELLO || expected > HELLO_BYTES_MAX || body.len() > expected {
            return Err(NotTls);
        }
        match (whole, body.len() == expected) {
            (true, true) => return hello(body).map(|hello| Some((hello, at))).ok_or(NotTls),
            // More than the record was promised.
            (false, true) => return Err(NotTls),
            (true, false) => {}
            (false, false) => return Ok(None),
        }
    }
    Err(NotTls)
}

/// Whether a record's head, as far as it is there, is that of a handshake in TLS.
fn begins(head: &[u8]) -> Result<(), NotTls> {
    let kind = head.first().is_none_or(|kind| *kind == HANDSHAKE);
    let major = head.get(1).is_none_or(|major| *major == 3);
    if kind && major { Ok(()) } else { Err(NotTls) }
}

/// A ClientHello's body (RFC 8446 section 4.1.2), to its last byte.
fn hello(body: &[u8]) -> Option<Hello> {
    let mut rest = Rest(body);
    let version = rest.take(2)?;
    rest.take(32)?;
    let session = rest.list(1)?;
    let suites = rest.list(2)?;
    let compressions = rest.list(1)?;
    if version[0] != 3 || session.0.len() > 32 || suites.0.is_empty() || suites.0.len() % 2 != 0 || compressions.0.is_empty() {
        return None;
    }
    let mut hello = Hello { name: None, hides: Hides::Nothing };
    if rest.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = rest.list(2)?;
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = u16::from_be_bytes(extensions.take(2)?.try_into().ok()?);
        let data = extensions.list(2)?;
        seen.push(kind);
        if kind == SERVER_NAME {
            hello.name = Some(name(data)?);
        }
        if HIDING.contains(&kind) {
            hello.hides = Hides::Perhaps;
        }
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    (rest.0.is_empty() && seen.len() == count).then_some(hello)
}

/// The one name of the extension (RFC 6066 section 3).
fn name(mut data: Rest<'_>) -> Option<Vec<u8>> {
    let mut names = data.list(2)?;
    let kind = names.take(1)?;
    let name = names.list(2)?;
    (data.0.is_empty() && names.0.is_empty() && kind == [0] && !name.0.is_empty()).then(|| name.0.to_vec())
}

/// Bytes that are still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    /// A list after its length, which has so many bytes itself.
    fn list(&mut self, length_bytes: usize) -> Option<Self> {
        let length = self.take(length_bytes)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length).map(Self)
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
