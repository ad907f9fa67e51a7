//! A mirror: pulls a log's tiles and entries, checks each before it is stored, and signs that it holds them all.
//!
//! ```text
//! mirrors/<SHA-256 of the origin>/checkpoint, tile/…    the copy, as tlog-tiles; the checkpoint carries the mirror's cosignatures
//! evidence/…                                            what showed that the log lied, as a witness keeps it
//! ```
//!
//! From a checkpoint's root down: the tiles at the tree's right edge have to give the root, every full tile the hash in the tile above
//! it, every entry the hash in its tile. So nothing is stored that the log's keys have not signed, however large the log, and with
//! memory for a few tiles. That the new tree begins with the stored one is proven before. Recordings and keys are not mirrored.
//! Takes from C2SP tlog-mirror the promise and the layout, not its upload requests: docs/decisions/0015.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::merkle::{Hash, Nodes, consistency_proof, leaf_hash, root, verify_consistency};
use sulku_audit::note::{NOTE_BYTES_MAX, Note};
use sulku_audit::policy::Opened;
use sulku_audit::source::{CHECKPOINT, ReadError, Source, SourceError, TileNodes, read_bundle, read_hashes};
use sulku_audit::tile::{self, BUNDLE_BYTES_MAX, Extent, TILE_HEIGHT, TILE_LEVELS_MAX, TILE_WIDTH, Tile, TileKind, perfect_root, split_entry};
use sulku_audit::{Checkpoint, SecretKey, Trust};

use crate::files::{FileError, at, create_folder, read, replace};
use crate::https::Https;
use crate::state::{keep_evidence, name_of, with_own};

/// Full tiles of the levels above the lowest that are kept at hand.
const TILES_KEPT_MAX: usize = 16;

/// A log that could not be mirrored.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The mirror's own disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// A part of the log is missing or can't be had.
    #[error("the log can't be read")]
    Read(#[from] ReadError),
    /// The checkpoint can't be trusted.
    #[error("the log's checkpoint can't be trusted")]
    Checkpoint(#[from] CheckpointError),
    /// A tile or entry is not what the checkpoint signs.
    #[error("{0} is not what the checkpoint signs")]
    Changed(String),
    /// The log shows less than it did, or something else. Both checkpoints are kept.
    #[error("the log shows {shown} entries that do not continue the {known} that are mirrored; both checkpoints are kept as evidence")]
    Fork {
        /// Entries that are mirrored.
        known: u64,
        /// Entries that it shows.
        shown: u64,
    },
    /// The stored checkpoint is not one.
    #[error("{0} is not what this mirror wrote; restore it from a copy")]
    Own(PathBuf),
}

/// A mirror of one log.
pub struct Mirror {
    directory: PathBuf,
    folder: PathBuf,
    trusted: Vec<Trust>,
    known: Option<Vec<u8>>,
}

/// What a round of mirroring did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirrored {
    /// Entries that are held and signed for now.
    pub size: u64,
    /// Those of them that came in this round.
    pub new: u64,
}

impl Mirror {
    /// The mirror of the log of these keys, in this folder.
    ///
    /// # Errors
    /// The folder can't be used.
    pub fn open(directory: &Path, trusted: Vec<Trust>) -> Result<Self, MirrorError> {
        let origin = trusted.first().map(Trust::origin).unwrap_or_default();
        let folder = Self::folder_of(directory, origin);
        create_folder(&folder)?;
        let path = folder.join(CHECKPOINT);
        let known = read(&path, NOTE_BYTES_MAX as u64)?;
        let mirror = Self { directory: directory.to_owned(), folder, trusted, known };
        match mirror.known.as_deref().map(|note| mirror.trust(note)) {
            Some(Err(_)) => Err(MirrorError::Own(path)),
            _ => Ok(mirror),
        }
    }

    /// Where the mirror of a log is, for `sulku audit --dir`.
    #[must_use]
    pub fn folder_of(directory: &Path, origin: &str) -> PathBuf {
        directory.join("mirrors").join(name_of(origin))
    }

