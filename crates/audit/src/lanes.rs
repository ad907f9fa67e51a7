//! SHA-256 of many messages side by side: leaf hashes of a bundle, node hashes of a row, digests of chunks.
//!
//! A log's hashes do not depend on each other, so a vector unit works on 16 (AVX-512) or 8 (AVX2) messages at once, each in a lane of
//! its own. What the processor has is asked once, at run time; without vectors, or for a few messages, the `sha2` crate does it, which
//! uses SHA-NI where there is one. AVX2 beside SHA-NI would be slower than SHA-NI alone and is left out.
//!
//! Gives the same bits as `sha2`, always; it makes nothing but hashes.

use crate::merkle::{Hash, node_hash, sha256};

#[cfg(not(target_arch = "x86_64"))]
mod none;
#[cfg(target_arch = "x86_64")]
mod vectors;
#[cfg(not(target_arch = "x86_64"))]
use none as vectors;
use vectors::{BLOCK_BYTES, Blocks, LANES_MAX, States, Unit};

/// After a message: one byte 0x80, and at the end eight bytes of length in bits.
const PADDING_BYTES: usize = 9;

/// How messages are hashed: on a vector unit or, without, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes(Option<Unit>);

/// The leaf hash of each entry.
#[must_use]
pub fn leaf_hashes(entries: &[&[u8]]) -> Vec<Hash> {
    Lanes::best().leaf_hashes(entries)
}

/// The row of nodes above this one: of each two neighbours, their node hash. A last one without neighbour is left out.
#[must_use]
pub fn node_hashes(row: &[Hash]) -> Vec<Hash> {
    Lanes::best().node_hashes(row)
}

/// SHA-256 over each message.
#[must_use]
pub fn digests(messages: &[&[u8]]) -> Vec<Hash> {
    Lanes::best().digests(messages)
}

impl Lanes {
    /// The fastest way here.
    #[must_use]
    pub fn best() -> Self {
        Self(Unit::best())
    }

    /// Every way that works here, so that tests can compare them.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(None).chain(Unit::all().map(Some)).map(Self)
    }

    /// Messages at once.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.map_or(1, Unit::lanes)
    }

    /// The leaf hash of each entry (RFC 6962, 2.1).
    #[must_use]
    pub fn leaf_hashes(self, entries: &[&[u8]]) -> Vec<Hash> {
        self.hashes(&[0], entries)
    }

    /// SHA-256 over each message.
    #[must_use]
    pub fn digests(self, messages: &[&[u8]]) -> Vec<Hash> {
        self.hashes(&[], messages)
    }

    /// The node hash of each two neighbours; a last one without neighbour is left out.
    #[must_use]
    pub fn node_hashes(self, row: &[Hash]) -> Vec<Hash> {
        let (pairs, _) = row.as_chunks::<2>();
        let (count, mut nodes) = (self.count(), Vec::with_capacity(pairs.len()));
        for pairs in pairs.chunks(count) {
            let Some(unit) = self.worthwhile(pairs.len()) else {
                nodes.extend(pairs.iter().map(|[left, right]| node_hash(left, right)));
                continue;
            };
            let mut blocks: [Blocks; 2] = [[[0; BLOCK_BYTES]; LANES_MAX]; 2];
            let [firsts, seconds] = &mut blocks;
            for (([left, right], first), second) in pairs.iter().zip(firsts).zip(seconds) {
                // 65 bytes: the last is alone in the second block.
                first[0] = 1;
                first[1..33].copy_from_slice(left.as_bytes());
                first[33..].copy_from_slice(&right.as_bytes()[..31]);
                second[0] = right.as_bytes()[31];
                second[1] = 0x80;
                second[56..].copy_from_slice(&(65_u64 * 8).to_be_bytes());
            }
            let mut states = new_states();
            blocks.iter().for_each(|blocks| unit.compress(&mut states, blocks));
            nodes.extend((0..pairs.len()).map(|lane| digest(&states, lane)));
        }
        nodes
    }

    fn hashes(self, prefix: &[u8], messages: &[&[u8]]) -> Vec<Hash> {
        let Some(unit) = self.worthwhile(messages.len()) else {
            return messages.iter().map(|message| sha256(&[prefix, message])).collect();
        };
        let mut hashes = vec![Hash::from_bytes([0; 32]); messages.len()];
        let mut waiting = messages.iter().enumerate().map(|(index, message)| Job { index, prefix, message, next: 0 });
        let mut jobs: [Option<Job<'_>>; LANES_MAX] = [const { None }; LANES_MAX];
        jobs.iter_mut().take(self.count()).for_each(|lane| *lane = waiting.next());
        let (mut states, mut blocks): (_, Blocks) = (new_states(), [[0; BLOCK_BYTES]; LANES_MAX]);
        while jobs.iter().any(Option::is_some) {
            for (job, block) in jobs.iter_mut().zip(&mut blocks) {
                if let Some(job) = job {
                    job.fill(block);
                }
            }
            unit.compress(&mut states, &blocks);
            for (lane, slot) in jobs.iter_mut().enumerate() {
                if let Some(job) = slot.as_ref().filter(|job| job.is_done()) {
                    hashes[job.index] = digest(&states, lane);
                    states.iter_mut().zip(INITIAL).for_each(|(words, initial)| words[lane] = initial);
                    *slot = waiting.next();
                }
            }
        }
        hashes
    }

    /// The vector unit, if that many messages fill enough of its lanes to beat one after the other.
    fn worthwhile(self, messages: usize) -> Option<Unit> {
        self.0.filter(|unit| messages >= unit.worthwhile_from())
    }
}

