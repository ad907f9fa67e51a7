//! The sessions that are open: how many each holder has, how to reach each one, and all of them judged anew.
//!
//! Decides nothing of who may stay: whoever asks for [`Registry::readmit`] does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_permit::{Admission, Credential, HolderId, PermitId, Refusal, RefusalCode, SessionId};
use sulku_protocol::SessionRow;
use tokio::sync::{Notify, watch};

use crate::identity::VerifiedIdentity;

/// What an open session shows of itself while it runs.
#[derive(Debug, Default)]
pub struct Activity {
    idle_s: AtomicU64,
    bytes_out: AtomicU64,
}

impl Activity {
    /// Sets both figures.
    pub fn set(&self, idle_s: u64, bytes_out: u64) {
        self.idle_s.store(idle_s, Ordering::Relaxed);
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
    pub identity: VerifiedIdentity,
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
}

struct Entry {
    admitted: Arc<OpenSession>,
    transport: &'static str,
    /// As the opening entry says.
    ends: Timestamp,
    activity: Arc<Activity>,
    end: watch::Sender<Option<Verdict>>,
}

impl Entry {
    /// Tells the session; what ends it is not taken back.
    fn tell(&self, verdict: Verdict) {
        self.end.send_if_modified(|told| {
            let news = *told != Some(verdict) && !matches!(told, Some(Verdict::Ends(_)));
            if news {
                *told = Some(verdict);
            }
            news
        });
    }

    /// When it ends as things stand.
    fn until(&self) -> Timestamp {
        match *self.end.borrow() {
            Some(Verdict::Stays { ends, .. }) => ends.min(self.ends),
            Some(Verdict::Ends(_)) | None => self.ends,
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
        let activity = Arc::<Activity>::default();
        let (end, ended) = watch::channel(None);
        let Origin { from, transport, identity } = origin;
        let admitted = Arc::new(OpenSession { permit: permit.id.clone(), holder: holder.id.clone(), identity, from, opened: now });
        let entry = Entry { admitted: Arc::clone(&admitted), transport, ends: admission.ends(), activity: Arc::clone(&activity), end };
        sessions.insert(session, entry);
        Ok(Place { registry: self.clone(), session, activity, admitted, end: ended })
    }

    /// Every open session, for an operator.
    #[must_use]
    pub fn rows(&self) -> Vec<SessionRow> {
        let sessions = self.lock();
        let mut rows: Vec<_> = sessions
            .iter()
            .map(|(session, entry)| SessionRow {
                session: *session,
                permit: entry.admitted.permit.clone(),
                person: entry.admitted.holder.clone(),
                from: entry.admitted.from.to_string(),
                transport: entry.transport.to_owned(),
                opened: entry.admitted.opened,
                ends: entry.until(),
                idle_s: entry.activity.idle_s.load(Ordering::Relaxed),
                bytes_out: entry.activity.bytes_out.load(Ordering::Relaxed),
            })
            .collect();
        rows.sort_by_key(|row| (row.opened, row.session));
        rows
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

    /// Tells every session to end; says how many there are.
    pub fn end_all(&self, reason: CloseReason) -> usize {
        let sessions = self.lock();
        for entry in sessions.values() {
            entry.tell(Verdict::Ends(reason));
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
