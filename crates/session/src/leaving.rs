//! The gateway stops and leaves the session to the next one: nothing is read or typed any more, and what was is durable before it goes.
//!
//! There is no closing entry: the session is not closed. Its cell stands still until the next gateway adopts it, or the warden reaps it.

use crate::owed::Owed;
use crate::{Event, Session};

/// Waits for what the ledger owes.
#[derive(Debug)]
pub struct Leaving {
    owed: Owed,
}

impl Leaving {
    pub(crate) fn begin(owed: Owed) -> Session {
        Self { owed }.settle()
    }

    pub(crate) fn step(mut self, event: &Event) -> Session {
        match event {
            Event::Kept(_) => drop(self.owed.kept()),
            Event::Refused(_) => self.owed.refused(),
            // What is not kept now never is; the next gateway's entries say where it took over.
            Event::AuditGone | Event::Reaped(_) | Event::WardenLost => return Session::Left,
            _ => {}
        }
        self.settle()
    }

    fn settle(self) -> Session {
        if self.owed.is_empty() { Session::Left } else { Session::Leaving(self) }
    }
}
