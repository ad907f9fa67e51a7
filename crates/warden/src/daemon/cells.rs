//! What follows from cells: their words, their ends, and time.

use std::os::fd::AsFd;
use std::time::Instant;

use jiff::Timestamp;
use sulku_audit::{CloseReason, Event, Receipt};
use sulku_permit::SessionId;
use sulku_plan::order::Report;

use super::{BUILD_WITHIN, ENDED_STAYS, GONE_WITHIN, LINK_LINGERS, LOOK_EVERY, Mode, REVIEW_EVERY, Reliance, Warden};
use crate::cell::{Outcome, Phase, Remains, Said};
use crate::cgroup::Usage;
use crate::ledger::Pending;

impl Warden {
    pub(super) fn hear_cell(&mut self, session: SessionId) {
        let Some(cell) = self.cells.get_mut(&session) else { return };
        let Some(said) = cell.hear() else { return };
        match (&cell.phase, said) {
            (Phase::Building(_), Said::Ready { landlock }) if cell.master.is_some() => {
                if let Err(error) = self.keep_an_eye_on(session) {
                    return self.fail(session, format!("could not watch what runs in the cell: {error}"));
                }
                let Some(cell) = self.cells.get(&session) else { return };
                let draft = cell.launched(landlock, self.ground.filter.digest());
                if let Some(pending) = self.record(draft)
                    && let Some(cell) = self.cells.get_mut(&session)
                {
                    cell.phase = Phase::AwaitingReceipt(pending);
                    cell.recorded = true;
                }
            }
            (Phase::Starting, Said::Running) => {
                cell.phase = Phase::Running;
                self.launched = Some(Instant::now());
                // The warden keeps a copy of the terminal's master, so that the session can outlive its gateway.
                let master = cell.master.as_ref().and_then(|master| master.as_fd().try_clone_to_owned().ok());
                match master {
                    Some(master) => {
                        self.report_with(&Report::Launched { session }, Some(master));
                        self.tell_what_was_held(session);
                    }
                    None => self.fail(session, "the terminal could not be handed over".to_owned()),
                }
            }
            (Phase::Building(_) | Phase::Starting, Said::Failed { step, error }) => self.fail(session, format!("could not {step}: {error}")),
            // A dying cell may still say what it had begun to say.
            (Phase::Dying(..) | Phase::Vanishing(..) | Phase::Ended(_), _) => {}
            (_, said) => self.fail(session, format!("the cell's first process spoke out of turn: {said:?}")),
        }
    }

    /// The record of a launch is durable: the cell may reach the world, and run.
    pub(super) fn release(&mut self, pending: Pending, receipt: &Receipt) {
        let waits = |phase: &Phase| matches!(phase, Phase::AwaitingReceipt(waits) if *waits == pending);
        let Some(session) = self.cells.stirred().find_map(|(session, cell)| waits(&cell.phase).then_some(session)) else { return };
        // What somebody did to the rules until now is known before it may reach the world.
        self.hear_of_changes();
        if self.rules.are_broken() {
            return self.fail(session, super::drift::BROKEN.to_owned());
        }
        self.let_ask(session);
        let Some(cell) = self.cells.get_mut(&session) else { return };
        let released = self.ways.admit(&cell.grant, Timestamp::now(), cell.ends.0).and_then(|()| cell.release(receipt));
        cell.phase = Phase::Starting;
        if let Err(error) = released {
            self.fail(session, format!("could not release the cell: {error}"));
        }
    }

    /// The cell never ran anything; the launch is refused once nothing of it is left.
    fn fail(&mut self, session: SessionId, reason: String) {
        tracing::error!(%session, reason, "a cell could not be built");
        self.end_as(session, Outcome::Refused(reason));
    }

    /// The cell is to go.
    pub(super) fn reap(&mut self, session: SessionId, reason: CloseReason) {
        let running = self.cells.get(&session).is_some_and(|cell| matches!(cell.phase, Phase::Running | Phase::Ended(_)));
        let outcome = if running { Outcome::Reaped(reason) } else { Outcome::Refused("the cell was ended before it ran".to_owned()) };
        self.end_as(session, outcome);
    }

    pub(super) fn reap_all(&mut self, reason: CloseReason) {
        self.cells.sessions().into_iter().for_each(|session| self.reap(session, reason));
    }

    /// Lets nothing of a session pass any more. The kernel first: from then on not a packet passes, whatever anybody does.
    pub(super) fn cut_off(&mut self, session: SessionId) {
        let Some(cell) = self.cells.get(&session) else { return };
        if let Err(error) = self.ways.revoke(&cell.grant) {
            tracing::error!(%session, %error, "a session's elements could not be removed; they time out with it");
        }
        if let Some(naming) = self.naming.as_mut().filter(|_| !cell.plan.named().is_empty()) {
            naming.close(session);
        }
    }

