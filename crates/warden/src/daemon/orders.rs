//! What follows from the gateway: its coming, its orders, its going.

use std::time::Instant;

use jiff::Timestamp;
use sulku_audit::{CloseReason, Draft, Event, Receipt};
use sulku_permit::SessionId;
use sulku_plan::order::{ORDER_VERSION, Order, Report, Signal, TerminalSize};

use super::waiting::Waiting;
use super::{Mode, Warden};
use crate::cell::Phase as CellPhase;
use crate::cgroup::Motion;
use crate::gateway::{Heard, Phase};
use crate::verdict::LaunchRefused;

impl Warden {
    /// Somebody connects. There is one gateway at a time; a second is shown out.
    pub(super) fn greet(&mut self) {
        let Some(gateway) = self.listener.accept() else { return };
        if self.gateway.is_some() {
            tracing::warn!("a second gateway connected and was shown out");
        } else {
            self.gateway = Some(gateway);
        }
    }

    pub(super) fn hear_gateway(&mut self) {
        let Some(gateway) = &mut self.gateway else { return };
        if gateway.flush().is_err() {
            return self.gateway_lost();
        }
        match gateway.hear() {
            None => {}
            Some(Heard::Gone) => self.gateway_lost(),
            Some(Heard::Nonsense(reason)) => self.refuse("none", None, None, reason),
            Some(Heard::Order(order)) => self.obey(*order),
        }
    }

    /// The table of what may be ordered when; anything else is out of phase.
    fn obey(&mut self, order: Order<Receipt>) {
        let Some(phase) = self.gateway.as_ref().map(|gateway| gateway.phase) else { return };
        match (phase, order) {
            (Phase::Greeting, Order::Hello { version: ORDER_VERSION }) => {
                if let Some(gateway) = &mut self.gateway {
                    gateway.phase = Phase::Serving;
                }
                self.offer_orphans();
            }
            (Phase::Greeting, Order::Hello { version }) => {
                self.refuse(
                    "hello",
                    None,
                    None,
                    format!("the gateway speaks version {version}, the warden {ORDER_VERSION}; install the same release"),
                );
            }
            (Phase::Serving, Order::Launch { receipt, size, term }) => self.launch(&receipt, size, term),
            (Phase::Serving, Order::Adopt { receipt }) => self.adopt(&receipt),
            (Phase::Serving, Order::Signal { session, signal }) => self.signal(session, signal),
            (Phase::Serving, Order::End { session, reason }) => self.end(session, &reason),
            (Phase::Serving, Order::ListWorkspaces) => self.list_workspaces(),
            (Phase::Serving, Order::DeleteWorkspace { named }) => self.delete_workspace(&named),
            (_, order) => {
                let (name, session) = match order {
                    Order::Hello { .. } => ("hello", None),
                    Order::Launch { .. } => ("launch", None),
                    Order::Adopt { .. } => ("adopt", None),
                    Order::Signal { session, .. } => ("signal", Some(session)),
                    Order::End { session, .. } => ("end", Some(session)),
                    Order::ListWorkspaces => ("list-workspaces", None),
                    Order::DeleteWorkspace { .. } => ("delete-workspace", None),
                };
                self.refuse(name, session, None, "the order is out of phase".to_owned());
            }
        }
    }

    fn launch(&mut self, receipt: &Receipt, size: TerminalSize, term: String) {
        if self.mode != Mode::Serving {
            let reason = "the warden takes no launches now: it is stopping, or the ledger is away".to_owned();
            return self.refuse("launch", receipt.claims(), None, reason);
        }
        if self.rules.are_broken() {
            return self.refuse("launch", receipt.claims(), None, format!("the warden takes no launches now: {}", super::drift::BROKEN));
        }
        let decided = self.judge.decide(receipt, size, term, Timestamp::now());
        self.tell_of_policy();
        let commission = match decided {
            Ok(commission) => commission,
            Err((refused, opening)) => {
                let draft = opening.as_ref().map(|opening| Draft {
                    permit: Some(opening.permit().clone()),
                    session: Some(opening.session()),
                    person: Some(opening.person().clone()),
                    event: Event::OrderRefused { order: String::new(), reason: String::new() },
                });
                // The gateway that asks must learn for which session it is, or its holder waits.
                return self.refuse("launch", receipt.claims(), draft, crate::chain(&refused));
            }
        };
        let session = commission.opening.session();
        let about = Draft {
            permit: Some(commission.opening.permit().clone()),
            session: Some(session),
            person: Some(commission.opening.person().clone()),
            event: Event::OrderRefused { order: String::new(), reason: String::new() },
        };
        if self.cells.len() + self.waiting.len() >= self.config.cells_max {
            let full = LaunchRefused::Full(self.config.cells_max);
            return self.refuse("launch", Some(session), Some(about), full.to_string());
        }
        if let Some(deletion) = self.deletion.as_ref().filter(|deletion| deletion.due.workspace == *commission.plan.workspace()) {
            let doomed = LaunchRefused::Doomed(deletion.due.workspace.clone());
            return self.refuse("launch", Some(session), Some(about), doomed.to_string());
        }
        self.waiting.insert(session, Waiting { commission, about, since: Instant::now() });
        self.begin(session);
    }

