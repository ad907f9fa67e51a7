//! How much output may be on its way to a client: as much as it shows at once, so that what a slow one has not shown when its holder presses
//! Ctrl-C is little.
//!
//! Goes by how long bytes take from being sent to being reported as shown. What is beyond the shortest time seen is a queue, at the
//! client or before it; the amount shrinks until the queue is short, and grows again while there is none. So a network with a long way,
//! whose time is long from the beginning, is not taken for a slow client.

use std::time::Duration;

use sulku_protocol::OUTPUT_CREDIT_BYTES;

/// So much may always be on its way: some screenfuls.
const LEAST_BYTES: u32 = 16 * 1024;
/// A queue as long as this is none that a person notices.
const QUEUE_MAX: Duration = Duration::from_millis(20);
/// The shortest time is looked for anew so often, with little on its way: another network has another one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The pace of one connection.
#[derive(Debug)]
pub(crate) struct Pace {
    credit: u32,
    /// Bytes sent and bytes shown since the connection was made.
    sent: u64,
    shown: u64,
    /// The byte whose way is being timed, when it was sent, and how many were on their way with it.
    timed: Option<(u64, Duration, u64)>,
    /// The shortest time, and when it began to be looked for.
    shortest: Option<(Duration, Duration)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self { credit: OUTPUT_CREDIT_BYTES, sent: 0, shown: 0, timed: None, shortest: None }
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
            self.timed = Some((self.sent, now, self.sent.saturating_sub(self.shown)));
        }
    }

    /// The client has shown these many more.
    pub(crate) fn shows(&mut self, bytes: u32, now: Duration) {
        self.shown += u64::from(bytes);
        let Some((_, sent, on_their_way)) = self.timed.take_if(|(last, ..)| *last <= self.shown) else { return };
        let took = now.saturating_sub(sent);
        let (shortest, since) = self.shortest.map_or((took, now), |(shortest, since)| (shortest.min(took), since));
        let bearable = shortest + QUEUE_MAX;
        if now.saturating_sub(since) >= FORGOTTEN_AFTER {
            (self.shortest, self.credit) = (None, LEAST_BYTES);
            return;
        }
        self.shortest = Some((shortest, since));
        self.credit = if took > bearable {
            let fits = u128::from(on_their_way) * bearable.as_micros() / took.as_micros().max(1);
            u32::try_from(fits).unwrap_or(u32::MAX).min(self.credit)
        } else {
            self.credit.saturating_add(self.credit / 4)
        }
        .clamp(LEAST_BYTES, OUTPUT_CREDIT_BYTES);
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
        (took, shown)
    }

    #[test]
    fn a_slow_clients_queue_is_short_and_it_is_never_left_without_work() {
        let (took, shown) = flood(&mut Pace::default(), Duration::from_millis(1), 2_000_000, Duration::from_secs(10));
        let longest = took.iter().max().expect("some");
        assert!(*longest < Duration::from_millis(40), "{longest:?}");
        assert!(shown > 9_500_000, "{shown}");
    }

    #[test]
    fn a_long_way_and_a_fast_client_leave_all_of_the_credit() {
        for (way, bytes_per_s) in [(Duration::from_millis(100), 50_000_000), (Duration::from_micros(200), 80_000_000)] {
            let mut pace = Pace::default();
            flood(&mut pace, way, bytes_per_s, Duration::from_secs(10));
            assert_eq!(pace.credit(), OUTPUT_CREDIT_BYTES, "{way:?}");
        }
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
                prop_assert!((LEAST_BYTES..=OUTPUT_CREDIT_BYTES).contains(&pace.credit()));
            }
        }
    }
}
