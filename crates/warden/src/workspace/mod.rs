//! What is left of workspaces whose permits have ended: which there are, which may be destroyed, and the destroying.
//!
//! A workspace is sealed by its permit's end, since no session is admitted any more; it is destroyed by an operator's order alone, not before
//! the permit's retention is over. Two entries frame it, so that one that was interrupted is seen, and finished by repeating the order.

pub mod disk;
pub mod walk;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use sulku_permit::{Permit, PermitId, PermitSet, Status, WorkspaceName};
use sulku_plan::order::{WorkspaceRow, WorkspaceState};

use crate::ledger::Pending;
use walk::{Deed, Found, Walk};

/// Entries of the walk that are dealt with in one turn of the warden's loop: a millisecond or two.
pub const ENTRIES_A_TURN: usize = 256;

/// Why a workspace is not destroyed.
#[derive(Debug, thiserror::Error)]
pub enum KeptBecause {
    /// Neither a permit's id nor a workspace's name.
    #[error("no permit here is or has {0}; its file must be there until its workspace is gone")]
    Unknown(String),
    /// The permit may admit somebody yet.
    #[error("permit {permit} is in force until {until}")]
    InForce {
        /// Which.
        permit: PermitId,
        /// Until when.
        until: Timestamp,
    },
    /// An operator's words that are no name.
    #[error("that is no name of a permit or a workspace")]
    NoName,
    /// The permit's retention is not over.
    #[error("permit {permit} keeps its workspace until {until}")]
    Retained {
        /// Which.
        permit: PermitId,
        /// Until when.
        until: Timestamp,
    },
    /// A session is in it.
    #[error("a session is open in it")]
    InUse,
    /// One is destroyed at a time.
    #[error("workspace {0} is being destroyed; try again when it is gone")]
    Busy(WorkspaceName),
    /// There is nothing to destroy.
    #[error("there is no workspace {0} on this host")]
    Gone(WorkspaceName),
    /// The folder is not one to walk through.
    #[error("its folder can't be walked through")]
    Folder(#[from] io::Error),
}

/// A workspace that may be destroyed, by its permit.
#[derive(Debug, Clone)]
pub struct Due {
    /// The permit.
    pub permit: PermitId,
    /// The workspace.
    pub workspace: WorkspaceName,
    /// When the permit ended.
    pub ended: Timestamp,
}

/// The permit of that id, or with a workspace of that name, if its workspace may be destroyed now.
///
/// # Errors
/// Why it may not.
pub fn due(permits: &PermitSet, named: &str, now: Timestamp) -> Result<Due, KeptBecause> {
    let is_named = |permit: &&std::sync::Arc<Permit>| permit.id.as_str() == named || permit.workspace.name.as_str() == named;
    let workspace =
        permits.iter().find(is_named).map(|permit| permit.workspace.name.clone()).ok_or_else(|| KeptBecause::Unknown(named.to_owned()))?;
    // A permit that was renewed leaves its workspace to the new one: all must have ended.
    let all = permits.iter().filter(|permit| permit.workspace.name == workspace);
    let mut last: Option<Due> = None;
    for permit in all {
        if in_force(permit, now) {
            return Err(KeptBecause::InForce { permit: permit.id.clone(), until: permit.validity.until });
        }
        let until = kept_until(permit);
        if now < until {
            return Err(KeptBecause::Retained { permit: permit.id.clone(), until });
        }
        if last.as_ref().is_none_or(|last| last.ended < permit.validity.until) {
            last = Some(Due { permit: permit.id.clone(), workspace: workspace.clone(), ended: permit.validity.until });
        }
    }
    last.ok_or_else(|| KeptBecause::Unknown(named.to_owned()))
}

/// A suspended permit is in force, though it admits nobody: it may go on. So is one that has not begun.
fn in_force(permit: &Permit, now: Timestamp) -> bool {
    now < permit.validity.until && !matches!(permit.status, Status::Revoked | Status::Expired)
}

/// Counted from the end that the permit names, also where it was revoked before: its file does not say when.
fn kept_until(permit: &Permit) -> Timestamp {
    let retention = SignedDuration::from_hours(24 * i64::from(permit.workspace_retention_days));
    permit.validity.until.checked_add(retention).unwrap_or(Timestamp::MAX)
}

/// The workspaces that there are on this host, those first that somebody has to do something about; at most so many, and how many there are.
#[must_use]
pub fn rows(
    permits: &PermitSet,
    workspaces: &Path,
    in_use: impl Fn(&WorkspaceName) -> bool,
    now: Timestamp,
    most: usize,
) -> (Vec<WorkspaceRow>, u64) {
    let mut rows: Vec<_> = permits
        .iter()
        .filter(|permit| workspaces.join(permit.workspace.name.as_str()).symlink_metadata().is_ok_and(|found| found.is_dir()))
        .map(|permit| {
            let state = match (in_use(&permit.workspace.name), in_force(permit, now)) {
                (true, _) => WorkspaceState::InUse,
                (false, true) => WorkspaceState::Open,
                (false, false) if now < kept_until(permit) => WorkspaceState::Sealed,
                (false, false) => WorkspaceState::Due,
            };
            WorkspaceRow {
                workspace: permit.workspace.name.to_string(),
                permit: permit.id.clone(),
                state,
                ends: permit.validity.until,
                kept_until: kept_until(permit),
            }
        })
        .collect();
    rows.sort_by(|one, other| (one.state, &one.workspace, one.ends).cmp(&(other.state, &other.workspace, other.ends)));
    let all = rows.len() as u64;
    rows.truncate(most);
    (rows, all)
}

/// How far the destroying is.
#[derive(Debug)]
enum Stage {
    /// Its disk is on its way.
    AwaitingDisk,
    /// What there is, is counted.
    Surveying(Walk),
    /// The entry that it begins is on its way to the ledger.
    Announced(Option<Pending>, Found),
    /// Its disk, of which nothing may be used any more, is on its way out.
    LettingGo(Found),
    /// It is removed.
    Removing(Walk, Found),
    /// All is removed; the certificate is on its way to the ledger.
    Certified(Option<Pending>, Found),
}

/// A workspace that is being destroyed.
#[derive(Debug)]
pub struct Deletion {
    /// Which, and under which permit.
    pub due: Due,
    parent: OwnedFd,
    keeps: Keeps,
    stage: Stage,
}

/// Where a workspace's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    Folder,
    Disk,
}

