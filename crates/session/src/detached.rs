//! Nobody is connected: what runs in the session goes on and is recorded, and nobody is shown it.
//!
//! Everything that ends an open session ends this one. Whoever takes it up again was admitted again before she comes here, and is shown nothing
//! until the ledger has kept that she did, and until all that she may have been shown ahead of its recording is durable. What she is shown
//! then is the last of what the terminal showed.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::Event as Entry;
use sulku_protocol::{DetachedFrame, ResumedFrame, Tell};

use crate::open::Open;
use crate::owed::Sent;
use crate::recording::RecordingKey;
use crate::{Effect, Event, Facts, Now, Session, words};

/// Connections that came to take it up and whose entries the ledger has not kept yet.
const COMERS_MAX: usize = 4;

/// Who takes a session up again, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comer {
    /// Where she is.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
    /// Her client's name and version.
    pub client: String,
    /// The policy's revision that admits her.
    pub policy: String,
    /// Her terminal's columns and rows.
    pub size: (u16, u16),
}

/// Why nobody is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// The connection broke.
    Lost,
    /// The holder wanted it so.
    Asked,
    /// Another connection of hers takes its place.
    TakenOver,
}

impl Why {
    /// As entries write it.
    const fn name(self) -> &'static str {
        match self {
            Self::Lost => "connection-lost",
            Self::Asked => "holder-detached",
            Self::TakenOver => "taken-over",
        }
    }
}

/// The state of a session that nobody is connected to.
#[derive(Debug)]
pub struct Detached {
    open: Box<Open>,
    since: Duration,
    comes: Option<Coming>,
}

#[derive(Debug)]
struct Coming {
    who: Comer,
    number: u64,
    /// The entry that says that she comes.
    kept: bool,
}

impl Detached {
    /// A session that another gateway lost goes on with this one, and nobody is connected yet.
    pub(crate) fn adopted(facts: Facts, key: RecordingKey, now: Now, effects: &mut Vec<Effect>) -> Self {
        Self { open: Box::new(Open::adopted(facts, key, now, effects)), since: now.elapsed, comes: None }
    }

    /// Lets go of the connection of an open session that stays.
    pub(crate) fn let_go(mut open: Box<Open>, why: Why, now: Now, effects: &mut Vec<Effect>) -> Session {
        let until = open.stays_until(now.wall);
        match why {
            Why::Lost => effects.push(Effect::Abandon),
            Why::Asked | Why::TakenOver => {
                let message = words::detached(why).to_owned();
                effects.push(Effect::Send(Tell::Detached(DetachedFrame { until, message })));
                effects.push(Effect::HangUp);
            }
        }
        open.mark(why.name(), now);
        open.leave_alone(now);
        open.append(Entry::SessionDetached { reason: why.name().to_owned(), until }, Sent::Entry, now, effects);
        Session::Detached(Box::new(Self { open, since: now.elapsed, comes: None }))
    }

    pub(crate) fn output_room(&self) -> usize {
        self.open.output_room()
    }

    pub(crate) fn takes_input(&self) -> bool {
        self.open.takes_input()
    }

    pub(crate) const fn drains(&self) -> bool {
        self.open.drains()
    }

    pub(crate) fn wakes(&self) -> Duration {
        self.open.wakes()
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.open.is_at_rest()
    }

    pub(crate) fn activity(&self, now: Now) -> (u64, u64) {
        self.open.activity(now)
    }

    pub(crate) fn lasts(&self, now: Now) -> Duration {
        now.elapsed.saturating_sub(self.since)
    }

    fn until(&self, now: Now) -> Timestamp {
        self.open.stays_until(now.wall.checked_sub(self.lasts(now)).unwrap_or(now.wall))
    }

    pub(crate) fn may_be_taken_up(&self) -> bool {
        self.open.comers() < COMERS_MAX
    }

    pub(crate) fn step(mut self: Box<Self>, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        match event {
            Event::TakenUp(who) => {
                let entry = Entry::SessionReattached {
                    transport: who.transport.to_owned(),
                    policy: who.policy.clone(),
                    detached_ms: u64::try_from(self.lasts(now).as_millis()).unwrap_or(u64::MAX),
                    from: who.from.into(),
                    client: who.client.clone().into(),
                };
                let number = self.open.expect_comer(entry, now, effects);
                self.comes = Some(Coming { who: *who, number, kept: false });
                Session::Detached(self)
            }
            // She was not welcomed yet, so there is nothing that she may ask for.
            Event::PeerGone | Event::PeerBroke | Event::Asked(_) => self.lose_comer(Why::Lost, now, effects),
            Event::TakenOver => self.lose_comer(Why::TakenOver, now, effects),
            Event::HandedOver => {
                if self.comes.is_some() {
                    effects.push(Effect::Abandon);
                }
                self.open.leave(now, effects)
            }
            Event::Kept(receipt) => {
                let kept = self.open.owes();
                if let (Some(Sent::Comer(number)), Some(coming)) = (kept, &mut self.comes) {
                    coming.kept |= coming.number == number;
                }
                self.pass_on(Event::Kept(receipt), now, effects)
            }
            event => self.pass_on(event, now, effects),
        }
    }

    /// Who came is gone, or is to go. What says that she came has its counterpart.
    fn lose_comer(mut self: Box<Self>, why: Why, now: Now, effects: &mut Vec<Effect>) -> Session {
        if self.comes.take().is_some() {
            effects.push(Effect::Abandon);
            let until = self.until(now);
            self.open.append(Entry::SessionDetached { reason: why.name().to_owned(), until }, Sent::Entry, now, effects);
        }
        Session::Detached(self)
    }

    /// Has it happen to the open session, of which nobody sees anything.
    fn pass_on(self, event: Event, now: Now, effects: &mut Vec<Effect>) -> Session {
        let Self { open, since, comes } = self;
        let mut wanted = Vec::new();
        match open.step(event, now, &mut wanted) {
            Session::Open(mut open) => {
                effects.extend(wanted.into_iter().filter(|effect| !matches!(effect, Effect::Send(_))));
                open.nobody_reads();
                match comes {
                    Some(Coming { who, kept: true, .. }) if open.is_all_durable() => Self::welcome(open, since, &who, now, effects),
                    comes => Session::Detached(Box::new(Self { open, since, comes })),
                }
            }
            other => {
                effects.extend(wanted);
                other
            }
        }
    }

    fn welcome(mut open: Box<Open>, since: Duration, who: &Comer, now: Now, effects: &mut Vec<Effect>) -> Session {
        let detached_ms = u64::try_from(now.elapsed.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        let screen = open.screen();
        let replay = u32::try_from(screen.len()).unwrap_or(u32::MAX);
        let resumed = ResumedFrame { typed: open.typed(), waiting: 0, replay, detached_ms, part: open.part() };
        open.take_up(resumed, screen, who.size, now, effects);
        Session::Open(open)
    }
}
