//! How much output may be on its way to a client: as much as it shows at once, so that what a slow one has not shown when its holder presses
//! Ctrl-C is little.
//!
//! Goes by how long bytes take from being sent to being reported as shown. What is beyond the shortest time seen may be a queue, at the client or
//! before it: then a smaller amount comes as fast as a larger one, and the amount shrinks until the queue is short. Where less on the way comes slower, what takes the
//! time is something else, a long way or a busy machine, and the amount grows again.

use std::time::Duration;

use sulku_protocol::OUTPUT_CREDIT_BYTES;

/// So much may always be on its way: some screenfuls.
const LEAST_BYTES: u32 = 16 * 1024;
/// With so much on the way, the time is the way's own.
const LITTLE_BYTES: u32 = 4 * 1024;
/// A queue as long as this is none that a person notices.
const QUEUE_MAX: Duration = Duration::from_millis(20);
/// What was measured holds for so long: another network has another way, and a client may be slow for a while.
const HOLDS: Duration = Duration::from_secs(10);

/// What the next bytes are timed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measures {
    /// The shortest time, with little on the way.
    Shortest,
    /// The best rate, with all of the credit.
    Best,
    /// Whether the credit fits.
    Fit,
}

/// Bytes whose way is timed.
#[derive(Debug, Clone, Copy)]
struct Timed {
    /// The last of them, counted from the connection's beginning.
    last: u64,
    sent: Duration,
    /// How many were on their way with it, itself among them.
    on_way: u64,
}

/// The pace of one connection.
#[derive(Debug)]
pub(crate) struct Pace {
    credit: u32,
    /// Bytes sent and bytes shown since the connection was made.
    sent: u64,
    shown: u64,
    timed: Option<Timed>,
    measures: Measures,
    /// When what follows was measured last.
    since: Duration,
    shortest: Option<Duration>,
    /// In bytes a second.
    best: u64,
}

impl Default for Pace {
    fn default() -> Self {
        let (credit, measures, since) = (OUTPUT_CREDIT_BYTES, Measures::Fit, Duration::ZERO);
        Self { credit, sent: 0, shown: 0, timed: None, measures, since, shortest: None, best: 0 }
    }
}

impl Pace {
    /// The most bytes of output that may be read and not shown.
    pub(crate) const fn credit(&self) -> u32 {
        self.credit
    }

    /// These many bytes leave for the client.
    pub(crate) fn sends(&mut self, bytes: usize, now: Duration) {
        self.sent += bytes as u64;
        if self.timed.is_none() && bytes > 0 {
            self.timed = Some(Timed { last: self.sent, sent: now, on_way: self.sent.saturating_sub(self.shown) });
        }
    }

    /// The client has shown these many more.
    pub(crate) fn shows(&mut self, bytes: u32, now: Duration) {
        self.shown += u64::from(bytes);
        if let Some(timed) = self.timed.take_if(|timed| timed.last <= self.shown) {
            let took = now.saturating_sub(timed.sent).max(Duration::from_micros(1));
            self.learn(timed.on_way, took, now);
        }
    }

