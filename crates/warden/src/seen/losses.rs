//! What the kernel could not keep for the warden, gathered: a gap in what is seen is an entry, never silent, and never a flood of them.
//!
//! It does not know whose it was: what is lost has no session.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sulku_audit::{Event, Observed};

/// At most one entry of a kind in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Losses that no entry tells of yet.
#[derive(Debug, Default)]
pub struct Losses {
    untold: BTreeMap<Observed, Lost>,
    told: Option<Instant>,
}

#[derive(Debug, Default)]
struct Lost {
    counted: u64,
    /// Whether there are some beside those counted.
    more: bool,
}

impl Losses {
    /// So many were lost; `None` where that is not known.
    pub fn note(&mut self, what: Observed, count: Option<u64>) {
        let lost = self.untold.entry(what).or_default();
        match count {
            Some(count) => lost.counted = lost.counted.saturating_add(count),
            None => lost.more = true,
        }
    }

    /// The events to write now.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        if self.untold.is_empty() || self.told.is_some_and(|told| now.saturating_duration_since(told) < EVERY) {
            return Vec::new();
        }
        self.told = Some(now);
        self.rest()
    }

    /// All that is untold: for the warden's end.
    pub fn rest(&mut self) -> Vec<Event> {
        let events = |(what, Lost { counted, more })| {
            let counted = (counted > 0).then_some(Event::ObservationLost { what, count: Some(counted) });
            counted.into_iter().chain(more.then_some(Event::ObservationLost { what, count: None }))
        };
        std::mem::take(&mut self.untold).into_iter().flat_map(events).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_in_one_entry_and_few_entries_tell_of_many() {
        let start = Instant::now();
        let mut losses = Losses::default();
        let mut events = Vec::new();
        for round in 0..1_000 {
            losses.note(Observed::DeniedPackets, Some(3));
            losses.note(Observed::EndedFlows, (round != 500).then_some(1));
            events.extend(losses.due(start + Duration::from_millis(2 * round)));
        }
        events.extend(losses.rest());
        let of = |wanted: Observed| {
            let counts = events.iter().filter_map(move |event| match event {
                Event::ObservationLost { what, count } if *what == wanted => Some(*count),
                _ => None,
            });
            counts.collect::<Vec<_>>()
        };
        assert_eq!(of(Observed::DeniedPackets).iter().flatten().sum::<u64>(), 3_000);
        assert_eq!(of(Observed::EndedFlows).iter().flatten().sum::<u64>(), 999);
        assert_eq!(of(Observed::EndedFlows).iter().filter(|count| count.is_none()).count(), 1, "an unknown number is said to be one");
        assert!(events.len() <= 7, "{} entries", events.len());
    }
}
