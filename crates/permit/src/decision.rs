//! What a person may do at a time, and why: each reason with the line that gives it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;

use crate::admission::{Case, Request};
use crate::document::socket;
use crate::ids::HolderId;
use crate::model::{Assurance, Credential, Destination, Holder, HostName, NameCheck, Permit, Place, Port, Rung};
use crate::refusal::RefusalCode;
use crate::set::PermitSet;

/// What a workspace is pointed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(IpAddr),
    /// A host's name, which is resolved first.
    Name(HostName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name) => write!(f, "{name}"),
        }
    }
}

/// What a person does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Opens a session.
    Connect,
    /// Reaches an address or a host from the workspace.
    Reach(Target, Port),
    /// Reads a dataset in the workspace.
    Read(String),
}

impl FromStr for Action {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const HELP: &str = "write \"connect\", \"reach 10.20.30.40:443/tcp\", \"reach cran.r-project.org:443/tcp\" or \"read DATASET\"";
        match text.split_once(' ') {
            None if text == "connect" => Ok(Self::Connect),
            Some(("reach", to)) => socket(to).map(|(to, port)| Self::Reach(to, port)).ok_or(HELP),
            Some(("read", name)) if !name.trim().is_empty() => Ok(Self::Read(name.trim().to_owned())),
            _ => Err(HELP),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reach(Target::Address(to @ IpAddr::V6(_)), port) => write!(f, "reach [{to}]:{port}"),
            Self::Reach(to, port) => write!(f, "reach {to}:{port}"),
            Self::Read(name) => write!(f, "read {name}"),
        }
    }
}

/// Why something is denied. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// No session opens.
    Session(RefusalCode),
    /// The permit lists no such destination.
    EgressNotListed,
    /// The permit grants no such data.
    DatasetNotGranted,
}

impl Denial {
    /// The stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session(code) => code.as_str(),
            Self::EgressNotListed => "egress-not-listed",
            Self::DatasetNotGranted => "dataset-not-granted",
        }
    }
}

impl FromStr for Denial {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sessions = RefusalCode::ALL.iter().map(|code| Self::Session(*code));
        let mut all = sessions.chain([Self::EgressNotListed, Self::DatasetNotGranted]);
        all.find(|denial| denial.as_str() == text)
            .ok_or_else(|| "write a reason such as \"not-a-holder\", \"permit-expired\", \"outside-hours\" or \"egress-not-listed\"".to_owned())
    }
}

/// A question about a permit.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who.
    pub person: &'a HolderId,
    /// When.
    pub at: Timestamp,
    /// From where; else from the first network that the permit allows.
    pub from: Option<IpAddr>,
    /// Does what.
    pub action: &'a Action,
}

/// An answer, with every reason on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// `None`: allowed.
    pub denial: Option<Denial>,
    /// In order; only the last can be one that denies.
    pub reasons: Vec<Reason>,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What was looked at and found.
    pub what: String,
    /// The line that decides, if one does.
    pub at: Option<Place>,
}

/// Answers a question about a permit, for a person who comes with a good certificate of the strongest kind.
///
/// Uses the same steps as [`crate::admit`]: what is said here is what happens.
#[must_use]
pub fn decide(permits: &PermitSet, permit: &Permit, question: &Question<'_>) -> Decision {
    let mut decision = Decision { denial: None, reasons: Vec::new() };
    if let Some(halt) = permits.halt() {
        return decision.deny(Denial::Session(RefusalCode::Halted), format!("everything is halted: {}", halt.reason), Some(&halt.at));
    }
    let Some(holder) = permit.holder(question.person) else {
        let what = format!("{} is not listed in {}", question.person, permit.id);
        return decision.deny(Denial::Session(RefusalCode::NotAHolder), what, Some(&permit.at));
    };
    decision.reason(format!("{} ({}) is listed in {}", holder.id, holder.name, permit.id), Some(&holder.at));
    let credential = Credential { identities: vec![holder.identity.clone()], expires: Timestamp::MAX, assurance: Some(Assurance::High) };
    let from = question.from.or_else(|| permit.session.from_networks.first().map(first_host)).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let request = Request { credential: &credential, permit: Some(&permit.id), from, now: question.at, opened: None, rung: Some(Rung::Root) };
    let case = Case { permit, holder, request: &request };
    for step in case.steps() {
        if !step.holds {
            return decision.deny(Denial::Session(step.code), case.words(step.code), Some(step.at));
        }
        if let Some(what) = granted(step.code, permit, holder, from) {
            decision.reason(what, Some(step.at));
        }
    }
    match question.action {
        Action::Connect => decision,
        Action::Reach(to, port) => decision.reach(permit, to, *port, question.at),
        Action::Read(name) => match permit.datasets.iter().find(|dataset| dataset.name == *name) {
            Some(dataset) => decision.with(format!("{} is mounted read-only at {}", dataset.name, dataset.mounted_at.display()), &dataset.at),
            None => decision.deny(Denial::DatasetNotGranted, format!("no [[dataset]] of {} is called {name:?}", permit.id), None),
        },
    }
}

impl Decision {
    fn reason(&mut self, what: String, at: Option<&Place>) {
        self.reasons.push(Reason { what, at: at.cloned() });
    }

    fn with(mut self, what: String, at: &Place) -> Self {
        self.reason(what, Some(at));
        self
    }

    fn deny(mut self, denial: Denial, what: String, at: Option<&Place>) -> Self {
        self.reason(what, at);
        self.denial = Some(denial);
        self
    }

    fn reach(self, permit: &Permit, to: &Target, port: Port, at: Timestamp) -> Self {
        let found = match to {
            Target::Address(address) => permit.destination(*address, port),
            Target::Name(name) => permit.named(name, port),
        };
        let Some(destination) = found else {
            return self.deny(Denial::EgressNotListed, format!("no [[egress]] of {} lists {to} at {port}", permit.id), None);
        };
        if let Some(until) = destination.until.filter(|until| at >= *until) {
            return self.deny(Denial::EgressNotListed, format!("{:?} closed {until}", destination.name), Some(&destination.at));
        }
        let Destination { name, to: listed, reason, at: line, .. } = destination;
        match listed.names().map(|names| names.check) {
            Some(NameCheck::Closed) => self.deny(Denial::EgressNotListed, format!("{name:?} shuts {listed}: {reason}"), Some(line)),
            Some(check) => self.with(format!("{name:?} lists {listed} at {port}, {}: {reason}", check.name()), line),
            None => self.with(format!("{name:?} lists {listed} at {port}: {reason}"), line),
        }
    }
}

fn first_host(network: &IpNet) -> IpAddr {
    network.hosts().next().unwrap_or(network.addr())
}

/// What is said of a step that holds; those about the certificate and the host are not part of a permit's text.
fn granted(code: RefusalCode, permit: &Permit, holder: &Holder, from: IpAddr) -> Option<String> {
    Some(match code {
        RefusalCode::PermitRevoked => format!("its status is {}", permit.status.name()),
        RefusalCode::PermitNotYetValid => format!("it holds from {}", permit.validity.from),
        RefusalCode::PermitExpired => format!("until {}", permit.validity.until),
        RefusalCode::HolderExpired => format!("{}'s own time ends {}", holder.id, holder.until?),
        RefusalCode::RoleOpensNoSession => format!("{} is an analyst", holder.id),
        RefusalCode::OutsideHours => format!("the hours are {}", permit.session.hours.as_ref()?.words()),
        RefusalCode::SourceNotAllowed => format!("{from} is in a network that it allows"),
        _ => return None,
    })
}
