//! Puts the router's ruleset back as it must be, after somebody else has changed it.
//!
//! First everything in its place: other tables go, the sets get what the warden knows of live sessions in one transaction, the rules are
//! written anew in another. Sessions' packets meet whole rules before and after each step, and budgets go on counting. If that does not
//! do it, the table is made from nothing; what its budgets had used up is read before. Then all is read back and compared.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use jiff::Timestamp;

use super::budgets::{Budgets, Place};
use super::contents::Contents;
use super::drift::{Drift, Own, generation};
use super::elements::Admitted;
use super::netlink::Message;
use super::router::{NetworkError, Router, step};
use super::rules::{Rules, RulesetError};

const GET_GENERATION: u16 = 10 << 8 | 16;

/// What the warden knows of what must be there.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The sessions that are let through, or will be again.
    pub sessions: &'a [Admitted<'a>],
    /// Where the resolver may connect to, and until when.
    pub dialled: &'a [(Ipv4Addr, Timestamp)],
    /// Budgets that somebody else has made or deleted.
    pub doubted: &'a BTreeSet<String>,
    /// It is now.
    pub now: Timestamp,
}

/// What came of mending.
#[derive(Debug)]
pub struct Mending {
    /// Budgets that count as used up from now on, because nobody knows what was left of them; also where the rest did not succeed.
    pub budgets_taken: u64,
    /// Whether the ruleset is as it must be; it may be anything where it is not.
    pub whole: Result<(), NetworkError>,
}

/// Why it is not whole.
enum Failed {
    /// What is not the warden's stays, whatever the warden does to its own.
    ByOthers(NetworkError),
    /// Its own is not as it must be.
    Own(NetworkError),
}

impl Failed {
    fn into_error(self) -> NetworkError {
        let (Self::ByOthers(error) | Self::Own(error)) = self;
        error
    }
}

impl Router {
    /// Mends it. What the warden does meanwhile is known to `drift` as its own.
    pub fn mend(&self, drift: &mut Drift, wanted: Wanted<'_>) -> Mending {
        let mut budgets_taken = 0;
        let mut whole = Ok(());
        // Twice in its place: somebody may have changed something meanwhile.
        for place in [Place::Kept, Place::Kept, Place::Gone] {
            match self.mend_at(place, drift, wanted, &mut budgets_taken) {
                Err(Failed::Own(error)) => {
                    tracing::warn!(error = crate::chain(&error), ?place, "the ruleset could not be mended at once");
                    whole = Err(error);
                }
                ended => return Mending { budgets_taken, whole: ended.map_err(Failed::into_error) },
            }
        }
        Mending { budgets_taken, whole }
    }

    fn mend_at(&self, place: Place, drift: &mut Drift, wanted: Wanted<'_>, budgets_taken: &mut u64) -> Result<(), Failed> {
        let others = self.contents().and_then(|found| step("take other tables away", found.delete_other_tables(self.elements.socket())));
        let mended = self.mend_table(place, drift, wanted, budgets_taken);
        // Another table that can't be taken away does not go by making this one anew.
        others.map_err(Failed::ByOthers)?;
        mended.map_err(Failed::Own)
    }

    fn contents(&self) -> Result<Contents, NetworkError> {
        step("list what the router's tables hold", Contents::read(self.elements.socket()))
    }

    fn mend_table(&self, place: Place, drift: &mut Drift, wanted: Wanted<'_>, budgets_taken: &mut u64) -> Result<(), NetworkError> {
        let socket = self.elements.socket();
        let found = self.contents()?;
        if place == Place::Gone {
            step("take the ruleset's table away", found.delete_own_table(socket))?;
        }
        if place == Place::Gone || !found.has_all_sets() {
            self.with_nft(drift, |rules| rules.declare())?;
        }
        let budgets = Budgets { found: &found, doubted: wanted.doubted, place };
        let rewritten = self.elements.rewrite(wanted.sessions, wanted.dialled, &budgets, wanted.now);
        // What one try has taken, the next one finds used up.
        *budgets_taken = step("write sessions' elements anew", rewritten)?.max(*budgets_taken);
        self.with_nft(drift, |rules| rules.rewrite())?;
        let known: BTreeSet<String> = wanted.sessions.iter().flat_map(|session| session.grant.budgets()).collect();
        step("take away what the ruleset has not", self.contents()?.delete_others(socket, &known))?;
        self.inside(|| self.rules().compare())
    }

    /// Runs something of `nft`'s in the router; the generation that it makes is the warden's own.
    fn with_nft(&self, drift: &mut Drift, run: impl FnOnce(&Rules) -> Result<u32, RulesetError>) -> Result<(), NetworkError> {
        let before = self.generation()?;
        let process = self.inside(|| run(self.rules()))?;
        let last = self.generation()?;
        // One transaction makes one generation, or none if it changes nothing. More, and the others are somebody else's.
        if last != before {
            drift.expect(Own { first: before.wrapping_add(1), last, process });
        }
        Ok(())
    }

    fn generation(&self) -> Result<u32, NetworkError> {
        let answer = self.elements.socket().request(&[Message::new(GET_GENERATION, 0, &[libc::NFPROTO_UNSPEC as u8, 0, 0, 0])]);
        let generation = answer.and_then(|answer| generation(&answer).ok_or_else(|| std::io::ErrorKind::InvalidData.into()));
        step("ask for the ruleset's generation", generation)
    }
}