    fn signal(&mut self, session: SessionId, signal: Signal) {
        let number = match signal {
            Signal::Hup => libc::SIGHUP,
            Signal::Int => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::Term => libc::SIGTERM,
            Signal::Usr1 => libc::SIGUSR1,
            Signal::Usr2 => libc::SIGUSR2,
            Signal::Tstp => libc::SIGTSTP,
            Signal::Cont => libc::SIGCONT,
        };
        let sent = match self.cells.get(&session) {
            Some(cell) if matches!(cell.phase, CellPhase::Running) && cell.orphaned_until.is_none() => {
                cell.signal(number).map_err(|error| error.to_string())
            }
            // A shell that has just ended can't be signalled, and that is nobody's fault.
            Some(_) => Ok(()),
            None => Err("there is no such cell".to_owned()),
        };
        if let Err(reason) = sent {
            self.refuse("signal", Some(session), None, reason);
        }
    }

    fn end(&mut self, session: SessionId, reason: &str) {
        let Ok(reason) = serde_json::from_value::<CloseReason>(serde_json::Value::String(reason.to_owned())) else {
            return self.refuse("end", Some(session), None, "the reason is not one of the closing entry's".to_owned());
        };
        match self.cells.get(&session) {
            // Also one that this gateway has not adopted: it has judged it, and what ends may always be ended.
            Some(_) => self.reap(session, reason),
            None if self.waiting.contains_key(&session) => self.turn_away(session, "the session was ended before it had a cell".to_owned()),
            None => self.refuse("end", Some(session), None, "there is no such cell".to_owned()),
        }
    }

    /// Says no, to the gateway and to the ledger.
    pub(super) fn refuse(&mut self, order: &str, session: Option<SessionId>, about: Option<Draft>, reason: String) {
        tracing::warn!(order, reason, "an order was refused");
        let event = Event::OrderRefused { order: order.to_owned(), reason: reason.chars().take(2_000).collect() };
        // A session that the gateway merely names is not one that the warden knows.
        let draft = about.map_or_else(|| Draft::new(event.clone()), |about| Draft { event: event.clone(), ..about });
        self.record(draft);
        self.report(&Report::Refused { session, reason });
    }

    /// Whether a gateway hears what is reported.
    pub(super) fn has_serving_gateway(&self) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| gateway.phase == Phase::Serving)
    }

    pub(super) fn report(&mut self, report: &Report) {
        self.report_with(report, None);
    }

    pub(super) fn report_with(&mut self, report: &Report, master: Option<std::os::fd::OwnedFd>) {
        if let Some(gateway) = &mut self.gateway
            && gateway.phase_allows(report)
            && gateway.report(report, master).is_err()
        {
            self.gateway_lost();
        }
    }

    /// Nobody sees or ends these cells any more: no egress and no processor from now on, and gone after the grace unless the next gateway
    /// adopts them.
    pub(super) fn gateway_lost(&mut self) {
        self.gateway = None;
        self.give_up_waiting();
        let until = Instant::now() + self.config.gateway_lost_grace;
        let mut lost = Vec::new();
        let orphans = self.cells.iter().filter(|(_, cell)| cell.is_alive() && cell.orphaned_until.is_none());
        for session in orphans.map(|(session, _)| *session).collect::<Vec<_>>() {
            self.suspend(session);
            let Some(cell) = self.cells.get_mut(&session) else { continue };
            if let Err(error) = cell.set_motion(Motion::Frozen) {
                tracing::error!(%session, %error, "a cell could not be frozen");
            }
            cell.orphaned_until = Some(until);
            lost.push(session);
        }
        tracing::warn!(cells = lost.len(), "the gateway's connection is lost");
        self.record(Draft::new(Event::GatewayLost { cells: lost.len() as u64, grace_s: self.config.gateway_lost_grace.as_secs() }));
        for session in lost {
            // A cell that runs nothing yet has nothing to keep; one that can't be frozen must not go on.
            let unfinished = self.cells.get(&session).is_some_and(|cell| !matches!(cell.phase, CellPhase::Running | CellPhase::Ended(_)));
            if unfinished {
                self.reap(session, CloseReason::GatewayLost);
            }
        }
    }
}
