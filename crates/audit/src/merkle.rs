//! RFC 6962's Merkle tree with SHA-256: hashes, proofs that an entry is in a tree and that one tree continues another.
//!
//! Stores nothing: who makes a proof brings the nodes ([`Nodes`]), who checks one needs the proof alone. A check returns a value
//! ([`Included`], [`Continued`]) which the next step can demand; none returns a `bool`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// A SHA-256 hash of the tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of these 32 bytes' value (not the hash *over* them).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As checkpoints and proofs write it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// Reads what [`Hash::to_base64`] writes; `None` for anything else.
    #[must_use]
    pub fn from_base64(text: &str) -> Option<Self> {
        Some(Self(STANDARD.decode(text).ok()?.try_into().ok()?))
    }

    /// Reads 64 lower-case hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0_u8; 32];
        if text.len() != 64 {
            return None;
        }
        for (pair, byte) in text.as_bytes().chunks_exact(2).zip(&mut bytes) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// SHA-256 over bytes, outside the tree: of recordings' chunks and of the write-ahead log's frames.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> Hash {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    Hash(hasher.finalize().into())
}

/// The hash of an entry's bytes. The 0 in front keeps a leaf from passing for a node (RFC 6962, 2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    sha256(&[&[0], entry])
}

/// The hash of two subtrees.
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], &left.0, &right.0])
}

/// The root of the tree without entries.
#[must_use]
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// Whoever can give the hash of a full subtree: node `index` of `level` covers the entries from `index << level` to
/// `(index + 1) << level`.
pub trait Nodes {
    /// Why a node could not be had.
    type Error;
    /// The node's hash.
    ///
    /// # Errors
    /// The node could not be had.
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over the first `size` entries.
///
/// # Errors
/// A node could not be had.
pub fn root<N: Nodes>(nodes: &mut N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(empty_root()) } else { range(nodes, 0, size) }
}

/// The proof that entry `index` is in the tree of `size` entries, lowest sibling first. Empty unless `index < size`.
///
/// # Errors
/// A node could not be had.
pub fn inclusion_proof<N: Nodes>(nodes: &mut N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut low, mut high, mut proof) = (0, size, Vec::new());
    while index < size && high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// The proof that the tree of `new` entries continues the tree of `old`. Empty unless `0 < old < new`.
///
/// # Errors
/// A node could not be had.
pub fn consistency_proof<N: Nodes>(nodes: &mut N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut low, mut high, mut proof) = (0, new, Vec::new());
    if old == 0 || old >= new {
        return Ok(proof);
    }
    while old < high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    if low > 0 {
        proof.push(range(nodes, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The hash over the entries from `low` to `high`, where `low` is a multiple of a power of two not below `high - low`.
fn range<N: Nodes>(nodes: &mut N, mut low: u64, high: u64) -> Result<Hash, N::Error> {
    let mut subtrees = Vec::new();
    while low < high {
        let level = (high - low).ilog2();
        subtrees.push(nodes.node(level, low >> level)?);
        low += 1 << level;
    }
    let last = subtrees.pop().unwrap_or_else(empty_root);
    Ok(subtrees.iter().rev().fold(last, |right, left| node_hash(left, &right)))
}

/// The largest power of two below `count`, which is at least 2.
const fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// A proof that does not prove it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// There is no such entry in a tree of that size, or the new tree is smaller than the old.
    #[error("{0} lies outside a tree of {1} entries")]
    OutOfRange(u64, u64),
    /// The proof has too few or too many hashes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// Entry `index` is in the tree of `size` entries.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Included {
    index: u64,
    size: u64,
}

impl Included {
    /// The entry's number.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Entries in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// Checks that the entry with `leaf` is number `index` of the tree with this root (RFC 9162, 2.1.3.2).
///
/// # Errors
/// It is not, or the proof does not show it.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> Result<Included, MerkleError> {
    if index >= size {
        return Err(MerkleError::OutOfRange(index, size));
    }
    let (mut position, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return Err(MerkleError::Length);
        }
        if position & 1 == 1 || position == last {
            hash = node_hash(sibling, &hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    match (last == 0, hash == *root) {
        (false, _) => Err(MerkleError::Length),
        (true, false) => Err(MerkleError::Root),
        (true, true) => Ok(Included { index, size }),
    }
}

/// The tree of `new` entries begins with the tree of `old`.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Continued {
    old: u64,
    new: u64,
}

impl Continued {
    /// Entries in the older tree and in the newer.
    #[must_use]
    pub const fn sizes(&self) -> (u64, u64) {
        (self.old, self.new)
    }
}

/// Checks that the tree (`new`, `new_root`) begins with the tree (`old`, `old_root`) (RFC 9162, 2.1.4.2).
///
/// # Errors
/// It does not, or the proof does not show it.
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> Result<Continued, MerkleError> {
    if old > new {
        return Err(MerkleError::OutOfRange(old, new));
    }
    if old == 0 || old == new {
        let expected = if old == 0 { empty_root() } else { *new_root };
        return match (proof.is_empty(), *old_root == expected) {
            (false, _) => Err(MerkleError::Length),
            (true, false) => Err(MerkleError::Root),
            (true, true) => Ok(Continued { old, new }),
        };
    }
    // A tree of 2^n entries is itself a node of the larger one, so the proof leaves it out.
    let (first, rest) = if old.is_power_of_two() { (old_root, proof) } else { proof.split_first().ok_or(MerkleError::Length)? };
    let shift = (old - 1).trailing_ones();
    let (mut position, mut last) = ((old - 1) >> shift, (new - 1) >> shift);
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(MerkleError::Length);
        }
        if position & 1 == 1 || position == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    match (last == 0, old_hash == *old_root && new_hash == *new_root) {
        (false, _) => Err(MerkleError::Length),
        (true, false) => Err(MerkleError::Root),
        (true, true) => Ok(Continued { old, new }),
    }
}
