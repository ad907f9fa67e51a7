//! What follows when somebody else than the warden changes the router's rules: it is recorded and mended at once; where it can't be
//! mended, all cells stand still and none is launched until it is.
//!
//! It never takes a change for harmless: whatever it was, all is written anew and compared.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_audit::{Draft, DriftOutcome, Event};

use super::{Mode, Warden};
use crate::cgroup::Motion;
use crate::network::{Admitted, Foreign, Mending, NetworkError, Wanted};

/// Why no cell is launched while the rules are not as they must be.
pub(super) const BROKEN: &str =
    "somebody changed the router's nftables and it could not be put back; see ruleset.drifted in the ledger, and end what changes it";
/// How often mending is tried while the rules are broken.
const MEND_EVERY: Duration = Duration::from_secs(1);
/// Who changes the rules more often than so many times in so long has not been stopped by mending: the rules count as broken.
const MENDED_MAX: usize = 16;
const MENDED_WITHIN: Duration = Duration::from_secs(10);
/// The longest reason that an entry has, in characters.
const REASON_MAX: usize = 500;
/// The reason where mending itself succeeds.
const AGAIN: &str = "they are changed again and again";

/// The state of the router's rules.
#[derive(Debug, Default)]
pub(super) struct Rules {
    broken: Option<Broken>,
    /// When they were mended of late.
    mended: Vec<Instant>,
}

#[derive(Debug)]
struct Broken {
    since: Instant,
    tried: Instant,
    /// What has been done to them since the last try.
    more: Foreign,
    /// Budgets whose count is doubted since they broke.
    doubted: BTreeSet<String>,
}

impl Rules {
    /// Whether cells must stand still because of them.
    pub(super) const fn are_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn is_too_often(&mut self, now: Instant) -> bool {
        self.mended.retain(|then| now.saturating_duration_since(*then) < MENDED_WITHIN);
        self.mended.push(now);
        self.mended.len() > MENDED_MAX
    }
}

impl Warden {
    /// Takes in what was changed; the warden's own changes are none.
    pub(super) fn hear_of_changes(&mut self) {
        let foreign = self.ways.hear_changes();
        if foreign.is_empty() {
            return;
        }
        let now = Instant::now();
        if let Some(broken) = &mut self.rules.broken {
            // It is told of with the next try, so that who changes them again and again fills no ledger.
            return broken.more.join(foreign);
        }
        let Mending { budgets_taken, whole } = self.mend(&foreign.budgets);
        tracing::info!(took_ms = now.elapsed().as_millis(), whole = whole.is_ok(), "the router's rules were written anew");
        match whole {
            Ok(()) if !self.rules.is_too_often(now) => self.tell_of_drift(&foreign, DriftOutcome::Mended, None, budgets_taken),
            Ok(()) => self.give_up_rules(foreign, AGAIN.to_owned(), budgets_taken, now),
            Err(error) => self.give_up_rules(foreign, in_words(&error), budgets_taken, now),
        }
    }

    /// The rules are not what they must be: nothing moves.
    fn give_up_rules(&mut self, foreign: Foreign, reason: String, budgets_taken: u64, now: Instant) {
        self.set_motion_of_all(Motion::Frozen);
        self.tell_of_drift(&foreign, DriftOutcome::Frozen, Some(reason), budgets_taken);
        self.rules.broken = Some(Broken { since: now, tried: now, more: Foreign::default(), doubted: foreign.budgets });
    }

    /// Tries again, where it did not succeed before.
    pub(super) fn look_after_the_rules(&mut self, now: Instant) {
        let Some(broken) = self.rules.broken.as_mut().filter(|broken| now.duration_since(broken.tried) >= MEND_EVERY) else { return };
        broken.tried = now;
        let more = std::mem::take(&mut broken.more);
        broken.doubted.extend(more.budgets.iter().cloned());
        // Those of sessions that live, so that nobody makes the list grow.
        let budgets: BTreeSet<_> = self.cells.values().flat_map(|cell| cell.grant.budgets()).collect();
        broken.doubted.retain(|name| budgets.contains(name));
        let (since, doubted) = (broken.since, broken.doubted.clone());
        let Mending { budgets_taken, whole } = self.mend(&doubted);
        if !more.is_empty() {
            // They go on only after a while in which nobody has touched the rules.
            let reason = whole.err().map_or_else(|| AGAIN.to_owned(), |error| in_words(&error));
            return self.tell_of_drift(&more, DriftOutcome::Frozen, Some(reason), budgets_taken);
        }
        match whole {
            Ok(()) => {
                self.rules = Rules::default();
                let after_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(after_ms, "the router's rules are whole again");
                self.record(Draft::new(Event::RulesetRestored { after_ms, budgets_taken }));
                if self.mode == Mode::Serving {
                    self.set_motion_of_all(Motion::Thawed);
                }
            }
            Err(error) => tracing::error!(reason = in_words(&error), "the router's rules are still broken; all cells stand still"),
        }
    }

    fn mend(&mut self, doubted: &BTreeSet<String>) -> Mending {
        let now = Timestamp::now();
        let admitted = self.cells.values().filter_map(|cell| Some(Admitted { grant: &cell.grant, ends: cell.ends.0, passage: cell.passage()? }));
        let sessions: Vec<_> = admitted.collect();
        let dialled = self.naming.as_ref().map(|naming| naming.dialled(now)).unwrap_or_default();
        let wanted = Wanted { sessions: &sessions, dialled: &dialled, doubted, now };
        self.ways.mend(wanted)
    }

    /// An entry for each process that has changed something.
    fn tell_of_drift(&mut self, foreign: &Foreign, outcome: DriftOutcome, reason: Option<String>, budgets_taken: u64) {
        for (stranger, changes) in &foreign.by {
            let (process, program) = stranger.as_ref().map(|stranger| (stranger.process, stranger.program.clone())).unzip();
            let changes = changes.words();
            tracing::error!(process, program, ?changes, ?outcome, reason, "somebody else changed the router's rules");
            let reason = reason.clone();
            self.record(Draft::new(Event::RulesetDrifted { changes, process, program, outcome, reason, budgets_taken }));
        }
    }
}

fn in_words(error: &NetworkError) -> String {
    crate::chain(error).chars().take(REASON_MAX).collect()
}
