//! Whether a launch or an adoption is carried out. The gateway is believed in nothing: the ledger's signature, the warden's own permits and the
//! clock decide.

mod adoption;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sulku_audit::{CloseReason, Event, Opening, Receipt, ReceiptError, Verifier};
use sulku_permit::{Admission, Assurance, Credential, PermitSet, Refusal, RefusalCode, Request, Rung, SessionId};
use sulku_plan::Plan;
use sulku_plan::order::TerminalSize;

use crate::cell::{Commission, End};
use crate::permits::{Permits, PermitsError};
use crate::workspace::{self, Due, KeptBecause};

pub use adoption::AdoptionRefused;

/// How old an opening may be: longer than any launch takes, short enough that a stolen receipt is of no use.
const OPENING_AGE_MAX: SignedDuration = SignedDuration::from_secs(60);
/// How far the ledger's clock may be ahead: both processes read the same one.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_secs(2);
/// The longest name of a kind of terminal.
const TERM_BYTES_MAX: usize = 64;
/// The most of a command: what a program's arguments may take up by default is far more.
const COMMAND_BYTES_MAX: usize = 32 * 1024;

/// Why a launch is refused.
#[derive(Debug, thiserror::Error)]
pub enum LaunchRefused {
    /// The receipt is not the ledger's, or opens nothing.
    #[error("no receipt, no cell")]
    Receipt(#[from] ReceiptError),
    /// The entry is not of just now.
    #[error("the session's opening is of {0}, not of just now")]
    Stale(Timestamp),
    /// The warden was started after the entry, or has seen and forgotten later ones.
    #[error("the session was opened before this warden started, or too long ago")]
    Spent,
    /// The session has had its cell.
    #[error("session {0} has had its cell")]
    Replayed(SessionId),
    /// The permits can't be relied on.
    #[error("the permits can't be relied on")]
    Permits(#[from] PermitsError),
    /// By the warden's own permits the session may not be.
    #[error("the warden's own permits refuse it ({code}): {reason}")]
    NotAdmitted {
        /// The refusal's stable name.
        code: RefusalCode,
        /// Why.
        reason: String,
    },
    /// The gateway's plan is another.
    #[error("the opening names plan {named}, the permit gives {own}")]
    OtherPlan {
        /// The entry's.
        named: String,
        /// The warden's.
        own: String,
    },
    /// The entry promises another isolation.
    #[error("the opening names rung {named:?}, this is {own:?}")]
    OtherRung {
        /// The entry's.
        named: String,
        /// The warden's.
        own: &'static str,
    },
    /// The permit lists hosts by name, and there is nobody to ask for them.
    #[error("the permit lists hosts by name and this host has no resolver for them; write [resolver] into warden.toml")]
    NoResolver,
    /// The permit lists destinations, and there is no network.
    #[error("the permit lists destinations and no cell on this host has a network; see sulku-warden doctor")]
    NoNetwork,
    /// The session has ended already.
    #[error("the session's end has passed")]
    Ended,
    /// The command or the terminal's kind is none.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// The workspace is being destroyed.
    #[error("workspace {0} is being destroyed")]
    Doomed(sulku_permit::WorkspaceName),
    /// There are as many cells as there may be.
    #[error("{0} cells are open, which is as many as this host has")]
    Full(usize),
}

/// Whether hosts can be reached by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// A resolver is configured.
    Resolved,
    /// None is.
    Unknown,
}

/// Decides launches.
#[derive(Debug)]
pub struct Judge {
    rung: Rung,
    keys: Vec<Verifier>,
    names: Names,
    permits: Permits,
    /// No entry up to this one opens anything any more. Entries are numbered, so that a clock that is set back opens and closes nothing.
    spent: u64,
    /// The sessions that have been seen, with when that was and their entries' numbers.
    seen: BTreeMap<SessionId, (Timestamp, u64)>,
    /// The reading of the permits by which all cells were last judged.
    reviewed: u64,
}

impl Judge {
    /// A judge of a warden on this rung, who has seen no session yet. `started` is the entry by which the warden said that it begins.
    #[must_use]
    pub const fn new(rung: Rung, keys: Vec<Verifier>, names: Names, permits: Permits, started: u64) -> Self {
        Self { rung, keys, names, permits, spent: started, seen: BTreeMap::new(), reviewed: 0 }
    }

    /// What has come of looks at the policy since this was last asked, for the ledger.
    pub fn news(&mut self) -> Vec<Event> {
        self.permits.news()
    }

