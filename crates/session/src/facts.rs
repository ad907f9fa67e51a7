//! What is true of a session from its beginning to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::{CloseReason, Draft, Event};
use sulku_permit::{Admission, HolderId, Permit, PermitId, SessionId};
use sulku_plan::Plan;

/// What the holder asked for, and how she came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Where she is.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
    /// Her client's name and version.
    pub client: String,
    /// The command, if not a shell.
    pub command: Option<Vec<String>>,
    /// The terminal's kind.
    pub term: String,
    /// The terminal's columns and rows.
    pub size: (u16, u16),
    /// Whether her client can find the session again when the connection is lost.
    pub stays: bool,
    /// The certificate that she proved herself with and those that came with it, each DER in base 64, where they are not too long to be kept.
    pub certificates: Option<Vec<String>>,
}

/// What is true of a session from its beginning to its end. Made from an [`Admission`], which it uses up.
#[derive(Debug)]
pub struct Facts {
    id: SessionId,
    permit: Arc<Permit>,
    holder: HolderId,
    identity: String,
    at: String,
    /// As the opening entry says, and why.
    ends: (Timestamp, CloseReason),
    /// The end as it stands, where that is earlier.
    sooner: Option<(Timestamp, CloseReason)>,
    plan: String,
    rung: String,
    policy: String,
    asked: Asked,
    adopted: Option<Adopted>,
}

/// What is true of a session that another gateway opened and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adopted {
    /// The number of its opening entry.
    pub opening: u64,
    /// When it ends at the latest, as that says.
    pub ends: Timestamp,
    /// The part of its recording that begins now: 1 for the second gateway that has it.
    pub part: u32,
}

impl Facts {
    /// The facts of the session that this admission opens, in a cell of this plan, on this rung, by this revision of the policy.
    #[must_use]
    pub fn new(id: SessionId, admission: Admission, plan: &Plan, (rung, policy): (&str, &str), asked: Asked) -> Self {
        let holder = admission.holder();
        Self {
            id,
            holder: holder.id.clone(),
            identity: holder.identity.to_string(),
            at: holder.at.to_string(),
            ends: (admission.ends(), CloseReason::of_end(admission.ends_because())),
            sooner: None,
            plan: plan.digest().to_string(),
            rung: rung.to_owned(),
            policy: policy.to_owned(),
            permit: Arc::clone(admission.permit()),
            asked,
            adopted: None,
        }
    }

    /// The same of a session that another gateway opened: it ends no later than it was to then.
    #[must_use]
    pub fn adopted(mut self, adopted: Adopted) -> Self {
        self.ends.0 = self.ends.0.min(adopted.ends);
        self.adopted = Some(adopted);
        self
    }

    /// The part of the session's recording that this gateway makes, from 0.
    pub(crate) fn part(&self) -> u32 {
        self.adopted.map_or(0, |adopted| adopted.part)
    }

    /// The session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The permit.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The permit's id.
    #[must_use]
    pub fn permit_id(&self) -> &PermitId {
        &self.permit.id
    }

    /// The holder.
    #[must_use]
    pub fn holder(&self) -> &HolderId {
        &self.holder
    }

    /// The identity that admitted her, as the permit writes it.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// When the session ends at the latest, as its opening entry says.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.ends.0
    }

    /// When it ends as things stand now, and why.
    pub(crate) fn until(&self) -> (Timestamp, CloseReason) {
        self.sooner.unwrap_or(self.ends)
    }

    /// Lets the session end then: earlier than its opening entry says, or as that says, never later.
    pub(crate) fn end_at(&mut self, at: Timestamp, reason: CloseReason) {
        self.sooner = (at < self.ends.0).then_some((at, reason));
    }

    /// For how long it stays open without a connection; `None`: it ends with it.
    #[must_use]
    pub fn stays(&self) -> Option<Duration> {
        self.permit.session.max_detached.filter(|_| self.asked.stays)
    }

    /// What the holder asked for.
    #[must_use]
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Something that happened in this session, ready for the ledger.
    pub(crate) fn draft(&self, event: Event) -> Draft {
        Draft { permit: Some(self.permit.id.clone()), session: Some(self.id), person: Some(self.holder.clone()), event }
    }

    /// The entry by which this gateway has a session of another's.
    pub(crate) fn adoption(&self, now: Timestamp) -> Draft {
        let until = now.checked_add(self.stays().unwrap_or_default()).unwrap_or(Timestamp::MAX).min(self.until().0);
        let opening = self.adopted.map_or(0, |adopted| adopted.opening);
        self.draft(Event::SessionAdopted { opening, part: self.part(), policy: self.policy.clone(), until })
    }

    /// The opening entry.
    pub(crate) fn opening(&self) -> Draft {
        self.draft(Event::SessionOpened {
            transport: self.asked.transport.to_owned(),
            at: self.at.clone(),
            ends: self.ends.0,
            plan: self.plan.clone(),
            rung: self.rung.clone(),
            policy: self.policy.clone(),
            stays_s: self.stays().map(|stays| stays.as_secs()),
            from: self.asked.from.into(),
            identity: self.identity.clone().into(),
            command: self.asked.command.clone().into(),
            client: self.asked.client.clone().into(),
            certificates: self.asked.certificates.clone().into(),
        })
    }
}
