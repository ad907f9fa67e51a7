//! When an open session's holder is told that its end is near: 15 and 5 minutes before, each once.
//!
//! A session that opens with less than that left is not warned of what its welcome has just said. Knows no clock: it is told how much
//! time is left. Going without typing is not warned of: whoever types is not idle, and whoever does not would not read it.

use std::time::Duration;

/// How long before the end the holder is warned: time to finish a thought, then time to save.
const WARNINGS: [Duration; 2] = [Duration::from_secs(15 * 60), Duration::from_secs(5 * 60)];

/// Which warnings are behind the session.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    said: usize,
}

impl Warnings {
    /// Of a session that has just been told its end, with so much time left.
    pub(crate) fn of_welcome(left: Duration) -> Self {
        Self { said: passed(left) }
    }

    /// Whether the holder is to be warned now. Two that are due at once are one.
    pub(crate) fn due(&mut self, left: Duration) -> bool {
        let before = self.said;
        self.said = before.max(passed(left));
        self.said > before
    }

    /// How long until the next one, or until the end after the last.
    pub(crate) fn next(&self, left: Duration) -> Duration {
        left.saturating_sub(WARNINGS.get(self.said).copied().unwrap_or_default())
    }
}

fn passed(left: Duration) -> usize {
    WARNINGS.iter().filter(|before| left <= **before).count()
}
