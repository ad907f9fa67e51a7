//! Programmes that one session runs, gathered so that a build of thousands becomes few entries and none goes uncounted.
//!
//! So many in [`WINDOW`] have entries of their own. Of the rest the first is kept, and told when the window closes with the number of
//! the others. The programme that loads others' libraries (`ld.so`) is none of its own where the kernel runs it for another one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sulku_audit::{Event, Process};

use super::arguments::Arguments;

/// How long programmes are counted together.
const WINDOW: Duration = Duration::from_secs(5);
/// Programmes that have an entry of their own in it.
const OWN_MAX: u32 = 64;

/// A programme that was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// By whom.
    pub process: Process,
    /// Its path in the cell.
    pub program: String,
    /// With what; `None` if that could not be read.
    pub arguments: Option<Arguments>,
}

/// A session's programmes.
#[derive(Debug, Default)]
pub struct Runs {
    since: Option<Instant>,
    own: u32,
    /// The first that has no entry of its own, and how many others have none.
    rest: Option<(Run, u64)>,
    last: Option<Run>,
    /// Threads that have just run something, and may be loading its libraries next.
    loading: BTreeSet<u32>,
}

/// More threads than run something at once in a cell.
const LOADING_MAX: usize = 4_096;

impl Runs {
    /// Whether the next one is told in full, or only counted unless it is the first of those.
    #[must_use]
    pub fn wants_details(&self, now: Instant) -> bool {
        self.rest.is_none() || self.closed(now)
    }

    /// Takes one in that is only counted.
    pub fn count(&mut self, thread: u32, program: &str) {
        if is_loader(program) && self.loading.remove(&thread) {
            return;
        }
        self.begins(thread);
        if let Some((_, others)) = &mut self.rest {
            *others += 1;
        }
    }

    /// Takes one in; the events to write now.
    pub fn note(&mut self, thread: u32, run: Run, now: Instant) -> Vec<Event> {
        let follows = |last: &Run| (last.process, &last.arguments) == (run.process, &run.arguments);
        if is_loader(&run.program) && self.last.as_ref().is_some_and(follows) {
            self.loading.remove(&thread);
            return Vec::new();
        }
        self.begins(thread);
        self.last = Some(run.clone());
        let mut events = self.due(now);
        if self.since.is_none() {
            (self.since, self.own) = (Some(now), 0);
        }
        if self.own < OWN_MAX {
            self.own += 1;
            events.push(run.event(0));
        } else {
            match &mut self.rest {
                Some((_, others)) => *others += 1,
                None => self.rest = Some((run, 0)),
            }
        }
        events
    }

    /// The event of a window that has closed.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        if self.closed(now) { self.rest() } else { Vec::new() }
    }

    /// All that is untold: for the end of the session.
    pub fn rest(&mut self) -> Vec<Event> {
        self.since = None;
        self.rest.take().map(|(run, others)| run.event(others)).into_iter().collect()
    }

    fn begins(&mut self, thread: u32) {
        if self.loading.len() >= LOADING_MAX {
            self.loading.clear();
        }
        self.loading.insert(thread);
    }

    fn closed(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= WINDOW)
    }
}

impl Run {
    fn event(self, suppressed: u64) -> Event {
        let Self { process, program, arguments } = self;
        let (arguments, arguments_left_out) = arguments.map_or((None, 0), |Arguments { words, left_out }| (Some(words), left_out));
        Event::ProgramRun { process, arguments_left_out, suppressed, program: program.into(), arguments: arguments.into() }
    }
}

/// Whether this is the host's loader of libraries, which the kernel opens after each programme that has any.
fn is_loader(program: &str) -> bool {
    let ours = program.starts_with("/usr/lib") || program.starts_with("/lib");
    ours && program.rsplit('/').next().is_some_and(|name| name.starts_with("ld-") || name.starts_with("ld."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u32, program: &str) -> Run {
        Run { process: Process { pid: number, in_cell: None }, program: program.to_owned(), arguments: None }
    }

    fn counted(events: &[Event]) -> u64 {
        let of = |event: &Event| if let Event::ProgramRun { suppressed, .. } = event { suppressed + 1 } else { 0 };
        events.iter().map(of).sum()
    }

    #[test]
    fn every_programme_is_told_or_counted_and_a_build_gives_few_entries() {
        let start = Instant::now();
        let mut runs = Runs::default();
        let mut events = Vec::new();
        for number in 0..10_000 {
            let now = start + Duration::from_millis(u64::from(number));
            if runs.wants_details(now) {
                events.extend(runs.note(number, run(number, "/usr/bin/cc"), now));
            } else {
                runs.count(number, "/usr/bin/cc");
                runs.count(number, "/usr/lib64/ld-linux-x86-64.so.2");
            }
        }
        events.extend(runs.rest());
        assert_eq!(counted(&events), 10_000);
        assert!(events.len() <= 2 * (OWN_MAX as usize + 1), "{} entries", events.len());
        assert!(events.len() > OWN_MAX as usize, "the control: some have entries of their own");
    }

    #[test]
    fn the_loader_is_told_only_where_it_is_run_by_itself() {
        let (loader, now) = ("/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", Instant::now());
        let mut runs = Runs::default();
        assert_eq!(runs.note(1, run(1, "/usr/bin/true"), now).len(), 1);
        assert_eq!(runs.note(1, run(1, loader), now).len(), 0);
        assert_eq!(runs.note(2, run(2, loader), now).len(), 1, "another process runs it");
        let other = Run { arguments: Some(Arguments { words: vec!["ld.so".to_owned(), "/workspace/x".to_owned()], left_out: 0 }), ..run(1, loader) };
        assert_eq!(runs.note(1, other, now).len(), 1, "with arguments of its own");
        assert_eq!(runs.note(2, run(2, "/workspace/ld-linux-x86-64.so.2"), now).len(), 1, "and what only has its name");
    }
}
