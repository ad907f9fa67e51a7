//! Sessions whose cells wait for something that an errand brings: their workspace's disk, their system's image.

use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use sulku_audit::{CloseReason, Draft};
use sulku_permit::{Rung, SessionId, WorkspaceName};
use sulku_plan::filesystem::SystemImage;

use super::{Mode, Warden};
use crate::cell::{Cell, Commission, Site, workspace_uid};
use crate::errand::Readiness;
use crate::workspace::disk::{self, Wanted};

/// How long a session's cell waits. What is on its way comes nevertheless, and is there for the next one.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A session whose cell is not begun.
pub(super) struct Waiting {
    /// What its cell is to be, verified.
    pub(super) commission: Commission,
    /// What an entry about it begins with.
    pub(super) about: Draft,
    /// Since when it waits.
    pub(super) since: Instant,
}

/// Something that a cell may need, as a mount for it alone.
enum Provision {
    Needless,
    Underway,
    Here(OwnedFd),
}

impl Provision {
    fn mount(self) -> Option<OwnedFd> {
        if let Self::Here(mount) = self { Some(mount) } else { None }
    }
}

impl Warden {
    /// Begins the session's cell if all that it needs is there; if something is on its way, it waits.
    pub(super) fn begin(&mut self, session: SessionId) {
        let Some(waiting) = self.waiting.get(&session) else { return };
        let (name, bytes) = (waiting.commission.plan.workspace().clone(), waiting.commission.plan.disk_bytes());
        let image = waiting.commission.plan.image().cloned();
        // Both are asked for before either is waited for.
        let (disk, image) = (self.want_disk(&name, bytes), image.map_or(Ok(Provision::Needless), |image| self.want_image(&image)));
        match (disk, image) {
            (Err(reason), _) | (_, Err(reason)) => self.turn_away(session, reason),
            (Ok(Provision::Underway), _) | (_, Ok(Provision::Underway)) => {}
            (Ok(disk), Ok(image)) => self.build(session, disk.mount(), image.mount()),
        }
    }

    /// On rungs below root nobody mounts files: a workspace has its folder there, and the warden has said so.
    fn want_disk(&mut self, name: &WorkspaceName, bytes: Option<u64>) -> Result<Provision, String> {
        if self.ground.rung != Rung::Root {
            return Ok(Provision::Needless);
        }
        let Some(bytes) = bytes else {
            return match disk::is_there(&self.config.workspaces, name) {
                true => Err("the workspace has a disk and its permit names none; write `disk` into its [workspace]".to_owned()),
                false => Ok(Provision::Needless),
            };
        };
        let uid = workspace_uid(&self.config.workspaces, self.config.users, name).map_err(|failed| crate::chain(&failed))?;
        let wanted = Wanted { workspaces: &self.config.workspaces, name, bytes: Some(bytes), uid: Some(uid) };
        let words = |words: &dyn Display| format!("the disk of workspace {name} can't be used: {words}");
        match self.disks.want(&wanted) {
            Readiness::Ready => self.disks.mount_of(name).map(Provision::Here).map_err(|error| words(&error)),
            Readiness::Underway => Ok(Provision::Underway),
            Readiness::Failed(reason) => Err(words(&reason)),
        }
    }

    fn want_image(&mut self, image: &SystemImage) -> Result<Provision, String> {
        let words = |words: &dyn Display| format!("the image {} can't be used: {words}", image.name);
        if self.ground.rung != Rung::Root {
            return Err(words(&"only a warden that root started mounts images"));
        }
        match self.images.want(image) {
            Readiness::Ready => self.images.mount_of(&image.name).map(Provision::Here).map_err(|error| words(&error)),
            Readiness::Underway => Ok(Provision::Underway),
            Readiness::Failed(reason) => Err(words(&reason)),
        }
    }

    fn build(&mut self, session: SessionId, disk: Option<OwnedFd>, image: Option<OwnedFd>) {
        let Some(Waiting { commission, about, .. }) = self.waiting.remove(&session) else { return };
        let network = match self.ways.take() {
            Ok(network) => network,
            Err(error) => return self.refuse("launch", Some(session), Some(about), crate::chain(&error)),
        };
        let site = Site {
            ground: &self.ground,
            workspaces: &self.config.workspaces,
            users: self.config.users,
            owners: &mut self.owners,
            seats: &mut self.seats,
            disk,
            image,
        };
        let (mark, slot) = (self.next_mark, network.slot());
        self.next_mark = self.next_mark.checked_add(1).unwrap_or(1);
        match Cell::start(site, commission, network, mark) {
            Ok(cell) => self.cells.insert(session, cell),
            Err(failed) => {
                self.ways.forget(slot);
                self.refuse("launch", Some(session), Some(about), crate::chain(&failed));
            }
        }
    }

    /// The session has no cell, and gets none.
    pub(super) fn turn_away(&mut self, session: SessionId, reason: String) {
        if let Some(Waiting { about, .. }) = self.waiting.remove(&session) {
            self.refuse("launch", Some(session), Some(about), reason);
        }
    }

    /// Nobody hears what comes of these any more; the next gateway closes their sessions.
    pub(super) fn give_up_waiting(&mut self) {
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            self.note_unclosed(&waiting.commission.opening, 0, CloseReason::GatewayLost);
        }
    }

    /// What errands have brought, and what follows.
    pub(super) fn hear_errands(&mut self) {
        self.disks.take_in();
        self.images.take_in();
        self.go_on_with_disk();
        let sessions: Vec<_> = self.waiting.keys().copied().collect();
        sessions.into_iter().for_each(|session| self.begin(session));
        self.let_disks_go();
    }

    /// What time brings to those who wait, and to what nobody needs any more.
    pub(super) fn look_after_the_waiting(&mut self, now: Instant) {
        let closed = self.mode != Mode::Serving || self.rules.are_broken();
        let late = self.waiting.iter().filter(|(_, waiting)| closed || now.duration_since(waiting.since) > WAIT_MAX);
        for session in late.map(|(session, _)| *session).collect::<Vec<_>>() {
            let reason =
                if closed { "the warden takes no launches now" } else { "the workspace's disk or image is not ready yet; try again in a while" };
            self.turn_away(session, reason.to_owned());
        }
        self.let_disks_go();
        self.go_on_with_disk();
    }

    pub(super) fn let_disks_go(&mut self) {
        let Self { disks, cells, waiting, deletion, .. } = self;
        disks.let_go(|name| {
            cells.values().any(|cell| cell.plan.workspace() == name)
                || waiting.values().any(|waiting| waiting.commission.plan.workspace() == name)
                || deletion.as_ref().is_some_and(|deletion| deletion.holds_disk(name))
        });
    }
}
