//! Where a log is read from: a folder, the ledger's socket, a mirror. This module does no input or output of its own.
//!
//! Whatever a source gives is untrusted; [`crate::verify`] and [`crate::proof`] check it against a key.

use std::collections::HashMap;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::merkle::{Hash, Nodes};
use crate::policy::Trust;
use crate::tile::{self, TILE_HEIGHT, Tile, TileKind};

/// The checkpoint's path.
pub const CHECKPOINT: &str = "checkpoint";
/// The path of the last checkpoint that witnesses have cosigned, with their lines. May be behind the other, or not be there.
pub const COSIGNED: &str = "cosigned";
/// Tiles that are kept at hand while a proof is made: a proof touches at most two of each level.
const TILES_KEPT_MAX: usize = 32;

/// A log's files, by their paths in its folder.
pub trait Source {
    /// The whole file, or `None` if there is none. For the checkpoint, tiles and bundles, whose size is bounded.
    ///
    /// # Errors
    /// It could not be read.
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError>;

    /// Up to `length` bytes of the file from `offset` on, fewer where it ends; `None` if there is none.
    ///
    /// # Errors
    /// It could not be read.
    fn read_at(&mut self, path: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>, SourceError>;
}

/// A source that failed, which says nothing about the log.
#[derive(Debug, thiserror::Error)]
#[error("{path} could not be read")]
pub struct SourceError {
    /// The file.
    pub path: String,
    /// Why.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

/// What keeps a part of the log from being used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// It is not what its path says.
    #[error("{0} is damaged: {1}")]
    Damaged(String, &'static str),
    /// The checkpoint can't be trusted.
    #[error("the checkpoint can't be trusted")]
    Checkpoint(#[from] CheckpointError),
}

/// The log's checkpoint, with the signatures that are asked for: the note as it is, and what it says. Where witnesses are asked for,
/// it is the last one that they have cosigned.
///
/// # Errors
/// There is none that carries them.
pub fn read_checkpoint<S: Source + ?Sized>(source: &mut S, trust: &Trust) -> Result<(Vec<u8>, Checkpoint), ReadError> {
    let cosigned = if trust.asks_witnesses() { source.read(COSIGNED)? } else { None };
    let note = match cosigned {
        Some(note) => note,
        None => source.read(CHECKPOINT)?.ok_or_else(|| ReadError::Missing(CHECKPOINT.to_owned()))?,
    };
    let checkpoint = Checkpoint::open(&note, trust)?;
    Ok((note, checkpoint))
}

/// The checkpoint that a proof of an entry should carry: one with cosignatures if it covers the entry, the last one otherwise.
///
/// # Errors
/// There is none that carries the signatures that are asked for.
pub fn read_checkpoint_over<S: Source + ?Sized>(source: &mut S, trust: &Trust, index: u64) -> Result<(Vec<u8>, Checkpoint), ReadError> {
    if let Some(note) = source.read(COSIGNED)?
        && let Ok(checkpoint) = Checkpoint::open(&note, trust)
        && index < checkpoint.size
    {
        return Ok((note, checkpoint));
    }
    read_checkpoint(source, trust)
}

/// A tile's hashes.
///
/// # Errors
/// It is missing, or not that many hashes.
pub fn read_hashes<S: Source + ?Sized>(source: &mut S, tile: Tile) -> Result<Vec<Hash>, ReadError> {
    let (path, bytes, width) = read_tile(source, tile)?;
    let mut hashes = tile::parse_hashes(&bytes, width).ok_or_else(|| ReadError::Damaged(path, "not the number of hashes that its name says"))?;
    hashes.truncate(usize::from(tile.width));
    Ok(hashes)
}

/// An entry bundle's bytes, which may hold more entries than asked for.
///
/// # Errors
/// It is missing, or too long.
pub fn read_bundle<S: Source + ?Sized>(source: &mut S, tile: Tile) -> Result<Vec<u8>, ReadError> {
    let (path, bytes, _) = read_tile(source, tile)?;
    if bytes.len() > tile::BUNDLE_BYTES_MAX { Err(ReadError::Damaged(path, "longer than 256 entries can be")) } else { Ok(bytes) }
}

/// A log may remove a partial tile once the full one is there; then the full one serves.
fn read_tile<S: Source + ?Sized>(source: &mut S, tile: Tile) -> Result<(String, Vec<u8>, u16), ReadError> {
    for candidate in [tile, tile.when_full()] {
        let path = candidate.to_string();
        if let Some(bytes) = source.read(&path)? {
            return Ok((path, bytes, candidate.width));
        }
    }
    Err(ReadError::Missing(tile.to_string()))
}

/// The nodes of a tree of `size` entries, read from its tiles. What they add up to is checked by whoever uses them.
pub struct TileNodes<'s, S: ?Sized> {
    source: &'s mut S,
    size: u64,
    tiles: HashMap<Tile, Vec<Hash>>,
}

impl<'s, S: Source + ?Sized> TileNodes<'s, S> {
    /// The nodes of a log of that size.
    pub fn new(source: &'s mut S, size: u64) -> Self {
        Self { source, size, tiles: HashMap::new() }
    }
}

impl<S: Source + ?Sized> Nodes for TileNodes<'_, S> {
    type Error = ReadError;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let outside = || ReadError::Missing(format!("node {index} of level {level}"));
        // A node above a tile's lowest row is computed from that row.
        let (tile_level, height) = (level / TILE_HEIGHT, level % TILE_HEIGHT);
        let first = index << height;
        let (number, begin) = (first >> TILE_HEIGHT, (first % tile::TILE_WIDTH) as usize);
        let kind = TileKind::Hashes(u8::try_from(tile_level).map_err(|_| outside())?);
        let tile = Tile::in_tree(kind, number, self.size).ok_or_else(outside)?;
        if !self.tiles.contains_key(&tile) {
            if self.tiles.len() >= TILES_KEPT_MAX {
                self.tiles.clear();
            }
            let hashes = read_hashes(self.source, tile)?;
            self.tiles.insert(tile, hashes);
        }
        let row = self.tiles.get(&tile).and_then(|hashes| hashes.get(begin..begin + (1 << height))).ok_or_else(outside)?;
        Ok(tile::perfect_root(row))
    }
}