/// What the destroying needs next.
#[derive(Debug)]
pub enum Need {
    /// More turns.
    Turns,
    /// To wait for the ledger.
    Patience,
    /// The entry that it begins, durable.
    Announcement(Found),
    /// The certificate, durable.
    Certificate(Found),
}

impl Deletion {
    /// Begins with looking at what there is.
    ///
    /// # Errors
    /// There is nothing, or it is no folder.
    pub fn begin(due: Due, workspaces: &Path) -> Result<Self, KeptBecause> {
        let parent = openat(CWD, workspaces, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from)?;
        let folder = match walk::open_folder(parent.as_fd(), due.workspace.as_str()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(KeptBecause::Gone(due.workspace)),
            folder => folder?,
        };
        let (keeps, stage) = if disk::is_there(workspaces, &due.workspace) {
            (Keeps::Disk, Stage::AwaitingDisk)
        } else {
            (Keeps::Folder, Stage::Surveying(Walk::through(folder, Deed::Survey)?))
        };
        Ok(Self { due, parent, keeps, stage })
    }

    /// Whether it needs the workspace's disk mounted before it goes on.
    #[must_use]
    pub const fn awaits_disk(&self) -> bool {
        matches!(self.stage, Stage::AwaitingDisk)
    }

    /// Goes on with the disk that it awaits.
    ///
    /// # Errors
    /// It can't be walked through.
    pub fn survey(&mut self, mount: &OwnedFd) -> io::Result<()> {
        let root = openat(mount, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        self.stage = Stage::Surveying(Walk::through(root, Deed::Survey)?);
        Ok(())
    }

    /// Whether it uses this workspace's disk.
    #[must_use]
    pub fn holds_disk(&self, name: &WorkspaceName) -> bool {
        let counts = matches!(self.stage, Stage::AwaitingDisk | Stage::Surveying(_) | Stage::Announced(..));
        counts && self.keeps == Keeps::Disk && self.due.workspace == *name
    }

    /// Whether it goes on once nothing holds the disk any more.
    #[must_use]
    pub const fn awaits_release(&self) -> bool {
        matches!(self.stage, Stage::LettingGo(_))
    }

    /// Nothing holds the disk any more: removes it, whole.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn remove_disk(&mut self) -> io::Result<()> {
        if let Stage::LettingGo(found) = &self.stage {
            disk::remove(&self.parent, &self.due.workspace)?;
            self.stage = Self::removing(&self.parent, &self.due, found.clone())?;
        }
        Ok(())
    }

