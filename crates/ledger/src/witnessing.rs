//! The machine of [`crate::witnessed`] in a running ledger: its clock, its thread, and what it lets through.
//!
//! Decides nothing itself. A cosigned checkpoint that shows another log than this one ends the ledger, as a failed disk does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_audit::note::Note;
use sulku_audit::policy::TrustError;
use sulku_audit::source::CHECKPOINT;
use sulku_audit::wire::{Cause, ResponseBody};
use sulku_audit::{Checkpoint, Draft, Event, LogKeys};

use crate::config::Settings;
use crate::keys::Keys;
use crate::ledger::Alarm;
use crate::queue::Desk;
use crate::server::Reply;
use crate::stage::{Blob, Prepared};
use crate::witnessed::{Effect, NotCosigned, Witnessed};
use crate::writer::Command;

/// How often the timers are looked at; they count seconds.
const TICK: Duration = Duration::from_millis(200);

/// What witnesses have seen, for the threads that ask.
pub(crate) struct Witnessing {
    state: Mutex<Witnessed>,
    started: Instant,
    directory: PathBuf,
    keys: Arc<Keys>,
    desk: Arc<Desk>,
    alarm: Alarm,
}

impl Witnessing {
    /// Begins to count.
    ///
    /// # Errors
    /// The settings' quorum can't be reached.
    pub(crate) fn new(log: LogKeys, settings: &Settings, keys: Arc<Keys>, desk: Arc<Desk>, alarm: Alarm) -> Result<Arc<Self>, TrustError> {
        let state = Witnessed::new(log, settings.witness.clone(), &settings.directory, Duration::ZERO)?;
        let directory = settings.directory.clone();
        Ok(Arc::new(Self { state: Mutex::new(state), started: Instant::now(), directory, keys, desk, alarm }))
    }

    fn state(&self) -> MutexGuard<'_, Witnessed> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why an entry is not taken now; `None` if it is.
    pub(crate) fn refusal(&self, event: &Event) -> Option<String> {
        let needs = match event {
            Event::SessionOpened { .. } => Effect::NoNewSessions,
            Event::SessionAdopted { .. } | Event::RecordingBegun { .. } | Event::RecordingChunk { .. } => Effect::Freeze,
            _ => return None,
        };
        let state = self.state();
        (state.effect() >= needs).then(|| {
            let age = state.age(self.started.elapsed()).unwrap_or_default().as_secs();
            format!("no witness has cosigned the log for {age} s; see that the courier runs and reaches the witnesses")
        })
    }

    /// How long ago the last cosigned checkpoint came, where one is asked for; and what follows.
    pub(crate) fn age_and_effect(&self) -> (Option<Duration>, Effect) {
        let state = self.state();
        (state.age(self.started.elapsed()), state.effect())
    }

    /// The courier brings a cosigned checkpoint.
    pub(crate) fn cosigned(&self, note: &str) -> ResponseBody {
        let refused = |cause, reason| ResponseBody::Refused { cause, reason };
        let published = match read_checkpoint(&self.directory) {
            Ok(published) => published,
            Err(reason) => return refused(Cause::Broken, reason),
        };
        let wall = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
        let taken = self.state().accept(note, &published, self.started.elapsed(), wall);
        match taken {
            Ok(entry) => {
                entry.into_iter().for_each(|entry| self.append(entry));
                ResponseBody::Cosigned
            }
            Err(error @ (NotCosigned::Fork { .. } | NotCosigned::File(_))) => {
                self.alarm.sound(error.to_string());
                refused(Cause::Broken, error.to_string())
            }
            Err(error) => refused(Cause::NotAllowed, error.to_string()),
        }
    }

    /// Looks at the timers until the other end of `stop` is gone.
    pub(crate) fn watch(&self, stop: &Receiver<()>) {
        while stop.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            let due = self.state().tick(self.started.elapsed());
            if let Some(entry) = due {
                tracing::warn!(event = entry.name(), "no witness has cosigned the log of late");
                self.append(entry);
            }
        }
    }

    fn append(&self, event: Event) {
        match Prepared::new(&self.keys, Draft::new(event), Blob::none()) {
            // Nobody takes it when the ledger is ending.
            Ok(prepared) => drop(self.desk.submit(&mut vec![(Command::Append { prepared, reply: Reply::nobody() }, 0)])),
            Err(rejection) => self.alarm.sound(rejection.told().1),
        }
    }
}

/// The last checkpoint that is out, which this ledger wrote itself.
fn read_checkpoint(directory: &Path) -> Result<Checkpoint, String> {
    let path = directory.join(CHECKPOINT);
    let note = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let checkpoint = Note::parse(&note).map_err(Into::into).and_then(|note| Checkpoint::of_note(&note));
    checkpoint.map_err(|error| format!("{}: {error}", path.display()))
}
