//! What follows from an operator's orders about workspaces. The warden goes by its own permits, and by the cells that it has.

use jiff::Timestamp;
use sulku_audit::{Draft, Event};
use sulku_plan::order::{Report, WORKSPACES_MAX};

use super::{Mode, Warden};
use crate::errand::Readiness;
use crate::ledger::Pending;
use crate::workspace::disk::Wanted;
use crate::workspace::walk::Found;
use crate::workspace::{Deletion, Due, KeptBecause, Need, rows};

/// The longest name that an order may have; a permit's id and a workspace's name are shorter.
const NAMED_BYTES_MAX: usize = 256;
/// The order's name, as entries and reports have it.
const DELETE: &str = "delete-workspace";

impl Warden {
    pub(super) fn list_workspaces(&mut self) {
        let cells = &self.cells;
        let permits = match self.judge.permits() {
            Ok(permits) => permits,
            Err(error) => {
                let reason = crate::chain(&error);
                return self.keep("list-workspaces", None, reason);
            }
        };
        let in_use = |name: &_| cells.values().any(|cell| cell.plan.workspace() == name);
        let (rows, all) = rows(permits, &self.config.workspaces, in_use, Timestamp::now(), WORKSPACES_MAX);
        self.report(&Report::Workspaces { rows, all });
    }

    pub(super) fn delete_workspace(&mut self, named: &str) {
        match self.doomed(named) {
            Ok(deletion) => {
                tracing::info!(permit = %deletion.due.permit, "a workspace is being destroyed");
                self.deletion = Some(deletion);
                self.go_on_with_disk();
            }
            Err(reason) => self.keep(DELETE, None, reason),
        }
    }

    fn doomed(&mut self, named: &str) -> Result<Deletion, String> {
        let kept = |because: KeptBecause| crate::chain(&because);
        if self.mode != Mode::Serving {
            return Err("the warden destroys nothing now: it is stopping, or the ledger is away".to_owned());
        }
        if named.len() > NAMED_BYTES_MAX {
            return Err(kept(KeptBecause::NoName));
        }
        if let Some(deletion) = &self.deletion {
            return Err(kept(KeptBecause::Busy(deletion.due.workspace.clone())));
        }
        let due = self.judge.due(named, Timestamp::now()).map_err(|error| crate::chain(&error))?.map_err(kept)?;
        if self.cells.values().any(|cell| *cell.plan.workspace() == due.workspace) {
            return Err(kept(KeptBecause::InUse));
        }
        Deletion::begin(due, &self.config.workspaces).map_err(kept)
    }

    /// Whether turns of the loop carry a deletion on. Nothing is destroyed that could not be recorded.
    pub(super) fn is_deleting(&self) -> bool {
        self.mode == Mode::Serving && self.deletion.as_ref().is_some_and(Deletion::is_walking)
    }

    pub(super) fn carry_on_deleting(&mut self) {
        if !self.is_deleting() {
            return;
        }
        let Some(deletion) = &mut self.deletion else { return };
        let due = deletion.due.clone();
        let need = deletion.turn();
        let event = match need {
            Ok(Need::Turns | Need::Patience) => return,
            Ok(Need::Announcement(found)) => {
                let Found { files, folders, bytes, sha256 } = found;
                Event::WorkspaceDeletionBegun { workspace: due.workspace.to_string(), files, folders, bytes, sha256 }
            }
            Ok(Need::Certificate(found)) => {
                let Found { files, folders, bytes, sha256 } = found;
                Event::WorkspaceDeleted { workspace: due.workspace.to_string(), files, folders, bytes, sha256, permit_ended: due.ended }
            }
            Err(error) => return self.stop_deleting(&due, &error),
        };
        let pending = self.record(Draft { permit: Some(due.permit), ..Draft::new(event) });
        match (pending, &mut self.deletion) {
            (Some(pending), Some(deletion)) => deletion.awaits(pending),
            _ => {
                self.deletion = None;
                self.keep(DELETE, None, "the ledger can't keep what is destroyed; repeat the order when it can".to_owned());
            }
        }
    }

    /// What is to be destroyed is on a disk that has come, or that nothing holds any more.
    pub(super) fn go_on_with_disk(&mut self) {
        let Some(deletion) = &mut self.deletion else { return };
        let due = deletion.due.clone();
        let gone_on = if deletion.awaits_disk() {
            let wanted = Wanted { workspaces: &self.config.workspaces, name: &due.workspace, bytes: None, uid: None };
            match self.disks.want(&wanted) {
                Readiness::Ready => self.disks.mount_of(&due.workspace).and_then(|mount| deletion.survey(&mount)),
                Readiness::Underway => Ok(()),
                Readiness::Failed(words) => Err(std::io::Error::other(format!("its disk can't be used: {words}"))),
            }
        } else if deletion.awaits_release() && !self.disks.has(&due.workspace) {
            deletion.remove_disk()
        } else {
            Ok(())
        };
        if let Err(error) = gone_on {
            self.stop_deleting(&due, &error);
        }
    }

    /// The ledger has kept something, which may be what the deletion waits for.
    pub(super) fn go_on_deleting(&mut self, pending: Pending) {
        let Some(deletion) = &mut self.deletion else { return };
        let due = deletion.due.clone();
        match deletion.kept(pending) {
            Ok(None) => {}
            Ok(Some(Found { files, bytes, .. })) => {
                self.deletion = None;
                tracing::info!(permit = %due.permit, files, bytes, "a workspace was destroyed");
                self.report(&Report::Deleted { workspace: due.workspace.to_string(), files, bytes });
            }
            Err(error) => self.stop_deleting(&due, &error),
        }
    }

    fn stop_deleting(&mut self, due: &Due, error: &std::io::Error) {
        self.deletion = None;
        self.keep(DELETE, Some(due), format!("it could not be destroyed, or not all of it: {error}; repeat the order when that is mended"));
    }

    /// Says no, to the gateway and to the ledger.
    fn keep(&mut self, order: &str, due: Option<&Due>, reason: String) {
        tracing::warn!(reason, "a workspace is kept");
        let event = Event::OrderRefused { order: order.to_owned(), reason: reason.chars().take(2_000).collect() };
        self.record(Draft { permit: due.map(|due| due.permit.clone()), ..Draft::new(event) });
        self.report(&Report::Kept { order: order.to_owned(), reason });
    }
}
