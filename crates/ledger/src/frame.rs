//! The write-ahead log's frames: the entries of one sync, chained to the frame before. Bytes in, values out; no files.
//!
//! ```text
//!   0  "SULKUWL2"                 40  u32 chunks in it
//!   8  16 bytes segment's epoch   44  u32 length of the chunks
//!  24  u64 first entry            48  hash of the frame before (zeroes in the log's first)
//!  32  u32 entries in it          80  hash: SHA-256 over bytes 0 to 80, the leaf hash of every entry and the SHA-256 of every chunk
//!  36  u32 length of the entries 112  u32 CRC32C over bytes 0 to 112 and over the entries and chunks
//! 116  of each entry u16 length, bytes; of each chunk u32 length, bytes; zeroes to the next multiple of 4,096    (big endian)
//! ```
//!
//! Chunks are the pieces of recordings that `recording.chunk` entries of the frame name, in their order: one sync makes both durable.
//! The CRC finds a torn frame quickly; the hash commits to every byte, by hashes that are needed anyway. The epoch is a random number
//! that a segment gets when it is taken into use, so that bytes from its earlier use, or from within somebody's recording, are no frame.

use jiff::Timestamp;
use sulku_audit::counters::Chunk;
use sulku_audit::lanes::leaf_hashes;
use sulku_audit::merkle::{leaf_hash, sha256};
use sulku_audit::tile::{EntryTooLong, split_entry};
use sulku_audit::wire::BLOB_BYTES_MAX;
use sulku_audit::{Draft, Hash};

use crate::disk::{Aligned, BLOCK_BYTES};

pub(crate) const MAGIC: &[u8; 8] = b"SULKUWL2";
const HEAD_BYTES: usize = 116;
const HASHED_HEAD_BYTES: usize = 80;
const CRC_AT: usize = 112;
/// After this much no more is added to a frame: the first entry in it should not wait long.
pub(crate) const FULL_BYTES: usize = 1 << 20;
/// The largest body: nearly full, and then one entry with the largest chunk.
pub(crate) const BODY_BYTES_MAX: usize = FULL_BYTES + (64 << 10) + BLOB_BYTES_MAX;
/// The largest frame.
pub(crate) const FRAME_BYTES_MAX: usize = (HEAD_BYTES + BODY_BYTES_MAX).next_multiple_of(BLOCK_BYTES);

/// The hash before the log's first frame.
pub(crate) const NO_FRAME: Hash = Hash::from_bytes([0; 32]);

/// Of a segment: 16 random bytes, new each time that its file is taken into use.
pub(crate) type Epoch = [u8; 16];

