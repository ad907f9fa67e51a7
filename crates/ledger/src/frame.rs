//! The write-ahead log's frames: the entries of one sync, chained to the frame before. Bytes in, values out; no files.
//!
//! ```text
//!  0  "SULKUWL1"        16  u32 entries in it      24  check of the frame before, 32 bytes (zeroes in the log's first)
//!  8  u64 first entry   20  u32 length of the body 56  check: SHA-256 over bytes 0 to 56 and the leaf hash of every entry
//! 88  body: of each entry u16 length, bytes        (all numbers big endian)
//! ```
//!
//! The check commits to every byte, entries by their leaf hashes, which have to be computed anyway.

use sulku_audit::Hash;
use sulku_audit::merkle::{leaf_hash, sha256};
use sulku_audit::tile::{EntryTooLong, push_entry, split_entry};

pub(crate) const MAGIC: &[u8; 8] = b"SULKUWL1";
const HEAD_BYTES: usize = 88;
const CHECKED_HEAD_BYTES: usize = 56;
/// The largest body: what one sync takes at most, and one entry more.
pub(crate) const BODY_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// The largest frame.
pub(crate) const FRAME_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// The check before the log's first frame.
pub(crate) const NO_FRAME: Hash = Hash::from_bytes([0; 32]);

/// A frame as found: it is whole, and its check is right.
#[derive(Debug)]
pub(crate) struct Frame<'b> {
    /// The number of its first entry.
    pub(crate) first: u64,
    /// The check of the frame before.
    pub(crate) previous: Hash,
    /// Its own.
    pub(crate) check: Hash,
    /// Each entry's bytes and leaf hash; never empty.
    pub(crate) entries: Vec<(&'b [u8], Hash)>,
    /// Its length in bytes.
    pub(crate) length: usize,
}

impl<'b> Frame<'b> {
    /// The frame that begins with these bytes; `None` when no whole one does.
    pub(crate) fn parse(bytes: &'b [u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let number = |from: usize, to: usize| head[from..to].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let hash = |from: usize| Some(Hash::from_bytes(head[from..from + 32].try_into().ok()?));
        let (first, count, body_length) = (number(8, 16), number(16, 20), usize::try_from(number(20, 24)).ok()?);
        if &head[..8] != MAGIC || count == 0 || body_length > BODY_BYTES_MAX {
            return None;
        }
        let (previous, check) = (hash(24)?, hash(CHECKED_HEAD_BYTES)?);
        let mut rest = bytes.get(HEAD_BYTES..HEAD_BYTES + body_length)?;
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (entry, after) = split_entry(rest)?;
            entries.push((entry, leaf_hash(entry)));
            rest = after;
        }
        let right = entries.len() as u64 == count && compute_check(&head[..CHECKED_HEAD_BYTES], entries.iter().map(|(_, hash)| hash)) == check;
        if right { Some(Self { first, previous, check, entries, length: HEAD_BYTES + body_length }) } else { None }
    }
}

/// A frame in the making.
#[derive(Debug)]
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    hashes: Vec<Hash>,
}

impl FrameBuilder {
    /// A frame without entries.
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEAD_BYTES], hashes: Vec::new() }
    }

    /// Adds an entry.
    pub(crate) fn push(&mut self, entry: &[u8], hash: Hash) -> Result<(), EntryTooLong> {
        push_entry(&mut self.bytes, entry)?;
        self.hashes.push(hash);
        Ok(())
    }

    /// The entries' leaf hashes.
    pub(crate) fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The body so far, in bytes.
    pub(crate) fn body_bytes(&self) -> usize {
        self.bytes.len() - HEAD_BYTES
    }

    /// The frame's bytes and its check.
    pub(crate) fn finish(&mut self, first: u64, previous: &Hash) -> (&[u8], Hash) {
        let body_length = self.body_bytes() as u32;
        let head = &mut self.bytes[..HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[8..16].copy_from_slice(&first.to_be_bytes());
        head[16..20].copy_from_slice(&(self.hashes.len() as u32).to_be_bytes());
        head[20..24].copy_from_slice(&body_length.to_be_bytes());
        head[24..56].copy_from_slice(previous.as_bytes());
        let check = compute_check(&head[..CHECKED_HEAD_BYTES], self.hashes.iter());
        head[56..].copy_from_slice(check.as_bytes());
        (&self.bytes, check)
    }

    /// Empties it for the next.
    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(HEAD_BYTES);
        self.hashes.clear();
    }

    /// The entries' bytes, each with its length before it.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[HEAD_BYTES..]
    }
}

fn compute_check<'h>(head: &[u8], hashes: impl Iterator<Item = &'h Hash>) -> Hash {
    let parts: Vec<&[u8]> = std::iter::once(head).chain(hashes.map(|hash| hash.as_bytes().as_slice())).collect();
    sha256(&parts)
}
