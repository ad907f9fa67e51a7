//! Chunks: lines compressed, then encrypted under the session's key; and the way back.
//!
//! ```text
//! chunk   ChaCha20-Poly1305 (RFC 8439) of: method byte ‖ the lines, compressed as it says
//! method  0 as they are, 1 one zstd frame (RFC 8878)
//! nonce   4 zero bytes ‖ the chunk's number, 8 bytes; a key is for one session, so no nonce comes twice
//! AAD     "sulku-recording/1\n" ‖ session, 16 characters ‖ number, 8 bytes ‖ SHA-256 of the chunk before, 32 bytes; zeroes for the first
//! ```
//!
//! Numbers are big endian. What is opened is as large as [`LINES_BYTES_MAX`] at most, whatever a chunk claims.

use std::cell::RefCell;
use std::io::Cursor;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use sha2::{Digest as _, Sha256};
use sulku_permit::SessionId;
use zstd::bulk::{Compressor, decompress};
use zstd::zstd_safe::compress_bound;

use crate::cast::Lines;
use crate::key::SessionKey;

/// The most lines that a chunk holds, in bytes before compression: a player that seeks decrypts this much at a time, and beyond it
/// zstd gains next to nothing.
pub const LINES_BYTES_MAX: usize = 64 * 1024;
/// Fewer bytes than this are stored as they are: a keystroke's echo is not worth compressing.
const STORED_BYTES_MAX: usize = 256;
/// zstd's own default: half of what level 9 would save more is lost in time.
const LEVEL: i32 = 3;
const STORED: u8 = 0;
const ZSTD: u8 = 1;
const CONTEXT: &[u8] = b"sulku-recording/1\n";
/// Before the first chunk there is none.
const NO_CHUNK: [u8; 32] = [0; 32];

/// A chunk, ready to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// Its number in the recording, from 0.
    pub number: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 over them.
    pub sha256: [u8; 32],
}

/// Seals a session's chunks one after the other. Holds its key, which is wiped when this is dropped.
pub struct Sealer {
    key: SessionKey,
    session: SessionId,
    number: u64,
    previous: [u8; 32],
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("session", &self.session).field("number", &self.number).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Begins a session's recording.
    #[must_use]
    pub const fn new(key: SessionKey, session: SessionId) -> Self {
        Self { key, session, number: 0, previous: NO_CHUNK }
    }

    /// Chunks sealed so far.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.number
    }

    /// Seals the next chunk.
    pub fn seal(&mut self, lines: &Lines) -> SealedChunk {
        self.seal_bytes(lines.text())
    }

    fn seal_bytes(&mut self, lines: &[u8]) -> SealedChunk {
        let plain = Self::packed(lines);
        let aad = associated(&self.session, self.number, &self.previous);
        let payload = Payload { msg: &plain, aad: &aad };
        let bytes = cipher(&self.key).encrypt(&nonce(self.number), payload).expect("a chunk is far shorter than the 256 GiB that the cipher takes");
        let sha256 = sha256(&bytes);
        let chunk = SealedChunk { number: self.number, bytes, sha256 };
        (self.number, self.previous) = (self.number + 1, sha256);
        chunk
    }

    /// The method byte and the lines, whichever way is shorter.
    fn packed(lines: &[u8]) -> Vec<u8> {
        if lines.len() > STORED_BYTES_MAX {
            let mut packed = Vec::with_capacity(1 + compress_bound(lines.len()));
            packed.push(ZSTD);
            let mut packed = Cursor::new(packed);
            packed.set_position(1);
            // A buffer of the bound's size is always enough; should it fail all the same, stored is right, too.
            if compress(lines, &mut packed).is_some_and(|length| length < lines.len()) {
                return packed.into_inner();
            }
        }
        [&[STORED], lines].concat()
    }
}

thread_local! {
    /// What a frame is compressed with, some 300 KiB. Of the thread and not of the session: thousands of those sleep, and making it for each chunk takes
    /// longer than most chunks do. Each frame is its own; nothing of one session's output is in another's.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// Writes these bytes as a frame where the cursor is. Gives its length.
fn compress(bytes: &[u8], out: &mut Cursor<Vec<u8>>) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let mut compressor = match kept.take() {
            Some(compressor) => compressor,
            None => Compressor::new(LEVEL).ok()?,
        };
        let length = compressor.compress_to_buffer(bytes, out).ok()?;
        *kept = Some(compressor);
        Some(length)
    })
}

/// A chunk that can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The cipher refuses it.
    #[error("it does not open with this key at this place: it is of another recording, moved, changed, or the key is another's")]
    Sealed,
    /// It opens, and what is inside is no chunk.
    #[error("it opens, and holds no lines: {0}")]
    Content(&'static str),
}

/// Opens a chunk: the lines. `previous` is the SHA-256 of the chunk before it, `None` for the first.
///
/// # Errors
/// It is not this chunk of this recording, or the key is not this recording's.
pub fn open(key: &SessionKey, session: &SessionId, number: u64, previous: Option<&[u8; 32]>, bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
    let aad = associated(session, number, previous.unwrap_or(&NO_CHUNK));
    let plain = cipher(key).decrypt(&nonce(number), Payload { msg: bytes, aad: &aad }).map_err(|_| OpenError::Sealed)?;
    match plain.split_first() {
        Some((&STORED, lines)) if lines.len() <= LINES_BYTES_MAX => Ok(lines.to_vec()),
        Some((&ZSTD, frame)) => decompress(frame, LINES_BYTES_MAX).map_err(|_| OpenError::Content("its zstd frame is damaged or too long")),
        Some((&STORED, _)) => Err(OpenError::Content("they are too long")),
        Some(_) => Err(OpenError::Content("their method is not known here; use a newer program")),
        None => Err(OpenError::Content("it is empty")),
    }
}

