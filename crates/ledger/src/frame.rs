//! The write-ahead log's frames: the entries of one sync, chained to the frame before. Bytes in, values out; no files.
//!
//! ```text
//!  0  "SULKUWL1"               20  u32 length of the entries   32  check of the frame before (zeroes in the log's first)
//!  8  u64 first entry          24  u32 chunks in it            64  check: SHA-256 over bytes 0 to 64, the leaf hash of every
//! 16  u32 entries in it        28  u32 length of the chunks        entry and the SHA-256 of every chunk
//! 96  of each entry u16 length, bytes; then of each chunk u32 length, bytes        (all numbers big endian)
//! ```
//!
//! Chunks are the pieces of recordings that `recording.chunk` entries of the frame name, in their order: one sync makes both durable.
//! The check commits to every byte, by hashes that are needed anyway.

use sulku_audit::Hash;
use sulku_audit::counters::Chunk;
use sulku_audit::merkle::{leaf_hash, sha256};
use sulku_audit::tile::{EntryTooLong, push_entry, split_entry};
use sulku_audit::wire::BLOB_BYTES_MAX;

pub(crate) const MAGIC: &[u8; 8] = b"SULKUWL1";
const HEAD_BYTES: usize = 96;
const CHECKED_HEAD_BYTES: usize = 64;
/// After this much no more is added to a frame: the first entry in it should not wait long.
pub(crate) const FULL_BYTES: usize = 1 << 20;
/// The largest body: nearly full, and then one entry with the largest chunk.
pub(crate) const BODY_BYTES_MAX: usize = FULL_BYTES + (64 << 10) + BLOB_BYTES_MAX;
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
    /// Each chunk's bytes and SHA-256.
    pub(crate) chunks: Vec<(&'b [u8], Hash)>,
    /// Its length in bytes.
    pub(crate) length: usize,
}

impl<'b> Frame<'b> {
    /// The frame that begins with these bytes; `None` when no whole one does.
    pub(crate) fn parse(bytes: &'b [u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        let number = |from: usize, to: usize| head[from..to].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let hash = |from: usize| Some(Hash::from_bytes(head[from..from + 32].try_into().ok()?));
        let size = |from: usize| usize::try_from(number(from, from + 4)).ok();
        let (first, entry_count, entries_length) = (number(8, 16), size(16)?, size(20)?);
        let (chunk_count, chunks_length) = (size(24)?, size(28)?);
        let length = HEAD_BYTES + entries_length + chunks_length;
        if &head[..8] != MAGIC || entry_count == 0 || length > FRAME_BYTES_MAX {
            return None;
        }
        let (previous, check) = (hash(32)?, hash(CHECKED_HEAD_BYTES)?);
        let (entries, chunks) = bytes.get(HEAD_BYTES..length)?.split_at(entries_length);
        let entries = split_all(entries, split_entry, leaf_hash)?;
        let chunks = split_all(chunks, split_chunk, |chunk| sha256(&[chunk]))?;
        let hashes = entries.iter().chain(&chunks).map(|(_, hash)| hash);
        let right = entries.len() == entry_count && chunks.len() == chunk_count && compute_check(&head[..CHECKED_HEAD_BYTES], hashes) == check;
        if right { Some(Self { first, previous, check, entries, chunks, length }) } else { None }
    }
}

/// Bytes that were cut off, and the rest.
type Split<'b> = Option<(&'b [u8], &'b [u8])>;

/// Takes bytes apart until none are left; `None` when they don't come out even.
fn split_all<'b>(mut rest: &'b [u8], split: fn(&'b [u8]) -> Split<'b>, hash: impl Fn(&[u8]) -> Hash) -> Option<Vec<(&'b [u8], Hash)>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (one, after) = split(rest)?;
        found.push((one, hash(one)));
        rest = after;
    }
    Some(found)
}

fn split_chunk(bytes: &[u8]) -> Split<'_> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// The contents of a frame whose entries are durable: what is published next.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Of each entry its length in 16 bits, and its bytes.
    pub(crate) entries: Vec<u8>,
    /// The entries' leaf hashes.
    pub(crate) hashes: Vec<Hash>,
    /// The chunks of recordings that the entries name.
    pub(crate) chunks: Vec<(Chunk, Vec<u8>)>,
}

