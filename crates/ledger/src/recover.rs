//! Start: what is on the disk becomes the log again, or the ledger does not start.
//!
//! Every entry since the last snapshot is read, from the bundles and then from the write-ahead log, or every entry where there is no snapshot;
//! the tree over them must have the root that the signed head has at its size, and the counters must have no gap. An unfinished last write is dropped and counted. Repairs nothing else:
//! what a crash can't have done, somebody did, and a person has to look.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FlockOperation;
use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::counters::{Chunk, CounterError};
use sulku_audit::entry::EntryError;
use sulku_audit::merkle::leaf_hash;
use sulku_audit::personal::KeyId;
use sulku_audit::tile::{TILE_WIDTH, Tile, TileKind, split_entry};
use sulku_audit::{Checkpoint, Counters, Entry, Event, Hash, LogSigner, Trust};
use sulku_permit::SessionId;

use crate::clock::Reading;
use crate::deletion;
use crate::disk::Disk;
use crate::files::{FILE_MODE, FileError, at, create_folder, replace};
use crate::publisher::{PublishError, Publisher, SIGNED_HEAD};
use crate::segment::Segments;
use crate::snapshot::{self, SignedBy, Snapshot};
use crate::wal::{self, Wal, WalError};

/// A log that the ledger does not go on with.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The disk or its file system.
    #[error("{path} could not be read or written; see to the disk and to who owns the folder, then start again")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another ledger has the folder.
    #[error("another ledger writes to {0}; stop it first, or give this one its own directory")]
    Locked(PathBuf),
    /// A signed checkpoint is not by this key.
    #[error(
        "{path} is not signed by the keys of {origin}: {cause}; name the old keys' file as previous_signing_key, or restore the file; a log whose keys are lost ends, and a new one begins under a new name"
    )]
    Head {
        /// The file.
        path: PathBuf,
        /// The log's name.
        origin: String,
        /// Why.
        cause: CheckpointError,
    },
    /// There is a checkpoint that says more than the signed head.
    #[error("{published} entries were published, but the signed head has {signed}; restore the signed head from a copy of this folder")]
    HeadLost {
        /// Entries in the published checkpoint.
        published: u64,
        /// Entries in the signed head; 0 when there is none.
        signed: u64,
    },
    /// A full disk, and nothing left of what was kept for that.
    #[error("the disk of {0} is full, and the ledger's reserve is used up; make room for 128 MiB and start again")]
    NoReserve(PathBuf),
    /// Entries are missing.
    #[error(
        "the log has {found} entries, but {signed} were signed: entries were lost or removed; restore the folder from a copy, and do not \
         start an empty log under this name"
    )]
    Smaller {
        /// Entries found.
        found: u64,
        /// Entries signed.
        signed: u64,
    },
    /// The entries are not those that were signed.
    #[error("the first {0} entries do not have the root that was signed: an entry was changed; compare with a copy (sulku audit verify)")]
    Root(u64),
    /// The snapshot is not this log's.
    #[error(
        "{0} is damaged, contradicts the log or was written by somebody else; restore it from a copy, or find out who did it, remove the file and \
         start again: the whole log is then read"
    )]
    Snapshot(PathBuf),
    /// A part of the log is damaged.
    #[error("{0}; this is not what a crash leaves: restore the file from a copy of this folder")]
    Damaged(String),
}

impl From<FileError> for RecoverError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io(path, source) | FileError::Sync(path, source) => Self::Disk { path, source },
            FileError::Conflict(_) => Self::Damaged(error.to_string()),
        }
    }
}

/// The log as found, ready to go on.
pub(crate) struct Recovered {
    pub(crate) wal: Wal,
    pub(crate) counters: Counters,
    pub(crate) publisher: Publisher,
    /// Keys that entries say are destroyed, of which a crash may have left some.
    pub(crate) destroyed: Vec<KeyId>,
    pub(crate) dropped_bytes: u64,
    /// The public keys that the last `ledger.key-rotated` names as the new ones.
    pub(crate) rotated_to: Option<Vec<String>>,
    /// What the clocks said at the last entry, and in which boot.
    pub(crate) last: Option<(Reading, String)>,
}

/// Takes the folder for this ledger alone, until the file is closed.
pub(crate) fn lock(directory: &Path, disk: &dyn Disk) -> Result<fs::File, RecoverError> {
    create_folder(disk, directory)?;
    let path = directory.join("lock");
    let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(FILE_MODE).open(&path).map_err(at(&path))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        rustix::io::Errno::WOULDBLOCK => RecoverError::Locked(directory.to_owned()),
        errno => RecoverError::Disk { path, source: errno.into() },
    })?;
    Ok(lock)
}

