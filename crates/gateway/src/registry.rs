//! The sessions that are open: how many each holder has, how to reach each one, and all of them judged anew.
//!
//! Decides nothing of who may stay: whoever asks for [`Registry::readmit`] does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_permit::{Admission, Credential, HolderId, PermitId, Refusal, RefusalCode, SessionId};
use sulku_protocol::SessionRow;
use tokio::sync::{Notify, mpsc, watch};

use crate::identity::VerifiedIdentity;
use crate::relay::Joining;

/// Connections that wait to take a session up; each displaces the one before.
const JOINS_MAX: usize = 2;

/// What an open session shows of itself while it runs.
#[derive(Debug, Default)]
pub struct Activity {
    /// Since when its holder has typed nothing, in seconds since 1970.
    idle: AtomicI64,
    bytes_out: AtomicU64,
    /// Since when nobody is connected, in seconds since 1970; or [`ATTENDED`].
    detached: AtomicI64,
}

/// Somebody is connected.
const ATTENDED: i64 = 0;

impl Activity {
    /// Sets the figures; `detached` says for how long nobody has been connected.
    pub fn set(&self, idle_s: u64, bytes_out: u64, detached: Option<Duration>) {
        let now = Timestamp::now().as_second();
        let since = |lasts: Duration| now.saturating_sub_unsigned(lasts.as_secs()).max(1);
        self.detached.store(detached.map_or(ATTENDED, since), Ordering::Relaxed);
        self.idle.store(now.saturating_sub_unsigned(idle_s), Ordering::Relaxed);
        self.bytes_out.store(bytes_out, Ordering::Relaxed);
    }
}

/// What an open session was admitted by.
#[derive(Debug)]
pub struct OpenSession {
    /// Its permit.
    pub permit: PermitId,
    /// Its holder.
    pub holder: HolderId,
    /// What she proved herself with.
    pub identity: Arc<VerifiedIdentity>,
    /// Where she is.
    pub from: IpAddr,
    /// When it was admitted.
    pub opened: Timestamp,
}

impl OpenSession {
    /// What permits are matched with.
    #[must_use]
    pub fn credential(&self) -> &Credential {
        self.identity.credential()
    }
}

/// What becomes of an open session that was judged anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It stays open until then at the latest.
    Stays {
        /// When it ends; later than its opening entry says has no effect.
        ends: Timestamp,
        /// Why it ends then.
        because: CloseReason,
    },
    /// It ends now.
    Ends(CloseReason),
    /// The gateway stops, and leaves it to the next one; what can't be left ends.
    HandedOver,
}

struct Entry {
    /// As it is now: a holder who takes it up again may be elsewhere, and her certificate a newer one.
    admitted: Arc<OpenSession>,
    transport: &'static str,
    joins: mpsc::Sender<Joining>,
    /// As the opening entry says.
    ends: Timestamp,
    activity: Arc<Activity>,
    end: watch::Sender<Option<Verdict>>,
}

impl Entry {
    /// Tells the session; what ends it is not taken back.
    fn tell(&self, verdict: Verdict) {
        self.end.send_if_modified(|told| {
            let news = *told != Some(verdict) && !matches!(told, Some(Verdict::Ends(_) | Verdict::HandedOver));
            if news {
                *told = Some(verdict);
            }
            news
        });
    }

    fn row(&self, session: SessionId, now: Timestamp) -> SessionRow {
        let Self { admitted, transport, joins: _, ends: _, activity, end: _ } = self;
        let detached = Some(activity.detached.load(Ordering::Relaxed)).filter(|since| *since != ATTENDED);
        let lasts = |since: i64| u64::try_from(now.as_second().saturating_sub(since)).unwrap_or_default();
        SessionRow {
            session,
            permit: admitted.permit.clone(),
            person: admitted.holder.clone(),
            from: admitted.from.to_string(),
            transport: (*transport).to_owned(),
            opened: admitted.opened,
            ends: self.until(),
            // Before its first sign of life it has been idle since it was admitted.
            idle_s: lasts(activity.idle.load(Ordering::Relaxed).max(admitted.opened.as_second())),
            bytes_out: activity.bytes_out.load(Ordering::Relaxed),
            detached_s: detached.map(lasts),
        }
    }