    /// Decides one launch. A session whose receipt is good is marked as seen, whatever follows.
    ///
    /// # Errors
    /// The reason, and the session and what is known about it if the receipt was good.
    pub fn decide(
        &mut self,
        receipt: &Receipt,
        size: TerminalSize,
        term: String,
        now: Timestamp,
    ) -> Result<Commission, (LaunchRefused, Option<Box<Opening>>)> {
        let opening = receipt.verify_opening(&self.keys).map_err(|error| (error.into(), None))?;
        match self.weigh(&opening, &term, now) {
            Ok((plan, ends)) => Ok(Commission { opening, plan, ends, size, term }),
            Err(refused) => Err((refused, Some(Box::new(opening)))),
        }
    }

    /// The workspace of a permit that has ended, if it may be destroyed now.
    ///
    /// # Errors
    /// Why it may not, or that the permits can't be relied on.
    pub fn due(&mut self, named: &str, now: Timestamp) -> Result<Result<Due, KeptBecause>, PermitsError> {
        Ok(workspace::due(self.permits.current()?, named, now))
    }

    /// The warden's own permits.
    ///
    /// # Errors
    /// They can't be relied on.
    pub fn permits(&mut self) -> Result<&PermitSet, PermitsError> {
        self.permits.current()
    }

    /// Judges cells again, where the permits are others than when it last did: when each ends now, and why. One that may not be any
    /// more ends at once.
    ///
    /// # Errors
    /// The permits can't be relied on: what was decided by those before stands.
    pub fn review<'a>(&mut self, cells: impl Iterator<Item = &'a Opening>, now: Timestamp) -> Result<Vec<(SessionId, End)>, PermitsError> {
        self.permits.current()?;
        if self.reviewed == self.permits.readings() {
            return Ok(Vec::new());
        }
        self.reviewed = self.permits.readings();
        let permits = self.permits.current()?;
        let judge = |opening: &Opening| {
            let ends = admitted(permits, opening, self.rung, now)
                .map_or_else(|refusal| (now, CloseReason::of_refusal(refusal.code)), |own| ends(&own, opening));
            (opening.session(), ends)
        };
        Ok(cells.map(judge).collect())
    }

    fn weigh(&mut self, opening: &Opening, term: &str, now: Timestamp) -> Result<(Plan, End), LaunchRefused> {
        let time = opening.time();
        if now.duration_since(time) > OPENING_AGE_MAX || time.duration_since(now) > CLOCK_SKEW_MAX {
            return Err(LaunchRefused::Stale(time));
        }
        // What an earlier warden has seen is forgotten, so nothing from before this one's start is taken.
        if opening.index() <= self.spent {
            return Err(LaunchRefused::Spent);
        }
        // An older entry is refused for its age, so older sessions need not be remembered, as long as no clock makes them young again.
        self.seen.retain(|_, (seen, index)| {
            let is_recent = now.duration_since(*seen) <= OPENING_AGE_MAX + CLOCK_SKEW_MAX;
            if !is_recent {
                self.spent = self.spent.max(*index);
            }
            is_recent
        });
        if self.seen.insert(opening.session(), (time.max(now), opening.index())).is_some() {
            return Err(LaunchRefused::Replayed(opening.session()));
        }
        if opening.rung() != self.rung.name() {
            return Err(LaunchRefused::OtherRung { named: opening.rung().to_owned(), own: self.rung.name() });
        }
        let admission = admitted(self.permits.current()?, opening, self.rung, now)
            .map_err(|Refusal { code, reason, .. }| LaunchRefused::NotAdmitted { code, reason })?;
        let plan = Plan::for_admission(&admission);
        let own = plan.digest().to_string();
        if own != opening.plan() {
            return Err(LaunchRefused::OtherPlan { named: opening.plan().to_owned(), own });
        }
        if self.rung == Rung::NoNetwork && !(plan.destinations().is_empty() && plan.named().is_empty()) {
            return Err(LaunchRefused::NoNetwork);
        }
        if !plan.named().is_empty() && self.names == Names::Unknown {
            return Err(LaunchRefused::NoResolver);
        }
        let ends = ends(&admission, opening);
        if ends.0 <= now {
            return Err(LaunchRefused::Ended);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        if term.is_empty() || term.len() > TERM_BYTES_MAX || !term.bytes().all(plain) {
            return Err(LaunchRefused::Malformed("the terminal's kind"));
        }
        if let Some(command) = opening.command() {
            let bytes: usize = command.iter().map(|word| word.len() + 1).sum();
            let runnable = command.first().is_some_and(|programme| !programme.is_empty());
            if !runnable || bytes > COMMAND_BYTES_MAX || command.iter().any(|word| word.contains('\0')) {
                return Err(LaunchRefused::Malformed("the command"));
            }
        }
        Ok((plan, ends))
    }
}

/// Admission by the warden's own permits: the same question that the gateway asks. What the warden can't see, the certificate, it takes
/// to be what the permit asks for: that was the handshake's to decide.
fn admitted(permits: &PermitSet, opening: &Opening, rung: Rung, now: Timestamp) -> Result<Admission, Refusal> {
    let (permit, person) = (opening.permit(), opening.person());
    let unknown =
        |reason: String| Refusal { permit: Some(permit.clone()), holder: Some(person.clone()), ..Refusal::new(RefusalCode::NotAHolder, reason) };
    let named = permits.get(permit).ok_or_else(|| unknown(format!("there is no permit {permit}")))?;
    let holder = named.holder(person).ok_or_else(|| unknown(format!("{person} is not listed in {permit}")))?;
    let credential = Credential { identities: vec![holder.identity.clone()], expires: Timestamp::MAX, assurance: Some(Assurance::High) };
    sulku_permit::admit(
        permits,
        &Request { credential: &credential, permit: Some(permit), from: opening.from(), now, opened: Some(opening.time()), rung: Some(rung) },
    )
}

/// When a session ends: by the warden's own permits, and never later than its opening says.
fn ends(admission: &Admission, opening: &Opening) -> End {
    let own = (admission.ends(), CloseReason::of_end(admission.ends_because()));
    // The gateway counts from its own admission, a moment before the entry.
    let about_the_same = own.0.duration_since(opening.ends()) <= OPENING_AGE_MAX;
    match opening.ends() {
        sooner if sooner >= own.0 => own,
        sooner if about_the_same => (sooner, own.1),
        // What else the gateway goes by is the certificate.
        sooner => (sooner, CloseReason::CertificateEnded),
    }
}

#[cfg(test)]
mod tests {
    use sulku_audit::merkle::leaf_hash;
    use sulku_audit::{Draft, Event, Signer};
    use sulku_policy::{Operator, Operators};

