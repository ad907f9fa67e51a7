//! Whether a launch is carried out. The gateway is believed in nothing: the ledger's signature, the warden's own permits and the
//! clock decide.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sulku_audit::{CloseReason, Opening, Receipt, ReceiptError, Verifier};
use sulku_permit::SessionId;
use sulku_plan::Plan;
use sulku_plan::order::TerminalSize;

use crate::cell::Commission;
use crate::permits::{Permits, PermitsError};

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
    /// The warden was started after the entry.
    #[error("the session was opened before this warden started")]
    BeforeStart,
    /// The session has had its cell.
    #[error("session {0} has had its cell")]
    Replayed(SessionId),
    /// The permits can't be relied on.
    #[error("the permits can't be relied on")]
    Permits(#[from] PermitsError),
    /// The warden has no such permit.
    #[error("there is no permit {0} in the warden's own folder")]
    UnknownPermit(sulku_permit::PermitId),
    /// The permit is not in force.
    #[error("the permit is in force from {from} until {until}, not now")]
    NotInForce {
        /// From when.
        from: Timestamp,
        /// Until when.
        until: Timestamp,
    },
    /// The permit does not list the person, or her own time has ended.
    #[error("{0} is not listed in the permit now")]
    NotListed(sulku_permit::HolderId),
    /// The gateway's plan is another.
    #[error("the opening names plan {named}, the permit gives {own}")]
    OtherPlan {
        /// The entry's.
        named: String,
        /// The warden's.
        own: String,
    },
    /// The entry promises another isolation.
    #[error("the opening names rung {0:?}, this is {rung:?}", rung = crate::RUNG)]
    OtherRung(String),
    /// The session has ended already.
    #[error("the session's end has passed")]
    Ended,
    /// The command or the terminal's kind is none.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// There are as many cells as there may be.
    #[error("{0} cells are open, which is as many as this host has")]
    Full(usize),
}

/// Decides launches.
#[derive(Debug)]
pub struct Judge {
    keys: Vec<Verifier>,
    permits: Permits,
    started: Timestamp,
    seen: BTreeMap<SessionId, Timestamp>,
}

impl Judge {
    /// A judge who has seen no session yet.
    #[must_use]
    pub const fn new(keys: Vec<Verifier>, permits: Permits, started: Timestamp) -> Self {
        Self { keys, permits, started, seen: BTreeMap::new() }
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
    ) -> Result<Commission, (LaunchRefused, Option<Opening>)> {
        let opening = receipt.verify_opening(&self.keys).map_err(|error| (error.into(), None))?;
        match self.weigh(&opening, &term, now) {
            Ok((plan, ends)) => Ok(Commission { opening, plan, ends, size, term }),
            Err(refused) => Err((refused, Some(opening))),
        }
    }

    fn weigh(&mut self, opening: &Opening, term: &str, now: Timestamp) -> Result<(Plan, (Timestamp, CloseReason)), LaunchRefused> {
        let time = opening.time();
        if now.duration_since(time) > OPENING_AGE_MAX || time.duration_since(now) > CLOCK_SKEW_MAX {
            return Err(LaunchRefused::Stale(time));
        }
        // What an earlier warden has seen is forgotten, so nothing from before this one's start is taken.
        if time < self.started {
            return Err(LaunchRefused::BeforeStart);
        }
        // An older entry is refused for its age, so older sessions need not be remembered.
        self.seen.retain(|_, seen| now.duration_since(*seen) <= OPENING_AGE_MAX + CLOCK_SKEW_MAX);
        if self.seen.insert(opening.session(), time.max(now)).is_some() {
            return Err(LaunchRefused::Replayed(opening.session()));
        }
        if opening.rung() != crate::RUNG {
            return Err(LaunchRefused::OtherRung(opening.rung().to_owned()));
        }
        let permit = self.permits.get(opening.permit())?.ok_or_else(|| LaunchRefused::UnknownPermit(opening.permit().clone()))?;
        let validity = &permit.validity;
        if now < validity.from || now >= validity.until {
            return Err(LaunchRefused::NotInForce { from: validity.from, until: validity.until });
        }
        let not_listed = || LaunchRefused::NotListed(opening.person().clone());
        let holder = permit.holder(opening.person()).ok_or_else(not_listed)?;
        let right_ends = holder.until.map_or(validity.until, |until| until.min(validity.until));
        if now >= right_ends {
            return Err(not_listed());
        }
        let plan = Plan::of(permit);
        let own = plan.digest().to_string();
        if own != opening.plan() {
            return Err(LaunchRefused::OtherPlan { named: opening.plan().to_owned(), own });
        }
        let longest = now.checked_add(permit.session.max_length).unwrap_or(Timestamp::MAX);
        let ends = opening.ends().min(right_ends).min(longest);
        if ends <= now {
            return Err(LaunchRefused::Ended);
        }
        let called = if ends == right_ends { CloseReason::PermitEnded } else { CloseReason::LongestSession };
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
        Ok((plan, (ends, called)))
    }
}
