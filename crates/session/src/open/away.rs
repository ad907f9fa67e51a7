//! An open session while its connection comes and goes: what [`crate::detached`] does to it. Decides nothing of when.

use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::Event as Entry;
use sulku_protocol::{ResumedFrame, Tell};

use super::{Open, Screen, welcome};
use crate::facts::Facts;
use crate::freeze::Freeze;
use crate::leaving::Leaving;
use crate::owed::Sent;
use crate::recording::RecordingKey;
use crate::tail::Tail;
use crate::warnings::Warnings;
use crate::{Effect, Now, Session, words};

impl Open {
    /// One that another gateway had before: it goes on, and nobody is connected. What its terminal showed last is not known.
    pub(crate) fn adopted(facts: Facts, key: RecordingKey, now: Now, effects: &mut Vec<Effect>) -> Self {
        // Whoever drives an adopted session counts from its opening, a moment before its cell ran.
        let mut open = Self::begin(facts, key, Duration::ZERO, now, effects);
        open.screen_is = Screen::Unknown;
        open.mark(words::ADOPTED, now);
        open.leave_alone(now);
        open
    }

    /// The gateway stops: hands what it has to the ledger, and leaves the session to the next one.
    pub(crate) fn leave(mut self: Box<Self>, now: Now, effects: &mut Vec<Effect>) -> Session {
        if self.away.is_none() {
            let until = self.stays_until(now.wall);
            self.append(Entry::SessionDetached { reason: "gateway-stopped".to_owned(), until }, Sent::Entry, now, effects);
        }
        self.mark("gateway-stopped", now);
        self.hand_over_rest(now, effects);
        let here = self.away.is_none();
        Leaving::begin(self.owed, here.then_some(self.window), effects)
    }

    /// The part of the session's recording that this gateway makes.
    pub(crate) fn part(&self) -> u32 {
        self.facts.part()
    }

    /// Whether it stays without a connection.
    pub(crate) fn stays(&self) -> bool {
        self.facts.stays().is_some()
    }

    /// When it ends at the latest if nobody takes it up whose connection was lost then.
    pub(crate) fn stays_until(&self, lost: Timestamp) -> Timestamp {
        let stays = self.facts.stays().unwrap_or_default();
        lost.checked_add(stays).unwrap_or(Timestamp::MAX).min(self.facts.until().0)
    }

    /// Nobody is connected from now on.
    pub(crate) fn leave_alone(&mut self, now: Now) {
        self.away = Some(now.elapsed);
        self.nobody_reads();
    }

    /// What was sent, nobody will report as shown; what was not is still to be.
    pub(crate) fn nobody_reads(&mut self) {
        self.unshown = u32::try_from(self.window.held()).unwrap_or(u32::MAX);
    }

    /// Whether all that was ever shown is durable.
    pub(crate) const fn is_all_durable(&self) -> bool {
        self.window.shown_ahead() == 0
    }

    pub(crate) fn mark(&mut self, what: &str, now: Now) {
        self.recording.marked(what, now.elapsed);
    }

    pub(crate) fn append(&mut self, event: Entry, sent: Sent, now: Now, effects: &mut Vec<Effect>) {
        self.owed.send(sent, now.elapsed);
        effects.push(Effect::Append(self.facts.draft(event)));
    }

    /// Has the ledger keep that somebody comes; gives her number.
    pub(crate) fn expect_comer(&mut self, entry: Entry, now: Now, effects: &mut Vec<Effect>) -> u64 {
        self.comers += 1;
        self.append(entry, Sent::Comer(self.comers), now, effects);
        self.comers
    }

    /// What the ledger keeps next.
    pub(crate) fn owes(&self) -> Option<Sent> {
        self.owed.oldest()
    }

    pub(crate) fn comers(&self) -> usize {
        self.owed.comers()
    }

    /// Bytes of input received.
    pub(crate) const fn typed(&self) -> u64 {
        self.bytes_in
    }

    pub(crate) fn screen(&mut self) -> String {
        self.tail.as_mut().map(Tail::screen).unwrap_or_default()
    }

    /// Its holder is back, at a terminal of this size, and is shown the screen first.
    pub(crate) fn take_up(&mut self, resumed: ResumedFrame, screen: String, (columns, rows): (u16, u16), now: Now, effects: &mut Vec<Effect>) {
        self.away = None;
        (self.last_input, self.last_shown) = (now.elapsed, now.elapsed);
        let left = self.left(now);
        self.warnings = Warnings::of_welcome(left);
        self.due = now.elapsed + self.warnings.next(left);
        self.mark("taken up again", now);
        self.unshown = self.unshown.saturating_add(resumed.replay);
        effects.push(Effect::Send(Tell::Welcome(welcome(&self.facts, Some(resumed)))));
        self.send(screen, effects);
        if self.freeze == Freeze::Frozen {
            effects.push(Effect::Send(Tell::Notice(Freeze::Frozen.notice())));
        }
        // A program that has the whole screen draws it anew when its terminal changes; the kernel tells it of a change alone.
        let is_unknown = std::mem::replace(&mut self.screen_is, Screen::Known) == Screen::Unknown;
        let draws = is_unknown || self.tail.as_ref().is_some_and(Tail::is_alternate);
        if draws && (columns, rows) == self.size {
            self.resize(columns, if rows > 1 { rows - 1 } else { 2 }, now, effects);
        }
        self.resize(columns, rows, now, effects);
    }
}
