//! Publishing: durable entries become tiles and bundles that never change, and checkpoints over them are signed.
//!
//! Signs only what is durable, never a smaller tree or a second root for one size; the signed head is on the disk before anybody can
//! see it. Never waits for readers, and readers never wait for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulku_audit::counters::Chunk;
use sulku_audit::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use sulku_audit::{Checkpoint, Hash, LogSigner};

use crate::files::{FileError, Immutable, at, replace};
use crate::frame::Contents;
use crate::recordings::{RecordingError, Recordings};
use crate::wal::Segments;

/// The last checkpoint that was signed, published or not.
pub(crate) const SIGNED_HEAD: &str = "signed-head";

/// The log that could not be published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The disk or its file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// A recording lost bytes.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Entries that were committed can't be read back from memory: a defect.
    #[error("a committed frame's contents are malformed; this is a defect of the program")]
    Contents,
}

/// The tree as published and as it grows.
pub(crate) struct Publisher {
    directory: PathBuf,
    signer: Arc<LogSigner>,
    segments: Arc<Segments>,
    tree: TiledTree,
    /// The entries of the last and unfinished bundle, as its file will hold them.
    bundle: Vec<u8>,
    /// Entries that the last signed checkpoint covers; files that it covers are there.
    signed: u64,
    files: Immutable,
    recordings: Recordings,
}

impl Publisher {
    /// A publisher of a log that has no entries yet but for `signed` ones that are pushed again.
    pub(crate) fn new(directory: PathBuf, signer: Arc<LogSigner>, segments: Arc<Segments>, signed: u64) -> Result<Self, FileError> {
        let recordings = Recordings::open(directory.join("recordings"))?;
        let (tree, bundle, files) = (TiledTree::default(), Vec::new(), Immutable::default());
        Ok(Self { directory, signer, segments, tree, bundle, signed, files, recordings })
    }

    /// Entries so far.
    pub(crate) const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Entries that the last checkpoint covers.
    pub(crate) const fn signed(&self) -> u64 {
        self.signed
    }

    /// The root over the entries so far.
    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Adds an entry, which is durable, and writes the tiles and the bundle that it fills.
    pub(crate) fn push(&mut self, entry: &[u8], hash: Hash) -> Result<(), PublishError> {
        tile::push_entry(&mut self.bundle, entry).map_err(|_| PublishError::Contents)?;
        self.tree.push(hash);
        let size = self.tree.size();
        if size.is_multiple_of(TILE_WIDTH) {
            let number = size / TILE_WIDTH - 1;
            let bundle = std::mem::take(&mut self.bundle);
            if size > self.signed {
                self.write(Tile { kind: TileKind::Entries, number, width: TILE_WIDTH as u16 }, &bundle)?;
            }
            for (tile, hashes) in self.tree.take_full() {
                if size > self.signed {
                    self.write(tile, &tile::encode_hashes(&hashes))?;
                }
            }
        }
        Ok(())
    }

    /// Writes a chunk of a recording, which is durable in the write-ahead log.
    pub(crate) fn record(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<(), PublishError> {
        Ok(self.recordings.write(chunk, bytes)?)
    }

    /// Adds what is durable since a frame was.
    pub(crate) fn push_contents(&mut self, contents: &Contents) -> Result<(), PublishError> {
        for (chunk, bytes) in &contents.chunks {
            self.record(chunk, bytes)?;
        }
        let mut entries = contents.entries.as_slice();
        for hash in &contents.hashes {
            let (entry, rest) = tile::split_entry(entries).ok_or(PublishError::Contents)?;
            self.push(entry, *hash)?;
            entries = rest;
        }
        Ok(())
    }

    /// Signs and publishes a checkpoint over all entries, unless one of that size is out already. Gives its size.
    pub(crate) fn publish(&mut self) -> Result<u64, PublishError> {
        let size = self.tree.size();
        if size <= self.signed {
            return Ok(self.signed);
        }
        if let Some(tile) = Tile::in_tree(TileKind::Entries, size / TILE_WIDTH, size) {
            let path = self.directory.join(tile.to_string());
            self.files.write(&path, &self.bundle)?;
        }
        for (tile, hashes) in self.tree.partial() {
            self.files.write(&self.directory.join(tile.to_string()), &tile::encode_hashes(hashes))?;
        }
        self.files.sync()?;
        // Before the head: a checkpoint covers no entry whose recording a crash could take away.
        self.recordings.sync()?;
        let checkpoint = Checkpoint { origin: self.signer.origin().to_owned(), size, root: self.tree.root() };
        let note = self.signer.sign(&checkpoint, seconds_since_1970());
        replace(&self.directory.join(SIGNED_HEAD), note.as_bytes())?;
        let before = std::mem::replace(&mut self.signed, size);
        replace(&self.directory.join(sulku_audit::source::CHECKPOINT), note.as_bytes())?;
        self.tidy(before)?;
        Ok(size)
    }

    /// Makes the next segment beforehand, so that the writer need not wait for it. It will make its own, or fail loudly, if this fails.
    pub(crate) fn prepare(&self) {
        if let Err(error) = self.segments.prepare_spare() {
            tracing::warn!(%error, "the spare segment could not be made");
        }
    }

    fn write(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), PublishError> {
        Ok(self.files.write(&self.directory.join(tile.to_string()), bytes)?)
    }

    /// Removes what the new checkpoint makes needless: partial tiles whose full one is out, and segments whose entries are in bundles.
    fn tidy(&self, before: u64) -> Result<(), FileError> {
        let kinds = std::iter::once(TileKind::Entries).chain((0..tile::TILE_LEVELS_MAX).map(TileKind::Hashes));
        for kind in kinds {
            // Only the tile that was unfinished at the checkpoint before can have both, or one that filled since.
            let level = if let TileKind::Hashes(level) = kind { u32::from(level) } else { 0 };
            let number_at = |size: u64| size.checked_shr(tile::TILE_HEIGHT * (level + 1)).unwrap_or(0);
            if number_at(before) < number_at(self.signed) {
                let tile = Tile { kind, number: number_at(before), width: TILE_WIDTH as u16 };
                remove_folder(&self.directory.join(tile.partials_folder()))?;
            }
        }
        self.segments.remove_covered(self.signed / TILE_WIDTH * TILE_WIDTH)
    }
}

/// The time that ML-DSA-44's signatures name. 0, which says nothing, with a clock before 1970.
fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn remove_folder(path: &Path) -> Result<(), FileError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(path)(error)),
        _ => Ok(()),
    }
}
