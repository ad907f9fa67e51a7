//! What the holder is told of things that her cell was denied: few at a time, and none twice in a minute.
//!
//! Knows no clock, and no words: both are given.

use std::collections::VecDeque;
use std::time::Duration;

/// So many are told within [`BURST_LASTS`]; more are counted.
const BURST: usize = 3;
const BURST_LASTS: Duration = Duration::from_secs(10);
/// The same is told again after this long at the earliest: programmes try again.
const SAME_AGAIN: Duration = Duration::from_secs(60);
/// Told ones that are remembered: more than are told within [`SAME_AGAIN`].
const REMEMBERED_MAX: usize = 32;

/// What was told, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    told: VecDeque<(String, Duration)>,
    untold: u64,
}

/// What is to be told now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Telling {
    /// Denials of which nothing was told.
    pub(crate) more: u64,
    /// It is the session's first.
    pub(crate) first: bool,
}

impl Denials {
    /// Whether to tell of this one, and before it `more` that nobody was told of.
    pub(crate) fn note(&mut self, text: &str, more: u64, now: Duration) -> Option<Telling> {
        self.untold += more;
        let within = |told: &(String, Duration), long: Duration| now.saturating_sub(told.1) < long;
        if self.told.iter().any(|told| told.0 == text && within(told, SAME_AGAIN)) {
            return None;
        }
        if self.told.iter().filter(|told| within(told, BURST_LASTS)).count() >= BURST {
            self.untold += 1;
            return None;
        }
        let first = self.told.is_empty();
        if self.told.len() >= REMEMBERED_MAX {
            self.told.pop_front();
        }
        self.told.push_back((text.to_owned(), now));
        Some(Telling { more: std::mem::take(&mut self.untold), first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_same_is_told_once_a_minute() {
        let mut denials = Denials::default();
        assert_eq!(denials.note("a", 0, at(0)), Some(Telling { more: 0, first: true }));
        assert_eq!(denials.note("a", 0, at(59)), None);
        assert_eq!(denials.note("b", 0, at(59)), Some(Telling { more: 0, first: false }), "the control: another is told");
        assert_eq!(denials.note("a", 0, at(60)), Some(Telling { more: 0, first: false }), "what she was told of is not counted as untold");
    }

    #[test]
    fn of_a_scan_few_are_told_and_the_rest_counted() {
        let mut denials = Denials::default();
        let told = (0..100).filter_map(|number: u32| denials.note(&number.to_string(), 0, at(1))).count();
        assert_eq!(told, BURST);
        assert_eq!(denials.note("later", 2, at(11)), Some(Telling { more: 100 - BURST as u64 + 2, first: false }));
    }
}