    use super::*;

    /// A key on P-256 that is used nowhere else.
    const OPERATOR: &str =
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEOvs5z4lTpkQs93b2YnCs1b+yjKOFMF6pUcUpUZlRkke7Xt3k4ONO0XgNbgc3KgZQtEYvnan04pqqh9lk/qa6QQ==";

    /// An opening that names a rung of which there is none, so that nobody looks at permits: what is asked before that is asked here.
    fn opening(signer: &Signer, session: &str, index: u64, time: Timestamp) -> Receipt {
        let draft = Draft {
            permit: Some("TEST/1".parse().expect("an id")),
            session: Some(session.parse().expect("an id")),
            person: Some("maija".parse().expect("an id")),
            event: Event::SessionOpened {
                from: "127.0.0.1".parse::<std::net::IpAddr>().expect("an address").into(),
                transport: String::new(),
                identity: String::new().into(),
                at: String::new(),
                command: None.into(),
                ends: Timestamp::MAX,
                plan: String::new(),
                rung: "none".to_owned(),
                policy: String::new(),
                client: String::new().into(),
                stays_s: None,
                certificates: None.into(),
            },
        };
        Receipt::issue(signer, index, &leaf_hash(b"entry"), &draft, time)
    }

    #[test]
    fn a_clock_that_is_set_forward_and_back_makes_no_receipt_new_again() {
        let signer = Signer::from_seed("ledger.example", &[1; 32]).expect("a key");
        let onni = Operator { id: "onni".parse().expect("an id"), key: OPERATOR.parse().expect("a key") };
        let operators = Operators::new(vec![onni], 1);
        let permits = Permits::in_store("/nonexistent".into(), operators.expect("nobody"));
        let mut judge = Judge::new(Rung::Root, vec![signer.verifier()], Names::Unknown, permits, 5);
        let now: Timestamp = "2026-06-01T10:00:00Z".parse().expect("a time");
        let later = now + SignedDuration::from_hours(1);
        let mut decide = |receipt: &Receipt, at| {
            let refused = judge.decide(receipt, TerminalSize { columns: 80, rows: 24 }, "xterm".to_owned(), at);
            refused.map(|_| ()).expect_err("nothing opens here").0
        };
        let (first, second) = (opening(&signer, "9addp7zz0mzwavdq", 6, now), opening(&signer, "9addp7zz0mzwavdr", 7, later));
        assert!(matches!(decide(&opening(&signer, "9addp7zz0mzwavds", 5, now), now), LaunchRefused::Spent), "from before the start");
        assert!(matches!(decide(&first, now), LaunchRefused::OtherRung { .. }), "the control: all before that was right");
        assert!(matches!(decide(&first, now), LaunchRefused::Replayed(_)));
        // An hour forward, where the first is forgotten; and back.
        assert!(matches!(decide(&second, later), LaunchRefused::OtherRung { .. }));
        assert!(matches!(decide(&first, now), LaunchRefused::Spent));
    }
}
