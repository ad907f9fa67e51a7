//! All that a waiting process is told to become a cell: the plan's part of it, whose it is, and what runs there.

use std::ffi::CString;

use serde::{Deserialize, Serialize};
use sulku_audit::Opening;
use sulku_permit::{HolderId, PermitId, SessionId, WorkspaceName};
use sulku_plan::filesystem::{LandlockRule, Mount, PATH, Programmes, WORKSPACE};
use sulku_plan::order::TerminalSize;
use sulku_plan::{Limits, Plan};

/// All that a waiting process is told to become a cell.
#[derive(Debug, Serialize, Deserialize)]
pub struct Blueprint {
    permit: PermitId,
    person: HolderId,
    session: SessionId,
    command: Option<Vec<String>>,
    /// The workspace; also the cell's host name.
    pub workspace: WorkspaceName,
    /// What its file system is made of, in the order in which it is made.
    pub mounts: Vec<Mount>,
    /// What Landlock leaves open.
    pub landlock: Vec<LandlockRule>,
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
        Self {
            permit: plan.permit().clone(),
            person: opening.person().clone(),
            session: opening.session(),
            command: opening.command().map(<[String]>::to_vec),
            workspace: plan.workspace().clone(),
            mounts: plan.mounts().to_vec(),
            landlock: plan.landlock().to_vec(),
            programmes: plan.programmes(),
            limits: *plan.limits(),
            term,
            size,
            uid,
        }
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

/// The texts as the kernel takes them; `None` if one has a NUL in it.
#[must_use]
pub fn c_strings(texts: impl IntoIterator<Item = String>) -> Option<Vec<CString>> {
    texts.into_iter().map(|text| CString::new(text).ok()).collect()
}