impl Contents {
    /// Adds an entry, and the chunk that it names.
    pub(crate) fn push(&mut self, entry: &[u8], hash: Hash, chunk: Option<(Chunk, Vec<u8>)>) -> Result<(), EntryTooLong> {
        push_entry(&mut self.entries, entry)?;
        self.hashes.push(hash);
        self.chunks.extend(chunk);
        Ok(())
    }

    /// How much memory, and how much of a frame, it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() + self.chunks.iter().map(|(_, bytes)| 4 + bytes.len()).sum::<usize>()
    }

    /// The frame's bytes and its check. A chunk's SHA-256 was compared with its bytes when the entry was taken.
    pub(crate) fn frame(&self, first: u64, previous: &Hash) -> (Vec<u8>, Hash) {
        let mut frame = Vec::with_capacity(HEAD_BYTES + self.bytes());
        frame.extend_from_slice(MAGIC);
        frame.extend_from_slice(&first.to_be_bytes());
        let chunks_length = self.bytes() - self.entries.len();
        for number in [self.hashes.len(), self.entries.len(), self.chunks.len(), chunks_length] {
            frame.extend_from_slice(&(number as u32).to_be_bytes());
        }
        frame.extend_from_slice(previous.as_bytes());
        let check = compute_check(&frame, self.hashes.iter().chain(self.chunks.iter().map(|(chunk, _)| &chunk.sha256)));
        frame.extend_from_slice(check.as_bytes());
        frame.extend_from_slice(&self.entries);
        for (_, bytes) in &self.chunks {
            frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            frame.extend_from_slice(bytes);
        }
        (frame, check)
    }
}

fn compute_check<'h>(head: &[u8], hashes: impl Iterator<Item = &'h Hash>) -> Hash {
    let parts: Vec<&[u8]> = std::iter::once(head).chain(hashes.map(|hash| hash.as_bytes().as_slice())).collect();
    sha256(&parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sulku_permit::SessionId;

    use super::*;

    fn contents(entries: &[Vec<u8>], chunks: &[Vec<u8>]) -> Contents {
        let mut contents = Contents::default();
        for (number, entry) in entries.iter().enumerate() {
            let chunk = chunks.get(number).map(|bytes| {
                let (session, sha256) = (SessionId::from_random([1; 10]), sha256(&[bytes]));
                (Chunk { session, offset: 0, length: bytes.len() as u64, sha256 }, bytes.clone())
            });
            contents.push(entry, leaf_hash(entry), chunk).expect("short entries");
        }
        contents
    }

    fn pieces(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), count)
    }

    proptest! {
        #[test]
        fn a_frame_gives_back_what_it_was_made_of(entries in pieces(1..8), chunks in pieces(0..4), first: u64, rest in pieces(0..2)) {
            let chunks = &chunks[..chunks.len().min(entries.len())];
            let (mut bytes, check) = contents(&entries, chunks).frame(first, &NO_FRAME);
            let length = bytes.len();
            bytes.extend(rest.concat());
            let frame = Frame::parse(&bytes).expect("a whole frame");
            prop_assert_eq!((frame.first, frame.length, frame.check, frame.previous), (first, length, check, NO_FRAME));
            prop_assert!(frame.entries.iter().map(|(entry, _)| *entry).eq(entries.iter()));
            prop_assert!(frame.chunks.iter().map(|(chunk, _)| *chunk).eq(chunks.iter()));
        }

        #[test]
        fn a_frame_changed_anywhere_or_cut_is_none(entries in pieces(1..4), chunks in pieces(0..2), at: prop::sample::Index, bit in 0_u8..8) {
            let chunks = &chunks[..chunks.len().min(entries.len())];
            let (bytes, _) = contents(&entries, chunks).frame(7, &NO_FRAME);
            prop_assert!(Frame::parse(&bytes[..at.index(bytes.len())]).is_none());
            let mut changed = bytes;
            *at.get_mut(&mut changed) ^= 1 << bit;
            prop_assert!(Frame::parse(&changed).is_none());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let with_magic: Vec<u8> = MAGIC.iter().chain(&bytes).copied().collect();
            prop_assert!(Frame::parse(&bytes).is_none() && Frame::parse(&with_magic).is_none());
        }
    }
}
