//! May this person open a session now? The answer is a value that the next step needs, or a reason.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{HolderId, PermitId};
use crate::model::{Credential, Holder, Permit, Place};
use crate::set::PermitSet;

/// What a person asks for, and the facts that the answer depends on.
#[derive(Debug)]
pub struct Request<'a> {
    /// What her verified certificate shows.
    pub credential: &'a Credential,
    /// The permit she names, if she names one.
    pub permit: Option<&'a PermitId>,
    /// Where she connects from.
    pub from: IpAddr,
    /// The time.
    pub now: Timestamp,
}

/// A session may open. Made by [`admit`] alone, used up by the plan.
#[derive(Debug)]
#[must_use = "an admission that is not turned into a session is a refusal that nobody recorded"]
pub struct Admission {
    permit: Arc<Permit>,
    holder: HolderId,
    ends: Timestamp,
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

    /// When the session ends at the latest: the earliest end among permit, person, certificate and longest session.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.ends
    }
}

/// Why a session may not open: a code for the peer, a reason for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Refusal {
    /// What the peer is told.
    pub code: RefusalCode,
    /// The permits that a holder of several may choose from; only with [`RefusalCode::ChooseAPermit`].
    pub choices: Vec<PermitId>,
    /// The person, if the certificate stands for one.
    pub holder: Option<HolderId>,
    /// The permit in question, if one is.
    pub permit: Option<PermitId>,
    /// What the operator and the ledger are told.
    pub reason: String,
    /// The line that decided, if one did.
    pub at: Option<Place>,
}

impl Refusal {
    /// A refusal that no permit's line decided.
    pub fn new(code: RefusalCode, reason: impl Into<String>) -> Self {
        Self { code, choices: Vec::new(), holder: None, permit: None, reason: reason.into(), at: None }
    }
}

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $advice:literal)*) => {
        /// Every reason for which a session is refused. The names are stable: they stand in entries, tests and messages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum RefusalCode {
            $($(#[$doc])* #[serde(rename = $code)] $name,)*
        }

        impl RefusalCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The stable name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// What the refused person should do, without anything of the inside.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

refusal_codes! {
    /// No certificate came.
    CertificateMissing "certificate-missing" "present the certificate that you were given (sulku connect --profile FILE)"
    /// The certificate's time has passed or not yet come.
    CertificateExpired "certificate-expired" "renew your certificate with the body that issued it"
    /// A CRL lists the certificate.
    CertificateRevoked "certificate-revoked" "your certificate was withdrawn; ask the environment's operator for a new one"
    /// No configured authority issued the certificate.
    CertificateUnknownIssuer "certificate-unknown-issuer" "use the certificate that this environment's authority gave you"
    /// The certificate is malformed, or not one for a client.
    CertificateInvalid "certificate-invalid" "use the client certificate that you were given, unchanged"
    /// No permit lists the person.
    NotAHolder "not-a-holder" "no permit here lists you; ask the permit's contact person"
    /// The certificate's identities stand for more than one person.
    AmbiguousIdentity "ambiguous-identity" "your certificate stands for more than one person; ask the environment's operator"
    /// She holds several permits and named none.
    ChooseAPermit "choose-a-permit" "name the permit: sulku connect PERMIT"
    /// The permit's period has not begun.
    PermitNotYetValid "permit-not-yet-valid" "the permit's period has not begun"
    /// The permit's period has ended.
    PermitExpired "permit-expired" "the permit has ended; apply for an extension with its issuer"
    /// The person's own period has ended.
    HolderExpired "holder-expired" "your own time on this permit has ended; ask the permit's contact person"
    /// The permit does not allow the network she connects from.
    SourceNotAllowed "source-not-allowed" "connect from a network that the permit allows"
    /// She has as many sessions open as the permit allows.
    TooManySessions "too-many-sessions" "close a session that you have open, then try again"
    /// The gateway is shutting down.
    Draining "draining" "the environment is being restarted; try again in a minute"
    /// The audit cannot record, so nothing may happen.
    AuditUnavailable "audit-unavailable" "the environment can't keep its records just now; try again later or call its operator"
    /// The host can't build a cell.
    CellUnavailable "cell-unavailable" "the environment can't build your workspace just now; call its operator"
    /// The certificate is no operator's.
    NotAnOperator "not-an-operator" "this needs an operator's certificate"
    /// No such session is open.
    NoSuchSession "no-such-session" "no such session is open; see them with: sulku sessions list"
    /// The peer broke the protocol.
    ProtocolError "protocol-error" "update your client, or use the one that this environment offers"
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Decides whether a session may open. Also asked again while one is open: the answer may have changed.
///
/// IA-01: only a natural person listed in a permit. SE-01: only within the permit's period.
///
/// # Errors
/// The reason, which is a normal outcome.
pub fn admit(permits: &PermitSet, request: &Request<'_>) -> Result<Admission, Refusal> {
    let person = person_of(permits, request.credential)?;
    let about = |refusal: Refusal| Refusal { holder: Some(person.clone()), ..refusal };
    let hers: Vec<_> = permits.iter().filter(|permit| permit.holder(&person).is_some_and(|holder| shows(request.credential, holder))).collect();
    let permit = match request.permit {
        Some(id) => *hers.iter().find(|permit| permit.id == *id).ok_or_else(|| {
            let reason = if permits.get(id).is_some() { format!("{person} is not listed in {id}") } else { format!("there is no permit {id}") };
            about(Refusal { permit: Some(id.clone()), ..Refusal::new(RefusalCode::NotAHolder, reason) })
        })?,
        None => one_of(&hers, request.now).map_err(about)?,
    };
    within(permit, &person, request)
}

/// The one person that the certificate stands for, over all permits.
fn person_of(permits: &PermitSet, credential: &Credential) -> Result<HolderId, Refusal> {
    let mut person: Option<&Holder> = None;
    for holder in permits.iter().flat_map(|permit| &permit.holders).filter(|holder| shows(credential, holder)) {
        match person {
            Some(first) if first.id != holder.id => {
                let reason = format!("the certificate stands for {} ({}) and for {} ({})", first.id, first.at, holder.id, holder.at);
                return Err(Refusal::new(RefusalCode::AmbiguousIdentity, reason));
            }
            _ => person = Some(holder),
        }
    }
    person.map(|holder| holder.id.clone()).ok_or_else(|| {
        let shown: Vec<_> = credential.identities.iter().map(ToString::to_string).collect();
        Refusal::new(RefusalCode::NotAHolder, format!("no permit lists {}", shown.join(" or ")))
    })
}

fn shows(credential: &Credential, holder: &Holder) -> bool {
    credential.identities.contains(&holder.identity)
}

/// A holder who names no permit means the only one that is in force; of several she must choose.
fn one_of<'a>(hers: &[&'a Arc<Permit>], now: Timestamp) -> Result<&'a Arc<Permit>, Refusal> {
    let mut in_force = hers.iter().filter(|permit| permit.validity.from <= now && now < permit.validity.until);
    match (in_force.next(), in_force.next(), hers) {
        (Some(only), None, _) | (None, None, [only]) => Ok(only),
        _ => {
            let choices = hers.iter().map(|permit| permit.id.clone()).collect();
            Err(Refusal { choices, ..Refusal::new(RefusalCode::ChooseAPermit, "holder of several permits, named none") })
        }
    }
}