    fn end_as(&mut self, session: SessionId, outcome: Outcome) {
        let Some(cell) = self.cells.get_mut(&session) else { return };
        if !cell.is_alive() {
            return;
        }
        self.cut_off(session);
        let Some(cell) = self.cells.get_mut(&session) else { return };
        if matches!(cell.phase, Phase::Ended(_)) {
            self.clear(session, outcome);
        } else {
            cell.kill();
            cell.phase = Phase::Dying(Instant::now(), outcome);
        }
    }

    pub(super) fn process_ended(&mut self, session: SessionId) {
        let Some(cell) = self.cells.get_mut(&session) else { return };
        let Some(status) = cell.ended() else { return };
        match &cell.phase {
            Phase::Running => {
                cell.phase = Phase::Ended(Instant::now());
                cell.status = Some(status);
                let has_gateway = cell.orphaned_until.is_none();
                self.cut_off(session);
                if has_gateway {
                    self.report(&Report::Exited { session, status });
                }
            }
            Phase::Dying(_, outcome) => {
                let outcome = outcome.clone();
                self.clear(session, outcome);
            }
            Phase::Building(_) | Phase::AwaitingReceipt(_) | Phase::Starting => {
                // Its last words say more than its status; they come first if there are any.
                while self.cells.get(&session).is_some_and(|cell| cell.is_alive() && cell.has_words()) {
                    self.hear_cell(session);
                }
                let outcome = match self.cells.get(&session).map(|cell| &cell.phase) {
                    Some(Phase::Dying(_, outcome)) => outcome.clone(),
                    _ => Outcome::Refused(format!("the cell's first process ended with status {status}")),
                };
                self.cut_off(session);
                self.clear(session, outcome);
            }
            Phase::Ended(_) | Phase::Vanishing(..) => {}
        }
    }

    /// No process is left: ends its flows, tells what is untold, and lets go of what it had.
    fn clear(&mut self, session: SessionId, outcome: Outcome) {
        let Some(cell) = self.cells.get_mut(&session) else { return };
        if let Err(error) = self.ways.end_flows(cell.grant.mark) {
            tracing::error!(%session, %error, "a session's flows could not be ended");
        }
        self.look_to_the_end();
        self.hear_audit();
        let Some(cell) = self.cells.get_mut(&session) else { return };
        let untold = cell.denials.rest().into_iter().chain(cell.runs.rest()).chain(cell.opens.rest()).chain(cell.forbidden.rest());
        let ended = self.ends.as_mut().map(|ends| ends.forget(session, Instant::now())).unwrap_or_default();
        let ended: Vec<_> = ended.into_iter().filter_map(|ended| cell.endings.note(ended, Instant::now())).collect();
        let untold = untold.chain(ended).chain(cell.endings.rest()).collect::<Vec<_>>();
        let untold: Vec<_> = untold.into_iter().map(|event| cell.draft(event)).collect();
        if let Some(eyes) = &mut self.eyes {
            eyes.forget(session);
        }
        if let Some(audit) = &mut self.audit {
            audit.forget(session);
        }
        let remains = cell.clear();
        cell.phase = Phase::Vanishing(Instant::now(), outcome, remains);
        for draft in untold {
            self.record(draft);
        }
    }

