//! The write-ahead log's segments: files of 64 MiB, zeroed before they are taken into use, and one more as the reserve.
//!
//! ```text
//!  0  "SULKUSG2"   8  16 bytes epoch   24  u64 first entry   32  hash of the frame before   64  u32 CRC32C over bytes 0 to 64
//! 68  zeroes up to 4,096, where the first frame begins                                                       (big endian)
//! ```
//!
//! A segment's name is the number of its first entry. It is made of zeroes before it is used: a sync of a file that does not grow
//! need not wait for the file system's journal, and a full disk is met while making the spare segment, not in the middle of a frame.
//! A segment whose entries are all in full published tiles becomes the next spare, zeroed again, or is removed. Knows no frames.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use sulku_audit::Hash;

use crate::disk::{Aligned, BLOCK_BYTES, Disk, LogFile, Open};
use crate::files::{FileError, at};
use crate::frame::{Epoch, FRAME_BYTES_MAX};

/// Big enough that a new one is seldom needed and that its rest is a reserve, small enough to be made and read in a fraction of a second.
pub(crate) const SEGMENT_BYTES: usize = 64 << 20;
const _: () = assert!(FRAME_BYTES_MAX * 8 < SEGMENT_BYTES, "some frames must fit a segment");
/// Where its first frame begins.
pub(crate) const FRAMES_AT: usize = BLOCK_BYTES;
const MAGIC: &[u8; 8] = b"SULKUSG2";
const CRC_AT: usize = 64;
const HEAD_BYTES: usize = 68;
/// How much of a new segment is zeroed by one write: the log's own writes come in between.
const ZEROED_AT_ONCE_BYTES: usize = 1 << 20;
const SPARE: &str = "spare";
const NAME_DIGITS: usize = 20;

/// What a segment says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) epoch: Epoch,
    pub(crate) first: u64,
    pub(crate) previous: Hash,
}

impl SegmentHead {
    /// The head in a segment's first block; `None` if it is damaged or something else.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let block = bytes.first_chunk::<BLOCK_BYTES>()?;
        let epoch = block[8..24].try_into().ok()?;
        let first = u64::from_be_bytes(block[24..32].try_into().ok()?);
        let head = Self { epoch, first, previous: Hash::from_bytes(block[32..64].try_into().ok()?) };
        (head.encode().bytes() == block).then_some(head)
    }

    fn encode(&self) -> Aligned {
        let mut block = Aligned::default();
        block.begin(BLOCK_BYTES);
        block.extend(MAGIC);
        block.extend(&self.epoch);
        block.extend(&self.first.to_be_bytes());
        block.extend(self.previous.as_bytes());
        let crc = crc32c::crc32c(&block.bytes()[..CRC_AT]);
        block.extend(&crc.to_be_bytes());
        debug_assert_eq!(block.bytes().len(), HEAD_BYTES);
        block.pad();
        block
    }
}

/// A segment that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Box<dyn LogFile>,
    pub(crate) path: PathBuf,
    pub(crate) epoch: Epoch,
}

/// The folder of the segments. The writer and the publisher both make spare segments, one at a time.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// [`SEGMENT_BYTES`], but in tests.
    segment_bytes: usize,
    making_spare: Mutex<()>,
}