    /// When it ends as things stand.
    fn until(&self) -> Timestamp {
        match *self.end.borrow() {
            Some(Verdict::Stays { ends, .. }) => ends.min(self.ends),
            Some(Verdict::Ends(_) | Verdict::HandedOver) | None => self.ends,
        }
    }
}

/// All open sessions.
#[derive(Clone, Default)]
pub struct Registry {
    sessions: Arc<Mutex<HashMap<SessionId, Entry>>>,
    emptied: Arc<Notify>,
}

/// A session's place among the open ones; dropped, the place is free.
pub struct Place {
    registry: Registry,
    session: SessionId,
    /// What the session shows of itself.
    pub activity: Arc<Activity>,
    /// What the session was admitted by.
    pub admitted: Arc<OpenSession>,
    /// Its holder's connections that take it up again.
    pub joins: mpsc::Receiver<Joining>,
    /// What became of it, once it was judged anew or told to end.
    pub end: watch::Receiver<Option<Verdict>>,
}

/// Where a session comes from.
pub struct Origin {
    /// The address.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
    /// Who she is.
    pub identity: VerifiedIdentity,
}

impl Registry {
    /// Takes a place for a session that has been admitted.
    ///
    /// # Errors
    /// The holder has as many as the permit allows, or the gateway as many as it can.
    pub fn enter(&self, session: SessionId, admission: &Admission, origin: Origin, now: Timestamp, most: usize) -> Result<Place, Refusal> {
        let (permit, holder) = (admission.permit(), admission.holder());
        let mut sessions = self.lock();
        let refuse = |code, reason: String| Refusal {
            holder: Some(holder.id.clone()),
            permit: Some(permit.id.clone()),
            at: Some(permit.at.clone()),
            ..Refusal::new(code, reason)
        };
        let hers = sessions.values().filter(|entry| entry.admitted.permit == permit.id && entry.admitted.holder == holder.id).count();
        if hers >= permit.session.max_per_person as usize {
            return Err(refuse(RefusalCode::TooManySessions, format!("{} has {hers} sessions open, as many as the permit allows", holder.id)));
        }
        let all = sessions.values().filter(|entry| entry.admitted.permit == permit.id).count();
        if permit.session.max_at_once.is_some_and(|most| all >= most as usize) {
            return Err(refuse(RefusalCode::PermitFull, format!("the permit's holders have {all} sessions open, as many as it allows at once")));
        }
        if sessions.len() >= most {
            return Err(refuse(RefusalCode::TooManySessions, format!("{most} sessions are open, as many as [limits] sessions allows")));
        }
        let Origin { from, transport, identity } = origin;
        let admitted = OpenSession { permit: permit.id.clone(), holder: holder.id.clone(), identity: Arc::new(identity), from, opened: now };
        Ok(self.place(&mut sessions, session, admitted, transport, admission.ends()))
    }

    /// Takes a place for a session that another gateway admitted, and that has it whatever the limits are now. Counts like any other.
    pub fn adopt(&self, session: SessionId, admitted: OpenSession, transport: &'static str, ends: Timestamp) -> Place {
        let mut sessions = self.lock();
        self.place(&mut sessions, session, admitted, transport, ends)
    }

    fn place(
        &self,
        sessions: &mut HashMap<SessionId, Entry>,
        session: SessionId,
        admitted: OpenSession,
        transport: &'static str,
        ends: Timestamp,
    ) -> Place {
        let activity = Arc::<Activity>::default();
        let (end, ended) = watch::channel(None);
        let (joins, joining) = mpsc::channel(JOINS_MAX);
        let admitted = Arc::new(admitted);
        sessions.insert(session, Entry { admitted: Arc::clone(&admitted), transport, joins, ends, activity: Arc::clone(&activity), end });
        Place { registry: self.clone(), session, activity, admitted, joins: joining, end: ended }
    }

    /// Every open session, for an operator, the oldest first.
    #[must_use]
    pub fn rows(&self, now: Timestamp) -> Vec<SessionRow> {
        self.rows_of(now, |_| true)
    }

    /// Those that this key opened, for its holder.
    #[must_use]
    pub fn rows_of_key(&self, key: [u8; 32], now: Timestamp) -> Vec<SessionRow> {
        self.rows_of(now, |admitted| admitted.identity.key() == key)
    }

