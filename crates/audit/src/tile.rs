//! C2SP tlog-tiles: the tree and its entries as files that never change once full.
//!
//! ```text
//! tile/<L>/<N>[.p/<W>]        up to 256 hashes of 32 bytes: the nodes of level 8·L from number 256·N on
//! tile/entries/<N>[.p/<W>]    up to 256 entries: u16 big endian length, bytes
//! ```
//!
//! `N` is written in groups of three digits, all but the last with an `x` in front: `x001/x234/067`. A tile of `W` < 256 hashes is
//! partial. Writes no files: [`TiledTree`] grows in memory and hands out what is to be written.

use std::fmt;
use std::str::FromStr;

use crate::entry::ENTRY_BYTES_HARD_MAX;
use crate::lanes::node_hashes;
use crate::merkle::{Hash, empty_root, node_hash};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// The tree's levels in one level of tiles.
pub const TILE_HEIGHT: u32 = 8;
/// Levels of tiles in the largest tree: 2^64 entries.
pub const TILE_LEVELS_MAX: u8 = 8;
/// The largest entry bundle, in bytes.
pub const BUNDLE_BYTES_MAX: usize = TILE_WIDTH as usize * (2 + ENTRY_BYTES_HARD_MAX);

/// What a file of the tree holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TileKind {
    /// Entries.
    Entries,
    /// Hashes of this level of tiles.
    Hashes(u8),
}

/// A file of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// Entries or hashes.
    pub kind: TileKind,
    /// Its number in its level.
    pub number: u64,
    /// How many hashes or entries it holds, 1 to 256.
    pub width: u16,
}

impl Tile {
    /// The tile of that kind and number in a tree of `size` entries; `None` if it would be empty.
    #[must_use]
    pub fn in_tree(kind: TileKind, number: u64, size: u64) -> Option<Self> {
        let level = match kind {
            TileKind::Entries => 0,
            TileKind::Hashes(level) => u32::from(level),
        };
        let nodes = size.checked_shr(level * TILE_HEIGHT).unwrap_or(0);
        let width = nodes.checked_sub(number.checked_mul(TILE_WIDTH)?)?.min(TILE_WIDTH);
        if width == 0 { None } else { Some(Self { kind, number, width: u16::try_from(width).ok()? }) }
    }

    /// Whether it will still grow.
    #[must_use]
    pub const fn extent(&self) -> Extent {
        if (self.width as u64) < TILE_WIDTH { Extent::Partial } else { Extent::Full }
    }

    /// The full tile that this one is or becomes.
    #[must_use]
    pub const fn when_full(&self) -> Self {
        Self { kind: self.kind, number: self.number, width: TILE_WIDTH as u16 }
    }

    /// The folder of its partial forms.
    #[must_use]
    pub fn partials_folder(&self) -> String {
        format!("{}.p", self.when_full())
    }
}

/// Whether a tile will still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// 256 wide, never to change.
    Full,
    /// Narrower; a wider one follows.
    Partial,
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Entries => f.write_str("tile/entries/")?,
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
        }
        let (mut groups, mut rest) = (vec![self.number % 1000], self.number / 1000);
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for (left, group) in groups.iter().enumerate().rev() {
            if left > 0 { write!(f, "x{group:03}/")? } else { write!(f, "{group:03}")? }
        }
        match self.extent() {
            Extent::Full => Ok(()),
            Extent::Partial => write!(f, ".p/{}", self.width),
        }
    }
}

/// A text that is no tile's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile")]
pub struct TilePathError;

impl FromStr for Tile {
    type Err = TilePathError;

    /// Accepts exactly what `Display` writes, so that no two paths name one tile and none leads elsewhere.
    fn from_str(path: &str) -> Result<Self, TilePathError> {
        let (kind, rest) = path.strip_prefix("tile/").and_then(|rest| rest.split_once('/')).ok_or(TilePathError)?;
        let kind = match kind {
            "entries" => TileKind::Entries,
            level => match level.parse() {
                Ok(level) if level < TILE_LEVELS_MAX => TileKind::Hashes(level),
                _ => return Err(TilePathError),
            },
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().map_err(|_| TilePathError)?),
            None => (rest, TILE_WIDTH as u16),
        };
        let mut value = 0_u64;
        for group in number.split('/') {
            let digits: u64 = group.strip_prefix('x').unwrap_or(group).parse().map_err(|_| TilePathError)?;
            value = value.checked_mul(1000).and_then(|value| value.checked_add(digits)).ok_or(TilePathError)?;
        }
        let tile = Self { kind, number: value, width };
        if (1..=TILE_WIDTH as u16).contains(&width) && tile.to_string() == path { Ok(tile) } else { Err(TilePathError) }
    }
}

