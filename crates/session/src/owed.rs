//! What the ledger owes an answer for, oldest first, and how long it has kept us waiting.
//!
//! An entry or a chunk counts as kept when its receipt is here, not before. Decides nothing; the session freezes and ends by what this
//! says.

use std::collections::VecDeque;
use std::time::Duration;

/// Something that was sent to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// A chunk of the recording: its own bytes, and the bytes of output in it.
    Chunk { bytes: u64, output: usize },
    /// An entry that nothing waits for.
    Entry,
    /// The entry that somebody comes to take the session up, by number: she waits for it.
    Comer(u64),
}

/// What is owed, and what was kept of the recording.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    queue: VecDeque<(Sent, Duration)>,
    chunks: u64,
    bytes: u64,
}

impl Owed {
    pub(crate) fn send(&mut self, sent: Sent, now: Duration) {
        self.queue.push_back((sent, now));
    }

    /// The oldest.
    pub(crate) fn oldest(&self) -> Option<Sent> {
        self.queue.front().map(|(sent, _)| *sent)
    }

    /// Entries of those who come to take the session up.
    pub(crate) fn comers(&self) -> usize {
        self.queue.iter().filter(|(sent, _)| matches!(sent, Sent::Comer(_))).count()
    }

    /// The oldest is kept.
    pub(crate) fn kept(&mut self) -> Option<Sent> {
        let (sent, _) = self.queue.pop_front()?;
        if let Sent::Chunk { bytes, .. } = sent {
            (self.chunks, self.bytes) = (self.chunks + 1, self.bytes + bytes);
        }
        Some(sent)
    }

    /// The oldest was refused: nothing of it is kept.
    pub(crate) fn refused(&mut self) {
        self.queue.pop_front();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether a chunk is on its way.
    pub(crate) fn has_chunk(&self) -> bool {
        self.queue.iter().any(|(sent, _)| matches!(sent, Sent::Chunk { .. }))
    }

    /// For how long the oldest has been owed.
    pub(crate) fn waited(&self, now: Duration) -> Duration {
        self.queue.front().map_or(Duration::ZERO, |(_, since)| now.saturating_sub(*since))
    }

    /// Chunks of the recording that are kept, and their bytes.
    pub(crate) const fn recorded(&self) -> (u64, u64) {
        (self.chunks, self.bytes)
    }
}
