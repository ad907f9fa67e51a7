//! Where something stands in a file, and what is wrong there.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A spot in a file: what a decision is founded on, or where a mistake is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The column, counted from 1 in characters.
    pub column: u32,
    /// The bytes of the file.
    pub span: Range<u32>,
}

impl Place {
    /// These bytes of a file's text.
    #[must_use]
    pub fn in_text(file: &Arc<str>, text: &str, span: &Range<usize>) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let bounded = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let line = bounded(before.matches('\n').count() + 1);
        let column = bounded(before.rsplit('\n').next().unwrap_or(before).chars().count() + 1);
        Self { file: Arc::clone(file), line, column, span: bounded(span.start)..bounded(span.end) }
    }

    /// The beginning of a line, or of a file with line 1.
    #[must_use]
    pub fn line_of(file: impl Into<Arc<str>>, line: u32) -> Self {
        Self { file: file.into(), line, column: 1, span: 0..0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One thing wrong with a file: where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Place,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
    /// What stands elsewhere and has to do with it.
    pub notes: Vec<Note>,
}

/// A second place that a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where.
    pub at: Place,
    /// What stands there.
    pub what: String,
}

impl Problem {
    /// A problem with one place.
    pub fn new(at: Place, what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { at, what: what.into(), help: help.into(), notes: Vec::new() }
    }

    /// The same, with a second place.
    #[must_use]
    pub fn with(mut self, at: &Place, what: impl Into<String>) -> Self {
        self.notes.push(Note { at: at.clone(), what: what.into() });
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.at, self.at.column, self.what, self.help)
    }
}

impl std::error::Error for Problem {}