    /// What the passing of time brings.
    pub(super) fn pass_time(&mut self) {
        let (now, clock) = (Instant::now(), Timestamp::now());
        if now.duration_since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.look_at_all(now, clock);
        }
        self.tell_of_losses(now);
        self.review(now, clock);
        self.look_after_the_dying(now);
        self.look_after_the_waiting(now);
        self.look_after_the_ledger();
        self.look_after_the_rules(now);
        self.look_after_the_resolver(now);
    }

    fn look_at_all(&mut self, now: Instant, clock: Timestamp) {
        let mut due = Vec::new();
        let mut late = Vec::new();
        let mut told = Vec::new();
        for (session, cell) in self.cells.all_mut() {
            let events = cell
                .denials
                .due(now)
                .into_iter()
                .chain(cell.runs.due(now))
                .chain(cell.opens.due(now))
                .chain(cell.endings.due(now))
                .chain(cell.forbidden.due(now));
            told.extend(events.map(|event| (*session, event)));
            match &cell.phase {
                Phase::Building(since) if now.duration_since(*since) > BUILD_WITHIN => late.push((*session, "the cell did not build itself in time")),
                Phase::Running if clock >= cell.ends.0 => due.push((*session, cell.ends.1)),
                Phase::Running | Phase::Ended(_) if cell.orphaned_until.is_some_and(|until| now >= until) => {
                    due.push((*session, CloseReason::GatewayLost))
                }
                Phase::Ended(since) if now.duration_since(*since) > ENDED_STAYS => due.push((*session, CloseReason::ShellExited)),
                _ => {}
            }
        }
        for (session, event) in told {
            if let Some(cell) = self.cells.get(&session) {
                let draft = cell.draft(event);
                self.record(draft);
            }
        }
        late.into_iter().for_each(|(session, reason)| self.fail(session, reason.to_owned()));
        due.into_iter().for_each(|(session, reason)| self.reap(session, reason));
    }

    /// What the warden's own permits say of its cells now, whatever the gateway says or does not.
    fn review(&mut self, now: Instant, clock: Timestamp) {
        if now.duration_since(self.reviewed) < REVIEW_EVERY {
            return;
        }
        self.reviewed = now;
        let alive = self.cells.values().filter(|cell| cell.is_alive()).map(|cell| &cell.opening);
        let reviewed = self.judge.review(alive, clock);
        self.tell_of_policy();
        let ends = match reviewed {
            Ok(ends) => ends,
            Err(error) => {
                if std::mem::replace(&mut self.permits, Reliance::Lost) == Reliance::Given {
                    tracing::error!(error = crate::chain(&error), "permits not read again; cells go on by those from before, and none is launched");
                }
                return;
            }
        };
        self.permits = Reliance::Given;
        for (session, (at, reason)) in ends {
            if at <= clock {
                tracing::info!(%session, ?reason, "a cell ends: the permits have changed");
                self.reap(session, reason);
            } else if let Some(cell) = self.cells.get_mut(&session) {
                cell.ends = (at, reason);
            }
        }
    }

    fn look_after_the_dying(&mut self, now: Instant) {
        let sessions: Vec<_> = self.cells.stirred().filter(|(_, cell)| !cell.is_alive()).map(|(session, _)| session).collect();
        for session in sessions {
            let Some(cell) = self.cells.get_mut(&session) else { continue };
            match &mut cell.phase {
                Phase::Dying(since, outcome) if now.duration_since(*since) > GONE_WITHIN => {
                    let outcome = outcome.clone();
                    let pid = cell.pid();
                    self.clear(session, outcome);
                    if let Some(Phase::Vanishing(_, _, remains)) = self.cells.get_mut(&session).map(|cell| &mut cell.phase) {
                        remains.leftovers.push(format!("process {pid}"));
                    }
                }
                Phase::Vanishing(since, outcome, remains) => {
                    let waited = now.duration_since(*since);
                    if waited > LINK_LINGERS
                        && let Err(error) = self.ways.remove_link(&cell.link)
                    {
                        tracing::debug!(%session, %error, "link not taken down; it may have gone by itself");
                    }
                    let here = self.ways.has_link(&cell.link);
                    if here && waited <= GONE_WITHIN {
                        continue;
                    }
                    if here {
                        remains.leftovers.push(format!("network link of address {}", cell.address));
                    }
                    let (outcome, remains) = (outcome.clone(), std::mem::take(remains));
                    self.bury(session, outcome, remains);
                }
                _ => {}
            }
        }
    }

    /// All of it is gone, or named as left.
    fn bury(&mut self, session: SessionId, outcome: Outcome, remains: Remains) {
        let Some(cell) = self.cells.remove(&session) else { return };
        let fill = self.disks.fill_of(cell.plan.workspace());
        if remains.leftovers.is_empty() {
            self.ways.forget(cell.link.slot);
        }
        let Remains { usage, leftovers } = remains;
        let reason = match &outcome {
            Outcome::Reaped(reason) => *reason,
            Outcome::Refused(_) => CloseReason::CellFailed,
        };
        if cell.recorded {
            let Usage { cpu_ms, memory_peak_bytes, processes_peak, oom_kills } = usage;
            let (bytes_out, bytes_in) = cell.carried;
            let event = Event::CellReaped {
                reason,
                cpu_ms,
                memory_peak_bytes,
                processes_peak,
                oom_kills,
                bytes_out,
                bytes_in,
                disk_used_bytes: fill.map(|fill| fill.used_bytes),
                disk_limit_bytes: fill.map(|fill| fill.limit_bytes),
                leftovers: leftovers.clone(),
            };
            self.record(cell.draft(event));
        }
        let orphan = cell.orphaned_until.is_some();
        match outcome {
            Outcome::Reaped(reason) if orphan && !self.has_serving_gateway() => self.note_unclosed(&cell.opening, cell.adoptions, reason),
            Outcome::Refused(_) if orphan && !self.has_serving_gateway() => {
                self.note_unclosed(&cell.opening, cell.adoptions, CloseReason::GatewayLost)
            }
            Outcome::Reaped(reason) => self.report(&Report::Reaped { session, reason: reason.name(), leftovers }),
            Outcome::Refused(reason) if orphan || matches!(self.mode, Mode::Stopping(_)) => tracing::warn!(%session, reason, "a cell never ran"),
            Outcome::Refused(reason) => {
                let about = cell.draft(Event::OrderRefused { order: String::new(), reason: String::new() });
                self.refuse("launch", Some(session), Some(about), reason);
            }
        }
    }
}
