//! What happened to one session, as its holder tells it.

use std::time::Duration;

/// One attempt to have a session.
#[derive(Debug)]
pub struct Story {
    /// When it was begun and when it was over, since the run's beginning.
    pub from: Duration,
    /// The same.
    pub until: Duration,
    /// What was planned.
    pub plan: Plan,
    /// The session's id, where one opened.
    pub session: Option<String>,
    /// What each of its connections was shown, in order.
    pub parts: Vec<Part>,
    /// How often it was taken up again.
    pub taken_up: u32,
    /// How it ended.
    pub end: End,
}

/// What was planned for a session.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its number in the run, which shows in all that it shows.
    pub number: u64,
    /// The permit.
    pub permit: &'static str,
    /// Whether something may be shown that is not durable yet.
    pub durability: Durability,
    /// Commands that are answered.
    pub commands: u64,
    /// Lines of its flood.
    pub flood_lines: u64,
    /// The longest that she thinks between two commands.
    pub thinks: Duration,
    /// Whether she asks a host for something that her permit lists, and one that it does not.
    pub reaches_out: bool,
    /// Connections that its holder leaves without a word.
    pub losses: u64,
}

/// Whether something may be shown that is not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing is.
    Strict,
    /// At most the last 64 KiB.
    Windowed,
}

/// What one connection was shown.
#[derive(Debug, Default)]
pub struct Part {
    /// So many of its first bytes had been shown before.
    pub repeated: usize,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The gateway closed the session, and said why.
    Closed(String),
    /// Nobody knew of the session any more when it was to be taken up, or it was refused then.
    Gone(String),
    /// It did not open.
    NotOpened(String),
    /// It was there, and did not do what it was to do.
    Stuck(String),
}

impl Story {
    /// All bytes that came, those that came again included.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes.len() as u64).sum()
    }
}
