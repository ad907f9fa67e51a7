//! Admission asked again of a session that is open, because a permit or a list of revoked certificates has changed.
//!
//! The same questions as at its opening, with the same answers. Whoever changes what they rest on puts the new in force first and asks
//! then: a session that is just opening asks for itself once it has its place, so none slips through between the two.

use std::time::Instant;

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_permit::{Admission, RefusalCode, Request};

use crate::daemon::Shared;
use crate::registry::{OpenSession, Verdict};
use crate::revocation::Sweep;

/// Judges every open session by what is in force now, and ends those that would be refused.
pub fn readmit(shared: &Shared) {
    let began = Instant::now();
    let trust = shared.trust();
    let now = Timestamp::now();
    let sweep = Sweep::by(&trust, now);
    let ended = shared.registry.readmit(|open| match judge(shared, &sweep, open, now) {
        Ok(stays) => stays,
        Err(code) => Verdict::Ends(CloseReason::of_refusal(code)),
    });
    tracing::info!(sessions = shared.registry.count(), ended, took_us = began.elapsed().as_micros(), "open sessions judged anew");
}

/// Whether the session may stay, and until when.
///
/// # Errors
/// Why it would be refused now.
pub fn judge(shared: &Shared, sweep: &Sweep<'_>, open: &OpenSession, now: Timestamp) -> Result<Verdict, RefusalCode> {
    let admission = admission(shared, sweep, open, now)?;
    Ok(Verdict::Stays { ends: admission.ends(), because: CloseReason::of_end(admission.ends_because()) })
}

/// What admits the session now.
///
/// # Errors
/// Why it would be refused now.
pub fn admission(shared: &Shared, sweep: &Sweep<'_>, open: &OpenSession, now: Timestamp) -> Result<Admission, RefusalCode> {
    sweep.judge(&open.identity).map_err(|refused| refused.code)?;
    let rung = shared.warden.rung.parse().ok();
    let request = Request { credential: open.credential(), permit: Some(&open.permit), from: open.from, now, opened: Some(open.opened), rung };
    let admission = sulku_permit::admit(shared.policy().permits(), &request).map_err(|refusal| refusal.code)?;
    if admission.holder().id != open.holder {
        // The permit says now that her certificate is another person's; or she came back with another certificate of this key.
        return Err(RefusalCode::NotAHolder);
    }
    Ok(admission)
}