/// Reads the log in this folder, which is locked; makes an empty one where there is nothing.
pub(crate) fn recover(directory: &Path, disk: &Arc<dyn Disk>, segment_bytes: usize, signer: Arc<LogSigner>) -> Result<Recovered, RecoverError> {
    let head_path = directory.join(SIGNED_HEAD);
    let checkpoint_path = directory.join(sulku_audit::source::CHECKPOINT);
    let head = read_head(&**disk, &head_path, &signer)?;
    let published = read_head(&**disk, &checkpoint_path, &signer)?;
    let cosigned = read_head(&**disk, &directory.join(sulku_audit::source::COSIGNED), &signer)?.map(|(_, cosigned)| cosigned);
    let signed = head.as_ref().map_or(0, |(_, head)| head.size);
    match (&published, &head) {
        (Some((_, published)), _) if published.size > signed => return Err(RecoverError::HeadLost { published: published.size, signed }),
        (Some((_, published)), Some((_, head))) if published.size == head.size && published.root != head.root => {
            return Err(RecoverError::Root(signed));
        }
        _ => {}
    }
    if let Some(cosigned) = cosigned.filter(|cosigned| cosigned.size > signed) {
        return Err(RecoverError::Smaller { found: signed, signed: cosigned.size });
    }
    let wal_folder = directory.join("wal");
    create_folder(&**disk, &wal_folder)?;
    let segments = Arc::new(Segments::new(Arc::clone(disk), wal_folder, segment_bytes));
    let mut log = Replay {
        counters: Counters::default(),
        publisher: Publisher::new(directory.to_owned(), Arc::clone(&signer), Arc::clone(&segments), Arc::clone(disk), signed)?,
        destroyed: Vec::new(),
        rotated_to: None,
        from: 0,
        last: None,
        head: head.as_ref().map(|(_, head)| head.clone()),
    };
    let mut signed_again = None;
    if let Some(Snapshot { tree, counters, rotated_to, signed_by }) = snapshot::read(&**disk, directory, &signer, signed)? {
        if head.as_ref().is_some_and(|(_, head)| head.size == tree.size() && head.root != tree.root()) {
            return Err(snapshot::refused(snapshot::path(directory)));
        }
        if signed_by == SignedBy::Previous {
            signed_again = snapshot::Taken::new(&signer, &tree, &counters, rotated_to.as_ref());
        }
        (log.from, log.counters, log.rotated_to) = (tree.size(), counters, rotated_to);
        log.publisher.resume(tree);
    }
    let in_bundles = match segments.list()?.first() {
        Some((first, _)) => *first,
        None if signed > 0 => return Err(RecoverError::Smaller { found: signed / TILE_WIDTH * TILE_WIDTH, signed }),
        None => 0,
    };
    if in_bundles > signed / TILE_WIDTH * TILE_WIDTH {
        return Err(RecoverError::Damaged(format!("the write-ahead log begins at entry {in_bundles}; what was before it is missing")));
    }
    for number in log.from / TILE_WIDTH..in_bundles.div_ceil(TILE_WIDTH) {
        log.bundle(directory, &**disk, number, in_bundles)?;
    }
    let found = Wal::recover(Arc::clone(&segments), |index, found| log.found(index, found)).map_err(|error| match error {
        WalError::File(error) => error.into(),
        corrupt @ WalError::Corrupt { .. } => RecoverError::Damaged(corrupt.to_string()),
        WalError::Entry(error) => error,
    })?;
    log.publisher.count_from(log.counters.clone(), log.rotated_to.clone());
    if log.publisher.size() < signed {
        return Err(RecoverError::Smaller { found: log.publisher.size(), signed });
    }
    // From here on files are changed: the log is what was signed and what was durable after it.
    segments.check_spare()?;
    // By the new key before the old one is gone: a start that knows the new one alone would refuse it.
    if let Some(snapshot) = signed_again {
        match snapshot.write(&**disk, directory) {
            Err(error) if error.is_full() => tracing::warn!(%error, "the snapshot is signed by the previous key until there is room"),
            written => written?,
        }
    }
    let mut wal = match found.wal {
        Some(wal) => wal,
        None => Wal::begin(segments, 0)?,
    };
    wal.clear_tail()?;
    let deleted: BTreeMap<SessionId, u32> = log.counters.deleted().collect();
    log.publisher.forget(&deleted.keys().copied().collect());
    // A crash may have come between the entry and the deletion.
    for (session, last_part) in &deleted {
        deletion::destroy(&**disk, directory, session, *last_part)?;
    }
    match log.publisher.write() {
        Err(error) if error.is_full() => {}
        Err(PublishError::File(error)) => return Err(error.into()),
        Err(error) => return Err(RecoverError::Damaged(error.to_string())),
        Ok(_) => {}
    }
    // A crash between signing and publishing: the signed head is the truth, and is published now.
    if let Some((note, head)) = head
        && published.is_none_or(|(_, published)| published.size < head.size)
    {
        match replace(&**disk, &checkpoint_path, &note) {
            Err(error) if error.is_full() => log.publisher.publish_later(note),
            replaced => replaced?,
        }
    }
    Ok(Recovered {
        wal,
        counters: log.counters,
        publisher: log.publisher,
        destroyed: log.destroyed,
        dropped_bytes: found.dropped_bytes,
        rotated_to: log.rotated_to,
        last: log.last,
    })
}

