//! Publishing: durable entries become tiles and bundles that never change, and checkpoints over them are signed.
//!
//! Signs only what is durable, never a smaller tree or a second root for one size; the signed head is on the disk before anybody can
//! see it. Never waits for readers, and readers never wait for it. What meets a full disk is kept in memory and can be tried again:
//! every step leaves either what it should or what doing it again puts right. Any other failure is final.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulku_audit::counters::Chunk;
use sulku_audit::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use sulku_audit::{Checkpoint, Counters, Hash, LogSigner};
use sulku_permit::SessionId;

use crate::disk::Disk;
use crate::files::{FileError, at, replace, write_immutable};
use crate::frame::Contents;
use crate::recordings::{RecordingError, Recordings};
use crate::segment::Segments;
use crate::snapshot::Taken;

/// The last checkpoint that was signed, published or not.
pub(crate) const SIGNED_HEAD: &str = "signed-head";
/// So much of what is to be written may wait in memory for the next checkpoint; beyond it, it is written at once.
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;
/// The same in frames, well below what the writer may have under way.
const UNWRITTEN_FRAMES_MAX: usize = 16 << 10;

/// A snapshot is taken after so many entries: reading that many takes a start less than a second.
const SNAPSHOT_EVERY_ENTRIES: u64 = 64 << 10;
/// And after so many for each permit and session that it holds, so that taking it costs each entry little.
const ENTRIES_FOR_EACH_COUNTER: u64 = 4;

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

impl PublishError {
    /// Whether the disk has no room, and nothing else is wrong: it can be tried again.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::File(error) => error.is_full(),
            Self::Recording(error) => error.is_full(),
            Self::Contents => false,
        }
    }
}

/// What was written, and need not be kept in memory any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
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
    /// The last signed checkpoint, when it is not published yet.
    unpublished: Option<Vec<u8>>,
    /// Chunks of recordings that are to be written.
    chunks: VecDeque<(Chunk, Vec<u8>)>,
    /// Full tiles and bundles that are to be written.
    files: Vec<(PathBuf, Vec<u8>)>,
    /// The frames that these are of.
    unwritten: Written,
    recordings: Recordings,
    /// Where the published log stands; what the writer has is ahead of it.
    counters: Counters,
    rotated_to: Option<Vec<String>>,
    /// The size of the last snapshot.
    snapshot: u64,
    pub(crate) snapshot_every: u64,
    /// A snapshot that no signed head covers yet.
    taken: Option<Taken>,
}

impl Publisher {
    /// A publisher of a log that has no entries yet but for `signed` ones that are pushed again.
    pub(crate) fn new(
        directory: PathBuf,
        signer: Arc<LogSigner>,
        segments: Arc<Segments>,
        disk: Arc<dyn Disk>,
        signed: u64,
    ) -> Result<Self, FileError> {
        let recordings = Recordings::open(disk, directory.join("recordings"))?;
        Ok(Self {
            directory,
            signer,
            segments,
            tree: TiledTree::default(),
            bundle: Vec::new(),
            signed,
            unpublished: None,
            chunks: VecDeque::new(),
            files: Vec::new(),
            unwritten: Written::default(),
            recordings,
            counters: Counters::default(),
            rotated_to: None,
            snapshot: 0,
            snapshot_every: SNAPSHOT_EVERY_ENTRIES,
            taken: None,
        })
    }

    /// Begins with this tree, which a snapshot holds.
    pub(crate) fn resume(&mut self, tree: TiledTree) {
        self.snapshot = tree.size();
        self.tree = tree;
    }

    /// The log's keys were replaced by these.
    pub(crate) fn rotate(&mut self, keys: Vec<String>) {
        self.rotated_to = Some(keys);
    }

    /// Counts on from here: what is pushed from now on is new.
    pub(crate) fn count_from(&mut self, counters: Counters, rotated_to: Option<Vec<String>>) {
        (self.counters, self.rotated_to) = (counters, rotated_to);
    }

    /// Has the checkpoint that was signed last published when there is room.
    pub(crate) fn publish_later(&mut self, note: Vec<u8>) {
        self.unpublished = Some(note);
    }

    /// Entries so far.
    pub(crate) const fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Whether there are entries that no published checkpoint covers.
    pub(crate) const fn has_news(&self) -> bool {
        self.tree.size() > self.signed || self.unpublished.is_some()
    }

    /// The root over the entries so far.
    pub(crate) fn root(&self) -> Hash {
        self.tree.root()
    }

    /// Adds an entry, which is durable. The tiles and the bundle that it fills are to be written.
    pub(crate) fn push(&mut self, entry: &[u8], hash: Hash) -> Result<(), PublishError> {
        tile::push_entry(&mut self.bundle, entry).map_err(|_| PublishError::Contents)?;
        self.tree.push(hash);
        let size = self.tree.size();
        if size.is_multiple_of(TILE_WIDTH) {
            let bundle = Tile { kind: TileKind::Entries, number: size / TILE_WIDTH - 1, width: TILE_WIDTH as u16 };
            let bytes = std::mem::take(&mut self.bundle);
            let tiles = self.tree.take_full();
            // What the signed head covers is there.
            if size > self.signed {
                self.files.push((self.directory.join(bundle.to_string()), bytes));
                self.files.extend(tiles.iter().map(|(tile, hashes)| (self.directory.join(tile.to_string()), tile::encode_hashes(hashes))));
            }
        }
        Ok(())
    }

