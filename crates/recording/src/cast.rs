//! asciicast v3: a header line, then one line an event, `[seconds since the line before, code, text]`.
//!
//! Writes what a terminal did and reads it back. Draws nothing, and keeps no more than it is asked to.

use std::collections::VecDeque;
use std::io::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use crate::sealed::LINES_BYTES_MAX;

/// The most text of one line. Written as JSON, where a byte takes six at most, a line is then shorter than a chunk.
const LINE_TEXT_BYTES_MAX: usize = 8 * 1024;
const MEMORY: &str = "memory takes what is written to it";
const _: () = assert!(6 * LINE_TEXT_BYTES_MAX + 64 <= LINES_BYTES_MAX, "each line fits into a chunk");

/// What a line says.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// The first line of a recording.
    Header(Header),
    /// Something that happened.
    Event {
        /// Since the line before.
        after: Duration,
        /// `o` output, `i` input, `r` resize, `x` exit, `m` mark; others are passed on.
        code: String,
        /// What was shown or typed, `80x24`, the status.
        text: String,
    },
    /// A comment, or nothing.
    Silent,
}

/// A recording's first line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Header {
    version: u32,
    /// The terminal when the recording began.
    pub term: Term,
    /// When it began, in seconds since 1970.
    #[serde(default)]
    pub timestamp: Option<i64>,
    /// What it is of.
    #[serde(default)]
    pub title: Option<String>,
}

/// A terminal.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Term {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Its kind, as in `TERM`.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

/// A line that is no asciicast v3.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Not a line of the form.
    #[error("it is not asciicast: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Another version.
    #[error("it is asciicast version {0}; this program reads version 3")]
    Version(u32),
    /// A time that none can be.
    #[error("its time is no length of time")]
    Time,
}

impl Line {
    /// Reads a line; the first of a recording is its header.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(line: &[u8], first: bool) -> Result<Self, LineError> {
        if first {
            let header: Header = serde_json::from_slice(line)?;
            return if header.version == 3 { Ok(Self::Header(header)) } else { Err(LineError::Version(header.version)) };
        }
        if line.starts_with(b"#") || line.trim_ascii().is_empty() {
            return Ok(Self::Silent);
        }
        let (after, code, text): (f64, String, String) = serde_json::from_slice(line)?;
        let after = Duration::try_from_secs_f64(after).map_err(|_| LineError::Time)?;
        Ok(Self::Event { after, code, text })
    }
}

/// The first lines of a recording's later part, without the header and as they follow the part before: at this time after its last line.
///
/// # Errors
/// They do not begin with a header.
pub fn continued(lines: &[u8], gap: Duration) -> Result<Vec<u8>, LineError> {
    let (first, rest) = lines.split_at(lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |end| end + 1));
    let header: Header = serde_json::from_slice(first)?;
    if header.version != 3 {
        return Err(LineError::Version(header.version));
    }
    let Term { cols, rows, kind: _ } = header.term;
    let resize = format!("[{}.{:06}, \"r\", \"{cols}x{rows}\"]\n", gap.as_secs(), gap.subsec_micros());
    Ok([resize.as_bytes(), rest].concat())
}

/// The terminal as it was when a recording began.
#[derive(Debug, Clone, Copy)]
pub struct Began<'a> {
    /// Columns and rows.
    pub size: (u16, u16),
    /// Its kind, as in `TERM`.
    pub term: &'a str,
    /// When, in seconds since 1970.
    pub timestamp: i64,
    /// What it is of.
    pub title: &'a str,
}

/// Lines that wait to become chunks.
#[derive(Debug)]
pub struct Cast {
    text: Vec<u8>,
    /// The end of each line in `text`, its moment, and how many bytes of output it has.
    lines: VecDeque<(usize, Duration, usize)>,
    /// When the last line was written, also of those taken; asciicast v3 times are intervals.
    last: Duration,
}