fn read_head(disk: &dyn Disk, path: &Path, signer: &LogSigner) -> Result<Option<(Vec<u8>, Checkpoint)>, RecoverError> {
    let note = match disk.read(path) {
        Ok(note) => note,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::Io(path.to_owned(), error).into()),
    };
    // A head from before the key was replaced carries the previous pair's signatures alone.
    let opened = Checkpoint::open(&note, &Trust::from(signer.own_keys()));
    let opened = match (opened, signer.previous()) {
        (Err(CheckpointError::Unsigned { .. }), Some(previous)) => Checkpoint::open(&note, &Trust::from(previous.own_keys())),
        (opened, _) => opened,
    };
    match opened {
        Ok(checkpoint) => Ok(Some((note, checkpoint))),
        Err(cause) => Err(RecoverError::Head { path: path.to_owned(), origin: signer.origin().to_owned(), cause }),
    }
}

/// The log as it is read again.
struct Replay {
    /// What was before this is in the snapshot.
    from: u64,
    counters: Counters,
    publisher: Publisher,
    head: Option<Checkpoint>,
    /// Keys that entries say are destroyed; a crash may have come between.
    destroyed: Vec<KeyId>,
    rotated_to: Option<Vec<String>>,
    last: Option<(Reading, String)>,
}

impl Replay {
    /// An entry of the write-ahead log, and the chunk that it names, which its recording may not have got before a crash.
    fn found(&mut self, index: u64, found: wal::Found<'_, '_>) -> Result<(), RecoverError> {
        if index < self.from {
            // Its chunk was synced before the head that covers the snapshot.
            if let Event::RecordingChunk { .. } = *self.parse(index, found.entry)?.event {
                found.chunks.next();
            }
            return Ok(());
        }
        let Some(chunk) = self.entry(index, found.entry, found.hash)? else { return Ok(()) };
        match found.chunks.next() {
            Some((bytes, sha256)) if sha256 == chunk.sha256 && bytes.len() as u64 == chunk.length => {
                self.publisher.record(chunk, bytes.to_vec());
                Ok(())
            }
            _ => Err(RecoverError::Damaged(format!("entry {index}: the chunk that it names is not in its frame"))),
        }
    }

    fn bundle(&mut self, directory: &Path, disk: &dyn Disk, number: u64, until: u64) -> Result<(), RecoverError> {
        let tile = Tile { kind: TileKind::Entries, number, width: TILE_WIDTH as u16 };
        let path = directory.join(tile.to_string());
        let bytes = disk.read(&path).map_err(at(&path))?;
        let mut rest = bytes.as_slice();
        for index in number * TILE_WIDTH..((number + 1) * TILE_WIDTH).min(until) {
            let cut_short = || RecoverError::Damaged(format!("{}: the bundle ends before entry {index} does", path.display()));
            let (entry, after) = split_entry(rest).ok_or_else(cut_short)?;
            self.entry(index, entry, leaf_hash(entry))?;
            rest = after;
        }
        Ok(())
    }

    /// An entry, whose commands and clocks are noted.
    fn parse(&mut self, index: u64, bytes: &[u8]) -> Result<Entry, RecoverError> {
        let entry = Entry::parse(bytes).map_err(|error: EntryError| RecoverError::Damaged(format!("entry {index}: {error}")))?;
        if let Event::KeyDestroyed { key, .. } = &*entry.event {
            self.destroyed.extend(KeyId::parse(key));
        }
        self.last = Some((Reading { time: entry.stamp.time, mono_ns: entry.stamp.mono_ns }, entry.stamp.boot.clone()));
        Ok(entry)
    }

    fn entry(&mut self, index: u64, bytes: &[u8], hash: Hash) -> Result<Option<Chunk>, RecoverError> {
        let damaged = |cause: String| RecoverError::Damaged(format!("entry {index}: {cause}"));
        let entry = self.parse(index, bytes)?;
        if let Event::LedgerKeyRotated { new, .. } = &*entry.event {
            self.rotated_to = Some(new.clone());
        }
        let chunk = self.counters.check(&entry).map_err(|error: CounterError| damaged(error.to_string()))?;
        self.publisher.push(bytes, hash).map_err(|error| match error {
            PublishError::File(error) => error.into(),
            error => damaged(error.to_string()),
        })?;
        match &self.head {
            Some(head) if head.size == index + 1 && head.root != self.publisher.root() => Err(RecoverError::Root(head.size)),
            _ => Ok(chunk),
        }
    }
}