    fn learn(&mut self, on_way: u64, took: Duration, now: Duration) {
        // What does not fill the credit says little of it.
        let fills = on_way >= u64::from(self.credit) / 2;
        let rate = u64::try_from(u128::from(on_way) * 1_000_000 / took.as_micros()).unwrap_or(u64::MAX);
        let shortest = self.shortest.map_or(took, |shortest| shortest.min(took));
        (self.shortest, self.best) = (Some(shortest), self.best.max(rate));
        let bearable = shortest + QUEUE_MAX;
        (self.measures, self.credit) = match self.measures {
            Measures::Fit if now.saturating_sub(self.since) >= HOLDS => {
                self.since = now;
                (Measures::Shortest, LITTLE_BYTES)
            }
            // There was more before these bytes.
            Measures::Shortest if on_way > u64::from(LITTLE_BYTES) => (Measures::Shortest, LITTLE_BYTES),
            Measures::Shortest => {
                (self.shortest, self.best) = (Some(took), 0);
                (Measures::Best, OUTPUT_CREDIT_BYTES)
            }
            Measures::Best if !fills => (Measures::Best, OUTPUT_CREDIT_BYTES),
            Measures::Best | Measures::Fit => {
                let comes_as_fast = rate.saturating_mul(5) >= self.best.saturating_mul(4);
                let credit = if fills && took > bearable && comes_as_fast {
                    let fits = u128::from(on_way) * bearable.as_micros() / took.as_micros();
                    u32::try_from(fits).unwrap_or(u32::MAX).min(self.credit)
                } else {
                    self.credit.saturating_add(self.credit / 8)
                };
                (Measures::Fit, credit.clamp(LEAST_BYTES, OUTPUT_CREDIT_BYTES))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const PIECE: u64 = 4096;

    /// A flood that fills the credit, to a client so far away that shows so many bytes a second, for so long. Gives the times that pieces took in
    /// its second half, and how many bytes were shown in that.
    fn flood(pace: &mut Pace, way: Duration, bytes_per_s: u64, lasts: Duration) -> (Vec<Duration>, u64) {
        let (mut now, mut free, mut on_way) = (Duration::ZERO, Duration::ZERO, VecDeque::new());
        let (mut took, mut shown) = (Vec::new(), 0);
        let mut unshown = 0;
        while now < lasts {
            while unshown + PIECE <= u64::from(pace.credit()) {
                pace.sends(PIECE as usize, now);
                free = free.max(now + way) + Duration::from_micros(PIECE * 1_000_000 / bytes_per_s);
                on_way.push_back((now, free));
                unshown += PIECE;
            }
            let (sent, arrives) = on_way.pop_front().expect("the least credit is several pieces");
            now = now.max(arrives);
            unshown -= PIECE;
            pace.shows(PIECE as u32, now);
            if now > lasts / 2 {
                took.push(now - sent);
                shown += PIECE;
            }
        }
        on_way.iter().for_each(|_| pace.shows(PIECE as u32, now));
        (took, shown)
    }

    #[test]
    fn a_slow_clients_queue_is_short_and_it_is_never_left_without_work() {
        let mut pace = Pace::default();
        flood(&mut pace, Duration::from_millis(1), 1_000_000_000, Duration::from_millis(10));
        let (took, shown) = flood(&mut pace, Duration::from_millis(1), 2_000_000, Duration::from_secs(30));
        let long = took.iter().filter(|took| **took > Duration::from_millis(30)).count();
        assert!(long * 20 < took.len(), "{long} of {}", took.len());
        assert!(shown > 29_000_000, "{shown}");
    }

    #[test]
    fn a_long_way_and_a_fast_client_leave_all_of_the_credit() {
        for (way, bytes_per_s) in [(Duration::from_millis(100), 50_000_000), (Duration::from_micros(200), 80_000_000)] {
            let mut pace = Pace::default();
            flood(&mut pace, way, bytes_per_s, Duration::from_secs(25));
            assert_eq!(pace.credit(), OUTPUT_CREDIT_BYTES, "{way:?}");
        }
    }

    /// On a busy machine a client has its turn every 30 ms, and shows all that has come by then.
    #[test]
    fn a_client_that_waits_for_its_turn_is_not_taken_for_a_slow_one() {
        let (mut pace, mut now, mut credits) = (Pace::default(), Duration::ZERO, Vec::new());
        pace.sends(100, now);
        now += Duration::from_millis(1);
        pace.shows(100, now);
        while now < Duration::from_secs(60) {
            let credit = pace.credit();
            (0..credit / PIECE as u32).for_each(|_| pace.sends(PIECE as usize, now));
            now += Duration::from_millis(30);
            (0..credit / PIECE as u32).for_each(|_| pace.shows(PIECE as u32, now));
            credits.push(u64::from(credit));
        }
        let mean = credits.iter().sum::<u64>() / credits.len() as u64;
        assert!(mean > u64::from(OUTPUT_CREDIT_BYTES) * 2 / 3, "{mean}");
    }

    #[test]
    fn a_network_that_becomes_a_longer_one_is_known_again_in_a_while() {
        let mut pace = Pace::default();
        flood(&mut pace, Duration::from_millis(1), 50_000_000, Duration::from_secs(5));
        let (_, shown) = flood(&mut pace, Duration::from_millis(200), 50_000_000, Duration::from_secs(80));
        assert!(shown > 40 * 5 * u64::from(OUTPUT_CREDIT_BYTES) * 2 / 3, "{shown}");
    }

    proptest! {
        #[test]
        fn the_credit_stays_within_its_bounds_whatever_a_client_reports(steps in proptest::collection::vec((any::<bool>(), 0_u32..200_000, 0_u64..100_000), 0..200)) {
            let (mut pace, mut now) = (Pace::default(), Duration::ZERO);
            for (sends, bytes, micros) in steps {
                now += Duration::from_micros(micros);
                if sends { pace.sends(bytes as usize, now) } else { pace.shows(bytes, now) }
                prop_assert!((LITTLE_BYTES..=OUTPUT_CREDIT_BYTES).contains(&pace.credit()));
            }
        }
    }
}