/// Lines that were taken together, for one chunk. Nothing but [`Cast::take`] makes them, so that they are never too long for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    text: Vec<u8>,
    count: u64,
    began: Duration,
    ended: Duration,
    output_bytes: usize,
}

impl Lines {
    /// The lines, each with its end.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// How many they are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The moments of the first and the last, since the session began.
    #[must_use]
    pub const fn span(&self) -> (Duration, Duration) {
        (self.began, self.ended)
    }

    /// Bytes of output in them, as the terminal gave them.
    #[must_use]
    pub const fn output_bytes(&self) -> usize {
        self.output_bytes
    }
}

impl Cast {
    /// Begins a recording with its header, at this moment since the session began.
    #[must_use]
    pub fn begin(began: Began<'_>, elapsed: Duration) -> Self {
        let Began { size: (cols, rows), term, timestamp, title } = began;
        let header = json!({ "version": 3, "term": { "cols": cols, "rows": rows, "type": term }, "timestamp": timestamp, "title": title });
        let (text, elapsed) = (format!("{header}\n").into_bytes(), whole_microseconds(elapsed));
        Self { lines: [(text.len(), elapsed, 0)].into(), text, last: elapsed }
    }

    /// Adds an event. A long text becomes several lines of one moment.
    pub fn push(&mut self, code: char, text: &str, elapsed: Duration) {
        let mut rest = text;
        loop {
            let (piece, after) = rest.split_at(floor(rest, LINE_TEXT_BYTES_MAX));
            self.line(code, piece, elapsed);
            rest = after;
            if rest.is_empty() {
                return;
            }
        }
    }

    fn line(&mut self, code: char, text: &str, elapsed: Duration) {
        let elapsed = whole_microseconds(elapsed).max(self.last);
        let interval = elapsed - self.last;
        self.last = elapsed;
        // Six digits after the point, as asciinema writes; whole microseconds survive the way through a float.
        write!(self.text, "[{}.{:06}, \"{code}\", ", interval.as_secs(), interval.subsec_micros()).expect(MEMORY);
        serde_json::to_writer(&mut self.text, text).expect(MEMORY);
        self.text.extend_from_slice(b"]\n");
        self.lines.push_back((self.text.len(), elapsed, if code == 'o' { text.len() } else { 0 }));
    }

    /// Bytes that wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.text.len()
    }

    /// When the oldest line that waits was written.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.lines.front().map(|(_, moment, _)| *moment)
    }

    /// The oldest lines that wait, as many as fit into a chunk.
    pub fn take(&mut self) -> Option<Lines> {
        let (_, began, _) = *self.lines.front()?;
        let (mut end, mut ended, mut count, mut output_bytes) = (0, began, 0, 0);
        while let Some((line_end, moment, output)) = self.lines.front().copied().filter(|(line_end, ..)| *line_end <= LINES_BYTES_MAX) {
            (end, ended, count, output_bytes) = (line_end, moment, count + 1, output_bytes + output);
            self.lines.pop_front();
        }
        self.lines.iter_mut().for_each(|(line_end, ..)| *line_end -= end);
        let rest = self.text.split_off(end);
        let text = std::mem::replace(&mut self.text, rest);
        Some(Lines { text, count, began, ended, output_bytes })
    }
}

