//! How much output may be on its way to a client: less to one that shows it slowly, so that what it has not shown when its holder presses Ctrl-C
//! is soon shown.
//!
//! There are two amounts and nothing in between: what is measured of a client is rough, since it reports what it has shown in
//! pieces, and whatever is made of it must not let a client that is far away starve ([0057](../../../docs/decisions/0057-a-slow-client-has-less-credit.md)).

use std::time::Duration;

use sulku_protocol::OUTPUT_CREDIT_BYTES;

/// What may be on its way to a slow client. At 2 MB/s, 25 ms.
pub const SLOW_CREDIT_BYTES: u32 = OUTPUT_CREDIT_BYTES * 3 / 8;
/// A client's rate is what it has shown in so long.
const WINDOW: Duration = Duration::from_millis(100);
/// A client that shows so many bytes a second is not slow any more.
const FAST_BYTES_PER_S: u64 = 12 << 20;
/// And one that shows fewer than these is.
const SLOW_BYTES_PER_S: u64 = 8 << 20;

/// The pace of a client.
#[derive(Debug, Default)]
pub struct Pace {
    fast: bool,
    /// When the present window began, and what was shown in it.
    since: Duration,
    shown: u64,
}

impl Pace {
    /// The most bytes of output that may be read and not shown.
    pub const fn credit(&self) -> u32 {
        if self.fast { OUTPUT_CREDIT_BYTES } else { SLOW_CREDIT_BYTES }
    }

    /// The client has shown these many more.
    pub fn shows(&mut self, bytes: u32, now: Duration) {
        self.shown = self.shown.saturating_add(bytes.into());
        let took = now.saturating_sub(self.since);
        if took >= WINDOW {
            let rate = u128::from(self.shown) * 1_000 / took.as_millis();
            self.fast = rate >= u128::from(if self.fast { SLOW_BYTES_PER_S } else { FAST_BYTES_PER_S });
            (self.since, self.shown) = (now, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A flood to a client so far away that shows so many bytes a second and reports every 16 KiB, for so long. Gives the bytes that were shown.
    fn flood(pace: &mut Pace, way: Duration, bytes_per_s: u64, lasts: Duration) -> u64 {
        const PIECE: u32 = 16 << 10;
        let (mut now, mut free, mut shown) = (Duration::ZERO, Duration::ZERO, 0);
        let mut on_way = std::collections::VecDeque::new();
        while now < lasts {
            while (on_way.len() as u32 + 1) * PIECE <= pace.credit() {
                free = free.max(now + way / 2) + Duration::from_micros(u64::from(PIECE) * 1_000_000 / bytes_per_s);
                on_way.push_back(free + way / 2);
            }
            now = now.max(on_way.pop_front().expect("the least credit is several pieces"));
            shown += u64::from(PIECE);
            pace.shows(PIECE, now);
        }
        shown
    }

    #[test]
    fn a_client_that_shows_slowly_has_less_and_is_kept_at_work() {
        let mut pace = Pace::default();
        let shown = flood(&mut pace, Duration::from_millis(1), 2_000_000, Duration::from_secs(10));
        assert_eq!(pace.credit(), SLOW_CREDIT_BYTES);
        assert!(shown > 19_000_000, "{shown}");
    }

    #[test]
    fn a_client_that_shows_fast_has_all_soon() {
        let mut pace = Pace::default();
        flood(&mut pace, Duration::from_micros(200), 50_000_000, Duration::from_millis(250));
        assert_eq!(pace.credit(), OUTPUT_CREDIT_BYTES);
        flood(&mut pace, Duration::from_micros(200), 2_000_000, Duration::from_millis(500));
        assert_eq!(pace.credit(), SLOW_CREDIT_BYTES, "and less once it is slow");
    }

    /// The least that a way allows is what the smaller credit is in the time that it takes.
    #[test]
    fn a_client_far_away_is_not_starved() {
        let mut pace = Pace::default();
        let shown = flood(&mut pace, Duration::from_millis(100), 50_000_000, Duration::from_secs(10));
        assert!(shown >= 10 * 10 * u64::from(SLOW_CREDIT_BYTES) * 9 / 10, "{shown}");
    }

    proptest! {
        #[test]
        fn the_credit_is_one_of_two_whatever_a_client_reports(steps in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..50)) {
            let mut pace = Pace::default();
            for (bytes, micros) in steps {
                pace.shows(bytes, Duration::from_micros(micros));
                prop_assert!([SLOW_CREDIT_BYTES, OUTPUT_CREDIT_BYTES].contains(&pace.credit()));
            }
        }
    }
}
