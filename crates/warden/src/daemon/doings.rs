//! What was done in cells, as entries: programmes run, files of datasets opened.
//!
//! Whoever runs or opens something waits for this, so it does little: what is told in full is read while the process stands still,
//! and all else is counted.

use std::path::PathBuf;
use std::time::Instant;

use sulku_audit::{Event, Observed};
use sulku_permit::SessionId;
use sulku_plan::filesystem::Mount;

use super::Warden;
use crate::cell::Cell;
use crate::layers::Layer;
use crate::seen::{Opened, Purpose, Run, Word, arguments_of, waiting};

impl Warden {
    /// Watches a cell whose walls stand, before anything of its holder's runs.
    pub(super) fn keep_an_eye_on(&mut self, session: SessionId) -> std::io::Result<()> {
        let Some(cell) = self.cells.get(&session) else { return Ok(()) };
        let datasets = cell.plan.mounts().iter().filter_map(|mount| match mount {
            Mount::Dataset { path, .. } => Some(path.clone()),
            _ => None,
        });
        let datasets: Vec<PathBuf> = datasets.collect();
        // A cell that has the host's files instead of its own has no mounts of its own to watch.
        let eyes = self.eyes.as_mut().filter(|_| self.ground.layers.has(Layer::Files));
        eyes.map_or(Ok(()), |eyes| eyes.watch(session, cell.pid().cast_unsigned(), &datasets))
    }

    /// Takes in what cells open, and lets them go on.
    pub(super) fn see(&mut self) {
        let now = Instant::now();
        let Some(eyes) = &self.eyes else { return };
        for word in eyes.words() {
            match word {
                Word::Opened(opened) => {
                    let session = opened.session;
                    let events = self.cells.get_mut(&session).map(|cell| took_note(cell, opened, now));
                    self.tell(session, events.unwrap_or_default());
                }
                Word::Lost => {
                    self.losses.note(Observed::Programs, None);
                    self.losses.note(Observed::DatasetFiles, None);
                }
            }
        }
    }

    /// Entries about a cell's session.
    pub(super) fn tell(&mut self, session: SessionId, events: Vec<Event>) {
        for event in events {
            if let Some(cell) = self.cells.get(&session) {
                let draft = cell.draft(event);
                self.record(draft);
            }
        }
    }
}

/// The events of something that was opened. When this returns, its opener goes on.
fn took_note(cell: &mut Cell, opened: Opened, now: Instant) -> Vec<Event> {
    match &opened.purpose {
        Purpose::Run if cell.runs.wants_details(now) => {
            let process = waiting(opened.thread).process;
            let run = Run { process, program: opened.path(), arguments: arguments_of(opened.thread) };
            cell.runs.note(opened.thread, run, now)
        }
        Purpose::Run => {
            cell.runs.count(opened.thread, &opened.path());
            Vec::new()
        }
        Purpose::Data(dataset) => cell.opens.note(opened.id, dataset, now, || (opened.path(), waiting(opened.thread))).into_iter().collect(),
    }
}
