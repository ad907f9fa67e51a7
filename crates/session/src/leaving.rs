//! The gateway stops and leaves the session to the next one: nothing is read or typed any more, and what was is durable before it goes. Its
//! holder is shown what becomes durable, since no other gateway has it, and is hung up on after that.
//!
//! There is no closing entry: the session is not closed. Its cell stands still until the next gateway adopts it, or the warden reaps it.

use sulku_protocol::{PAYLOAD_BYTES_MAX, Tell};

use crate::owed::{Owed, Sent};
use crate::window::Window;
use crate::{Effect, Event, Session};

/// Waits for what the ledger owes.
#[derive(Debug)]
pub struct Leaving {
    owed: Owed,
    /// What its holder has not been shown; `None` when nobody is connected.
    unseen: Option<Window>,
}

impl Leaving {
    pub(crate) fn begin(owed: Owed, unseen: Option<Window>, effects: &mut Vec<Effect>) -> Session {
        Self { owed, unseen }.settle(effects)
    }

    pub(crate) fn step(mut self, event: &Event, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::Kept(_) => {
                if let (Some(Sent::Chunk { output, .. }), Some(unseen)) = (self.owed.kept(), &mut self.unseen) {
                    let durable = unseen.kept(output);
                    let frames = durable.as_bytes().chunks(PAYLOAD_BYTES_MAX);
                    effects.extend(frames.map(|bytes| Effect::Send(Tell::Output(bytes.to_vec()))));
                }
            }
            Event::Refused(_) => {
                self.owed.refused();
                // What follows it is not shown without it.
                self.hang_up(effects);
            }
            Event::PeerGone | Event::PeerBroke => self.hang_up(effects),
            // What is not kept now never is; the next gateway's entries say where it took over.
            Event::AuditGone | Event::Reaped(_) | Event::WardenLost => {
                self.hang_up(effects);
                return Session::Left;
            }
            _ => {}
        }
        self.settle(effects)
    }

    fn settle(mut self, effects: &mut Vec<Effect>) -> Session {
        if self.owed.is_empty() {
            self.hang_up(effects);
            Session::Left
        } else {
            Session::Leaving(self)
        }
    }

    fn hang_up(&mut self, effects: &mut Vec<Effect>) {
        if self.unseen.take().is_some() {
            effects.push(Effect::HangUp);
        }
    }
}
