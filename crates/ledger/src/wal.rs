//! The write-ahead log: frames, written and synced one after the other into prepared segments, and read again at start.
//!
//! A write that failed is never tried again: the kernel may have dropped the pages and report success the second time. Segments are
//! [`crate::segment`]'s, frames [`crate::frame`]'s; what the entries mean is its caller's matter.

use std::path::PathBuf;
use std::sync::Arc;

use sulku_audit::Hash;

use crate::disk::{Aligned, BLOCK_BYTES, Open, WriteMode};
use crate::files::{FileError, at};
use crate::frame::{Contents, Epoch, Frame, MAGIC, NO_FRAME};
use crate::segment::{FRAMES_AT, Segment, SegmentHead, Segments};

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

/// The log, open for the next frame.
#[derive(Debug)]
pub(crate) struct Wal {
    segments: Arc<Segments>,
    segment: Segment,
    offset: usize,
    next: u64,
    previous: Hash,
    tail: Tail,
    /// The frame that is written, in memory fit for it.
    frame: Aligned,
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
    /// `None`: there is no log yet.
    pub(crate) wal: Option<Wal>,
    /// Bytes of an unfinished last write.
    pub(crate) dropped_bytes: u64,
}

impl Wal {
    /// Begins a log whose next entry is `first`.
    pub(crate) fn begin(segments: Arc<Segments>, first: u64) -> Result<Self, FileError> {
        let segment = segments.take_new(first, NO_FRAME)?;
        Ok(Self { segments, segment, offset: FRAMES_AT, next: first, previous: NO_FRAME, tail: Tail::Clear, frame: Aligned::default() })
    }

    /// Reads every frame, shows each entry to `each`, and opens the log for the next frame. Changes nothing yet: the caller may find
    /// that more is missing than an unfinished last write, and then what is there must stay as it is.
    ///
    /// # Errors
    /// The disk failed, or something other than an unfinished last write is wrong.
    pub(crate) fn recover<E>(segments: Arc<Segments>, mut each: impl FnMut(u64, Found<'_, '_>) -> Result<(), E>) -> Result<Recovered, WalError<E>> {
        let found = segments.list()?;
        let mut next = found.first().map_or(0, |(first, _)| *first);
        let mut previous = None;
        let (mut wal, mut dropped_bytes) = (None, 0);
        for (position, (name, path)) in found.iter().enumerate() {
            let corrupt = |offset, what| WalError::Corrupt { segment: path.clone(), offset, what };
            let is_last = position + 1 == found.len();
            let bytes = segments.disk().read(path).map_err(at(path))?;
            if *name != next {
                return Err(corrupt(0, "the segment before it is missing, or has lost frames at its end"));
            }
            // It is durable before the segment has its name, so no crash damages it.
            let Some(head) = SegmentHead::parse(&bytes) else { return Err(corrupt(0, "the segment's head is damaged")) };
            if head.first != *name {
                return Err(corrupt(24, "the segment was renamed: it begins with another entry"));
            }
            if previous.is_some_and(|previous| previous != head.previous) {
                return Err(corrupt(32, "the segment does not follow the one before it: one of them is of another time or log"));
            }
            // Where the segments before the first are gone, its first frame is tied to the log by the signed root alone.
            let mut last = head.previous;
            let mut offset = FRAMES_AT;
            while let Some(frame) = bytes.get(offset..).and_then(|rest| Frame::parse(rest, &head.epoch)) {
                if frame.first != next || frame.previous != last {
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
                last = frame.hash;
                offset += frame.length;
            }
            previous = Some(last);
            let rest = bytes.get(offset..).unwrap_or_default();
            let torn = written_length(rest);
            if torn > 0 && !is_last {
                return Err(corrupt(offset, "a damaged frame with whole segments after it"));
            }
            if let Some(later) = find_whole_frame(&rest[..torn.next_multiple_of(BLOCK_BYTES).min(rest.len())], &head.epoch) {
                return Err(corrupt(offset + later, "a whole frame after a damaged one"));
            }
            if is_last {
                dropped_bytes = torn as u64;
                let tail = match (bytes.len() < segments.segment_bytes(), torn) {
                    (true, _) => Tail::Torn(segments.segment_bytes().saturating_sub(offset)),
                    (false, 0) => Tail::Clear,
                    (false, torn) => Tail::Torn(torn),
                };
                let file = segments.disk().open_log(path).map_err(at(path))?;
                let segment = Segment { file, path: path.clone(), epoch: head.epoch };
                let segments = Arc::clone(&segments);
                wal = Some(Self { segments, segment, offset, next, previous: last, tail, frame: Aligned::default() });
            }
        }
        Ok(Recovered { wal, dropped_bytes })
    }

    /// Overwrites what an unfinished last write left, so that it can't be taken for anything later.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn clear_tail(&mut self) -> Result<(), FileError> {
        if self.mode() == WriteMode::WriteThenSync {
            // Were the last sync a failed one, what was read just now would be in memory alone: it is written again.
            let path = &self.segment.path;
            let bytes = self.segments.disk().read(path).map_err(at(path))?;
            let file = self.segments.disk().open(path, Open::Existing).map_err(at(path))?;
            file.write_at(&bytes[..self.offset], 0).and_then(|()| file.sync()).map_err(at(path))?;
        }
        if let Tail::Torn(length) = self.tail {
            let path = &self.segment.path;
            let file = self.segments.disk().open(path, Open::Existing).map_err(at(path))?;
            file.write_at(&vec![0; length], self.offset as u64).and_then(|()| file.sync()).map_err(at(path))?;
            self.tail = Tail::Clear;
        }
        Ok(())
    }

