//! Chance that a seed decides: the same seed plans the same faults. Not for secrets.

use std::time::Duration;

/// A generator after Steele, Lea and Flood, *Fast splittable pseudorandom number generators* (2014).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// What this seed decides for that part of the run; parts don't change each other's luck.
    pub fn new(seed: u64, part: u64) -> Self {
        let mut dice = Self(seed ^ part.wrapping_mul(0xd6e8_feb8_6659_fd93));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `bound`; 0 where that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or_default()
    }

    /// Whether something happens that happens so often in a thousand times.
    pub fn happens(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// A time from `least` to below `most`.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX);
        least + Duration::from_millis(self.below(span))
    }

    /// Puts things into another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.below(last as u64 + 1)).unwrap_or_default();
            things.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_same_each_time_and_another_does_not() {
        let thrown = |seed, part| {
            let mut dice = Dice::new(seed, part);
            (0..20).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(thrown(7, 1), thrown(7, 1));
        assert_ne!(thrown(7, 1), thrown(8, 1));
        assert_ne!(thrown(7, 1), thrown(7, 2));
        assert_eq!(Dice::new(1, 1).below(0), 0);
    }
}
