//! The recording of a terminal as asciicast v3, cut into chunks that the ledger keeps one by one.
//!
//! Output and resizes are recorded as they are, input as the moments of typing only: what was typed may be a password.

use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use sulku_audit::Event;

use crate::facts::Facts;

/// One session's recording, as it grows.
#[derive(Debug)]
pub(crate) struct Recording {
    /// Lines that no chunk has taken yet.
    pending: String,
    /// When the recording began, and when the last line was written; asciicast v3 times are intervals.
    began: Duration,
    last: Duration,
    /// When the first line that waits was written, and how many wait.
    waits_since: Duration,
    lines: u64,
    chunks: u64,
    offset: u64,
}

impl Recording {
    pub(crate) fn new(facts: &Facts, began: jiff::Timestamp, elapsed: Duration) -> Self {
        let (columns, rows) = facts.asked().size;
        let header = json!({
            "version": 3,
            "term": { "cols": columns, "rows": rows, "type": facts.asked().term },
            "timestamp": began.as_second(),
            "title": format!("{} {}", facts.permit_id(), facts.id()),
        });
        Self { pending: format!("{header}\n"), began: elapsed, last: elapsed, waits_since: elapsed, lines: 1, chunks: 0, offset: 0 }
    }

    pub(crate) fn output(&mut self, text: &str, elapsed: Duration) {
        self.line("o", text, elapsed);
    }

    pub(crate) fn typed(&mut self, elapsed: Duration) {
        self.line("i", "", elapsed);
    }

    pub(crate) fn resized(&mut self, columns: u16, rows: u16, elapsed: Duration) {
        self.line("r", &format!("{columns}x{rows}"), elapsed);
    }

    pub(crate) fn exited(&mut self, status: i32, elapsed: Duration) {
        self.line("x", &status.to_string(), elapsed);
    }

    /// Everything that waits, as the next chunk with its entry.
    pub(crate) fn take(&mut self) -> Option<(Event, Vec<u8>)> {
        if self.pending.is_empty() {
            return None;
        }
        let chunk = std::mem::take(&mut self.pending).into_bytes();
        let length = chunk.len() as u64;
        let event = Event::RecordingChunk {
            chunk: self.chunks,
            offset: self.offset,
            length,
            sha256: format!("{:x}", Sha256::digest(&chunk)),
            began_ms: self.since_begin(self.waits_since),
            ended_ms: self.since_begin(self.last),
            lines: std::mem::take(&mut self.lines),
        };
        self.chunks += 1;
        self.offset += length;
        Some((event, chunk))
    }

    pub(crate) const fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Bytes that the chunks so far have.
    pub(crate) const fn bytes(&self) -> u64 {
        self.offset
    }

    fn since_begin(&self, elapsed: Duration) -> u64 {
        u64::try_from(elapsed.saturating_sub(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) const fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    fn line(&mut self, code: &str, data: &str, elapsed: Duration) {
        let interval = elapsed.saturating_sub(self.last);
        self.last = elapsed;
        if self.lines == 0 {
            self.waits_since = elapsed;
        }
        self.lines += 1;
        // Six digits after the point, as asciinema writes; whole microseconds survive the way through a float.
        let line = format!("[{}.{:06}, \"{code}\", {}]\n", interval.as_secs(), interval.subsec_micros(), json!(data));
        self.pending.push_str(&line);
    }
}