/// A frame as found: it is whole, its check and its hash are right, and its padding is zeroes.
#[derive(Debug)]
pub(crate) struct Frame<'b> {
    /// The number of its first entry.
    pub(crate) first: u64,
    /// The hash of the frame before.
    pub(crate) previous: Hash,
    /// Its own.
    pub(crate) hash: Hash,
    /// Each entry's bytes and leaf hash; never empty.
    pub(crate) entries: Vec<(&'b [u8], Hash)>,
    /// Each chunk's bytes and SHA-256.
    pub(crate) chunks: Vec<(&'b [u8], Hash)>,
    /// Its length in bytes, padding included.
    pub(crate) length: usize,
}

impl<'b> Frame<'b> {
    /// The frame that begins with these bytes; `None` when no whole one of this epoch does.
    pub(crate) fn parse(bytes: &'b [u8], epoch: &Epoch) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD_BYTES>()?;
        if &head[..8] != MAGIC || &head[8..24] != epoch {
            return None;
        }
        let number = |from: usize, to: usize| head[from..to].iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let hash = |from: usize| Some(Hash::from_bytes(head[from..from + 32].try_into().ok()?));
        let size = |from: usize| usize::try_from(number(from, from + 4)).ok();
        let (first, entry_count, entries_length) = (number(24, 32), size(32)?, size(36)?);
        let (chunk_count, chunks_length) = (size(40)?, size(44)?);
        let body_end = HEAD_BYTES + entries_length + chunks_length;
        if entry_count == 0 || body_end > FRAME_BYTES_MAX {
            return None;
        }
        let length = body_end.next_multiple_of(BLOCK_BYTES);
        let (body, padding) = bytes.get(HEAD_BYTES..length)?.split_at(entries_length + chunks_length);
        if u64::from(compute_crc(head, &[body])) != number(CRC_AT, HEAD_BYTES) || padding.iter().any(|byte| *byte != 0) {
            return None;
        }
        let (previous, found_hash) = (hash(48)?, hash(HASHED_HEAD_BYTES)?);
        let (entries, chunks) = body.split_at(entries_length);
        let entries = split_all(entries, split_entry, leaf_hash)?;
        let chunks = split_all(chunks, split_chunk, |chunk| sha256(&[chunk]))?;
        let hashes = entries.iter().chain(&chunks).map(|(_, hash)| hash);
        let right = entries.len() == entry_count && chunks.len() == chunk_count && compute_hash(&head[..HASHED_HEAD_BYTES], hashes) == found_hash;
        if right { Some(Self { first, previous, hash: found_hash, entries, chunks, length }) } else { None }
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
    /// The entries' leaf hashes, from [`Contents::hash`] on.
    pub(crate) hashes: Vec<Hash>,
    /// The chunks of recordings that the entries name.
    pub(crate) chunks: Vec<(Chunk, Vec<u8>)>,
    /// What the entries are about and when they were made, once they are durable: for the counters of snapshots.
    pub(crate) counted: Vec<(Box<Draft>, Timestamp)>,
}

impl Contents {
    /// Nothing yet, with room for entries of so many bytes.
    pub(crate) fn with_room_for(entries_bytes: usize) -> Self {
        Self { entries: Vec::with_capacity(entries_bytes), ..Self::default() }
    }

    /// Adds an entry, which `write` writes to where it is kept, after all that is there.
    pub(crate) fn push_with<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E>
    where
        E: From<EntryTooLong>,
    {
        let begin = self.entries.len();
        self.entries.extend_from_slice(&[0; 2]);
        let pushed = write(&mut self.entries).and_then(|()| {
            let length = self.entries.len() - begin - 2;
            let length = u16::try_from(length).map_err(|_| EntryTooLong(length))?;
            self.entries[begin..begin + 2].copy_from_slice(&length.to_be_bytes());
            Ok(())
        });
        if pushed.is_err() {
            self.entries.truncate(begin);
        }
        pushed
    }

    /// Adds the chunk that the last entry names.
    pub(crate) fn push_chunk(&mut self, chunk: Chunk, bytes: Vec<u8>) {
        self.chunks.push((chunk, bytes));
    }

    /// Hashes the entries, all together: side by side they take a quarter of the time that one after the other does. To be called when
    /// nothing more is pushed.
    pub(crate) fn hash(&mut self) {
        let (mut entries, mut rest) = (Vec::new(), self.entries.as_slice());
        while let Some((entry, after)) = split_entry(rest) {
            entries.push(entry);
            rest = after;
        }
        self.hashes = leaf_hashes(&entries);
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() + self.chunks_bytes()
    }

    fn chunks_bytes(&self) -> usize {
        self.chunks.iter().map(|(_, bytes)| 4 + bytes.len()).sum()
    }

    /// How much of a segment its frame takes.
    pub(crate) fn frame_bytes(&self) -> usize {
        (HEAD_BYTES + self.bytes()).next_multiple_of(BLOCK_BYTES)
    }

    /// Writes the frame into memory, and gives its hash. A chunk's SHA-256 was compared with its bytes when the entry was taken.
    pub(crate) fn frame(&self, epoch: &Epoch, first: u64, previous: &Hash, frame: &mut Aligned) -> Hash {
        let chunks_length = self.chunks_bytes();
        frame.begin(self.frame_bytes());
        frame.extend(MAGIC);
        frame.extend(epoch);
        frame.extend(&first.to_be_bytes());
        for number in [self.hashes.len(), self.entries.len(), self.chunks.len(), chunks_length] {
            frame.extend(&(number as u32).to_be_bytes());
        }
        frame.extend(previous.as_bytes());
        let hash = compute_hash(frame.bytes(), self.hashes.iter().chain(self.chunks.iter().map(|(chunk, _)| &chunk.sha256)));
        frame.extend(hash.as_bytes());
        frame.extend(&[0; 4]);
        frame.extend(&self.entries);
        for (_, bytes) in &self.chunks {
            frame.extend(&(bytes.len() as u32).to_be_bytes());
            frame.extend(bytes);
        }
        let (head, body) = frame.bytes().split_at(HEAD_BYTES);
        let crc = compute_crc(head, &[body]);
        frame.bytes_mut()[CRC_AT..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        frame.pad();
        hash
    }
}

fn compute_crc(head: &[u8], body: &[&[u8]]) -> u32 {
    body.iter().fold(crc32c::crc32c(&head[..CRC_AT]), |crc, part| crc32c::crc32c_append(crc, part))
}

fn compute_hash<'h>(head: &[u8], hashes: impl Iterator<Item = &'h Hash>) -> Hash {
    let parts: Vec<&[u8]> = std::iter::once(head).chain(hashes.map(|hash| hash.as_bytes().as_slice())).collect();
    sha256(&parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sulku_audit::Part;
    use sulku_permit::SessionId;

    use super::*;

    const EPOCH: Epoch = [7; 16];

    fn frame(entries: &[Vec<u8>], chunks: &[Vec<u8>], first: u64) -> (Vec<u8>, Hash) {
        let mut contents = Contents::default();
        for (number, entry) in entries.iter().enumerate() {
            let chunk = chunks.get(number).map(|bytes| {
                let (session, sha256) = (SessionId::from_random([1; 10]), sha256(&[bytes]));
                (Chunk { session, number: 0, part: Part::Chunks, offset: 0, length: bytes.len() as u64, sha256 }, bytes.clone())
            });
            let write = |bytes: &mut Vec<u8>| -> Result<(), EntryTooLong> {
                bytes.extend_from_slice(entry);
                Ok(())
            };
            contents.push_with(write).expect("short entries");
            chunk.into_iter().for_each(|(chunk, bytes)| contents.push_chunk(chunk, bytes));
        }
        contents.hash();
        let mut aligned = Aligned::default();
        let hash = contents.frame(&EPOCH, first, &NO_FRAME, &mut aligned);
        assert_eq!(aligned.bytes().len(), contents.frame_bytes());
        (aligned.bytes().to_vec(), hash)
    }

    fn pieces(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), count)
    }

    /// What fails half way, and what is one byte too long.
    #[test]
    fn an_entry_that_is_not_taken_leaves_nothing_in_the_frame() {
        let mut contents = Contents::default();
        let entry = |length: usize| {
            move |bytes: &mut Vec<u8>| -> Result<(), EntryTooLong> {
                bytes.extend(std::iter::repeat_n(7, length));
                Ok(())
            }
        };
        contents.push_with(entry(65_535)).expect("the longest");
        let before = contents.entries.clone();
        assert_eq!(contents.push_with(entry(65_536)), Err(EntryTooLong(65_536)));
        let fails = |bytes: &mut Vec<u8>| {
            bytes.push(1);
            Err(EntryTooLong(1))
        };
        assert_eq!(contents.push_with(fails), Err(EntryTooLong(1)));
        assert_eq!(contents.entries, before);
        contents.push_with(entry(3)).expect("the control");
        contents.hash();
        assert_eq!(contents.hashes.len(), 2);
    }

    proptest! {
        #[test]
        fn a_frame_gives_back_what_it_was_made_of(entries in pieces(1..8), chunks in pieces(0..4), first: u64, rest in pieces(0..2)) {
            let chunks = &chunks[..chunks.len().min(entries.len())];
            let (mut bytes, hash) = frame(&entries, chunks, first);
            let length = bytes.len();
            bytes.extend(rest.concat());
            let frame = Frame::parse(&bytes, &EPOCH).expect("a whole frame");
            prop_assert_eq!((frame.first, frame.length, frame.hash, frame.previous), (first, length, hash, NO_FRAME));
            prop_assert_eq!(length % BLOCK_BYTES, 0);
            prop_assert!(frame.entries.iter().map(|(entry, _)| *entry).eq(entries.iter()));
            prop_assert!(frame.chunks.iter().map(|(chunk, _)| *chunk).eq(chunks.iter()));
            prop_assert!(Frame::parse(&bytes, &[8; 16]).is_none(), "a frame of another use of the segment");
        }

        /// Padding included.
        #[test]
        fn a_frame_changed_anywhere_or_cut_is_none(entries in pieces(1..4), chunks in pieces(0..2), at: prop::sample::Index, bit in 0_u8..8) {
            let chunks = &chunks[..chunks.len().min(entries.len())];
            let (bytes, _) = frame(&entries, chunks, 7);
            prop_assert!(Frame::parse(&bytes[..at.index(bytes.len())], &EPOCH).is_none());
            let mut changed = bytes;
            *at.get_mut(&mut changed) ^= 1 << bit;
            prop_assert!(Frame::parse(&changed, &EPOCH).is_none());
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let with_magic: Vec<u8> = MAGIC.iter().chain(&EPOCH).chain(&bytes).copied().collect();
            prop_assert!(Frame::parse(&bytes, &EPOCH).is_none() && Frame::parse(&with_magic, &EPOCH).is_none());
        }
    }
}
