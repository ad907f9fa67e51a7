//! What was done in cells, as entries: programmes run and ended, files of datasets opened, what Landlock denied.
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
use crate::seen::{Ends, Heard, Opened, Purpose, Run, Told, Word, arguments_of, waiting};

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
                    let events = self.cells.get_mut(&session).map(|cell| took_note(cell, self.ends.as_mut(), opened, now));
                    self.tell(session, events.unwrap_or_default());
                }
                Word::Lost => {
                    self.losses.note(Observed::Programs, None);
                    self.losses.note(Observed::DatasetFiles, None);
                }
            }
        }
    }

    /// Takes in what the host's audit says of cells.
    pub(super) fn hear_audit(&mut self) {
        let now = Instant::now();
        let Some(audit) = &mut self.audit else { return };
        let cells = &self.cells;
        let whose = |first: u32| cells.iter().find(|(_, cell)| cell.pid().cast_unsigned() == first).map(|(session, _)| *session);
        for heard in audit.hear(whose) {
            match heard {
                Heard::Denied(session, denied) => {
                    let event = self.cells.get_mut(&session).and_then(|cell| cell.forbidden.note(denied, now));
                    self.tell(session, event.into_iter().collect());
                }
                Heard::Lost => self.losses.note(Observed::DeniedAccess, None),
            }
        }
    }

    /// Takes in which programmes have ended.
    pub(super) fn hear_of_ends(&mut self) {
        let now = Instant::now();
        let Some(ends) = &mut self.ends else { return };
        for (session, ended) in ends.hear(now) {
            let event = self.cells.get_mut(&session).and_then(|cell| cell.endings.note(ended, now));
            self.tell(session, event.into_iter().collect());
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
fn took_note(cell: &mut Cell, ends: Option<&mut Ends>, opened: Opened, now: Instant) -> Vec<Event> {
    match &opened.purpose {
        Purpose::Run if cell.runs.wants_details(now) => {
            let process = waiting(opened.thread).process;
            let run = Run { process, program: opened.path(), arguments: arguments_of(opened.thread) };
            let told = ends.map(|ends| ends.watch(opened.session, process, now));
            let mut events = cell.runs.note(opened.thread, run, now);
            if told == Some(Told::Never) {
                events.extend(cell.endings.note(None, now));
            }
            events
        }
        Purpose::Run => {
            cell.runs.count(opened.thread, &opened.path());
            Vec::new()
        }
        Purpose::Data(dataset) => cell.opens.note(opened.id, dataset, now, || (opened.path(), waiting(opened.thread))).into_iter().collect(),
    }
}