    fn rows_of(&self, now: Timestamp, counts: impl Fn(&OpenSession) -> bool) -> Vec<SessionRow> {
        let sessions = self.lock();
        let counted = sessions.iter().filter(|(_, entry)| counts(&entry.admitted));
        let mut rows: Vec<_> = counted.map(|(session, entry)| entry.row(*session, now)).collect();
        rows.sort_by_key(|row| (row.opened, row.session));
        rows
    }

    /// What the session was admitted by, if this key opened it. To anybody else there is no such session.
    #[must_use]
    pub fn of_key(&self, session: SessionId, key: [u8; 32]) -> Option<Arc<OpenSession>> {
        self.lock().get(&session).map(|entry| Arc::clone(&entry.admitted)).filter(|admitted| admitted.identity.key() == key)
    }

    /// Hands a connection to the session that its holder takes up again; from here on it is judged by where and who she is now.
    ///
    /// # Errors
    /// The session is gone, or takes no one more now; the connection is given back.
    pub fn take_up(&self, session: SessionId, admitted: Arc<OpenSession>, joining: Joining) -> Result<(), Box<Joining>> {
        let mut sessions = self.lock();
        let Some(entry) = sessions.get_mut(&session) else { return Err(Box::new(joining)) };
        let transport = joining.line.transport;
        entry.joins.try_send(joining).map_err(|error| Box::new(error.into_inner()))?;
        (entry.admitted, entry.transport) = (admitted, transport);
        Ok(())
    }

    /// What the session was admitted by, as if its holder were at that address.
    #[must_use]
    pub fn as_from(&self, session: SessionId, from: IpAddr) -> Option<OpenSession> {
        let sessions = self.lock();
        let OpenSession { permit, holder, identity, from: _, opened } = &*sessions.get(&session)?.admitted;
        Some(OpenSession { permit: permit.clone(), holder: holder.clone(), identity: Arc::clone(identity), from, opened: *opened })
    }

    /// Its holder is elsewhere now, over the same connection; from here on it is judged by that.
    pub fn moved(&self, session: SessionId, admitted: Arc<OpenSession>) {
        if let Some(entry) = self.lock().get_mut(&session) {
            entry.admitted = admitted;
        }
    }

    /// Tells a session what became of it.
    pub fn tell(&self, session: SessionId, verdict: Verdict) {
        if let Some(entry) = self.lock().get(&session) {
            entry.tell(verdict);
        }
    }

    /// Tells a session to end; says whose it is, or `None` if there is none.
    pub fn end(&self, session: SessionId, reason: CloseReason) -> Option<(PermitId, HolderId)> {
        let sessions = self.lock();
        let entry = sessions.get(&session)?;
        entry.tell(Verdict::Ends(reason));
        Some((entry.admitted.permit.clone(), entry.admitted.holder.clone()))
    }

    /// Judges every open session anew and tells it what became of it. Says how many are to end. Nobody who opens, closes or lists
    /// sessions waits for the judging.
    pub fn readmit(&self, decide: impl Fn(&OpenSession) -> Verdict) -> usize {
        let open: Vec<_> = self.lock().iter().map(|(session, entry)| (*session, Arc::clone(&entry.admitted))).collect();
        let verdicts: Vec<_> = open.iter().map(|(session, admitted)| (session, decide(admitted))).collect();
        let sessions = self.lock();
        for (session, verdict) in &verdicts {
            if let Some(entry) = sessions.get(session) {
                entry.tell(*verdict);
            }
        }
        verdicts.iter().filter(|(_, verdict)| matches!(verdict, Verdict::Ends(_))).count()
    }

    /// Tells every session; says how many there are.
    pub fn tell_all(&self, verdict: Verdict) -> usize {
        let sessions = self.lock();
        for entry in sessions.values() {
            entry.tell(verdict);
        }
        sessions.len()
    }

    /// Whether the session is still open.
    #[must_use]
    pub fn has(&self, session: SessionId) -> bool {
        self.lock().contains_key(&session)
    }

    /// Waits until a session has left.
    pub async fn someone_left(&self) {
        self.emptied.notified().await;
    }

    /// How many sessions are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// How many of them this key opened, and how many are open.
    #[must_use]
    pub fn count_of_key(&self, key: [u8; 32]) -> (usize, usize) {
        let sessions = self.lock();
        (sessions.values().filter(|entry| entry.admitted.identity.key() == key).count(), sessions.len())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.session);
        self.registry.emptied.notify_waiters();
    }
}
