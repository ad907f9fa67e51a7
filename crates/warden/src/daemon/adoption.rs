//! What becomes of cells whose gateway is lost: the next one is told of them, and adopts them or does not.
//!
//! They stand still without egress until an entry of the ledger gives them to a gateway. What their budgets had left is what they have
//! then. Freezing them is `orders`' matter, reaping those that nobody adopts in time `cells`'.

use std::os::fd::{AsFd, OwnedFd};

use jiff::Timestamp;
use sulku_audit::{Adoption, CloseReason, Event, Opening, Receipt};
use sulku_permit::SessionId;
use sulku_plan::order::{ORDER_VERSION, Report};

use super::{Mode, Warden};
use crate::cell::{Cell, Phase};
use crate::cgroup::Motion;
use crate::verdict::AdoptionRefused;

/// The order's name, as entries have it.
const ADOPT: &str = "adopt";
/// Sessions that wait for a gateway to close them. There are never more cells than that at once, and a gateway that stays away opens none.
const UNCLOSED_MAX: usize = 1_024;

impl Warden {
    /// Tells a gateway that has greeted of the cells that the one before left. As many as there may be cells.
    pub(super) fn offer_orphans(&mut self) {
        let orphans = self.cells.iter().filter(|(_, cell)| cell.orphaned_until.is_some() && matches!(cell.phase, Phase::Running | Phase::Ended(_)));
        let told = |(session, cell): (&SessionId, &Cell)| -> Option<(Report, OwnedFd)> {
            let opening = &cell.opening;
            let report = Report::Orphan {
                session: *session,
                entry: opening.index(),
                opened: opening.time(),
                opening: opening.draft().to_owned(),
                term: cell.term.clone(),
                adoptions: cell.adoptions,
            };
            Some((report, cell.master.as_ref()?.as_fd().try_clone_to_owned().ok()?))
        };
        let offers: Vec<_> = orphans.filter_map(told).collect();
        let orphans = u32::try_from(offers.len()).unwrap_or(u32::MAX);
        let unclosed = std::mem::take(&mut self.unclosed);
        let gone = u32::try_from(unclosed.len()).unwrap_or(u32::MAX);
        self.report(&Report::Ready { version: ORDER_VERSION, rung: self.ground.rung.name().to_owned(), missing: Vec::new(), orphans, gone });
        for (report, master) in offers {
            self.report_with(&report, Some(master));
        }
        for report in unclosed {
            self.report(&report);
        }
    }

    /// Keeps for the next gateway that a cell went whose session nobody has closed.
    pub(super) fn note_unclosed(&mut self, opening: &Opening, adoptions: u32, reason: CloseReason) {
        if self.unclosed.len() >= UNCLOSED_MAX {
            tracing::warn!(session = %opening.session(), "too many sessions wait for a gateway to close them; this one has no closing entry");
            return;
        }
        self.unclosed.push(Report::Gone {
            session: opening.session(),
            opened: opening.time(),
            opening: opening.draft().to_owned(),
            adoptions,
            reason: reason.name(),
        });
    }

    /// Lets a cell go on as this gateway's: the record of that is durable, and the warden's own permits still admit the session.
    pub(super) fn adopt(&mut self, receipt: &Receipt) {
        let (session, refused) = match self.judge.adoption(receipt, Timestamp::now()) {
            Err(refused) => (None, refused),
            Ok(adoption) => match self.give(&adoption) {
                Ok(()) => return self.tell_of_adoption(adoption.session()),
                Err(refused) => (Some(adoption.session()), refused),
            },
        };
        self.tell_of_policy();
        let about = session
            .and_then(|session| self.cells.get(&session))
            .map(|cell| cell.draft(Event::OrderRefused { order: String::new(), reason: String::new() }));
        self.refuse(ADOPT, session, about, crate::chain(&refused));
    }

    fn give(&mut self, adoption: &Adoption) -> Result<(), AdoptionRefused> {
        let session = adoption.session();
        if self.mode != Mode::Serving {
            return Err(AdoptionRefused::NotServing);
        }
        // What somebody did to the rules until now is known before it may reach the world again.
        self.hear_of_changes();
        if self.rules.are_broken() {
            return Err(AdoptionRefused::RulesBroken);
        }
        let cell = self.cells.get(&session).filter(|cell| cell.is_alive()).ok_or(AdoptionRefused::NoSuchCell)?;
        if cell.orphaned_until.is_none() {
            return Err(AdoptionRefused::HasGateway);
        }
        if adoption.index() <= cell.given_by {
            return Err(AdoptionRefused::Used);
        }
        if !adoption.is_of(&cell.opening, cell.adoptions.saturating_add(1)) {
            return Err(AdoptionRefused::OtherSession);
        }
        let now = Timestamp::now();
        let ends = self.judge.still(&cell.opening, now)?;
        if matches!(cell.phase, Phase::Running) {
            self.resume(session, now, ends.0)?;
        }
        if let Some(cell) = self.cells.get_mut(&session) {
            (cell.ends, cell.orphaned_until, cell.given_by) = (ends, None, adoption.index());
            cell.adoptions = cell.adoptions.saturating_add(1);
        }
        Ok(())
    }

    /// Gives a cell the way out that it had, and then lets its processes move.
    fn resume(&mut self, session: SessionId, now: Timestamp, ends: Timestamp) -> Result<(), AdoptionRefused> {
        self.let_ask(session);
        let Some(cell) = self.cells.get(&session) else { return Err(AdoptionRefused::NoSuchCell) };
        let resumed = self.ways.resume(&cell.grant, now, ends).and_then(|()| cell.set_motion(Motion::Thawed));
        resumed.map_err(|error| {
            self.suspend(session);
            AdoptionRefused::Stuck(error)
        })
    }

    fn tell_of_adoption(&mut self, session: SessionId) {
        tracing::info!(%session, "a cell goes on with another gateway");
        self.report(&Report::Adopted { session });
        if let Some(status) = self.cells.get(&session).and_then(|cell| cell.status) {
            self.report(&Report::Exited { session, status });
        }
    }

    /// Lets nothing of a session pass until it is resumed, and keeps what it had open and what its budgets have left.
    pub(super) fn suspend(&mut self, session: SessionId) {
        let Some(cell) = self.cells.get(&session) else { return };
        if let Err(error) = self.ways.suspend(&cell.grant) {
            tracing::error!(%session, %error, "a session's element could not be removed; it times out with it");
        }
        if let Some(naming) = self.naming.as_mut().filter(|_| !cell.plan.named().is_empty()) {
            naming.close(session);
        }
    }
}
