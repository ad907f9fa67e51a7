//! Whether a cell goes on as another gateway's than the one that was lost: by the ledger's signature, the clock and the warden's own permits.

use std::io;

use jiff::Timestamp;
use sulku_audit::{Adoption, Opening, Receipt, ReceiptError};
use sulku_permit::{Refusal, RefusalCode};

use super::{CLOCK_SKEW_MAX, End, Judge, OPENING_AGE_MAX, admitted, ends};
use crate::permits::PermitsError;

/// Why an adoption is refused.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionRefused {
    /// The receipt is not the ledger's, or adopts nothing.
    #[error("no receipt, no adoption")]
    Receipt(#[from] ReceiptError),
    /// The entry is not of just now.
    #[error("the adoption is of {0}, not of just now")]
    Stale(Timestamp),
    /// The warden stops, or can't record.
    #[error("the warden gives no cell away now: it is stopping, or the ledger is away")]
    NotServing,
    /// Somebody changed the router's rules, and they could not be put back.
    #[error("the warden gives no cell away now: somebody changed the router's nftables and it could not be put back")]
    RulesBroken,
    /// The cell is gone, or never was.
    #[error("there is no such cell")]
    NoSuchCell,
    /// Its gateway is there.
    #[error("the cell has its gateway")]
    HasGateway,
    /// The entry gave the cell away once, or is from before one that did.
    #[error("the entry is not younger than the one by which the cell was last given to a gateway")]
    Used,
    /// The entry is about something else.
    #[error("the entry names another permit, person, opening or part than the cell's")]
    OtherSession,
    /// The permits can't be relied on.
    #[error("the permits can't be relied on")]
    Permits(#[from] PermitsError),
    /// By the warden's own permits the session may not be any more.
    #[error("the warden's own permits refuse it ({code}): {reason}")]
    NotAdmitted {
        /// The refusal's stable name.
        code: RefusalCode,
        /// Why.
        reason: String,
    },
    /// The session has ended already.
    #[error("the session's end has passed")]
    Ended,
    /// The kernel does not let it go on.
    #[error("the cell could not be let go on: {0}")]
    Stuck(io::Error),
}

impl Judge {
    /// The adoption that a receipt shows, if it is the ledger's and of just now.
    ///
    /// # Errors
    /// It is not.
    pub fn adoption(&self, receipt: &Receipt, now: Timestamp) -> Result<Adoption, AdoptionRefused> {
        let adoption = receipt.verify_adoption(&self.keys)?;
        let time = adoption.time();
        let is_recent = now.duration_since(time) <= OPENING_AGE_MAX && time.duration_since(now) <= CLOCK_SKEW_MAX;
        if is_recent { Ok(adoption) } else { Err(AdoptionRefused::Stale(time)) }
    }

    /// When a session that was opened so ends now, and why, if the permits still admit it.
    ///
    /// # Errors
    /// They do not, or can't be relied on.
    pub fn still(&mut self, opening: &Opening, now: Timestamp) -> Result<End, AdoptionRefused> {
        let admission = admitted(self.permits.current()?, opening, self.rung, now)
            .map_err(|Refusal { code, reason, .. }| AdoptionRefused::NotAdmitted { code, reason })?;
        let ends = ends(&admission, opening);
        if ends.0 <= now { Err(AdoptionRefused::Ended) } else { Ok(ends) }
    }
}