/// The hashes in a tile's bytes; `None` if they are not `width` hashes.
#[must_use]
pub fn parse_hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if rest.is_empty() && hashes.len() == usize::from(width) { Some(hashes.iter().copied().map(Hash::from_bytes).collect()) } else { None }
}

/// A tile's bytes.
#[must_use]
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

/// An entry that does not fit a bundle's length of 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an entry of {0} bytes is longer than {ENTRY_BYTES_HARD_MAX}")]
pub struct EntryTooLong(pub usize);

/// Adds an entry to a bundle.
///
/// # Errors
/// The entry is longer than 65,535 bytes; the bundle is as it was.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) -> Result<(), EntryTooLong> {
    let length = u16::try_from(entry.len()).map_err(|_| EntryTooLong(entry.len()))?;
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(entry);
    Ok(())
}

/// Takes the first entry off a bundle's bytes: the entry and what is left. `None` when its bytes are not all there.
#[must_use]
pub fn split_entry(bundle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bundle.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A tree that grows entry by entry and remembers, of each level of tiles, the last and unfinished tile only.
#[derive(Debug, Clone, Default)]
pub struct TiledTree {
    size: u64,
    /// The unfinished tile of each level, lowest first; each shorter than 256.
    unfinished: Vec<Vec<Hash>>,
    /// Tiles that became full since they were last taken.
    full: Vec<(Tile, Vec<Hash>)>,
}

impl TiledTree {
    /// Entries in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The unfinished tile of each level, lowest first: with the size, all that the tree needs to grow on.
    #[must_use]
    pub fn unfinished(&self) -> &[Vec<Hash>] {
        &self.unfinished
    }

    /// The tree that had this size and these unfinished tiles; `None` if no tree has. Its root says whether it is the one that is meant.
    #[must_use]
    pub fn resume(size: u64, unfinished: Vec<Vec<Hash>>) -> Option<Self> {
        let hashes_at = |level: usize| size.checked_shr(TILE_HEIGHT * u32::try_from(level).unwrap_or(u32::MAX)).unwrap_or(0) % TILE_WIDTH;
        let fits = unfinished.iter().enumerate().all(|(level, hashes)| hashes.len() as u64 == hashes_at(level));
        let is_whole = size.checked_shr(TILE_HEIGHT * u32::try_from(unfinished.len()).unwrap_or(u32::MAX)).unwrap_or(0) == 0;
        (fits && is_whole).then(|| Self { size, unfinished, full: Vec::new() })
    }

    /// Adds an entry by its leaf hash.
    pub fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let (mut hash, mut level) = (leaf, 0_u8);
        loop {
            if self.unfinished.len() == usize::from(level) {
                self.unfinished.push(Vec::with_capacity(TILE_WIDTH as usize));
            }
            let hashes = &mut self.unfinished[usize::from(level)];
            hashes.push(hash);
            if hashes.len() < TILE_WIDTH as usize {
                return;
            }
            let hashes = std::mem::replace(hashes, Vec::with_capacity(TILE_WIDTH as usize));
            hash = perfect_root(&hashes);
            let number = (self.size >> (TILE_HEIGHT * (u32::from(level) + 1))) - 1;
            self.full.push((Tile { kind: TileKind::Hashes(level), number, width: TILE_WIDTH as u16 }, hashes));
            level += 1;
        }
    }

    /// The tiles that became full since this was last called.
    pub fn take_full(&mut self) -> Vec<(Tile, Vec<Hash>)> {
        std::mem::take(&mut self.full)
    }

    /// The partial tile of each level that has one.
    pub fn partial(&self) -> impl Iterator<Item = (Tile, &[Hash])> {
        (0_u8..).zip(&self.unfinished).filter(|(_, hashes)| !hashes.is_empty()).filter_map(|(level, hashes)| {
            let number = self.size.checked_shr(TILE_HEIGHT * (u32::from(level) + 1)).unwrap_or(0);
            Some((Tile { kind: TileKind::Hashes(level), number, width: u16::try_from(hashes.len()).ok()? }, hashes.as_slice()))
        })
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        edge_root(&self.unfinished)
    }
}

/// The root of a tree, from the unfinished tile of each level, lowest first; each shorter than 256, and empty where all are full.
#[must_use]
pub fn edge_root(unfinished: &[Vec<Hash>]) -> Hash {
    let mut root = None;
    for hashes in unfinished {
        // From the right: the smallest full subtrees first, each the left neighbour of all that came before.
        let mut end = hashes.len();
        while end > 0 {
            let begin = end - (1 << end.trailing_zeros());
            let left = perfect_root(&hashes[begin..end]);
            root = Some(root.map_or(left, |right| node_hash(&left, &right)));
            end = begin;
        }
    }
    root.unwrap_or_else(empty_root)
}

/// The root over a power of two of neighbouring nodes.
#[must_use]
pub fn perfect_root(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = node_hashes(&row);
    }
    row.first().copied().unwrap_or_else(empty_root)
}
