//! Asking upstream: one name's addresses, at the end of its aliases, kept for their time.
//!
//! Asks only for what a session may have; that is judged before.

pub mod exchange;
mod kept;
pub mod reading;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hickory_proto::rr::Name;
use sulku_permit::HostName;
use sulku_plan::naming::Carries;
use tokio::sync::Semaphore;

use crate::sessions::lock;
use crate::shared::Shared;
use crate::wire::wire_name;
use exchange::{Exchange, ask};
use kept::Kept;
use reading::{Found, read};

/// The shortest that an answer is good for, in seconds: names that change by the second would have cells ask all the time.
pub const TTL_MIN_S: u32 = 30;
/// The longest, in seconds: what the permit lets through must follow its name.
pub const TTL_MAX_S: u32 = 300;
/// How long "no such name" is kept, in seconds.
pub const NOTHING_KEPT_S: u64 = 10;
/// How long one resolver is waited for.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// How long is asked altogether; a cell's own resolver gives up after 5 s.
pub const ALL_WITHIN: Duration = Duration::from_secs(4);
/// How often each resolver is asked.
const ROUNDS: usize = 2;
/// Further questions for one name whose aliases leave the answer.
const HOPS_MAX: usize = 4;
/// Names that are asked for at once, of all sessions: more than a few of them can have waiting.
const ASKING_MAX: usize = 1024;

/// What upstream knows of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its addresses, and until when they are good. Never empty, none of them judged.
    Addresses(Vec<IpAddr>, Instant),
    /// It has none.
    NoAddresses(Instant),
    /// There is no such name.
    NoSuchName(Instant),
    /// Nobody said anything that could be used.
    Failed,
}

/// Resolvers to ask, and what they said.
#[derive(Debug)]
pub struct Upstream {
    resolvers: Vec<SocketAddr>,
    carries: Carries,
    kept: Mutex<Kept>,
    asking: Arc<Shared<HostName, Answer>>,
    room: Semaphore,
}

impl Upstream {
    /// Resolvers to ask in this order, over what leads to them.
    #[must_use]
    pub fn new(resolvers: Vec<SocketAddr>, carries: Carries) -> Self {
        Self { resolvers, carries, kept: Mutex::default(), asking: Arc::default(), room: Semaphore::new(ASKING_MAX) }
    }

    /// A name's addresses. Who asks for the same at the same time gets the same answer.
    pub async fn addresses(self: &Arc<Self>, name: &HostName) -> Answer {
        if let Some(kept) = lock(&self.kept).get(name, Instant::now()) {
            return kept;
        }
        let work = || {
            let (upstream, name) = (self.clone(), name.clone());
            async move {
                let Ok(_room) = upstream.room.try_acquire() else { return Answer::Failed };
                let answer = tokio::time::timeout(ALL_WITHIN, upstream.follow(&name)).await.unwrap_or(Answer::Failed);
                lock(&upstream.kept).put(name, answer.clone(), Instant::now());
                answer
            }
        };
        self.asking.get(name.clone(), work).await.unwrap_or(Answer::Failed)
    }

    /// Follows aliases to their end.
    async fn follow(&self, name: &HostName) -> Answer {
        let Some(mut wanted) = wire_name(name) else { return Answer::Failed };
        let mut ttl_s = TTL_MAX_S;
        for _ in 0..=HOPS_MAX {
            let Some(found) = self.ask_all(&wanted).await else { return Answer::Failed };
            let now = Instant::now();
            let nothing = now + Duration::from_secs(NOTHING_KEPT_S);
            match found {
                Found::Addresses(addresses, good_s) => {
                    let good_s = good_s.min(ttl_s).clamp(TTL_MIN_S, TTL_MAX_S);
                    return Answer::Addresses(addresses, now + Duration::from_secs(good_s.into()));
                }
                Found::NoAddresses => return Answer::NoAddresses(nothing),
                Found::NoSuchName => return Answer::NoSuchName(nothing),
                Found::Alias(end, good_s) => (wanted, ttl_s) = (end, ttl_s.min(good_s)),
                Found::Unusable => return Answer::Failed,
            }
        }
        Answer::Failed
    }

    /// Asks one resolver after the other until one says something that can be used.
    async fn ask_all(&self, name: &Name) -> Option<Found> {
        for resolver in self.resolvers.iter().cycle().take(self.resolvers.len() * ROUNDS) {
            let mut exchange = Exchange::new(name);
            match tokio::time::timeout(ANSWER_WITHIN, ask(*resolver, self.carries, &mut exchange)).await {
                Ok(Ok(message)) => match read(&message, name) {
                    Found::Unusable => tracing::debug!(%resolver, code = %message.metadata.response_code, "the resolver did not answer the question"),
                    found => return Some(found),
                },
                Ok(Err(error)) => tracing::debug!(%resolver, %error, "the resolver could not be asked"),
                Err(_) => tracing::debug!(%resolver, "the resolver did not answer in time"),
            }
        }
        None
    }
}
