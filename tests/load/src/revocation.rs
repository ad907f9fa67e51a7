//! How long a revocation takes, from the list's or the permit's change to the last byte at each client. All of it is measured here, in the
//! clients' process.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sulku_client::{Event, Session, Transport};
use sulku_stage::{Daemon, Person};

use crate::crowd::{Cells, Crowd, transport_of};
use crate::played::Shows;

/// All sessions must be open and showing by then.
const OPEN_WITHIN: Duration = Duration::from_secs(300);
/// All sessions must have ended by then.
const END_WITHIN: Duration = Duration::from_secs(60);

/// What one client saw, counted from the change.
#[derive(Debug)]
pub struct Sample {
    /// Over which transport.
    pub transport: Transport,
    /// When the last byte of output came.
    pub last_byte: Duration,
    /// When it was told why its session is over.
    pub told: Duration,
}

/// What is changed, and in whose cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The list of revoked certificates; real cells.
    Real,
    /// The permit, by a signed revision, from the operator's command on; real cells.
    Permit,
    /// The list of revoked certificates; played cells, so that thousands fit on a small machine.
    Played,
    /// The permits, by a signed revision; played cells.
    PlayedPermit,
}

/// Opens so many sessions and revokes them, on a current-thread runtime in a `LocalSet`.
///
/// # Errors
/// A session does not open, or does not end.
pub async fn measure(mode: Mode, count: usize) -> anyhow::Result<Vec<Sample>> {
    let cells = if matches!(mode, Mode::Real | Mode::Permit) { Cells::Real } else { Cells::Played(Shows::Lines) };
    let crowd = Crowd::raise(count, cells)?;
    let profile = crowd.profile()?;
    let showing = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for number in 0..count {
        let session = crowd.open(&profile, number, transport_of(number), &["sh", "-c", "while sleep 0.05; do echo at work; done"]).await?;
        clients.push((transport_of(number), tokio::task::spawn_local(look(session, Arc::clone(&showing)))));
    }
    let until = Instant::now() + OPEN_WITHIN;
    while showing.load(Ordering::Relaxed) < count {
        ensure!(Instant::now() < until, "{} of {count} sessions show something", showing.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Not in step with the daemons' own looks at the clock.
    let pause = Duration::from_millis(u64::from(std::process::id().wrapping_mul(7919) % 500) + u64::try_from(count % 97)?);
    tokio::time::sleep(pause).await;
    let changed = Instant::now();
    match mode {
        Mode::Real | Mode::Played => crowd.stage.authority().revoke(Person::Tiina)?,
        Mode::Permit | Mode::PlayedPermit => {
            crowd.permit_files().try_for_each(|file| revoke(&file))?;
            crowd.stage.apply("revoked")?;
        }
    }
    let mut samples = Vec::new();
    for (transport, client) in clients {
        let (last, ended) = tokio::time::timeout(END_WITHIN, client).await.context("a session did not end")??;
        samples.push(Sample { transport, last_byte: last.saturating_duration_since(changed), told: ended.saturating_duration_since(changed) });
    }
    // How long the gateway judged them, as it says itself.
    crowd.stage.log(Daemon::Gateway).lines().filter(|line| line.contains("judged anew")).for_each(|line| eprintln!("{line}"));
    crowd.close()?;
    Ok(samples)
}

/// Looks at a session to its end: when its last byte came, and when its end did.
async fn look(mut session: Session, showing: Arc<AtomicUsize>) -> (Instant, Instant) {
    let mut last = None;
    loop {
        match session.screen.next().await {
            Ok(Event::Output(bytes)) => {
                session.screen.shown(bytes.len());
                if last.replace(Instant::now()).is_none() {
                    showing.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(Event::Notice(_)) => {}
            Ok(Event::Closed(_) | Event::Detached(_)) | Err(_) => {
                let ended = Instant::now();
                return (last.unwrap_or(ended), ended);
            }
        }
    }
}

/// Puts the permit back as revoked, whole.
fn revoke(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let beside = file.with_extension("next");
    std::fs::write(&beside, text.replace("[permit]\n", "[permit]\nstatus = \"REVOKED\"\n"))?;
    std::fs::rename(&beside, file)?;
    Ok(())
}
