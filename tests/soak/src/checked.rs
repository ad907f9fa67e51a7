//! Sessions as they end, each played back while the run goes on, so that what they showed need not be kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::auditor::Auditor;
use crate::playback::{self, Played};
use crate::story::{End, Story};

/// Stories that wait to be played back; beyond, holders wait with their next session.
const WAITING_MAX: usize = 64;
/// Stories whose recording is not whole yet, which are looked at again at the end. More are a finding, and not kept.
const LATER_MAX: usize = 500;
const CHECKERS: usize = 2;
/// What was shown last is published within this, where nothing is wrong with the ledger.
const SOON: Duration = Duration::from_secs(3);

/// What is known of one attempt once it was played back.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// When it was begun and when it was over, since the run's beginning.
    pub from: Duration,
    /// The same.
    pub until: Duration,
    /// The permit.
    pub permit: &'static str,
    /// The session's id, where one opened.
    pub session: Option<String>,
    /// How often it was taken up again.
    pub taken_up: u32,
    /// Bytes that it was shown.
    pub bytes: u64,
    /// How it ended.
    pub end: End,
    /// What its recording has of it, or what it has not.
    pub played: Result<Played, String>,
}

/// Who plays back.
pub struct Checkers {
    auditor: Auditor,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    later: Arc<Mutex<Vec<Story>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Checkers {
    /// They begin. Gives where stories go.
    pub fn begin(auditor: &Auditor) -> (Self, mpsc::Sender<Story>) {
        let (told, stories) = mpsc::channel(WAITING_MAX);
        let (stories, outcomes, later) = (Arc::new(Mutex::new(stories)), Arc::<Mutex<Vec<Outcome>>>::default(), Arc::<Mutex<Vec<Story>>>::default());
        let threads = (0..CHECKERS).map(|_| {
            let (auditor, stories, outcomes, later) = (auditor.clone(), Arc::clone(&stories), Arc::clone(&outcomes), Arc::clone(&later));
            std::thread::spawn(move || {
                loop {
                    let story = stories.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    let Some(story) = story else { return };
                    let outcome = outcome(&auditor, &story, SOON);
                    let mut later = later.lock().unwrap_or_else(PoisonError::into_inner);
                    if outcome.played.is_err() && later.len() < LATER_MAX {
                        later.push(story);
                    } else {
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    }
                }
            })
        });
        (Self { auditor: auditor.clone(), threads: threads.collect(), outcomes, later }, told)
    }

    /// How many are through, and how many of those whose recording lacks something.
    pub fn so_far(&self) -> (usize, usize) {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        (outcomes.len(), outcomes.iter().filter(|outcome| outcome.played.is_err()).count())
    }

    /// Waits until all that was told is played back.
    ///
    /// # Errors
    /// One of them broke.
    pub fn finish(self) -> anyhow::Result<Vec<Outcome>> {
        for thread in self.threads {
            thread.join().ok().context("whoever plays back panicked")?;
        }
        for story in self.later.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let outcome = outcome(&self.auditor, &story, Duration::ZERO);
            self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        }
        Ok(std::mem::take(&mut self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn outcome(auditor: &Auditor, story: &Story, patience: Duration) -> Outcome {
    let played = match &story.session {
        Some(_) => playback::check(auditor, story, patience).map_err(|error| format!("{error:#}")),
        None => Ok(Played { found: 0, declared: 0 }),
    };
    Outcome {
        from: story.from,
        until: story.until,
        permit: story.plan.permit,
        session: story.session.clone(),
        taken_up: story.taken_up,
        bytes: story.bytes(),
        end: story.end.clone(),
        played,
    }
}
