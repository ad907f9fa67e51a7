//! What is said while it runs: each line with its time, from whichever thread.

use std::fmt;
use std::time::{Duration, Instant};

/// Says things.
#[derive(Debug, Clone, Copy)]
pub struct Teller {
    began: Instant,
}

impl Teller {
    /// From now on.
    pub fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// When it began.
    pub fn began(self) -> Instant {
        self.began
    }

    /// Says it.
    #[expect(clippy::print_stdout, reason = "a report is what it is for")]
    pub fn says(self, what: impl fmt::Display) {
        println!("{}  {what}", minutes(self.began.elapsed()));
    }

    /// Says it, without a time.
    #[expect(clippy::print_stdout, reason = "a report is what it is for")]
    pub fn adds(self, what: impl fmt::Display) {
        println!("{what}");
    }
}

/// Minutes and seconds.
pub fn minutes(time: Duration) -> String {
    format!("{:>3}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}