    /// Writes no chunk of these recordings, which were deleted since.
    pub(crate) fn forget(&mut self, deleted: &BTreeSet<SessionId>) {
        self.chunks.retain(|(chunk, _)| !deleted.contains(&chunk.session));
    }

    /// Adds a chunk of a recording, which is durable in the write-ahead log and is to be written to its file.
    pub(crate) fn record(&mut self, chunk: Chunk, bytes: Vec<u8>) {
        self.chunks.push_back((chunk, bytes));
    }

    /// Adds what is durable since a frame was.
    pub(crate) fn push_contents(&mut self, contents: Contents) -> Result<(), PublishError> {
        self.unwritten.frames += 1;
        self.unwritten.bytes += contents.bytes();
        let mut entries = contents.entries.as_slice();
        for (hash, (draft, time)) in contents.hashes.iter().zip(&contents.counted) {
            let (entry, rest) = tile::split_entry(entries).ok_or(PublishError::Contents)?;
            self.push(entry, *hash)?;
            self.counters.count(&**draft, *time).map_err(|_| PublishError::Contents)?;
            entries = rest;
            if self.tree.size().is_multiple_of(TILE_WIDTH) && self.is_snapshot_due() {
                self.taken = Taken::new(&self.signer, &self.tree, &self.counters, self.rotated_to.as_ref());
                self.snapshot = self.tree.size();
            }
        }
        if !entries.is_empty() {
            return Err(PublishError::Contents);
        }
        self.chunks.extend(contents.chunks);
        Ok(())
    }

    fn is_snapshot_due(&self) -> bool {
        let new = self.tree.size() - self.snapshot;
        new >= self.snapshot_every && new / ENTRIES_FOR_EACH_COUNTER >= self.counters.permits() + self.counters.sessions()
    }

    /// Whether so much waits to be written that it should not wait for the next checkpoint.
    pub(crate) const fn should_write(&self) -> bool {
        self.unwritten.bytes >= UNWRITTEN_BYTES_MAX || self.unwritten.frames >= UNWRITTEN_FRAMES_MAX
    }

    /// Writes what is full, and says what it was.
    pub(crate) fn write(&mut self) -> Result<Written, PublishError> {
        while let Some((chunk, bytes)) = self.chunks.front() {
            self.recordings.write(chunk, bytes)?;
            self.chunks.pop_front();
        }
        let files: Vec<_> = self.files.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
        write_immutable(self.segments.disk(), &files)?;
        self.files.clear();
        Ok(std::mem::take(&mut self.unwritten))
    }

    /// Signs and publishes a checkpoint over all entries, unless one of that size is out already. Gives its size.
    pub(crate) fn publish(&mut self, written: &mut Written) -> Result<u64, PublishError> {
        if let Some(note) = &self.unpublished {
            replace(self.segments.disk(), &self.directory.join(sulku_audit::source::CHECKPOINT), note)?;
            self.unpublished = None;
        }
        let size = self.tree.size();
        if size <= self.signed {
            return Ok(self.signed);
        }
        let now_written = self.write()?;
        written.frames += now_written.frames;
        written.bytes += now_written.bytes;
        let bundle = Tile::in_tree(TileKind::Entries, size / TILE_WIDTH, size);
        let mut partial: Vec<_> = bundle.iter().map(|tile| (self.directory.join(tile.to_string()), self.bundle.clone())).collect();
        partial.extend(self.tree.partial().map(|(tile, hashes)| (self.directory.join(tile.to_string()), tile::encode_hashes(hashes))));
        let partial: Vec<_> = partial.iter().map(|(path, bytes)| (path.clone(), bytes.as_slice())).collect();
        let disk = self.segments.disk();
        write_immutable(disk, &partial)?;
        // Before the head: a checkpoint covers no entry whose recording a crash could take away.
        self.recordings.sync()?;
        let checkpoint = Checkpoint { origin: self.signer.origin().to_owned(), size, root: self.tree.root() };
        let note = self.signer.sign(&checkpoint, seconds_since_1970());
        replace(disk, &self.directory.join(SIGNED_HEAD), note.as_bytes())?;
        let before = std::mem::replace(&mut self.signed, size);
        let note = self.unpublished.insert(note.into_bytes());
        replace(disk, &self.directory.join(sulku_audit::source::CHECKPOINT), note)?;
        self.unpublished = None;
        self.tidy(before)?;
        if let Some(taken) = self.taken.take_if(|taken| taken.size <= size)
            && let Err(error) = taken.write(self.segments.disk(), &self.directory)
        {
            self.taken = Some(taken);
            return Err(error.into());
        }
        Ok(size)
    }

    /// Makes the next segment beforehand, so that the writer need not wait for it, and so that there is a reserve.
    pub(crate) fn prepare(&self) -> Result<(), FileError> {
        self.segments.prepare_spare()
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
                self.remove_folder(&self.directory.join(tile.partials_folder()))?;
            }
        }
        self.segments.let_go(self.signed / TILE_WIDTH * TILE_WIDTH)
    }

    fn remove_folder(&self, path: &Path) -> Result<(), FileError> {
        match self.segments.disk().remove_folder(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(path)(error)),
            _ => Ok(()),
        }
    }
}

/// The time that ML-DSA-44's signatures name. 0, which says nothing, with a clock before 1970.
fn seconds_since_1970() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