/// SHA-256, as entries name chunks and wrapped keys by it.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn cipher(key: &SessionKey) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(Key::from_slice(key.expose()))
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce.into()
}

fn associated(session: &SessionId, number: u64, previous: &[u8; 32]) -> Vec<u8> {
    [CONTEXT, session.to_string().as_bytes(), &number.to_be_bytes(), previous].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SessionKey {
        SessionKey::take(&mut [byte; 32])
    }

    fn session(byte: u8) -> SessionId {
        SessionId::from_random([byte; 10])
    }

    fn sealed(parts: &[Vec<u8>]) -> Vec<SealedChunk> {
        let mut sealer = Sealer::new(key(7), session(1));
        parts.iter().map(|part| sealer.seal_bytes(part)).collect()
    }

    #[test]
    fn a_key_is_wiped_where_it_came_from_and_printed_nowhere() {
        let mut bytes = [9; 32];
        let key = SessionKey::take(&mut bytes);
        assert_eq!((bytes, format!("{key:?}")), ([0; 32], "SessionKey(..)".to_owned()));
        assert!(!format!("{:?}", Sealer::new(key, session(1))).contains('9'));
    }

    #[test]
    fn a_flood_of_the_same_shrinks_and_noise_grows_by_a_few_bytes() {
        let chunks =
            sealed(&[b"[0.1, \"o\", \"y\\r\\n\"]\n".repeat(3000), (0..4000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()]);
        assert!(chunks[0].bytes.len() < 3000, "{}", chunks[0].bytes.len());
        assert!(chunks[1].bytes.len() <= 16_000 + 17, "{}", chunks[1].bytes.len());
    }

    /// RFC 8439 has no vector for this layout; another implementation's answer, by Python's `cryptography`, stands for one.
    #[test]
    fn a_chunk_is_what_another_implementation_makes_of_it() {
        let chunk = Sealer::new(SessionKey::take(&mut std::array::from_fn(|at| at as u8)), session(1)).seal_bytes(b"{\"version\":3}\n");
        let hex: String = chunk.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, OTHERS);
    }

    const OTHERS: &str = "18c36047c894d5b87c0f7e5b9c3e44ffff917101f20eb6e828f14e254549c3";

    #[test]
    fn no_chunk_opens_at_anothers_place_or_with_anothers_key() {
        let chunks = sealed(&[b"first".to_vec(), b"second".to_vec(), b"third".to_vec()]);
        let (first, second) = (Some(&chunks[0].sha256), Some(&chunks[1].sha256));
        assert_eq!(open(&key(7), &session(1), 1, first, &chunks[1].bytes).as_deref(), Ok(&b"second"[..]), "the control");
        for (what, wrong) in [
            ("another key", open(&key(8), &session(1), 1, first, &chunks[1].bytes)),
            ("another session", open(&key(7), &session(2), 1, first, &chunks[1].bytes)),
            ("another number", open(&key(7), &session(1), 2, first, &chunks[1].bytes)),
            ("the chunk before it left out", open(&key(7), &session(1), 2, first, &chunks[2].bytes)),
            ("swapped with the next", open(&key(7), &session(1), 1, first, &chunks[2].bytes)),
            ("another before it", open(&key(7), &session(1), 1, second, &chunks[1].bytes)),
            ("none before it", open(&key(7), &session(1), 1, None, &chunks[1].bytes)),
        ] {
            assert_eq!(wrong, Err(OpenError::Sealed), "{what}");
        }
    }

    #[test]
    fn what_opens_never_grows_beyond_the_bound() {
        let bomb = zstd::bulk::compress(&vec![0; LINES_BYTES_MAX + 1], LEVEL).expect("zeroes compress");
        let plain = [&[ZSTD], bomb.as_slice()].concat();
        let aad = associated(&session(1), 0, &NO_CHUNK);
        let bytes = cipher(&key(7)).encrypt(&nonce(0), Payload { msg: &plain, aad: &aad }).expect("short");
        assert!(matches!(open(&key(7), &session(1), 0, None, &bytes), Err(OpenError::Content(_))));
    }

    proptest! {
        #[test]
        fn chunks_give_back_the_lines_in_their_order(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..600), 1..6)) {
            let mut previous = None;
            for (chunk, lines) in sealed(&parts).iter().zip(&parts) {
                let opened = open(&key(7), &session(1), chunk.number, previous.as_ref(), &chunk.bytes);
                prop_assert_eq!(opened.as_ref(), Ok(lines));
                previous = Some(chunk.sha256);
            }
        }

        #[test]
        fn a_chunk_changed_anywhere_or_cut_does_not_open(lines in proptest::collection::vec(any::<u8>(), 0..400), at: prop::sample::Index, bit in 0_u8..8) {
            let chunk = sealed(&[lines]).remove(0);
            prop_assert_eq!(open(&key(7), &session(1), 0, None, &chunk.bytes[..at.index(chunk.bytes.len())]), Err(OpenError::Sealed));
            let mut changed = chunk.bytes;
            *at.get_mut(&mut changed) ^= 1 << bit;
            prop_assert_eq!(open(&key(7), &session(1), 0, None, &changed), Err(OpenError::Sealed));
        }

        #[test]
        fn no_bytes_make_the_opener_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(open(&key(7), &session(1), 0, None, &bytes), Err(OpenError::Sealed));
        }
    }
}
