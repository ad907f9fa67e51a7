//! Both sides as one: whoever opens sessions, and the sessions, whichever product they are of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use sulku_client::{Event, Profile, Terminal, Transport, connect};
use sulku_permit::PermitId;
use sulku_protocol::Stay;

use crate::ssh::{self, Account};

/// What is waited for comes within this, or the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
const SANDBOX: &str = "exec bwrap --unshare-all --die-with-parent --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --bind $HOME $HOME";
/// Recordings of `script`, so that each has a file of its own.
static RECORDINGS: AtomicU32 = AtomicU32::new(0);

/// Whoever opens sessions.
#[derive(Clone)]
pub enum Side {
    /// Ours: recorded, in a cell.
    Ours(Arc<Profile>, Transport, PermitId),
    /// OpenSSH's, without a record.
    Ssh(Account),
    /// OpenSSH's, recorded by `script`, which writes each piece to a file before the next, and syncs none.
    SshRecorded(Account),
    /// OpenSSH's, in namespaces that bubblewrap makes: no network, its own processes, the system read-only, a home.
    SshSandboxed(Account),
}

impl Side {
    /// A session: the login shell, or this script, which has no single quotes in it.
    ///
    /// # Errors
    /// It is refused.
    pub async fn open(&self, script: Option<&str>) -> anyhow::Result<Session> {
        match self {
            Self::Ours(profile, transport, permit) => {
                let command = script.map(|script| ["bash", "-c", script].map(str::to_owned).to_vec());
                let terminal = Terminal { term: "xterm".to_owned(), columns: 80, rows: 24 };
                Ok(Session::Ours(Box::new(connect(profile, *transport, Some(permit.clone()), command, terminal, Stay::Ends).await?)))
            }
            Self::Ssh(account) => Ok(Session::Ssh(account.open(script).await?)),
            Self::SshSandboxed(account) => Ok(Session::Ssh(account.open(Some(&format!("{SANDBOX} {}", script.unwrap_or("bash -l")))).await?)),
            Self::SshRecorded(account) => {
                let number = RECORDINGS.fetch_add(1, Ordering::Relaxed);
                let script = format!("script -q -f -c '{}' recording-{number}", script.unwrap_or("bash -l"));
                Ok(Session::Ssh(account.open(Some(&script)).await?))
            }
        }
    }
}

/// A session of either.
pub enum Session {
    /// Ours.
    Ours(Box<sulku_client::Session>),
    /// OpenSSH's.
    Ssh(ssh::Session),
}

impl Session {
    /// What its terminal shows next; nothing when it is over. It counts as shown when [`Session::shown`] is told.
    ///
    /// # Errors
    /// It breaks.
    pub async fn output(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::Ssh(session) => Ok(session.output().await),
            Self::Ours(session) => loop {
                match session.screen.next().await? {
                    Event::Output(bytes) => return Ok(Some(bytes)),
                    Event::Notice(_) => {}
                    Event::Closed(_) | Event::Detached(_) => return Ok(None),
                }
            },
        }
    }

    /// So many bytes of its output have been shown. OpenSSH's client counts what it has read.
    pub fn shown(&mut self, bytes: usize) {
        if let Self::Ours(session) = self {
            session.screen.shown(bytes);
        }
    }

    /// Waits until its terminal has shown this, beginning now.
    ///
    /// # Errors
    /// It ends without, or shows it not in time.
    pub async fn until(&mut self, text: &[u8]) -> anyhow::Result<Instant> {
        let mut seen = Vec::new();
        let look = async {
            loop {
                let Some(bytes) = self.output().await? else { bail!("it ends before it shows {:?}", String::from_utf8_lossy(text)) };
                self.shown(bytes.len());
                let from = seen.len().saturating_sub(text.len());
                seen.extend(bytes);
                if seen.get(from..).unwrap_or_default().windows(text.len()).any(|bytes| bytes == text) {
                    return Ok(Instant::now());
                }
            }
        };
        match tokio::time::timeout(PATIENCE, look).await {
            Ok(outcome) => outcome.with_context(|| format!("it showed {:?}", String::from_utf8_lossy(&seen))),
            Err(_) => bail!("no {:?} in {:?}", String::from_utf8_lossy(text), String::from_utf8_lossy(&seen)),
        }
    }

    /// Types.
    ///
    /// # Errors
    /// It is over.
    pub async fn types(&self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::Ours(session) => Ok(session.keyboard.input(bytes).await?),
            Self::Ssh(session) => session.types(bytes).await,
        }
    }

    /// Ends a session whose program shows more and more.
    ///
    /// # Errors
    /// It does not end.
    pub async fn close_flooding(mut self) -> anyhow::Result<()> {
        if let Self::Ssh(session) = &mut self {
            session.interrupt().await;
        }
        self.close().await
    }

    /// Ends the session, and waits until the server says that it has.
    ///
    /// # Errors
    /// It does not end.
    pub async fn close(mut self) -> anyhow::Result<()> {
        if let Self::Ours(session) = &self {
            session.keyboard.leave().await?;
            let rest = async {
                while let Some(bytes) = self.output().await? {
                    self.shown(bytes.len());
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(PATIENCE, rest).await.context("it does not end")??;
        }
        match self {
            Self::Ours(session) => session.screen.close().await,
            Self::Ssh(session) => session.close().await?,
        }
        Ok(())
    }
}