    /// The number of the next entry.
    pub(crate) const fn next(&self) -> u64 {
        self.next
    }

    /// Bytes that the segment in use has left.
    pub(crate) fn room_bytes(&self) -> usize {
        self.segments.segment_bytes() - self.offset
    }

    /// Bytes that frames will find whatever the disk says: of the spare segment, or else of what the one in use has left.
    pub(crate) fn reserve_bytes(&self) -> Result<usize, FileError> {
        Ok(if self.segments.has_spare()? { self.segments.segment_bytes() - FRAMES_AT } else { self.room_bytes() })
    }

    /// Makes the next segment beforehand, if there is none.
    pub(crate) fn prepare_spare(&self) -> Result<(), FileError> {
        self.segments.prepare_spare()
    }

    /// How the log is written.
    pub(crate) fn mode(&self) -> WriteMode {
        self.segment.file.mode()
    }

    /// Writes a frame and syncs it. When this returns, its entries are durable.
    ///
    /// # Errors
    /// The disk failed; the log must not be written to again.
    pub(crate) fn commit(&mut self, contents: &Contents) -> Result<(), FileError> {
        if self.offset + contents.frame_bytes() > self.segments.segment_bytes() {
            self.segment = self.segments.take_new(self.next, self.previous)?;
            self.offset = FRAMES_AT;
        }
        let hash = contents.frame(&self.segment.epoch, self.next, &self.previous, &mut self.frame);
        self.segment.file.write_durably(&self.frame, self.offset as u64).map_err(at(&self.segment.path))?;
        self.offset += contents.frame_bytes();
        self.next += contents.hashes.len() as u64;
        self.previous = hash;
        Ok(())
    }
}

/// How far these bytes reach before there are only zeroes.
fn written_length(bytes: &[u8]) -> usize {
    // Block by block, since nearly all of a segment is zeroes and comparing blocks is quick.
    const BLOCK: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];
    let last_block = bytes.chunks(BLOCK.len()).rposition(|block| block != &BLOCK[..block.len()]);
    let Some(begin) = last_block.map(|block| block * BLOCK.len()) else { return 0 };
    let block = &bytes[begin..bytes.len().min(begin + BLOCK.len())];
    begin + block.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// The first whole frame that begins at any block of these bytes but the first, where there is none.
fn find_whole_frame(bytes: &[u8], epoch: &Epoch) -> Option<usize> {
    let blocks = (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES);
    blocks.filter(|at| bytes[*at..].starts_with(MAGIC)).find(|at| Frame::parse(&bytes[*at..], epoch).is_some())
}
