//! `[[test]]`: who does what when, and what must come of it.

use std::net::IpAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::measure;
use super::reader::{DayEdge, Reader};
use crate::decision::{Action, Denial, Target};
use crate::ids::HolderId;
use crate::model::{Place, Port};
use crate::shape::CaseTable;

/// A case that must come out as it says.
#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Who.
    pub person: HolderId,
    /// When.
    pub at: Timestamp,
    /// From where, if it says.
    pub from: Option<IpAddr>,
    /// Does what.
    pub action: Action,
    /// What must come of it.
    pub expected: Expected,
    /// Where the expectation stands.
    pub place: Place,
}

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// It is allowed.
    Allow,
    /// It is denied, for this reason.
    Deny(Denial),
}

impl Reader<'_> {
    pub(super) fn cases(&mut self, tables: Vec<CaseTable>, zone: Option<&TimeZone>) -> Vec<Case> {
        let cases: Vec<_> = self.bounded(tables).into_iter().filter_map(|table| self.case(table, zone)).collect();
        self.distinct(cases.iter().map(|case| (format!("{:?}", case.name), &case.place)), "is the name of a case already");
        cases
    }

    fn case(&mut self, table: CaseTable, zone: Option<&TimeZone>) -> Option<Case> {
        let CaseTable { name, person, at, from, does, expect } = table;
        let name = self.text(name);
        let person = self.id(&person);
        let moment = self.instant(&at, zone?, DayEdge::First);
        let from = match from {
            None => None,
            Some(from) => {
                let address = from.get().parse::<IpAddr>().map_err(|_| "write an address, as in \"192.0.2.7\"");
                Some(self.checked(from.span(), address, "this is no address")?)
            }
        };
        let action = self.checked(does.span(), does.get().parse::<Action>(), "this is nothing that a person does");
        let expected = match expect.get().split_once(' ') {
            None if expect.get() == "allow" => Ok(Expected::Allow),
            Some(("deny", code)) => code.parse().map(Expected::Deny),
            _ => Err("write \"allow\", or \"deny\" and a reason, as in \"deny permit-expired\"".to_owned()),
        };
        let expected = self.checked(expect.span(), expected, "this is no outcome");
        let place = self.at(&expect.span());
        Some(Case { name: name?, person: person?, at: moment?, from, action: action?, expected: expected?, place })
    }
}

/// A destination in a question, as in `10.20.30.40:443/tcp`, `[2001:db8::1]:443/tcp` or `cran.r-project.org:443/tcp`.
pub(crate) fn socket(text: &str) -> Option<(Target, Port)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") };
    let target = host.parse().map(Target::Address).or_else(|_| host.parse().map(Target::Name)).ok()?;
    Some((target, measure::port(&port).ok()?))
}
