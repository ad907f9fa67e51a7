//! When the connection is lost and the session is not: the way back to it, and what is typed meanwhile.
//!
//! Tries for as long as the gateway keeps the session. What is typed before it is back goes nowhere, since nobody sees what it would do; how
//! much that was is said. Ctrl-C ends the trying.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sulku_client::{DialError, Profile, Screen, TakenUp, Transport};
use tokio::time::{Instant, sleep};

use super::notice;
use super::terminal::{self, SIZE_WITHOUT_TERMINAL};

/// Between two attempts at first: a network that has just changed is there at once.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// And while the gateway may be starting anew: nobody is to be kept waiting when it is back.
const PAUSE_SOON: Duration = Duration::from_secs(1);
/// How long that takes at most.
const SOON: Duration = Duration::from_secs(30);
/// And later.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Where to come back to, and for how long.
pub struct Again {
    /// Who she is.
    pub profile: Profile,
    /// Over what.
    pub transport: Transport,
    /// For how long the gateway keeps the session; `None`: it ends with its connection.
    pub stays: Option<Duration>,
    /// What is known of it to whoever types.
    pub lost: Lost,
}

/// Whether the connection is lost just now, and how much was typed meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Lost(Arc<(AtomicBool, AtomicUsize)>);

impl Lost {
    /// Whether it is.
    pub fn is_lost(&self) -> bool {
        self.0.0.load(Ordering::SeqCst)
    }

    /// So much was typed that goes nowhere.
    pub fn dropped(&self, bytes: usize) {
        self.0.1.fetch_add(bytes, Ordering::SeqCst);
    }

    fn begin(&self) {
        self.0.1.store(0, Ordering::SeqCst);
        self.0.0.store(true, Ordering::SeqCst);
    }

    fn end(&self) -> usize {
        self.0.0.store(false, Ordering::SeqCst);
        self.0.1.load(Ordering::SeqCst)
    }
}

impl Again {
    /// Tries to take the session up again. Dropped, it has not.
    ///
    /// # Errors
    /// It is too late, or the gateway says no for good.
    pub async fn take_up(&self, screen: &mut Screen, stays: Duration) -> Result<TakenUp, DialError> {
        self.lost.begin();
        notice::lost(stays);
        let (began, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let size = terminal::size().unwrap_or(SIZE_WITHOUT_TERMINAL);
            match screen.take_up(&self.profile, self.transport, size).await {
                Ok(taken_up) => {
                    notice::back(began.elapsed(), taken_up.carrier, self.lost.end(), taken_up.by);
                    return Ok(taken_up);
                }
                Err(error) if !error.may_pass() || began.elapsed() + pause >= stays => {
                    self.lost.end();
                    return Err(error);
                }
                Err(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(if began.elapsed() < SOON { PAUSE_SOON } else { PAUSE_MAX });
        }
    }
}
