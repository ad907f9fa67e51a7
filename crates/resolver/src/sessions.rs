//! The sessions that the warden has opened, found by their cells' addresses, each with its own bounds.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sulku_permit::{HostName, SessionId};
use sulku_plan::naming::{Denied, Finding, Listed};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::budget::{Allowance, Budget};
use crate::granted::{Full, Granted};
use crate::warden::{Busy, Warden};

/// Questions of a session. Programs ask a dozen names at their start.
pub const QUESTIONS: Allowance = Allowance { burst: 200, per_second: 50 };
/// Names that a session did not hold: what could carry something out below a suffix. Those that it holds are renewed without.
pub const FRESH_NAMES: Allowance = Allowance { burst: 64, per_second: 1 };
/// Denials of a session that get a finding of their own; the rest is counted.
pub const DENIALS: Allowance = Allowance { burst: 32, per_second: 4 };
/// Questions of a session that wait for an answer at once.
pub const WAITING_MAX: usize = 64;
/// Connections over which a session asks at once.
pub const DNS_CONNECTIONS_MAX: usize = 8;
/// TLS connections of a session at once.
pub const CONNECTIONS_MAX: usize = 256;

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<Ipv4Addr, Arc<Session>>>);

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Which.
    pub id: SessionId,
    /// What it may reach by name.
    pub listed: Vec<Listed>,
    /// Cancelled when it is over.
    pub closed: CancellationToken,
    /// Room for waiting questions.
    pub waiting: Arc<Semaphore>,
    /// Room for connections that ask.
    pub dns_connections: Arc<Semaphore>,
    /// Room for TLS connections.
    pub connections: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    questions: Budget,
    fresh: Budget,
    denials: Budget,
    /// Denials without a finding since the last that got one, and the last of them.
    suppressed: Option<(u64, Denied)>,
    granted: Granted,
}

impl Sessions {
    /// Begins a session. One that stood behind the same address, or had the same number, is over.
    pub fn open(&self, id: SessionId, address: Ipv4Addr, listed: Vec<Listed>, now: Instant) {
        let mut sessions = lock(&self.0);
        sessions.retain(|at, session| {
            let stays = *at != address && session.id != id;
            if !stays {
                session.closed.cancel();
            }
            stays
        });
        sessions.insert(address, Arc::new(Session::new(id, listed, now)));
    }

    /// Ends a session. The finding for its denials that had none, if there were any, is to be told.
    #[must_use]
    pub fn close(&self, id: SessionId) -> Option<Finding> {
        let mut over = None;
        lock(&self.0).retain(|_, session| {
            let stays = session.id != id;
            if !stays {
                session.closed.cancel();
                over = session.take_suppressed();
            }
            stays
        });
        over
    }

    /// The session behind a source address. Nobody else can send from it.
    #[must_use]
    pub fn behind(&self, source: IpAddr) -> Option<Arc<Session>> {
        match source {
            IpAddr::V4(address) => lock(&self.0).get(&address).cloned(),
            IpAddr::V6(_) => None,
        }
    }

    /// The same, after what the warden has said already: it opens a session before its first packet can pass, but packets and tasks
    /// come by two sockets.
    pub async fn behind_by_now(&self, source: IpAddr) -> Option<Arc<Session>> {
        if let Some(session) = self.behind(source) {
            return Some(session);
        }
        tokio::task::yield_now().await;
        self.behind(source)
    }

    /// Sends findings for denials that had none, where sessions may again.
    pub fn tell_suppressed(&self, warden: &Warden, now: Instant) {
        let all: Vec<_> = lock(&self.0).values().cloned().collect();
        for session in all {
            session.tell_suppressed(warden, now);
        }
    }
}

impl Session {
    /// One that has asked nothing yet.
    #[must_use]
    pub fn new(id: SessionId, listed: Vec<Listed>, now: Instant) -> Self {
        let state = State {
            questions: Budget::new(QUESTIONS, now),
            fresh: Budget::new(FRESH_NAMES, now),
            denials: Budget::new(DENIALS, now),
            suppressed: None,
            granted: Granted::default(),
        };
        Self {
            id,
            listed,
            closed: CancellationToken::new(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            dns_connections: Arc::new(Semaphore::new(DNS_CONNECTIONS_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            state: Mutex::new(state),
        }
    }

    /// Whether it may ask once more.
    #[must_use]
    pub fn may_ask(&self, now: Instant) -> bool {
        lock(&self.state).questions.take(now)
    }

    /// Whether somebody else may be asked for this name.
    #[must_use]
    pub fn may_ask_afresh(&self, name: &HostName, now: Instant) -> bool {
        let mut state = lock(&self.state);
        state.granted.knows(name) || state.fresh.take(now)
    }

    /// The answer that it has for this name, and its seconds.
    #[must_use]
    pub fn answer(&self, name: &HostName, now: Instant) -> Option<(Vec<IpAddr>, u32)> {
        lock(&self.state).granted.answer(name, now)
    }

    /// Whether the address was its answer for this name.
    #[must_use]
    pub fn holds(&self, name: &HostName, address: IpAddr, now: Instant) -> bool {
        lock(&self.state).granted.holds(name, address, now)
    }

    /// Whether it may hold one more name.
    ///
    /// # Errors
    /// [`Full`].
    pub fn make_room(&self, name: &HostName, now: Instant) -> Result<(), Full> {
        lock(&self.state).granted.make_room(name, now)
    }

    /// Notes an answer that the warden has let through.
    ///
    /// # Errors
    /// [`Full`].
    pub fn grant(&self, name: HostName, answer: Vec<IpAddr>, until: Instant, now: Instant) -> Result<(), Full> {
        lock(&self.state).granted.note(name, answer, until, now)
    }

    /// Tells the warden of a denial, or counts it: every denial is in one finding, as itself or in its number.
    pub fn deny(&self, what: Denied, warden: &Warden, now: Instant) {
        let mut state = lock(&self.state);
        let count = state.suppressed.as_ref().map_or(0, |(count, _)| *count);
        let told = state.denials.take(now) && self.tell(what.clone(), count, warden).is_ok();
        state.suppressed = if told { None } else { Some((count + 1, what)) };
    }

    fn tell_suppressed(&self, warden: &Warden, now: Instant) {
        let mut state = lock(&self.state);
        let Some((count, what)) = state.suppressed.take() else { return };
        let told = state.denials.take(now) && self.tell(what.clone(), count - 1, warden).is_ok();
        if !told {
            state.suppressed = Some((count, what));
        }
    }

    fn take_suppressed(&self) -> Option<Finding> {
        let (count, what) = lock(&self.state).suppressed.take()?;
        Some(Finding::Denied { session: self.id, what, suppressed: count - 1 })
    }

    fn tell(&self, what: Denied, suppressed: u64, warden: &Warden) -> Result<(), Busy> {
        warden.tell(Finding::Denied { session: self.id, what, suppressed })
    }
}

/// The state behind a lock. A panic ends the process, so nobody sees a lock that one has left.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
