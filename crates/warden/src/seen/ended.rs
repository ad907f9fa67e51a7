//! How one session's programmes ended, gathered so that many become few entries and none goes uncounted.
//!
//! Nobody waits for it: what has ended is told when a window closes or an entry is full, and at the session's end.

use std::time::{Duration, Instant};

use sulku_audit::{Event, ProgramEnd};

use super::ends::Ended;

/// How long ends are gathered.
const WINDOW: Duration = Duration::from_secs(10);
/// Ends that one entry tells of.
const IN_AN_ENTRY_MAX: usize = 64;

/// A session's ends that no entry tells of yet.
#[derive(Debug, Default)]
pub struct Endings {
    since: Option<Instant>,
    ends: Vec<ProgramEnd>,
    unknown: u64,
}

impl Endings {
    /// Takes one in; the event to write now, if that is enough for one. `None` is an end that the kernel does not tell.
    pub fn note(&mut self, ended: Ended, now: Instant) -> Option<Event> {
        self.since.get_or_insert(now);
        match ended {
            Some(end) => self.ends.push(end),
            None => self.unknown += 1,
        }
        if self.ends.len() >= IN_AN_ENTRY_MAX { self.rest() } else { None }
    }

    /// The event of a window that has closed.
    pub fn due(&mut self, now: Instant) -> Option<Event> {
        self.since.filter(|since| now.saturating_duration_since(*since) >= WINDOW).and_then(|_| self.rest())
    }

    /// All that is untold: for the end of the session.
    pub fn rest(&mut self) -> Option<Event> {
        self.since.take()?;
        Some(Event::ProgramsEnded { ends: std::mem::take(&mut self.ends), unknown: std::mem::take(&mut self.unknown) })
    }
}

#[cfg(test)]
mod tests {
    use sulku_audit::Process;

    use super::*;

    #[test]
    fn every_end_is_in_one_entry_and_few_entries_tell_of_many() {
        let start = Instant::now();
        let mut endings = Endings::default();
        let mut events = Vec::new();
        for number in 0..1_000 {
            let now = start + Duration::from_millis(40 * u64::from(number));
            let end = ProgramEnd { process: Process { pid: number, in_cell: None }, status: Some(0), signal: None, duration_ms: 1 };
            events.extend(endings.note((number % 10 != 0).then_some(end), now));
            events.extend(endings.due(now));
        }
        events.extend(endings.rest());
        assert!(endings.rest().is_none(), "each once");
        let (mut told, mut unknown) = (Vec::new(), 0);
        for event in &events {
            let Event::ProgramsEnded { ends, unknown: more } = event else { panic!("{event:?}") };
            assert!(ends.len() <= IN_AN_ENTRY_MAX);
            told.extend(ends.iter().map(|end| end.process.pid));
            unknown += more;
        }
        assert_eq!((told.len(), unknown), (900, 100));
        assert!(told.is_sorted() && events.len() <= 1_000 / IN_AN_ENTRY_MAX + 5, "{} entries", events.len());
    }
}
