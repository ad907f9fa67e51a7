//! A permit as the program knows it: everything checked, nothing optional that has a default.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{HolderId, PermitId, WorkspaceName};

/// A line of a permit's file: what a decision is founded on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One thing wrong with a permit: where, what, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File and line.
    pub at: Place,
    /// The column, counted from 1 in characters.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.at, self.column, self.what, self.help)
    }
}

impl std::error::Error for Problem {}

/// A data permit: names persons, data, purpose and period.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    /// Its diary number.
    pub id: PermitId,
    /// Its title.
    pub title: String,
    /// What the data may be used for.
    pub purpose: String,
    /// The health data access body that issued it.
    pub issuer: String,
    /// From when until when it holds.
    pub validity: Validity,
    /// The persons it lists; never empty.
    pub holders: Vec<Holder>,
    /// The environment it grants.
    pub workspace: Workspace,
    /// The data it grants.
    pub datasets: Vec<Dataset>,
    /// What the workspace may reach; all else is dropped.
    pub egress: Vec<Destination>,
    /// How long, how many, from where.
    pub session: SessionLimits,
    /// What a session may use up.
    pub resources: Resources,
    /// What is recorded.
    pub recording: Recording,
    /// Where it was read from; the line is that of its id.
    pub at: Place,
}

impl Permit {
    /// The person of that id, if the permit lists her.
    #[must_use]
    pub fn holder(&self, id: &HolderId) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.id == *id)
    }
}

/// A half-open period: `from` is inside it, `until` is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validity {
    /// First instant inside.
    pub from: Timestamp,
    /// First instant after.
    pub until: Timestamp,
    /// The line that sets `from`.
    pub from_at: Place,
    /// The line that sets `until`.
    pub until_at: Place,
}

/// The isolated environment of one permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its name; one permit, one workspace.
    pub name: WorkspaceName,
    /// Where it is named.
    pub at: Place,
}

/// Data that the permit grants, mounted read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Its folder on the host.
    pub path: PathBuf,
    /// Where the workspace sees it, below `/data`.
    pub mounted_at: PathBuf,
    /// Where it is granted.
    pub at: Place,
}
