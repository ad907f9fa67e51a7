//! The holders, each with one session after the other, on a thread that is where those are who connect.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use sulku_client::{Profile, Transport};
use tokio::task::LocalSet;

use crate::dice::Dice;
use crate::holder::{Hall, Which};
use crate::network::Network;
use crate::story::{Durability, End, Plan};

/// The permit whose sessions show what is durable, and nothing else.
pub const STRICT: &str = "SOAK/strict/2026";
/// The one whose sessions run ahead within a window.
pub const WINDOWED: &str = "SOAK/windowed/2026";
/// The one that is revoked and given back.
pub const TAKEN: &str = "SOAK/taken/2026";

const TIDY_ROUNDS: usize = 20;
/// Whoever is refused tries again after this.
const REFUSED_PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(1500));

/// The holders at work.
pub struct Load {
    /// Sessions that were begun.
    pub begun: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Load {
    /// So many holders begin to work.
    ///
    /// # Errors
    /// The network lets nobody in.
    pub fn begin(network: &Network, hall: Hall, (holders, thought): (u64, Duration), seed: u64) -> anyhow::Result<Self> {
        let enter = network.enter()?;
        let (begun, stop) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counted, stopped) = (Arc::clone(&begun), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async move {
                let mut all = tokio::task::JoinSet::new();
                for holder in 0..holders {
                    let (hall, counted, stopped) = (hall.clone(), Arc::clone(&counted), Arc::clone(&stopped));
                    all.spawn_local(async move { work(&hall, &counted, &stopped, thought, Dice::new(seed, 100 + holder)).await });
                }
                while let Some(one) = all.join_next().await {
                    one?;
                }
                Ok(())
            })
        });
        Ok(Self { begun, stop, thread })
    }

    /// Nobody begins another session.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether all have left.
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// What became of it.
    ///
    /// # Errors
    /// It broke.
    pub fn join(self) -> anyhow::Result<()> {
        self.thread.join().ok().context("the load panicked")?
    }
}

/// An operator ends what is still open, on a network that is good again. Gives which.
///
/// # Errors
/// She is refused, or it never ends.
pub fn tidy(network: &Network, operator: &Arc<Profile>) -> anyhow::Result<Vec<String>> {
    let (enter, operator) = (network.enter()?, Arc::clone(operator));
    let tidied = std::thread::spawn(move || {
        enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let mut ended = Vec::new();
            // A list has so many rows and no more.
            for _ in 0..TIDY_ROUNDS {
                let rows = sulku_client::sessions(&operator, Transport::Tls).await.context("an operator's list of sessions")?;
                if rows.is_empty() {
                    return Ok(ended);
                }
                for row in rows {
                    ended.push(row.session.to_string());
                    // One that ends at this moment is none any more.
                    let _gone = sulku_client::end_session(&operator, Transport::Tls, row.session).await;
                }
            }
            anyhow::bail!("sessions are open again and again: {ended:?}")
        })
    });
    tidied.join().ok().context("the operator panicked")?
}

async fn work(hall: &Hall, begun: &AtomicU64, stop: &AtomicBool, thought: Duration, mut dice: Dice) {
    while !stop.load(Ordering::Relaxed) {
        let (permit, durability) = match dice.below(10) {
            0..4 => (STRICT, Durability::Strict),
            4..8 => (WINDOWED, Durability::Windowed),
            _ => (TAKEN, Durability::Strict),
        };
        let plan = Plan {
            number: begun.fetch_add(1, Ordering::Relaxed),
            permit,
            durability,
            commands: 1 + dice.below(12),
            flood_lines: 20 + dice.below(1500),
            // Every other session is one of somebody who takes her time, so that there is always one that is hit.
            thinks: if dice.happens(500) { thought } else { Duration::ZERO },
            reaches_out: dice.happens(300),
            losses: dice.below(3),
        };
        let transport = if dice.happens(500) { Transport::Quic } else { Transport::Tls };
        let which = if dice.happens(200) { Which::Passing } else { Which::Lasting };
        let story = hall.attend(plan, transport, which, &mut dice).await;
        let pause = if matches!(story.end, End::NotOpened(_)) { REFUSED_PAUSE } else { PAUSE };
        // Without whoever looks at it, it is of no use.
        if hall.told.send(story).await.is_err() {
            return;
        }
        tokio::time::sleep(dice.between(pause.0, pause.1)).await;
    }
}