impl Segments {
    /// The segments of this folder.
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: PathBuf, segment_bytes: usize) -> Self {
        Self { disk, folder, segment_bytes, making_spare: Mutex::new(()) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// How long each of them is.
    pub(crate) const fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    /// Every segment and the number of its first entry, in order.
    pub(crate) fn list(&self) -> Result<Vec<(u64, PathBuf)>, FileError> {
        let names = self.disk.list(&self.folder).map_err(at(&self.folder))?;
        let number = |name: &String| Some(name).filter(|name| name.len() == NAME_DIGITS).and_then(|name| name.parse().ok());
        let mut found: Vec<_> = names.iter().filter_map(|name| Some((number(name)?, self.folder.join(name)))).collect();
        found.sort();
        Ok(found)
    }

    /// Makes the spare segment, if there is none: a file of zeroes, synced.
    pub(crate) fn prepare_spare(&self) -> Result<(), FileError> {
        // A poisoned lock guards nothing that could be half done: the spare appears by a rename.
        let _guard = self.making_spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_spare()
    }

    /// Whether there is a spare segment.
    pub(crate) fn has_spare(&self) -> Result<bool, FileError> {
        let path = self.folder.join(SPARE);
        self.disk.exists(&path).map_err(at(&path))
    }

    /// Removes a spare segment that is not as long as it must be, and what is left of one in the making.
    pub(crate) fn check_spare(&self) -> Result<(), FileError> {
        let path = self.folder.join(SPARE);
        if self.has_spare()? {
            let length = self.disk.open(&path, Open::Existing).and_then(|file| file.length()).map_err(at(&path))?;
            if length != self.segment_bytes as u64 {
                self.remove(&path)?;
            }
        }
        Ok(())
    }

    fn make_spare(&self) -> Result<(), FileError> {
        let (path, aside) = (self.folder.join(SPARE), self.aside());
        if self.has_spare()? {
            return Ok(());
        }
        let file = self.disk.open(&aside, Open::OrNew).map_err(at(&aside))?;
        let zeroes = vec![0; ZEROED_AT_ONCE_BYTES.min(self.segment_bytes)];
        for number in 0..self.segment_bytes / zeroes.len() {
            file.write_at(&zeroes, (number * zeroes.len()) as u64).map_err(at(&aside))?;
        }
        file.set_length(self.segment_bytes as u64).and_then(|()| file.sync()).map_err(at(&aside))?;
        self.disk.rename(&aside, &path).map_err(at(&path))?;
        self.sync_folder()
    }

    /// Takes the spare segment into use, under a new epoch.
    pub(crate) fn take_new(&self, first: u64, previous: Hash) -> Result<Segment, FileError> {
        let _guard = self.making_spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_spare()?;
        let (spare, path) = (self.folder.join(SPARE), self.folder.join(format!("{first:0NAME_DIGITS$}")));
        let mut epoch = [0; 16];
        getrandom::fill(&mut epoch).map_err(|error| FileError::Io(spare.clone(), io::Error::other(error.to_string())))?;
        let file = self.disk.open_log(&spare).map_err(at(&spare))?;
        file.write_durably(&SegmentHead { epoch, first, previous }.encode(), 0).map_err(at(&spare))?;
        self.disk.rename(&spare, &path).map_err(at(&path))?;
        self.sync_folder()?;
        Ok(Segment { file, path, epoch })
    }

    /// Lets go of the segments whose entries are all before `covered`; never of the last one. One is kept to become the next spare: its
    /// room on the disk is the ledger's already.
    pub(crate) fn let_go(&self, covered: u64) -> Result<(), FileError> {
        for pair in self.list()?.windows(2) {
            let (next_first, path) = (pair[1].0, &pair[0].1);
            if next_first > covered {
                break;
            }
            let _guard = self.making_spare.lock().unwrap_or_else(PoisonError::into_inner);
            if self.disk.exists(&self.aside()).map_err(at(path))? {
                self.remove(path)?;
            } else {
                // Durable before a byte of it is zeroed: under its old name a damaged segment would look like damage.
                self.disk.rename(path, &self.aside()).map_err(at(path))?;
                self.sync_folder()?;
            }
        }
        Ok(())
    }

    fn aside(&self) -> PathBuf {
        self.folder.join("spare.tmp")
    }

    /// One after the other: were two removals lost in the wrong order, a segment would seem to be missing.
    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.disk.remove(path).map_err(at(path))?;
        self.sync_folder()
    }

    fn sync_folder(&self) -> Result<(), FileError> {
        self.disk.sync_folder(&self.folder).map_err(at(&self.folder))
    }
}
