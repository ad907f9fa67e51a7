//! May this person open a session now? The answer is a value that the next step needs, or a reason.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use crate::ids::{HolderId, PermitId};
use crate::model::{Credential, Holder, Permit, Place, Role, Rung, Status};
use crate::refusal::{Refusal, RefusalCode};
use crate::set::PermitSet;

/// What a person asks for, and the facts that the answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What her verified certificate shows.
    pub credential: &'a Credential,
    /// The permit she names, if she names one.
    pub permit: Option<&'a PermitId>,
    /// Where she connects from.
    pub from: IpAddr,
    /// The time.
    pub now: Timestamp,
    /// When the session opened, if it is open already; else it would open now.
    pub opened: Option<Timestamp>,
    /// The isolation that its cell would have; `None` where no host is in question.
    pub rung: Option<Rung>,
}

/// A session may open, or stay open. Made by [`admit`] alone, used up by the plan.
#[derive(Debug)]
#[must_use = "an admission that is not turned into a session is a refusal that nobody recorded"]
pub struct Admission {
    permit: Arc<Permit>,
    holder: HolderId,
    ends: (Timestamp, EndCause),
}

/// What sets a session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndCause {
    /// The permit's own end.
    PermitEnd,
    /// The end of the person's part in it.
    HolderEnd,
    /// The end of her certificate.
    CertificateEnd,
    /// The hours that the permit allows.
    Hours,
    /// The longest session that the permit allows.
    LongestSession,
}

impl Admission {
    /// The permit that admits.
    #[must_use]
    pub fn permit(&self) -> &Arc<Permit> {
        &self.permit
    }

    /// The person admitted.
    #[must_use]
    pub fn holder(&self) -> &Holder {
        self.permit.holder(&self.holder).expect("admit took the id from this permit's list")
    }

    /// When the session ends at the latest: the earliest end among permit, person, certificate, hours and longest session.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.ends.0
    }

    /// Which of them that is.
    #[must_use]
    pub fn ends_because(&self) -> EndCause {
        self.ends.1
    }
}

/// Decides whether a session may open. Also asked again while one is open: the answer may have changed.
///
/// IA-01: only a natural person listed in a permit. SE-01: only within the permit's period.
///
/// # Errors
/// The reason, which is a normal outcome.
pub fn admit(permits: &PermitSet, request: &Request<'_>) -> Result<Admission, Refusal> {
    if let Some(halt) = permits.halt() {
        return Err(Refusal { at: Some(halt.at.clone()), ..Refusal::new(RefusalCode::Halted, format!("halted: {}", halt.reason)) });
    }
    let hers = permits.of(request.credential)?;
    let permit = choose(permits, &hers, request)?;
    let holder = permit.holder(hers.person).expect("the permit was chosen among those that list her");
    let case = Case { permit, holder, request };
    match case.steps().find(|step| !step.holds) {
        None => Ok(Admission { permit: Arc::clone(permit), holder: holder.id.clone(), ends: case.ends() }),
        Some(step) => Err(Refusal {
            holder: Some(holder.id.clone()),
            permit: Some(permit.id.clone()),
            at: Some(step.at.clone()),
            ..Refusal::new(step.code, case.words(step.code))
        }),
    }
}

/// The permit she names, or the only one in force that lists her.
fn choose<'a>(permits: &'a PermitSet, hers: &Hers<'a>, request: &Request<'_>) -> Result<&'a Arc<Permit>, Refusal> {
    let about = |refusal: Refusal| Refusal { holder: Some(hers.person.clone()), ..refusal };
    match request.permit {
        Some(id) => hers.permits.iter().copied().find(|permit| permit.id == *id).ok_or_else(|| {
            let reason = match permits.get(id) {
                Some(_) => format!("{} is not listed in {id}", hers.person),
                None => format!("there is no permit {id}"),
            };
            about(Refusal { permit: Some(id.clone()), ..Refusal::new(RefusalCode::NotAHolder, reason) })
        }),
        None => one_of(&hers.permits, request.now).map_err(about),
    }
}

/// The one person that a certificate stands for, and the permits that list her under it.
#[derive(Debug)]
pub(crate) struct Hers<'a> {
    pub(crate) person: &'a HolderId,
    pub(crate) permits: Vec<&'a Arc<Permit>>,
}

/// A holder who names no permit means the only one that is in force; of several she must choose.
fn one_of<'a>(hers: &[&'a Arc<Permit>], now: Timestamp) -> Result<&'a Arc<Permit>, Refusal> {
    let live = |permit: &&&Arc<Permit>| {
        let validity = &permit.validity;
        validity.from <= now && now < validity.until && !matches!(permit.status, Status::Revoked | Status::Expired)
    };
    let mut in_force = hers.iter().filter(live);
    match (in_force.next(), in_force.next(), hers) {
        (Some(only), None, _) | (None, None, [only]) => Ok(only),
        _ => {
            let choices = hers.iter().map(|permit| permit.id.clone()).collect();
            Err(Refusal { choices, ..Refusal::new(RefusalCode::ChooseAPermit, "holder of several permits, named none") })
        }
    }
}

/// One person's wish under one permit.
pub(crate) struct Case<'a> {
    pub(crate) permit: &'a Permit,
    pub(crate) holder: &'a Holder,
    pub(crate) request: &'a Request<'a>,
}

/// One thing that must hold, and the line that asks for it.
pub(crate) struct Step<'a> {
    pub(crate) code: RefusalCode,
    pub(crate) holds: bool,
    pub(crate) at: &'a Place,
}

