//! So many at once, and so many a second after that: a token bucket. It reads no clock.

use std::time::{Duration, Instant};

/// How often something may happen.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// At once, after a rest.
    pub burst: u32,
    /// A second, in the long run.
    pub per_second: u32,
}

/// What is left of an allowance. One unit comes back after its share of a second.
#[derive(Debug)]
pub struct Budget {
    allowance: Allowance,
    left: u32,
    since: Instant,
}

impl Budget {
    /// A full one.
    #[must_use]
    pub fn new(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, left: allowance.burst, since: now }
    }

    /// Takes one; `false` when none is left.
    #[must_use]
    pub fn take(&mut self, now: Instant) -> bool {
        let share = Duration::from_secs(1) / self.allowance.per_second.max(1);
        let came = now.saturating_duration_since(self.since).as_nanos() / share.as_nanos().max(1);
        if came >= u128::from(self.allowance.burst - self.left) {
            (self.left, self.since) = (self.allowance.burst, now);
        } else {
            // Less than the burst, so it fits.
            let came = u32::try_from(came).unwrap_or(u32::MAX);
            self.left += came;
            self.since += share * came;
        }
        let taken = self.left > 0;
        self.left -= u32::from(taken);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_so_many_a_second() {
        let begin = Instant::now();
        let mut budget = Budget::new(Allowance { burst: 3, per_second: 2 }, begin);
        let mut taken = |at_ms: u64| budget.take(begin + Duration::from_millis(at_ms));
        assert!(taken(0) && taken(0) && taken(0) && !taken(0) && !taken(499));
        assert!(taken(500) && !taken(501) && taken(1000) && !taken(1000));
        // A long rest brings the burst back and no more.
        assert!(taken(60_000) && taken(60_000) && taken(60_000) && !taken(60_000));
    }
}
