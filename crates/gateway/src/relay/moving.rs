//! A connection over QUIC that goes on from another address (RFC 9000 section 9): its holder is judged where she is now, as if she came from there.
//!
//! It is looked at before each frame that is heard and before each that is sent. What QUIC itself had taken to send before, it sends where its peer is.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_permit::{Refusal, RefusalCode};
use sulku_session::{Event, Session};

use super::Relay;
use crate::connection::record_refusal;
use crate::readmission;
use crate::registry::Verdict;
use crate::revocation::Sweep;

impl Relay {
    /// What follows from where the connection goes on from, if that is new.
    pub(super) async fn judge_place(&mut self, session: &Session) -> Option<Event> {
        let from = self.line.strayed()?;
        let policy = self.shared.policy().name();
        let moved = match session {
            Session::Open(_) => self.admit_at(from).map(|()| Event::Moved(from, policy)),
            // A moment in which nobody has seen her yet, or sees her any more.
            _ => Err(RefusalCode::SourceNotAllowed),
        };
        match moved {
            Ok(moved) => {
                tracing::info!(session = %self.cell.id, "connection goes on from another address");
                // Until all that is owed is kept, the entry about this last, nothing passes.
                self.line.held_for = self.owed.len() + 1;
                Some(moved)
            }
            Err(code) => {
                self.line.bar();
                let reason = format!("refused where the connection of session {} went on from", self.cell.id);
                let refusal = Refusal { permit: Some(self.permit.clone()), ..Refusal::new(code, reason) };
                let Self { shared, line, .. } = self;
                record_refusal(shared, refusal, from, line.transport).await;
                Some(Event::PeerGone)
            }
        }
    }

    /// Judges her as if she came from there, by what is in force before and after that is known of her.
    fn admit_at(&mut self, from: IpAddr) -> Result<(), RefusalCode> {
        let (shared, session, now) = (&self.shared, self.cell.id, Timestamp::now());
        let admitted = Arc::new(shared.registry.as_from(session, from).ok_or(RefusalCode::NoSuchSession)?);
        let trust = shared.trust();
        readmission::judge(shared, &Sweep::by(&trust, now), &admitted, now)?;
        let counted = shared.addresses.count(from).ok_or(RefusalCode::TooManySessions)?;
        shared.registry.moved(session, Arc::clone(&admitted));
        let trust = shared.trust();
        let verdict = readmission::judge(shared, &Sweep::by(&trust, now), &admitted, now);
        shared.registry.tell(session, verdict.unwrap_or_else(|code| Verdict::Ends(CloseReason::of_refusal(code))));
        if self.line.moves_to(from, counted) { Ok(()) } else { Err(RefusalCode::TooManySessions) }
    }
}