impl<'a> Case<'a> {
    /// Everything that must hold, in the order in which a refusal is told.
    pub(crate) fn steps(&self) -> impl Iterator<Item = Step<'a>> + use<'a> {
        let Self { permit, holder, request } = *self;
        let Request { credential, now, from, rung, .. } = *request;
        let step = |code, holds, at: &'a Place| Step { code, holds, at };
        let validity = &permit.validity;
        let from = from.to_canonical();
        let suspended_at = permit.suspended.as_ref().map_or(&permit.at, |suspension| &suspension.at);
        let (revoked_at, revoked) = holder.revoked.as_ref().map_or((&holder.at, false), |(since, at)| (at, now >= *since));
        let assured = permit.minimum_assurance.as_ref().is_none_or(|(least, _)| credential.assurance.is_some_and(|given| given >= *least));
        let (least_rung, rung_at) = &permit.minimum_rung;
        let hours = permit.session.hours.as_ref();
        [
            step(RefusalCode::PermitRevoked, permit.status != Status::Revoked, &permit.status_at),
            step(RefusalCode::PermitSuspended, permit.suspended.is_none(), suspended_at),
            step(RefusalCode::PermitNotYetValid, now >= validity.from, &validity.from_at),
            step(RefusalCode::PermitExpired, now < validity.until && permit.status != Status::Expired, expired_at(permit)),
            step(RefusalCode::HolderRevoked, !revoked, revoked_at),
            step(RefusalCode::HolderNotYetValid, holder.from.is_none_or(|from| now >= from), &holder.at),
            step(RefusalCode::HolderExpired, holder.until.is_none_or(|until| now < until), &holder.at),
            step(RefusalCode::RoleOpensNoSession, holder.roles.contains(&Role::Analyst), &holder.roles_at),
            step(RefusalCode::CertificateExpired, now < credential.expires, &holder.at),
            step(RefusalCode::AssuranceTooLow, assured, permit.minimum_assurance.as_ref().map_or(&permit.at, |(_, at)| at)),
            step(RefusalCode::OutsideHours, hours.is_none_or(|hours| hours.are_open(now)), hours.map_or(&permit.at, |hours| &hours.at)),
            step(
                RefusalCode::SourceNotAllowed,
                permit.session.from_networks.iter().any(|network| network.contains(&from)),
                &permit.session.from_networks_at,
            ),
            step(RefusalCode::IsolationTooWeak, rung.is_none_or(|rung| rung >= *least_rung), rung_at.as_ref().unwrap_or(&permit.at)),
        ]
        .into_iter()
    }

    /// What is said of a step that does not hold.
    pub(crate) fn words(&self, code: RefusalCode) -> String {
        let Self { permit, holder, request } = *self;
        let person = &holder.id;
        match code {
            RefusalCode::PermitRevoked => "the permit's status is REVOKED".to_owned(),
            RefusalCode::PermitSuspended => format!("suspended: {}", permit.suspended.as_ref().map_or("", |suspension| &suspension.reason)),
            RefusalCode::PermitNotYetValid => format!("the permit begins {}", permit.validity.from),
            RefusalCode::PermitExpired if permit.status == Status::Expired => "the permit's status is EXPIRED".to_owned(),
            RefusalCode::PermitExpired => format!("the permit ended {}", permit.validity.until),
            RefusalCode::HolderRevoked => format!("{person}'s part was taken back"),
            RefusalCode::HolderNotYetValid => format!("{person}'s own period has not begun"),
            RefusalCode::HolderExpired => format!("{person}'s own period has ended"),
            RefusalCode::RoleOpensNoSession => format!("{person} is no analyst on this permit"),
            RefusalCode::CertificateExpired => format!("the certificate ended {}", request.credential.expires),
            RefusalCode::AssuranceTooLow => {
                let given = request.credential.assurance.map_or("none", crate::Assurance::name);
                format!("the certificate's authority gives {given}")
            }
            RefusalCode::OutsideHours => {
                format!("the hours are {}", permit.session.hours.as_ref().map(crate::Hours::words).unwrap_or_default())
            }
            RefusalCode::SourceNotAllowed => format!("{} is in none of the allowed networks", request.from.to_canonical()),
            RefusalCode::IsolationTooWeak => {
                format!("the host has {}, the permit asks for {}", request.rung.map_or("none", Rung::name), permit.minimum_rung.0.name())
            }
            other => other.as_str().to_owned(),
        }
    }

    /// The earliest end, and what sets it.
    fn ends(&self) -> (Timestamp, EndCause) {
        let Self { permit, holder, request } = *self;
        let longest = request.opened.unwrap_or(request.now).checked_add(permit.session.max_length).unwrap_or(Timestamp::MAX);
        let hours = permit.session.hours.as_ref().and_then(|hours| hours.close_after(request.now));
        let ends = [
            (Some(permit.validity.until), EndCause::PermitEnd),
            (holder.until, EndCause::HolderEnd),
            (holder.revoked.as_ref().map(|(since, _)| *since), EndCause::HolderEnd),
            (Some(request.credential.expires), EndCause::CertificateEnd),
            (hours, EndCause::Hours),
        ];
        let earliest = |first: (Timestamp, EndCause), (end, cause)| if end < first.0 { (end, cause) } else { first };
        ends.into_iter().filter_map(|(end, cause)| Some((end?, cause))).fold((longest, EndCause::LongestSession), earliest)
    }
}

fn expired_at(permit: &Permit) -> &Place {
    if permit.status == Status::Expired { &permit.status_at } else { &permit.validity.until_at }
}
