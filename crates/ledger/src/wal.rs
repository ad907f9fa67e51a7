//! The write-ahead log: segments of 16 MiB, zeroed beforehand, to which frames are written and synced one after the other.
//!
//! A segment's name is the number of its first entry. It is made of zeroes before it is used: a sync of a file that does not grow
//! need not wait for the file system's journal, and a full disk is met while making the spare segment, not in the middle of a
//! frame. A segment is removed, never used again, once its entries are all in full published tiles.
//!
//! A write or sync that failed is never tried again: the kernel may have dropped the pages and report success the second time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use sulku_audit::Hash;

use crate::files::{FILE_MODE, FileError, at, sync_folder};
use crate::frame::{Contents, FRAME_BYTES_MAX, Frame, MAGIC, NO_FRAME};

/// Big enough that a new one is seldom needed, small enough to be made in some hundredths of a second and read as a whole.
pub(crate) const SEGMENT_BYTES: usize = 16 << 20;
const _: () = assert!(FRAME_BYTES_MAX < SEGMENT_BYTES, "a frame must fit a segment");
const SPARE: &str = "spare";
const NAME_DIGITS: usize = 20;

/// A log that must not be written to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalError<E> {
    /// The disk or its file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something other than an unfinished last write is wrong.
    #[error("{segment} at byte {offset}: {what}")]
    Corrupt {
        /// The segment's file.
        segment: PathBuf,
        /// Where in it.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// An entry that was found is wrong.
    #[error(transparent)]
    Entry(E),
}

/// The folder of the segments. The writer and the publisher both make spare segments, one at a time.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    making_spare: Mutex<()>,
}

/// The log, open for the next frame.
#[derive(Debug)]
pub(crate) struct Wal {
    segments: Arc<Segments>,
    segment: File,
    path: PathBuf,
    offset: usize,
    next: u64,
    previous: Hash,
    tail: Tail,
}

/// What follows the last frame in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Zeroes up to the segment's end.
    Clear,
    /// This many bytes that are to be zeroes: of an unfinished write, or missing from the file.
    Torn(usize),
}

/// An entry that was found, and the chunks of its frame that no entry before it named.
pub(crate) struct Found<'f, 'c> {
    pub(crate) entry: &'f [u8],
    pub(crate) hash: Hash,
    pub(crate) chunks: &'c mut std::vec::IntoIter<(&'f [u8], Hash)>,
}

/// What was found in the log.
pub(crate) struct Recovered {
    pub(crate) wal: Wal,
    /// Bytes of an unfinished last write.
    pub(crate) dropped_bytes: u64,
}

impl Wal {
    /// Reads every frame, shows each entry to `each`, and opens the log for the next frame. Changes nothing yet: the caller may find
    /// that more is missing than an unfinished last write, and then what is there must stay as it is.
    ///
    /// # Errors
    /// The disk failed, or something other than an unfinished last write is wrong.
    pub(crate) fn recover<E>(segments: Arc<Segments>, mut each: impl FnMut(u64, Found<'_, '_>) -> Result<(), E>) -> Result<Recovered, WalError<E>> {
        let found = segments.list()?;
        let mut next = found.first().map_or(0, |(first, _)| *first);
        // Where the segments before the first are removed, its first frame is tied to the log by the signed root alone.
        let mut previous = if next == 0 { Some(NO_FRAME) } else { None };
        let (mut offset, mut dropped_bytes, mut tail) = (0, 0, Tail::Clear);
        for (position, (name, path)) in found.iter().enumerate() {
            let corrupt = |offset, what| WalError::Corrupt { segment: path.clone(), offset, what };
            let is_last = position + 1 == found.len();
            let bytes = fs::read(path).map_err(at(path))?;
            if *name != next {
                return Err(corrupt(0, "the segment before it is missing, or has lost frames at its end"));
            }
            offset = 0;
            while let Some(frame) = bytes.get(offset..).and_then(Frame::parse) {
                if frame.first != next || previous.is_some_and(|previous| previous != frame.previous) {
                    return Err(corrupt(offset, "a whole frame that does not follow the one before it"));
                }
                let mut chunks = frame.chunks.into_iter();
                for (entry, hash) in frame.entries {
                    each(next, Found { entry, hash, chunks: &mut chunks }).map_err(WalError::Entry)?;
                    next += 1;
                }
                if chunks.next().is_some() {
                    return Err(corrupt(offset, "a frame with a chunk that no entry of it names"));
                }
                previous = Some(frame.check);
                offset += frame.length;
            }
            let rest = bytes.get(offset..).unwrap_or_default();
            let torn = written_length(rest);
            if torn > 0 && !is_last {
                return Err(corrupt(offset, "a damaged frame with whole segments after it"));
            }
            if let Some(later) = find_whole_frame(&rest[..torn]) {
                return Err(corrupt(offset + later, "a whole frame after a damaged one"));
            }
            dropped_bytes = torn as u64;
            tail = match (bytes.len() < SEGMENT_BYTES, torn) {
                (true, _) => Tail::Torn(SEGMENT_BYTES.saturating_sub(offset)),
                (false, 0) => Tail::Clear,
                (false, torn) => Tail::Torn(torn),
            };
        }
        let (segment, path) = match found.last() {
            Some((_, path)) => (OpenOptions::new().write(true).open(path).map_err(at(path))?, path.clone()),
            None => segments.take_new(0)?,
        };
        let wal = Self { segments, segment, path, offset, next, previous: previous.unwrap_or(NO_FRAME), tail };
        Ok(Recovered { wal, dropped_bytes })
    }

