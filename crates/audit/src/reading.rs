//! Reading a log anywhere without the rest of it: each bundle is proven against the signed checkpoint before an entry of it is shown.
//!
//! The tiles at the tree's right edge add up to the signed root, so they are proven; a full tile or bundle is proven when its root is
//! the hash that a proven tile has for it. A page of a log of ten million entries takes a handful of files.
//!
//! Shows that an entry is in the log, not that the log is whole: that is [`crate::verify`]'s, and the counters'.

use std::collections::HashMap;
use std::ops::Range;

use crate::checkpoint::Checkpoint;
use crate::lanes::leaf_hashes;
use crate::merkle::Hash;
use crate::source::{ReadError, Source, read_bundle, read_hashes};
use crate::tile::{self, TILE_HEIGHT, TILE_WIDTH, Tile, TileKind};
use crate::verify::Fault;

/// Proven tiles kept at hand, 8 KiB each: a scan of the whole log needs two at a time.
const TILES_KEPT_MAX: usize = 64;

/// A log that is read in pieces.
pub struct Pages<'s, S: ?Sized> {
    source: &'s mut S,
    checkpoint: Checkpoint,
    /// The last tile of each level, lowest first: what is not full yet.
    edge: Vec<Vec<Hash>>,
    full: HashMap<(u8, u64), Vec<Hash>>,
}

/// A bundle whose entries are all in the log.
#[derive(Debug)]
pub struct Bundle {
    first: u64,
    bytes: Vec<u8>,
    /// Where each entry is in `bytes`.
    places: Vec<Range<usize>>,
}

impl Bundle {
    /// Its entries' numbers.
    #[must_use]
    pub fn numbers(&self) -> Range<u64> {
        self.first..self.first + self.places.len() as u64
    }

    /// The entries, each with its number.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (u64, &[u8])> + ExactSizeIterator {
        self.places.iter().enumerate().map(|(at, place)| (self.first + at as u64, &self.bytes[place.clone()]))
    }
}

impl<'s, S: Source + ?Sized> Pages<'s, S> {
    /// Begins to read a log up to this checkpoint, whose signatures were checked.
    ///
    /// # Errors
    /// The tree's edge does not add up to the checkpoint's root.
    pub fn new(source: &'s mut S, checkpoint: Checkpoint) -> Result<Self, Fault> {
        let mut edge = Vec::new();
        for level in 0..tile::TILE_LEVELS_MAX {
            let nodes = checkpoint.size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0);
            if nodes == 0 {
                break;
            }
            let last = Tile::in_tree(TileKind::Hashes(level), nodes / TILE_WIDTH, checkpoint.size);
            edge.push(last.map_or(Ok(Vec::new()), |tile| read_hashes(source, tile))?);
        }
        if tile::edge_root(&edge) != checkpoint.root {
            return Err(Fault::Root { size: checkpoint.size });
        }
        Ok(Self { source, checkpoint, edge, full: HashMap::new() })
    }

    /// What the entries are proven against.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Where it is read from, for what else is there.
    pub const fn source(&mut self) -> &mut S {
        self.source
    }

    /// The bundle that holds entry `index`.
    ///
    /// # Errors
    /// There is no such entry, or the bundle is not what the log has there.
    pub fn bundle_of(&mut self, index: u64) -> Result<Bundle, Fault> {
        let (number, size) = (index / TILE_WIDTH, self.checkpoint.size);
        let first = number * TILE_WIDTH;
        let unreadable = |cause| Fault::Unreadable { index: first, cause };
        let none = || unreadable(ReadError::Missing(format!("entry {index} of a log of {size}")));
        let tile = Tile::in_tree(TileKind::Entries, number, size).filter(|_| index < size).ok_or_else(none)?;
        let bytes = read_bundle(self.source, tile).map_err(unreadable)?;
        let (mut places, mut at) = (Vec::with_capacity(usize::from(tile.width)), 0);
        for index in (first..).take(usize::from(tile.width)) {
            let (entry, _) = tile::split_entry(&bytes[at..]).ok_or(Fault::CutShort(index))?;
            places.push(at + 2..at + 2 + entry.len());
            at += 2 + entry.len();
        }
        if u64::from(tile.width) == TILE_WIDTH && at < bytes.len() {
            return Err(Fault::Surplus(first + TILE_WIDTH - 1));
        }
        let bundle = Bundle { first, bytes, places };
        let leaves = leaf_hashes(&bundle.entries().map(|(_, entry)| entry).collect::<Vec<_>>());
        let proven = match tile.width {
            width if u64::from(width) < TILE_WIDTH => self.edge.first().is_some_and(|edge| *edge == leaves),
            _ => self.node(1, number)? == tile::perfect_root(&leaves),
        };
        if proven { Ok(bundle) } else { Err(self.first_changed(number, first, &leaves)) }
    }

    /// The proven hash of a full tile: node `number` of that level of tiles.
    fn node(&mut self, level: u8, number: u64) -> Result<Hash, Fault> {
        let (tile_number, at) = (number / TILE_WIDTH, (number % TILE_WIDTH) as usize);
        let index = number.checked_shl(TILE_HEIGHT * u32::from(level)).unwrap_or(u64::MAX);
        let missing = || Fault::Unreadable { index, cause: ReadError::Missing(format!("node {number} of level {level}")) };
        let tile = Tile::in_tree(TileKind::Hashes(level), tile_number, self.checkpoint.size).ok_or_else(missing)?;
        if u64::from(tile.width) < TILE_WIDTH {
            return self.edge.get(usize::from(level)).and_then(|edge| edge.get(at)).copied().ok_or_else(missing);
        }
        if !self.full.contains_key(&(level, tile_number)) {
            let hashes = read_hashes(self.source, tile).map_err(|cause| Fault::Unreadable { index, cause })?;
            if tile::perfect_root(&hashes) != self.node(level + 1, tile_number)? {
                let index = tile_number.checked_shl(TILE_HEIGHT * (u32::from(level) + 1)).unwrap_or(u64::MAX);
                return Err(Fault::Tile { index, path: tile.to_string() });
            }
            if self.full.len() >= TILES_KEPT_MAX {
                self.full.clear();
            }
            self.full.insert((level, tile_number), hashes);
        }
        self.full.get(&(level, tile_number)).and_then(|hashes| hashes.get(at)).copied().ok_or_else(missing)
    }

    /// Which entry of a bundle is not the log's, as far as the tile of its leaf hashes can tell.
    fn first_changed(&mut self, number: u64, first: u64, leaves: &[Hash]) -> Fault {
        let hashes = match Tile::in_tree(TileKind::Hashes(0), number, self.checkpoint.size) {
            Some(tile) => read_hashes(self.source, tile).unwrap_or_default(),
            None => Vec::new(),
        };
        match (first..).zip(leaves.iter().zip(&hashes)).find(|(_, (leaf, hash))| leaf != hash) {
            Some((index, _)) => Fault::Changed(index),
            None => Fault::Tile { index: first, path: format!("the tile of entries {first} to {}", first + leaves.len() as u64 - 1) },
        }
    }
}
