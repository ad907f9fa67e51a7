//! Files of datasets that one session opens, gathered: the first time at once, then counted.
//!
//! A file is known by its number, not its name. It says nothing of what was read from it: what is mapped into memory is read unseen.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use sulku_audit::Event;

use super::Doer;

/// How long opens of one file are gathered.
const WINDOW: Duration = Duration::from_secs(60);
/// Files that are told apart within a window; more are counted under the first that was not.
const FILES_MAX: usize = 256;

/// A session's opened files.
#[derive(Debug, Default)]
pub struct Opens {
    recent: BTreeMap<(u64, u64), Gathered>,
    /// The first file that got no line of its own, and how many opens were counted with it.
    rest: Option<(Gathered, u64)>,
}

#[derive(Debug)]
struct Gathered {
    since: Instant,
    dataset: String,
    file: String,
    /// Opens that no entry tells of yet.
    opens: u64,
    doer: Option<Doer>,
}

impl Opens {
    /// Takes an open in; the event to write now, if it is the first of its file. Only then is asked which file it is and who it was.
    pub fn note(&mut self, id: (u64, u64), dataset: &Path, now: Instant, about: impl FnOnce() -> (String, Doer)) -> Option<Event> {
        if let Some(gathered) = self.recent.get_mut(&id) {
            gathered.opens += 1;
            return None;
        }
        if self.recent.len() < FILES_MAX {
            let (file, doer) = about();
            let first = Gathered { since: now, dataset: dataset.to_string_lossy().into_owned(), file, opens: 0, doer: None };
            let event = Gathered { opens: 1, doer: Some(doer), file: first.file.clone(), dataset: first.dataset.clone(), since: now }.event(0);
            self.recent.insert(id, first);
            return Some(event);
        }
        match &mut self.rest {
            Some((_, more)) => *more += 1,
            None => {
                let (file, doer) = about();
                let dataset = dataset.to_string_lossy().into_owned();
                self.rest = Some((Gathered { since: now, dataset, file, opens: 1, doer: Some(doer) }, 0));
            }
        }
        None
    }

    /// The events of windows that have closed.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        let closed = |gathered: &Gathered| now.saturating_duration_since(gathered.since) >= WINDOW;
        let over: Vec<_> = self.recent.iter().filter(|(_, gathered)| closed(gathered)).map(|(id, _)| *id).collect();
        let mut events: Vec<_> = over.iter().filter_map(|id| self.recent.remove(id)).filter(|old| old.opens > 0).map(|old| old.event(0)).collect();
        if self.rest.as_ref().is_some_and(|(first, _)| closed(first)) {
            events.extend(self.rest.take().map(|(first, more)| first.event(more)));
        }
        events
    }

    /// All that is untold: for the end of the session.
    pub fn rest(&mut self) -> Vec<Event> {
        self.due(Instant::now() + 2 * WINDOW)
    }
}

impl Gathered {
    fn event(self, suppressed: u64) -> Event {
        let Self { dataset, file, opens, doer, since: _ } = self;
        let (process, program) = doer.map_or((None, None), |Doer { process, program }| (Some(process), program));
        Event::DatasetOpened { dataset, opens, suppressed, process, file: file.into(), program: program.into() }
    }
}

#[cfg(test)]
mod tests {
    use sulku_audit::Process;

    use super::*;

    /// SATRE 2.2.14
    #[test]
    fn every_open_is_told_or_counted_once_however_many_there_are() {
        let start = Instant::now();
        let mut opens = Opens::default();
        let mut events = Vec::new();
        let about = || ("file".to_owned(), Doer { process: Process { pid: 1, in_cell: None }, program: None });
        for round in 0..3_u32 {
            let now = start + round * 2 * WINDOW;
            for file in 0..1_000 {
                for _ in 0..=file % 3 {
                    events.extend(opens.note((1, file), Path::new("/data/one"), now, about));
                }
            }
            events.extend(opens.due(now + WINDOW));
        }
        events.extend(opens.rest());
        let of = |event: &Event| if let Event::DatasetOpened { opens, suppressed, .. } = event { opens + suppressed } else { 0 };
        assert_eq!(events.iter().map(of).sum::<u64>(), 3 * (0..1_000).map(|file| file % 3 + 1).sum::<u64>());
        assert!(events.len() <= 3 * (2 * FILES_MAX + 1), "{} entries", events.len());
    }
}
