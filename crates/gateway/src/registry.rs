//! The sessions that are open: how many each holder has, and how to reach each one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use sulku_audit::CloseReason;
use sulku_permit::{Admission, HolderId, PermitId, Refusal, RefusalCode, SessionId};
use sulku_protocol::SessionRow;
use tokio::sync::{Notify, watch};

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

struct Entry {
    permit: PermitId,
    holder: HolderId,
    from: IpAddr,
    transport: &'static str,
    opened: Timestamp,
    ends: Timestamp,
    chain: Vec<CertificateDer<'static>>,
    activity: Arc<Activity>,
    end: watch::Sender<Option<CloseReason>>,
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
    /// Why the session is to end, once someone says so.
    pub end: watch::Receiver<Option<CloseReason>>,
}

/// Where a session comes from.
pub struct Origin {
    /// The address.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
    /// The certificate chain.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Registry {
    /// Takes a place for a session that has been admitted.
    ///
    /// # Errors
    /// The holder has as many as the permit allows, or the gateway as many as it can.
    pub fn enter(&self, session: SessionId, admission: &Admission, origin: Origin, now: Timestamp, most: usize) -> Result<Place, Refusal> {
        let (permit, holder) = (admission.permit(), admission.holder());
        let mut sessions = self.lock();
        let refuse = |reason: String| Refusal {
            holder: Some(holder.id.clone()),
            permit: Some(permit.id.clone()),
            at: Some(permit.at.clone()),
            ..Refusal::new(RefusalCode::TooManySessions, reason)
        };
        let hers = sessions.values().filter(|entry| entry.permit == permit.id && entry.holder == holder.id).count();
        if hers >= permit.session.max_per_person as usize {
            return Err(refuse(format!("{} has {hers} sessions open, as many as the permit allows", holder.id)));
        }
        if sessions.len() >= most {
            return Err(refuse(format!("{most} sessions are open, as many as [limits] sessions allows")));
        }
        let activity = Arc::<Activity>::default();
        let (end, ended) = watch::channel(None);
        let Origin { from, transport, chain } = origin;
        sessions.insert(
            session,
            Entry {
                permit: permit.id.clone(),
                holder: holder.id.clone(),
                from,
                transport,
                opened: now,
                ends: admission.ends(),
                chain,
                activity: Arc::clone(&activity),
                end,
            },
        );
        Ok(Place { registry: self.clone(), session, activity, end: ended })
    }

    /// Every open session, for an operator.
    #[must_use]
    pub fn rows(&self) -> Vec<SessionRow> {
        let sessions = self.lock();
        let mut rows: Vec<_> = sessions
            .iter()
            .map(|(session, entry)| SessionRow {
                session: *session,
                permit: entry.permit.clone(),
                person: entry.holder.clone(),
                from: entry.from.to_string(),
                transport: entry.transport.to_owned(),
                opened: entry.opened,
                ends: entry.ends,
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
        entry.end.send_replace(Some(reason));
        Some((entry.permit.clone(), entry.holder.clone()))
    }

    /// Tells every session to end whose certificate fails this test.
    pub fn end_unless(&self, reason: CloseReason, accepted: impl Fn(&[CertificateDer<'static>]) -> bool) {
        for entry in self.lock().values().filter(|entry| !accepted(&entry.chain)) {
            entry.end.send_replace(Some(reason));
        }
    }

    /// Tells every session to end; says how many there are.
    pub fn end_all(&self, reason: CloseReason) -> usize {
        let sessions = self.lock();
        for entry in sessions.values() {
            entry.end.send_replace(Some(reason));
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
