//! A permit as the program knows it: everything checked, nothing optional that has a default.

mod image;
mod name;
mod person;
mod place;
mod reach;
mod terms;

use std::path::PathBuf;

use jiff::Timestamp;

pub use image::{Image, ImageDigest};
pub use name::{HostName, NameError, NamePattern};
pub use person::{Assurance, Credential, Holder, Identity, OutputChecker, Role};
pub use place::{Note, Place, Problem};
pub use reach::{Budget, Destination, NameCheck, Names, Period, Port, Protocol, Rate, Reach};
pub use terms::{Durability, Programs, Recording, Resources, Rung, SessionLimits, TerminalRecording};

use crate::ids::{HolderId, PermitId, WorkspaceName};

/// A data permit: names persons, data, purpose and period.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    /// Its diary number.
    pub id: PermitId,
    /// Which text of it this is, counted from 1.
    pub version: u32,
    /// What became of it.
    pub status: Status,
    /// The line that sets the status, or the permit's own.
    pub status_at: Place,
    /// The permit that this one amends or renews.
    pub replaces: Option<PermitId>,
    /// Why it does not admit anybody for now, if so.
    pub suspended: Option<Suspension>,
    /// Its title.
    pub title: String,
    /// What the data may be used for.
    pub purpose: String,
    /// The health data access body that issued it.
    pub issuer: String,
    /// Who answers for the processing, and where to reach them.
    pub controller: Controller,
    /// From when until when it holds.
    pub validity: Validity,
    /// The persons it lists; never empty.
    pub holders: Vec<Holder>,
    /// Who decides on what leaves; never a holder.
    pub output_checkers: Vec<OutputChecker>,
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
    /// Whole days, counted from the permit's end, after which the workspace may be deleted.
    pub workspace_retention_days: u32,
    /// The weakest isolation that its cells may have, and the line that says so, if one does.
    pub minimum_rung: (Rung, Option<Place>),
    /// The least assurance of a holder's certificate, and the line that says so.
    pub minimum_assurance: Option<(Assurance, Place)>,
    /// Where it was read from; the line is that of its id.
    pub at: Place,
}

impl Permit {
    /// The person of that id, if the permit lists her.
    #[must_use]
    pub fn holder(&self, id: &HolderId) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.id == *id)
    }

    /// The destination that lists this address at this port, whether or not it has closed.
    #[must_use]
    pub fn destination(&self, to: std::net::IpAddr, port: Port) -> Option<&Destination> {
        self.egress.iter().find(|destination| destination.lists(to, port))
    }

    /// The destination that decides on this name at this port, whether or not it has closed: one that shuts the name, else one that
    /// opens it there.
    #[must_use]
    pub fn named(&self, name: &HostName, port: Port) -> Option<&Destination> {
        let meaning = || self.egress.iter().filter_map(|destination| Some((destination.means(name)?, destination)));
        let shut = meaning().find(|(names, _)| names.check == NameCheck::Closed);
        shut.or_else(|| meaning().find(|(_, destination)| destination.ports.contains(&port))).map(|(_, destination)| destination)
    }

    /// Whether it lists any host by name.
    #[must_use]
    pub fn lists_names(&self) -> bool {
        self.egress.iter().any(|destination| destination.to.names().is_some())
    }

    /// Whether it has ended by then: by its dates, or because it was taken back or declared ended.
    #[must_use]
    pub fn ended_by(&self, now: Timestamp) -> bool {
        now >= self.validity.until || matches!(self.status, Status::Revoked | Status::Expired)
    }
}

/// What became of a permit, by its issuer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was granted.
    Granted,
    /// It amends another, which it replaces.
    Amended,
    /// It renews another, which it replaces.
    Renewed,
    /// It was taken back, for ever.
    Revoked,
    /// It has ended, whatever its dates say.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Granted, Self::Amended, Self::Renewed, Self::Revoked, Self::Expired];

    /// As permits write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Granted => "GRANTED",
            Self::Amended => "AMENDED",
            Self::Renewed => "RENEWED",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }
}

/// A permit that admits nobody for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Why.
    pub reason: String,
    /// The line that says so.
    pub at: Place,
}

/// Everything stands still: nobody is admitted under any permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Why.
    pub reason: String,
    /// The line that says so.
    pub at: Place,
}

/// Who answers for the processing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// The organisation's name.
    pub name: String,
    /// Where it is reached: a mail address, a telephone number; never empty.
    pub contacts: Vec<String>,
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
    /// Its system, if the permit names one; else the host's own programs.
    pub image: Option<Image>,
    /// Which programs run in it.
    pub programs: Programs,
    /// The bytes of the disk of its own; without one it shares the host's.
    pub disk_bytes: Option<u64>,
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
    /// A file of SHA-256 sums of what the folder holds, as `sha256sum` writes it.
    pub manifest: Option<PathBuf>,
    /// About how many persons the data are about, for notices of a breach.
    pub persons: Option<u64>,
    /// About how many records it has.
    pub records: Option<u64>,
    /// Where it is granted.
    pub at: Place,
}