    fn trust(&self, note: &[u8]) -> Result<Opened, CheckpointError> {
        let mut outcome = Err(CheckpointError::Form);
        for trust in &self.trusted {
            outcome = trust.open(note);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Pulls what is new from `source`, stores it, and signs for it with `keys`. `time` is in seconds since 1970.
    ///
    /// # Errors
    /// Nothing new is signed for. What was mirrored before stays as it is.
    pub fn pull<S: Source + ?Sized>(&mut self, source: &mut S, keys: &[SecretKey], time: u64) -> Result<Mirrored, MirrorError> {
        let note = source.read(CHECKPOINT).map_err(ReadError::from)?.ok_or_else(|| ReadError::Missing(CHECKPOINT.to_owned()))?;
        let shown = self.trust(&note)?.checkpoint;
        let known = self.known.as_deref().and_then(|note| Some(self.trust(note).ok()?.checkpoint));
        let old = known.as_ref().map_or(0, |known| known.size);
        if let Some(known) = &known {
            self.must_continue(source, known, &shown, &note, time)?;
        }
        if shown.size > old || known.is_none() {
            self.store(source, &shown, old)?;
            sync(&self.folder)?;
        }
        let lines: String = keys.iter().map(|key| key.sign(&shown, time)).collect();
        let signed = with_own(&Note::parse(&note).map_err(CheckpointError::from)?, &self.trusted, &lines);
        replace(&self.folder.join(CHECKPOINT), &signed)?;
        self.known = Some(signed);
        self.tidy(old, shown.size)?;
        Ok(Mirrored { size: shown.size, new: shown.size - old })
    }

    fn must_continue<S: Source + ?Sized>(
        &self,
        source: &mut S,
        known: &Checkpoint,
        shown: &Checkpoint,
        note: &[u8],
        time: u64,
    ) -> Result<(), MirrorError> {
        let proven = if shown.size < known.size {
            Err(())
        } else {
            // A log whose tiles are not there yet is not a liar.
            let proof = consistency_proof(&mut TileNodes::new(source, shown.size), known.size, shown.size)?;
            verify_consistency(known.size, &known.root, shown.size, &shown.root, &proof).map(drop).map_err(drop)
        };
        if proven.is_ok() {
            return Ok(());
        }
        let kind = if known.size == shown.size { "fork" } else { "suspicion" };
        keep_evidence(&self.directory, &known.origin, kind, self.known.as_deref(), note, time)?;
        Err(MirrorError::Fork { known: known.size, shown: shown.size })
    }

    /// Stores all tiles and bundles from the one in which entry `old` is to the tree's end, each checked first.
    fn store<S: Source + ?Sized>(&self, source: &mut S, shown: &Checkpoint, old: u64) -> Result<(), MirrorError> {
        let mut tree = Checked::new(source, shown)?;
        for number in old / TILE_WIDTH..shown.size.div_ceil(TILE_WIDTH) {
            let hashes = tree.hashes(0, number)?;
            let Some(bundle) = Tile::in_tree(TileKind::Entries, number, shown.size) else { break };
            let bytes = read_bundle(tree.source, bundle)?;
            let length = checked_length(&bytes, &hashes).ok_or_else(|| MirrorError::Changed(bundle.to_string()))?;
            self.write(bundle, &bytes[..length])?;
        }
        for level in 0..TILE_LEVELS_MAX {
            let (first, nodes) = (nodes_at(old, level) / TILE_WIDTH, nodes_at(shown.size, level));
            for number in first..nodes.div_ceil(TILE_WIDTH) {
                let hashes = tree.hashes(level, number)?;
                let Some(tile) = Tile::in_tree(TileKind::Hashes(level), number, shown.size) else { break };
                self.write(tile, &tile::encode_hashes(&hashes))?;
            }
        }
        Ok(())
    }

    /// Written aside and renamed; made durable all together, before the checkpoint that covers it. What a crash leaves beyond the
    /// checkpoint is fetched and written again.
    fn write(&self, tile: Tile, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.folder.join(tile.to_string());
        path.parent().map_or(Ok(()), create_folder)?;
        let aside = self.folder.join("aside.tmp");
        fs::write(&aside, bytes).map_err(at(&aside))?;
        fs::rename(&aside, &path).map_err(at(&path))
    }

    /// Removes the partial forms of tiles that became full.
    fn tidy(&self, old: u64, size: u64) -> Result<(), FileError> {
        let kinds = std::iter::once((TileKind::Entries, 0)).chain((0..TILE_LEVELS_MAX).map(|level| (TileKind::Hashes(level), level)));
        for (kind, level) in kinds {
            let number = nodes_at(old, level) / TILE_WIDTH;
            if number < nodes_at(size, level) / TILE_WIDTH {
                let path = self.folder.join(Tile { kind, number, width: TILE_WIDTH as u16 }.partials_folder());
                match fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The tree's nodes at a level of tiles.
fn nodes_at(size: u64, level: u8) -> u64 {
    size.checked_shr(TILE_HEIGHT * u32::from(level)).unwrap_or(0)
}

/// How many of a bundle's bytes hold exactly the entries of these hashes; `None` if they do not.
fn checked_length(bundle: &[u8], hashes: &[Hash]) -> Option<usize> {
    let mut rest = bundle;
    for hash in hashes {
        let (entry, after) = split_entry(rest)?;
        if leaf_hash(entry) != *hash {
            return None;
        }
        rest = after;
    }
    let length = bundle.len() - rest.len();
    // A full bundle may stand in for a partial one; a full one has no more in it than its entries.
    (rest.is_empty() || hashes.len() < TILE_WIDTH as usize).then_some(length)
}

/// The tiles of a tree whose root is signed, checked from the root down.
struct Checked<'s, S: ?Sized> {
    source: &'s mut S,
    size: u64,
    edge: Edge,
    kept: HashMap<(u8, u64), Vec<Hash>>,
}

/// The partial tile of each level, at the tree's right edge. Together they give the root, so a root that fits vouches for each hash.
struct Edge(Vec<Vec<Hash>>);

impl Nodes for Edge {
    type Error = std::convert::Infallible;
    fn node(&mut self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let hashes = &self.0[(level / TILE_HEIGHT) as usize];
        let (height, first) = (level % TILE_HEIGHT, (index << (level % TILE_HEIGHT)) % TILE_WIDTH);
        let begin = usize::try_from(first).unwrap_or(usize::MAX);
        Ok(perfect_root(hashes.get(begin..begin + (1 << height)).unwrap_or_default()))
    }
}

impl<'s, S: Source + ?Sized> Checked<'s, S> {
    fn new(source: &'s mut S, shown: &Checkpoint) -> Result<Self, MirrorError> {
        let mut edge = Vec::new();
        for level in 0..TILE_LEVELS_MAX {
            let number = nodes_at(shown.size, level) / TILE_WIDTH;
            let tile = Tile::in_tree(TileKind::Hashes(level), number, shown.size);
            edge.push(tile.map_or(Ok(Vec::new()), |tile| read_hashes(source, tile))?);
        }
        let mut edge = Edge(edge);
        let Ok(found) = root(&mut edge, shown.size);
        if found != shown.root {
            return Err(MirrorError::Changed("the tree's right edge".to_owned()));
        }
        Ok(Self { source, size: shown.size, edge, kept: HashMap::new() })
    }

    /// A tile's hashes, which the root vouches for.
    fn hashes(&mut self, level: u8, number: u64) -> Result<Vec<Hash>, MirrorError> {
        let Some(tile) = Tile::in_tree(TileKind::Hashes(level), number, self.size) else {
            return Err(MirrorError::Changed(format!("tile {number} of level {level}")));
        };
        if tile.extent() == Extent::Partial {
            return Ok(self.edge.0[usize::from(level)].clone());
        }
        if let Some(hashes) = self.kept.get(&(level, number)) {
            return Ok(hashes.clone());
        }
        let hashes = read_hashes(self.source, tile)?;
        let above = self.hashes(level + 1, number / TILE_WIDTH)?;
        let within = usize::try_from(number % TILE_WIDTH).unwrap_or(usize::MAX);
        if above.get(within) != Some(&perfect_root(&hashes)) {
            return Err(MirrorError::Changed(tile.to_string()));
        }
        if level > 0 {
            if self.kept.len() >= TILES_KEPT_MAX {
                self.kept.clear();
            }
            self.kept.insert((level, number), hashes.clone());
        }
        Ok(hashes)
    }
}

/// Makes all that was written to the folder's file system durable.
fn sync(folder: &Path) -> Result<(), FileError> {
    let file = fs::File::open(folder).map_err(at(folder))?;
    rustix::fs::syncfs(&file).map_err(|errno| at(folder)(errno.into()))
}

/// A log behind HTTPS, as tlog-tiles lays it out. For threads that may wait: each read blocks.
pub struct Remote {
    https: Https,
    runtime: tokio::runtime::Handle,
}

impl Remote {
    /// A log at this address. To be read from a thread that the runtime does not need.
    #[must_use]
    pub const fn new(https: Https, runtime: tokio::runtime::Handle) -> Self {
        Self { https, runtime }
    }
}

/// An answer that is neither a file nor "there is none".
#[derive(Debug, thiserror::Error)]
#[error("the answer is HTTP {0}")]
struct Status(u16);

impl Source for Remote {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |cause| SourceError { path: path.to_owned(), cause };
        let bytes_max = if path == CHECKPOINT { NOTE_BYTES_MAX } else { BUNDLE_BYTES_MAX };
        match self.runtime.block_on(self.https.get(&format!("/{path}"), bytes_max)) {
            Ok(answered) if answered.status == 200 => Ok(Some(answered.body)),
            Ok(answered) if answered.status == 404 => Ok(None),
            Ok(answered) => Err(failed(Box::new(Status(answered.status)))),
            Err(error) => Err(failed(Box::new(error))),
        }
    }

    fn read_at(&mut self, path: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, SourceError> {
        // Recordings are not part of a log's tiles.
        Err(SourceError { path: path.to_owned(), cause: Box::new(Status(404)) })
    }
}
