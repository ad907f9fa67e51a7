//! The recording of one session: what happens becomes lines, lines become sealed chunks, each with the entry that names it.
//!
//! Output and resizes are recorded as they are; of input the moments alone, unless the permit has it recorded: what was typed may be a
//! password. Holds the session's key until it is dropped, and opens nothing.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sulku_audit::Event;
use sulku_permit::TerminalRecording;
use sulku_recording::{Began, Cast, Sealer, SessionKey};

use crate::facts::Facts;

/// A session's key, and the same key as only the auditors can read it.
#[derive(Debug)]
pub struct RecordingKey {
    /// The key, to seal with.
    pub key: SessionKey,
    /// The key, wrapped for the auditors; kept with the recording.
    pub wrapped: Vec<u8>,
    /// Their public keys.
    pub recipients: Vec<String>,
}

/// A chunk on its way to the ledger.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) event: Event,
    pub(crate) bytes: Vec<u8>,
    /// Bytes of output in it.
    pub(crate) output: usize,
}

/// One session's recording, as it grows.
#[derive(Debug)]
pub(crate) struct Recording {
    cast: Cast,
    sealer: Sealer,
    input: TerminalRecording,
    /// The first bytes of a typed character whose rest has not come.
    typed: Vec<u8>,
    /// When the recording began, since the session did.
    began: Duration,
    offset: u64,
    part: u32,
    /// Output that waits to be sealed.
    output: usize,
}

impl Recording {
    /// Begins a recording. Also gives the entry that says so, with the wrapped key.
    pub(crate) fn begin(facts: &Facts, key: RecordingKey, wall: Timestamp, elapsed: Duration) -> (Self, Event, Vec<u8>) {
        let RecordingKey { key, wrapped, recipients } = key;
        let terms = facts.permit().recording;
        let kept = SignedDuration::from_hours(24 * i64::from(terms.retention_days));
        let event = Event::RecordingBegun {
            part: facts.part(),
            key_sha256: hex(&sulku_recording::sha256(&wrapped)),
            key_length: wrapped.len() as u64,
            recipients,
            durability: terms.durability.name().to_owned(),
            input: match terms.terminal {
                TerminalRecording::OutputAndInputTiming => "timing",
                TerminalRecording::OutputAndInput => "content",
            }
            .to_owned(),
            keep_until: wall.checked_add(kept).unwrap_or(Timestamp::MAX),
        };
        let title = format!("{} {}", facts.permit_id(), facts.id());
        let began = Began { size: facts.asked().size, term: &facts.asked().term, timestamp: wall.as_second(), title: &title };
        let recording = Self {
            cast: Cast::begin(began, elapsed),
            sealer: Sealer::new(key, facts.id()),
            input: terms.terminal,
            typed: Vec::new(),
            began: elapsed,
            offset: 0,
            part: facts.part(),
            output: 0,
        };
        (recording, event, wrapped)
    }

    pub(crate) fn output(&mut self, text: &str, elapsed: Duration) {
        self.output += text.len();
        self.cast.push('o', text, elapsed);
    }

    pub(crate) fn typed(&mut self, bytes: &[u8], elapsed: Duration) {
        match self.input {
            TerminalRecording::OutputAndInputTiming => self.cast.push('i', "", elapsed),
            TerminalRecording::OutputAndInput => {
                self.typed.extend_from_slice(bytes);
                let text = take_text(&mut self.typed);
                self.cast.push('i', &text, elapsed);
            }
        }
    }

    pub(crate) fn resized(&mut self, columns: u16, rows: u16, elapsed: Duration) {
        self.cast.push('r', &format!("{columns}x{rows}"), elapsed);
    }

    /// A mark that a player can show: what is no output of the terminal and explains it.
    pub(crate) fn marked(&mut self, what: &str, elapsed: Duration) {
        self.cast.push('m', what, elapsed);
    }

    pub(crate) fn exited(&mut self, status: i32, elapsed: Duration) {
        self.cast.push('x', &status.to_string(), elapsed);
    }

    /// The oldest of what waits, as the next chunk.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        let lines = self.cast.take()?;
        let sealed = self.sealer.seal(&lines);
        let since_began = |moment: Duration| u64::try_from(moment.saturating_sub(self.began).as_millis()).unwrap_or(u64::MAX);
        let (began, ended) = lines.span();
        let length = sealed.bytes.len() as u64;
        let event = Event::RecordingChunk {
            part: self.part,
            chunk: sealed.number,
            offset: self.offset,
            length,
            sha256: hex(&sealed.sha256),
            began_ms: since_began(began),
            ended_ms: since_began(ended),
            lines: lines.count(),
        };
        self.offset += length;
        self.output -= lines.output_bytes();
        Some(Chunk { event, bytes: sealed.bytes, output: lines.output_bytes() })
    }

    /// Bytes of lines that wait.
    pub(crate) const fn pending_bytes(&self) -> usize {
        self.cast.bytes()
    }

    /// Bytes of output that wait.
    pub(crate) const fn pending_output(&self) -> usize {
        self.output
    }

    /// When the oldest line that waits was written.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.cast.oldest()
    }
}

/// The whole characters of what was typed; a character that has only begun stays. What is no UTF-8 becomes U+FFFD.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut begun = 0;
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let may_go_on = chunks.peek().is_none() && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if may_go_on {
            begun = chunk.invalid().len();
        } else if !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
        }
    }
    drop(chunks);
    bytes.drain(..bytes.len() - begun);
    text
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::take_text;

    #[test]
    fn a_character_typed_in_two_pieces_is_one() {
        let mut bytes = b"a\xc3".to_vec();
        assert_eq!((take_text(&mut bytes).as_str(), bytes.as_slice()), ("a", &b"\xc3"[..]));
        bytes.extend_from_slice(b"\xa4\xff\xf0\x9f");
        assert_eq!((take_text(&mut bytes).as_str(), bytes.as_slice()), ("ä\u{fffd}", &b"\xf0\x9f"[..]));
        bytes.extend_from_slice(b"x");
        assert_eq!((take_text(&mut bytes).as_str(), bytes.len()), ("\u{fffd}x", 0));
    }
}