/// A message on its way through a lane.
struct Job<'m> {
    index: usize,
    prefix: &'m [u8],
    message: &'m [u8],
    /// The block that comes next.
    next: usize,
}

impl Job<'_> {
    const fn length(&self) -> usize {
        self.prefix.len() + self.message.len()
    }

    const fn is_done(&self) -> bool {
        self.next * BLOCK_BYTES >= self.length() + PADDING_BYTES
    }

    /// The next block of: prefix, message, 0x80, zeroes, length in bits (FIPS 180-4, 5.1.1).
    fn fill(&mut self, block: &mut [u8; BLOCK_BYTES]) {
        let (begin, length) = (self.next * BLOCK_BYTES, self.length());
        self.next += 1;
        let inside = begin.checked_sub(self.prefix.len()).and_then(|at| self.message.get(at..)?.first_chunk());
        if let Some(bytes) = inside {
            *block = *bytes;
            return;
        }
        *block = [0; BLOCK_BYTES];
        let prefix = self.prefix.get(begin..).unwrap_or_default();
        let message = self.message.get(begin.saturating_sub(self.prefix.len())..).unwrap_or_default();
        let (head, tail) = block.split_at_mut(prefix.len());
        head.copy_from_slice(prefix);
        let taken = message.len().min(tail.len());
        tail[..taken].copy_from_slice(&message[..taken]);
        if let Some(end) = length.checked_sub(begin).and_then(|end| block.get_mut(end)) {
            *end = 0x80;
        }
        if self.is_done() {
            block[BLOCK_BYTES - 8..].copy_from_slice(&(length as u64 * 8).to_be_bytes());
        }
    }
}

/// The first 32 bits of the fractional parts of the square roots of the first eight primes (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

fn new_states() -> States {
    INITIAL.map(|word| [word; LANES_MAX])
}

fn digest(states: &States, lane: usize) -> Hash {
    let mut bytes = [0; 32];
    bytes.as_chunks_mut::<4>().0.iter_mut().zip(states).for_each(|(bytes, words)| *bytes = words[lane].to_be_bytes());
    Hash::from_bytes(bytes)
}