/// The last border between characters that is not beyond `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// So that the intervals that are written add up to the moments that the index names.
fn whole_microseconds(time: Duration) -> Duration {
    Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn began() -> Began<'static> {
        Began { size: (80, 24), term: "xterm", timestamp: 1_790_000_000, title: "THL/1/2026 0123" }
    }

    fn shown(lines: &Lines) -> &str {
        std::str::from_utf8(lines.text()).expect("JSON")
    }

    #[test]
    fn the_header_reads_back_and_another_version_does_not() {
        let mut cast = Cast::begin(began(), Duration::ZERO);
        let taken = cast.take().expect("a header");
        assert_eq!((taken.count(), cast.bytes(), cast.oldest(), cast.take()), (1, 0, None, None));
        let Line::Header(header) = Line::parse(taken.text(), true).expect("a header") else { panic!("no header") };
        assert_eq!((header.term.cols, header.term.rows, header.timestamp), (80, 24, Some(1_790_000_000)));
        let older = shown(&taken).replace("\"version\":3", "\"version\":2");
        assert!(matches!(Line::parse(older.as_bytes(), true), Err(LineError::Version(2))));
    }

    #[test]
    fn a_later_part_follows_the_one_before_without_a_header() {
        let mut cast = Cast::begin(began(), Duration::from_secs(9));
        cast.push('o', "again", Duration::from_secs(10));
        let taken = cast.take().expect("lines");
        let lines = continued(taken.text(), Duration::from_millis(1_500)).expect("a part");
        assert_eq!(lines, b"[1.500000, \"r\", \"80x24\"]\n[1.000000, \"o\", \"again\"]\n");
        assert!(continued(&lines, Duration::ZERO).is_err(), "it has no header any more");
    }

    #[test]
    fn lines_that_are_none_are_refused_and_comments_pass() {
        for line in ["[1, \"o\"]", "[-1, \"o\", \"x\"]", "{}", "[1e999, \"o\", \"\"]"] {
            assert!(Line::parse(line.as_bytes(), false).is_err(), "{line}");
        }
        assert!(matches!(Line::parse(b"# a comment", false), Ok(Line::Silent)));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_with_its_moments(events in proptest::collection::vec((0_u64..10_000_000_000, "\\PC{0,20}|[\\x00-\\x1f]{0,4}"), 0..20)) {
            let mut cast = Cast::begin(began(), Duration::ZERO);
            let mut moment = Duration::ZERO;
            let mut meant = Vec::new();
            for (nanoseconds, text) in events {
                moment += Duration::from_nanos(nanoseconds);
                cast.push('o', &text, moment);
                meant.push((moment, text));
            }
            let taken = cast.take().expect("at least a header");
            prop_assert_eq!(taken.count(), 1 + meant.len() as u64);
            prop_assert_eq!(taken.output_bytes(), meant.iter().map(|(_, text)| text.len()).sum::<usize>());
            let mut clock = Duration::ZERO;
            for (line, (moment, text)) in shown(&taken).lines().skip(1).zip(&meant) {
                let Ok(Line::Event { after, code, text: read }) = Line::parse(line.as_bytes(), false) else { return Err(TestCaseError::fail(line.to_owned())) };
                clock += after;
                prop_assert!(clock.abs_diff(*moment) < Duration::from_micros(2), "{:?} {:?}", clock, moment);
                prop_assert_eq!((code.as_str(), &read), ("o", text));
            }
        }

        #[test]
        fn whatever_is_written_is_taken_in_chunks_that_fit(sizes in proptest::collection::vec(0_usize..40_000, 1..12), wide: bool) {
            let mut cast = Cast::begin(began(), Duration::ZERO);
            let mut meant = String::new();
            for (seconds, size) in (1..).zip(sizes) {
                let text = if wide { "\u{1}ä".repeat(size / 3) } else { "x".repeat(size) };
                cast.push('o', &text, Duration::from_secs(seconds));
                meant.push_str(&text);
            }
            let (mut read, mut waiting, mut before) = (String::new(), cast.bytes(), Duration::ZERO);
            while let Some(taken) = cast.take() {
                prop_assert!(taken.text().len() <= LINES_BYTES_MAX && taken.text().ends_with(b"\n"));
                waiting -= taken.text().len();
                prop_assert_eq!(waiting, cast.bytes());
                prop_assert!(before <= taken.span().0 && taken.span().0 <= taken.span().1);
                before = taken.span().1;
                for line in shown(&taken).lines().filter(|line| line.starts_with('[')) {
                    let Ok(Line::Event { text, .. }) = Line::parse(line.as_bytes(), false) else { return Err(TestCaseError::fail(line.to_owned())) };
                    read.push_str(&text);
                }
            }
            prop_assert_eq!((read, waiting), (meant, 0));
        }
    }
}
