//! How long to wait before trying again: longer each time, up to a bound, and never as long as another who failed at the same moment.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest: a receiver that came back is found within a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// The waits after failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// It worked.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: between half of the full wait and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let full = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let mut random = [0; 4];
        // Without randomness the wait is the full one: longer, not shorter.
        let share = if getrandom::fill(&mut random).is_ok() { f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX) } else { 1.0 };
        full.mul_f64(0.5 + share / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_differ() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST, "{:?}", waits[0]);
        assert!(waits[4] >= FIRST * 8, "{:?}", waits[4]);
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        let late: std::collections::BTreeSet<_> = waits[10..].iter().collect();
        assert!(late.len() > 20, "they differ");
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
