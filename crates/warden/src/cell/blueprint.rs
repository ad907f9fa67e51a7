//! All that a waiting process is told to become a cell: the plan's part of it, whose it is, and what runs there.

use std::ffi::CString;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use sulku_audit::Opening;
use sulku_permit::{HolderId, PermitId, SessionId, WorkspaceName};
use sulku_plan::filesystem::{Common, LandlockRule, Mount, PATH, Programmes, WORKSPACE};
use sulku_plan::order::TerminalSize;
use sulku_plan::{Limits, Plan};

/// What most plans have, which a waiting process makes ahead.
pub(super) static COMMON: LazyLock<Common> = LazyLock::new(Common::of_plans);

/// All that a waiting process is told to become a cell.
#[derive(Debug, Serialize, Deserialize)]
pub struct Blueprint {
    permit: PermitId,
    person: HolderId,
    session: SessionId,
    command: Option<Vec<String>>,
    /// The workspace; also the cell's host name.
    pub workspace: WorkspaceName,
    /// Whether it has all of [`COMMON`].
    has_common: bool,
    /// What else its file system is made of, in the order in which it is made.
    mounts: Vec<Mount>,
    /// What else Landlock leaves open.
    landlock: Vec<LandlockRule>,
    /// Whether it runs what is written in it.
    pub programmes: Programmes,
    /// What it may use up.
    pub limits: Limits,
    /// The terminal's kind.
    pub term: String,
    /// The terminal's size.
    pub size: TerminalSize,
    /// The workspace's user id on the host.
    pub uid: u32,
}

impl Blueprint {
    /// Of a session's cell, whose workspace has this user id on the host.
    #[must_use]
    pub fn new(plan: &Plan, opening: &Opening, term: String, size: TerminalSize, uid: u32) -> Self {
        let (mounts, landlock) = (beyond(&COMMON.mounts, plan.mounts()), beyond(&COMMON.landlock, plan.landlock()));
        let has_common = mounts.is_some() && landlock.is_some();
        let (mounts, landlock) = mounts.zip(landlock).unwrap_or_else(|| (plan.mounts().to_vec(), plan.landlock().to_vec()));
        Self {
            has_common,
            mounts,
            landlock,
            permit: plan.permit().clone(),
            person: opening.person().clone(),
            session: opening.session(),
            command: opening.command().map(<[String]>::to_vec),
            workspace: plan.workspace().clone(),
            programmes: plan.programmes(),
            limits: *plan.limits(),
            term,
            size,
            uid,
        }
    }

    /// Whether it has all of [`COMMON`].
    #[must_use]
    pub const fn has_common(&self) -> bool {
        self.has_common
    }

    /// What its file system is made of beyond that.
    #[must_use]
    pub fn own_mounts(&self) -> &[Mount] {
        &self.mounts
    }

    /// What Landlock leaves open beyond that.
    #[must_use]
    pub fn own_landlock(&self) -> &[LandlockRule] {
        &self.landlock
    }

    /// All that its file system is made of, in the order in which it is made.
    #[must_use]
    pub fn all_mounts(&self) -> Vec<&Mount> {
        self.common().map_or(&[][..], |common| &common.mounts).iter().chain(&self.mounts).collect()
    }

    /// All that Landlock leaves open.
    pub fn all_landlock(&self) -> impl Iterator<Item = &LandlockRule> {
        self.common().map_or(&[][..], |common| &common.landlock).iter().chain(&self.landlock)
    }

    fn common(&self) -> Option<&'static Common> {
        self.has_common.then_some(&*COMMON)
    }

    /// Whether its system is an image, a mount of which comes with the blueprint.
    #[must_use]
    pub fn has_image(&self) -> bool {
        self.mounts.iter().any(|mount| matches!(mount, Mount::Image { .. }))
    }

    /// Whose session it is.
    #[must_use]
    pub const fn person(&self) -> &HolderId {
        &self.person
    }

    /// The command's words, or those of the shell if there is none.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.command.clone().unwrap_or_else(|| vec!["/bin/bash".to_owned(), "-l".to_owned()])
    }

    /// Nothing of the warden's environment; what a login has, and which session this is. `None` if something in it can't be a variable.
    #[must_use]
    pub fn environment(&self) -> Option<Vec<CString>> {
        let pairs = [
            ("TERM", self.term.clone()),
            ("HOME", WORKSPACE.to_owned()),
            ("PATH", PATH.to_owned()),
            ("SHELL", "/bin/bash".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("USER", self.person.to_string()),
            ("LOGNAME", self.person.to_string()),
            ("SULKU_PERMIT", self.permit.to_string()),
            ("SULKU_SESSION", self.session.to_string()),
        ];
        c_strings(pairs.into_iter().map(|(key, value)| format!("{key}={value}")))
    }
}

/// What a plan has beyond this; `None` if it does not have all of this.
fn beyond<T: PartialEq + Clone>(common: &[T], all: &[T]) -> Option<Vec<T>> {
    common.iter().all(|one| all.contains(one)).then(|| all.iter().filter(|one| !common.contains(one)).cloned().collect())
}

/// The texts as the kernel takes them; `None` if one has a NUL in it.
#[must_use]
pub fn c_strings(texts: impl IntoIterator<Item = String>) -> Option<Vec<CString>> {
    texts.into_iter().map(|text| CString::new(text).ok()).collect()
}