    fn removing(parent: &OwnedFd, due: &Due, found: Found) -> io::Result<Stage> {
        let folder = walk::open_folder(parent.as_fd(), due.workspace.as_str())?;
        Ok(Stage::Removing(Walk::through(folder, Deed::Remove)?, found))
    }

    /// Whether turns of the loop carry it on.
    #[must_use]
    pub const fn is_walking(&self) -> bool {
        matches!(self.stage, Stage::Surveying(_) | Stage::Removing(..))
    }

    /// One turn.
    ///
    /// # Errors
    /// Something can't be read or removed; what is left stays, and repeating the order goes on with it.
    pub fn turn(&mut self) -> io::Result<Need> {
        match &mut self.stage {
            Stage::Surveying(walk) => Ok(walk.step(ENTRIES_A_TURN)?.map_or(Need::Turns, |found| {
                self.stage = Stage::Announced(None, found.clone());
                Need::Announcement(found)
            })),
            Stage::Removing(walk, found) => {
                if walk.step(ENTRIES_A_TURN)?.is_none() {
                    return Ok(Need::Turns);
                }
                let found = found.clone();
                rustix::fs::fsync(&self.parent)?;
                self.stage = Stage::Certified(None, found.clone());
                Ok(Need::Certificate(found))
            }
            Stage::AwaitingDisk | Stage::Announced(..) | Stage::LettingGo(_) | Stage::Certified(..) => Ok(Need::Patience),
        }
    }

    /// What it waits for from the ledger.
    pub fn awaits(&mut self, pending: Pending) {
        if let Stage::Announced(waits, _) | Stage::Certified(waits, _) = &mut self.stage {
            *waits = Some(pending);
        }
    }

    /// The ledger has kept something. `Some` when that was the certificate: it is done.
    ///
    /// # Errors
    /// The folder can't be walked through any more.
    pub fn kept(&mut self, pending: Pending) -> io::Result<Option<Found>> {
        match &self.stage {
            Stage::Announced(Some(waits), found) if *waits == pending => {
                self.stage = match self.keeps {
                    Keeps::Disk => Stage::LettingGo(found.clone()),
                    Keeps::Folder => Self::removing(&self.parent, &self.due, found.clone())?,
                };
                Ok(None)
            }
            Stage::Certified(Some(waits), found) if *waits == pending => {
                disk::remove_attempt(&self.parent, &self.due.workspace)?;
                // The empty folder goes last: while it is there, an order that was interrupted can be repeated.
                unlinkat(&self.parent, self.due.workspace.as_str(), AtFlags::REMOVEDIR)?;
                Ok(Some(found.clone()))
            }
            _ => Ok(None),
        }
    }
}