fn within(permit: &Arc<Permit>, person: &HolderId, request: &Request<'_>) -> Result<Admission, Refusal> {
    let holder = permit.holder(person).expect("the permit was chosen among those that list her");
    let refuse = |code, reason: String, at: &Place| {
        Err(Refusal { holder: Some(person.clone()), permit: Some(permit.id.clone()), at: Some(at.clone()), ..Refusal::new(code, reason) })
    };
    let Request { credential, permit: _, from, now } = *request;
    if now < permit.validity.from {
        return refuse(RefusalCode::PermitNotYetValid, format!("the permit begins {}", permit.validity.from), &permit.validity.from_at);
    }
    if now >= permit.validity.until {
        return refuse(RefusalCode::PermitExpired, format!("the permit ended {}", permit.validity.until), &permit.validity.until_at);
    }
    if let Some(until) = holder.until.filter(|until| now >= *until) {
        return refuse(RefusalCode::HolderExpired, format!("{person}'s own period ended {until}"), &holder.at);
    }
    if now >= credential.expires {
        return refuse(RefusalCode::CertificateExpired, format!("the certificate ended {}", credential.expires), &holder.at);
    }
    let from = from.to_canonical();
    if !permit.session.from_networks.iter().any(|network| network.contains(&from)) {
        return refuse(RefusalCode::SourceNotAllowed, format!("{from} is in none of the allowed networks"), &permit.session.from_networks_at);
    }
    let longest = now.checked_add(permit.session.max_length).unwrap_or(Timestamp::MAX);
    let ends = [Some(permit.validity.until), holder.until, Some(credential.expires)].into_iter().flatten().fold(longest, Timestamp::min);
    Ok(Admission { permit: Arc::clone(permit), holder: person.clone(), ends })
}
