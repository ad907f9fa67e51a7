//! What Landlock denied in one session, gathered so that a flood becomes few entries and none goes uncounted.
//!
//! The first of a kind is told at once; more of it within [`WINDOW`] are counted and told together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sulku_audit::Event;

use super::audit::Forbidden;

/// How long denials of one kind are gathered.
const WINDOW: Duration = Duration::from_secs(30);
/// Kinds that are told apart within a window; more are counted under the first that was not.
const KINDS_MAX: usize = 32;

/// A session's denials.
#[derive(Debug, Default)]
pub struct Forbiddens {
    recent: BTreeMap<Forbidden, Gathered>,
    /// The first that got no line of its own, and how many others there are.
    rest: Option<(Forbidden, Gathered)>,
}

#[derive(Debug)]
struct Gathered {
    since: Instant,
    untold: u64,
}

impl Forbiddens {
    /// Takes one in; the event to write now, if it is the first of its kind.
    pub fn note(&mut self, denied: Forbidden, now: Instant) -> Option<Event> {
        if let Some(gathered) = self.recent.get_mut(&denied) {
            gathered.untold += 1;
            return None;
        }
        if self.recent.len() < KINDS_MAX {
            self.recent.insert(denied.clone(), Gathered { since: now, untold: 0 });
            return Some(event(denied, 0));
        }
        let (_, gathered) = self.rest.get_or_insert((denied, Gathered { since: now, untold: 0 }));
        gathered.untold += 1;
        None
    }

    /// The events of windows that have closed.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        self.told(|since| now.saturating_duration_since(since) >= WINDOW)
    }

    /// All that is untold: for the end of the session.
    pub fn rest(&mut self) -> Vec<Event> {
        self.told(|_| true)
    }

    fn told(&mut self, is_over: impl Fn(Instant) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        self.recent.retain(|denied, gathered| {
            let over = is_over(gathered.since);
            if over && gathered.untold > 0 {
                events.push(event(denied.clone(), gathered.untold - 1));
            }
            !over
        });
        if self.rest.as_ref().is_some_and(|(_, gathered)| is_over(gathered.since)) {
            events.extend(self.rest.take().map(|(denied, gathered)| event(denied, gathered.untold - 1)));
        }
        events
    }
}

/// One entry for this and so many more.
fn event(denied: Forbidden, suppressed: u64) -> Event {
    let Forbidden { rights, path } = denied;
    Event::AccessDenied { rights: rights.split(',').map(str::to_owned).collect(), suppressed, path: path.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_denial_is_told_or_counted_once_however_they_come() {
        let start = Instant::now();
        let mut forbidden = Forbiddens::default();
        let mut events = Vec::new();
        for number in 0..10_000_u32 {
            let now = start + Duration::from_millis(20 * u64::from(number));
            let denied = Forbidden { rights: "fs.read_file".to_owned(), path: Some(format!("/{}", number % 50)) };
            events.extend(forbidden.note(denied, now));
            events.extend(forbidden.due(now));
        }
        events.extend(forbidden.rest());
        let of = |event: &Event| if let Event::AccessDenied { suppressed, .. } = event { suppressed + 1 } else { 0 };
        assert_eq!(events.iter().map(of).sum::<u64>(), 10_000);
        assert!(events.len() <= 8 * (2 * KINDS_MAX + 1), "{} entries", events.len());
    }
}