    /// Overwrites what an unfinished last write left, so that it can't be taken for anything later.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn clear_tail(&mut self) -> Result<(), FileError> {
        if let Tail::Torn(length) = self.tail {
            let zeroes = vec![0; length];
            self.segment.write_all_at(&zeroes, self.offset as u64).and_then(|()| self.segment.sync_all()).map_err(at(&self.path))?;
            self.tail = Tail::Clear;
        }
        Ok(())
    }

    /// The number of the next entry.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Writes a frame and syncs it. When this returns, its entries are durable.
    ///
    /// # Errors
    /// The disk failed; the log must not be written to again.
    pub(crate) fn commit(&mut self, contents: &Contents) -> Result<(), FileError> {
        let count = contents.hashes.len() as u64;
        let (bytes, check) = contents.frame(self.next, &self.previous);
        if self.offset + bytes.len() > SEGMENT_BYTES {
            (self.segment, self.path) = self.segments.take_new(self.next)?;
            self.offset = 0;
        }
        self.segment.write_all_at(&bytes, self.offset as u64).map_err(at(&self.path))?;
        self.segment.sync_data().map_err(at(&self.path))?;
        self.offset += bytes.len();
        self.next += count;
        self.previous = check;
        Ok(())
    }
}

/// How far these bytes reach before there are only zeroes.
fn written_length(bytes: &[u8]) -> usize {
    // Page by page, since nearly all of a segment is zeroes and comparing pages is quick.
    const PAGE: [u8; 4096] = [0; 4096];
    let last_page = bytes.chunks(PAGE.len()).rposition(|page| page != &PAGE[..page.len()]);
    let Some(begin) = last_page.map(|page| page * PAGE.len()) else { return 0 };
    let page = &bytes[begin..bytes.len().min(begin + PAGE.len())];
    begin + page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The first whole frame that begins anywhere in these bytes but at their start, where there is none.
fn find_whole_frame(bytes: &[u8]) -> Option<usize> {
    let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| window == MAGIC);
    starts.map(|(at, _)| at).find(|at| Frame::parse(&bytes[*at..]).is_some())
}

impl Segments {
    /// The segments of this folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, making_spare: Mutex::new(()) }
    }

    /// Every segment and the number of its first entry, in order.
    pub(crate) fn list(&self) -> Result<Vec<(u64, PathBuf)>, FileError> {
        let mut found = Vec::new();
        for item in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = item.map_err(at(&self.folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(first) = Some(name).filter(|name| name.len() == NAME_DIGITS).and_then(|name| name.parse().ok()) {
                found.push((first, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Makes the spare segment, if there is none: a file of zeroes, synced.
    pub(crate) fn prepare_spare(&self) -> Result<(), FileError> {
        // A poisoned lock guards nothing that could be half done: the spare appears by a rename.
        let _guard = self.making_spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_spare()
    }

    fn make_spare(&self) -> Result<(), FileError> {
        let (path, aside) = (self.folder.join(SPARE), self.folder.join("spare.tmp"));
        if path.exists() {
            return Ok(());
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&aside).map_err(at(&aside))?;
        let zeroes = vec![0; 1 << 20];
        for _ in 0..SEGMENT_BYTES / zeroes.len() {
            file.write_all(&zeroes).map_err(at(&aside))?;
        }
        file.sync_all().map_err(at(&aside))?;
        fs::rename(&aside, &path).map_err(at(&path))?;
        sync_folder(&self.folder)
    }

    fn take_new(&self, first: u64) -> Result<(File, PathBuf), FileError> {
        let _guard = self.making_spare.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_spare()?;
        let path = self.folder.join(format!("{first:0NAME_DIGITS$}"));
        fs::rename(self.folder.join(SPARE), &path).map_err(at(&path))?;
        sync_folder(&self.folder)?;
        Ok((OpenOptions::new().write(true).open(&path).map_err(at(&path))?, path))
    }

    /// Removes the segments whose entries are all before `covered`; never the last one.
    pub(crate) fn remove_covered(&self, covered: u64) -> Result<(), FileError> {
        for pair in self.list()?.windows(2) {
            if pair[1].0 <= covered {
                match fs::remove_file(&pair[0].1) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FileError::Io(pair[0].1.clone(), error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
