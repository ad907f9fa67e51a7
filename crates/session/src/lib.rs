//! One session as a state machine: events in, effects out.
//!
//! ```text
//! Opening ──receipt──▶ Launching ──launched──▶ Open ──▶ Closing ──▶ Closed
//!    │                     connection lost or left │ ▲     ▲
//!    │                                             ▼ │ taken up again
//!    │                                        Detached ────┤
//!    └──────── audit failed, cell failed, holder left ─────┘
//!
//! Open, Detached ──gateway stops──▶ Leaving ──▶ Left        Adopting ──receipt, adopted──▶ Detached, with the next gateway
//! ```
//!
//! One file a state; a transition consumes the state, so none can be left and used again. [`Launching`](launching::Launching) is made from
//! a [`Receipt`] alone: nothing of a session exists before its opening entry is durable. Open, a session freezes when the ledger does not
//! answer for 5 s, and ends after 30 s; its holder is warned 15 and 5 minutes before it ends; closing, it asks for its closing entry last, so that this counts what was kept. The machine never reads a clock, a
//! socket or a file, and never waits: whoever drives it does.

mod adopting;
mod closing;
mod denials;
mod detached;
mod facts;
mod filter;
mod freeze;
mod launching;
mod leaving;
mod open;
mod opening;
mod owed;
mod pace;
mod recording;
mod tail;
mod warnings;
mod window;
mod words;

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::wire::Cause;
use sulku_audit::{CloseReason, Draft, Receipt};
use sulku_plan::Denied;
use sulku_protocol::{Ask, Signal, Tell};

pub use detached::Comer;
pub use facts::{Adopted, Asked, Facts};
pub use filter::{Filter, Removed};
pub use recording::RecordingKey;

/// What a session is told.
#[derive(Debug)]
pub enum Event {
    /// The ledger has kept the oldest [`Effect::Append`] or [`Effect::Record`] that it has not yet answered for this session.
    Kept(Receipt),
    /// The ledger has refused it: nothing of it is kept.
    Refused(Cause),
    /// The ledger is gone: it answers nothing more.
    AuditGone,
    /// The warden built the cell, or gave this gateway another's.
    Launched,
    /// The warden did neither.
    LaunchRefused,
    /// The warden is gone, and the cell with it.
    WardenLost,
    /// The shell or the command ended with this status.
    Exited(i32),
    /// The cell and all that belonged to it are gone, for this reason, which may be the warden's own.
    Reaped(CloseReason),
    /// The terminal showed these bytes; never more than [`Session::output_room`].
    Output(Vec<u8>),
    /// The terminal has nothing more to show, and what ran in it has ended.
    OutputEnded,
    /// A frame from the holder's client.
    Asked(Ask),
    /// The cell was denied something.
    Denied(Denied),
    /// The holder's connection ended.
    PeerGone,
    /// The holder's client broke the protocol.
    PeerBroke,
    /// Another connection of the holder's comes to take the session up, and the one that there is loses it.
    TakenOver,
    /// The holder comes to take it up again, and is admitted; nobody else is connected.
    TakenUp(Box<Comer>),
    /// The holder's connection goes on from another address, and she is admitted there, by this revision of the policy.
    Moved(IpAddr, String),
    /// An end that comes from outside the session.
    EndNow(CloseReason),
    /// The gateway stops, and leaves to the next one what can be left.
    HandedOver,
    /// What admits the session has changed: it ends then, for this reason, and never later than its opening entry says.
    Ends(Timestamp, CloseReason),
    /// Time has passed.
    Tick,
}

/// What a session wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the ledger to keep this; answer with [`Event::Kept`], [`Event::Refused`] or [`Event::AuditGone`], in order.
    Append(Draft),
    /// The same, with the recording's chunk or its wrapped key.
    Record(Draft, Vec<u8>),
    /// Order the cell. Needs a receipt, and there is no other way to this effect.
    Launch(Receipt),
    /// Order that the cell of a lost gateway becomes this one's. Needs a receipt, too.
    Adopt(Receipt),
    /// Write to the terminal as if typed.
    Type(Vec<u8>),
    /// Give the terminal this size, in columns and rows.
    Resize(u16, u16),
    /// Order the signal for what runs in the foreground.
    Signal(Signal),
    /// Send the holder's client this.
    Send(Tell),
    /// Remember this denial for when its holder asks why.
    Remember(String),
    /// Order the cell's end.
    EndCell(CloseReason),
    /// Close the holder's connection once all that was sent has left.
    HangUp,
    /// Let go of her connection with all that has not left: it is of no more use, or nobody was welcomed on it.
    Abandon,
}

/// The time, as whoever drives the session sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The civil time, by which permits end.
    pub wall: Timestamp,
    /// Time since the session began, on a clock that never jumps.
    pub elapsed: Duration,
}

/// A session, from admission to close.
#[derive(Debug)]
#[must_use = "a session that is dropped has no closing entry"]
pub enum Session {
    /// The opening entry is on its way to the ledger.
    Opening(opening::Opening),
    /// The cell is being built.
    Launching(launching::Launching),
    /// It was another gateway's, and becomes this one's.
    Adopting(adopting::Adopting),
    /// The holder works.
    Open(Box<open::Open>),
    /// What runs goes on, and nobody is connected.
    Detached(Box<detached::Detached>),
    /// The cell is being reaped and the closing entry kept.
    Closing(closing::Closing),
    /// The gateway stops; what it has is being kept.
    Leaving(leaving::Leaving),
    /// It goes on, and is the next gateway's.
    Left,
    /// Nothing is left, for this reason.
    Closed(CloseReason),
}

impl Session {
    /// Begins a session: asks the ledger to keep its opening entry. The key is for its recording, and is wiped when it is closed.
    pub fn begin(facts: Facts, key: RecordingKey, effects: &mut Vec<Effect>) -> Self {
        Self::Opening(opening::Opening::new(facts, key, effects))
    }

    /// Takes a session over that another gateway opened and lost: asks the ledger to keep that it does. The key is for the part of its
    /// recording that begins. Time counts from its opening.
    pub fn adopt(facts: Facts, key: RecordingKey, now: Now, effects: &mut Vec<Effect>) -> Self {
        Self::Adopting(adopting::Adopting::new(facts, key, now, effects))
    }

    /// Takes one step.
    pub fn step(self, event: Event, now: Now, effects: &mut Vec<Effect>) -> Self {
        match self {
            Self::Opening(state) => state.step(event, now, effects),
            Self::Launching(state) => state.step(event, now, effects),
            Self::Open(state) => state.step(event, now, effects),
            Self::Detached(state) => state.step(event, now, effects),
            Self::Adopting(state) => state.step(event, now, effects),
            Self::Closing(state) => state.step(event, now, effects),
            Self::Leaving(state) => state.step(&event, effects),
            Self::Left => Self::Left,
            Self::Closed(reason) => Self::Closed(reason),
        }
    }

    /// How many bytes of the terminal's output may be read now. Zero stops the reading, and the kernel then stops the writer.
    #[must_use]
    pub fn output_room(&self) -> usize {
        match self {
            Self::Open(state) => state.output_room(),
            Self::Detached(state) => state.output_room(),
            _ => 0,
        }
    }

    /// Whether the terminal may be given what was typed. A frozen session takes nothing; what waits is bounded by the client's credit.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        match self {
            Self::Open(state) => state.takes_input(),
            Self::Detached(state) => state.takes_input(),
            _ => false,
        }
    }

    /// When it wants a [`Event::Tick`] at the latest, since it began.
    #[must_use]
    pub fn wakes(&self) -> Option<Duration> {
        match self {
            Self::Open(state) => Some(state.wakes()),
            Self::Detached(state) => Some(state.wakes()),
            _ => None,
        }
    }

    /// Whether it is open and nothing of it waits for the ledger or the clock but its end, its warnings and its idle time.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        match self {
            Self::Open(state) => state.is_at_rest(),
            Self::Detached(state) => state.is_at_rest(),
            _ => false,
        }
    }

    /// Whether what ran in the terminal has ended, so that an empty terminal is an ended one.
    #[must_use]
    pub fn drains(&self) -> bool {
        match self {
            Self::Open(state) => state.drains(),
            Self::Detached(state) => state.drains(),
            _ => false,
        }
    }

    /// What an operator is told of it: seconds since the holder last typed, and bytes shown. `None` unless it is open.
    #[must_use]
    pub fn activity(&self, now: Now) -> Option<(u64, u64)> {
        match self {
            Self::Open(state) => Some(state.activity(now)),
            Self::Detached(state) => Some(state.activity(now)),
            _ => None,
        }
    }

    /// For how long nobody has been connected. `None` while somebody is, or the session is none that could be taken up.
    #[must_use]
    pub fn detached(&self, now: Now) -> Option<Duration> {
        match self {
            Self::Detached(state) => Some(state.lasts(now)),
            _ => None,
        }
    }

    /// Whether the holder may take it up from another connection.
    #[must_use]
    pub fn may_be_taken_up(&self) -> bool {
        match self {
            Self::Open(state) => state.stays(),
            Self::Detached(state) => state.may_be_taken_up(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
