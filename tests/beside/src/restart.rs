//! A gateway that is started anew while many work: how soon each of them sees what is new, and whether anything between is missing. Nobody's
//! sessions outlive their server but ours, so there is no peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use sulku_client::{By, Event, Profile, Session, SessionError, TakenUp, Terminal, Transport, connect};
use sulku_permit::PermitId;
use sulku_protocol::Stay;
use sulku_stage::{Daemon, Options, PermitFile, Person, Stage};
use tokio::task::JoinHandle;

use crate::bench::{Bench, Size};
use crate::row::{Goal, Row, ms, percentile};

/// Sessions over each transport, at most half of what the permit allows one person.
const SESSIONS: usize = 20;
const PERMIT: &str = "TEST/restart/2026";
/// Numbers between marks, so that half of one is none.
const COUNTS: &str = "n=0; while sleep 0.1; do n=$((n+1)); echo \"<$n>\"; done";
const SIZE: (u16, u16) = (80, 24);
/// As `sulku connect` does: so long after a first attempt that failed, then twice as long, to a second at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// All must be there, and back, by then.
const WITHIN: Duration = Duration::from_secs(60);
/// Numbers that each must have shown before the gateway ends, and again once it is back.
const NUMBERS: usize = 5;

/// What ends it.
#[derive(Debug, Clone, Copy)]
enum End {
    /// SIGTERM: in order.
    Told,
    /// SIGKILL.
    Killed,
}

/// What one client saw of it.
struct Sample {
    transport: Transport,
    back: Duration,
    missing: u64,
}

/// Comes to an end with when it was back, and what was missing.
type Client = JoinHandle<anyhow::Result<(Instant, u64)>>;

/// The numbers that a terminal has shown.
#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    missing: u64,
    /// Digits since a mark.
    open: Option<u64>,
}

impl Numbers {
    /// Reads on. A number that was cut off is none.
    ///
    /// # Errors
    /// A number comes again, or an older one does.
    fn read(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for byte in bytes {
            self.open = match (byte, self.open) {
                (b'<', _) => Some(0),
                (b'0'..=b'9', Some(number)) => Some(number.saturating_mul(10).saturating_add(u64::from(byte - b'0'))),
                (b'>', Some(number)) => {
                    ensure!(number > self.last, "{number} comes after {}", self.last);
                    self.missing += number - self.last - 1;
                    self.last = number;
                    None
                }
                _ => None,
            };
        }
        Ok(())
    }
}

/// A session that counts, until it has counted on under the next gateway: when that showed something first, and what was missing.
async fn counts(profile: Arc<Profile>, transport: Transport, mut session: Session, showing: Arc<AtomicUsize>) -> anyhow::Result<(Instant, u64)> {
    // Since it came back, if it has: when it showed something.
    let (mut numbers, mut back, mut counted) = (Numbers::default(), None::<Option<Instant>>, 0);
    loop {
        match session.screen.next().await {
            Ok(Event::Output(bytes)) => {
                let now = Instant::now();
                session.screen.shown(bytes.len());
                if let Some(first) = &mut back {
                    first.get_or_insert(now);
                }
                let last = numbers.last;
                numbers.read(&bytes)?;
                if numbers.last == last {
                    continue;
                }
                counted += 1;
                if counted == NUMBERS {
                    showing.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(Some(back)) = back
                    && counted >= NUMBERS
                {
                    leave(session).await?;
                    return Ok((back, numbers.missing));
                }
            }
            Ok(Event::Notice(_)) => {}
            Err(SessionError::Cut(_)) => {
                comes_back(&profile, transport, &mut session).await?;
                (back, counted) = (Some(None), 0);
            }
            Ok(Event::Closed(closed)) => bail!("the session was closed: {}", closed.message),
            Ok(Event::Detached(detached)) => bail!("the session was detached: {}", detached.message),
            Err(error) => bail!(error),
        }
    }
}

/// Takes the session up again, which another gateway has now: all that this one shows is new, also what it shows as having been shown last.
async fn comes_back(profile: &Profile, transport: Transport, session: &mut Session) -> anyhow::Result<()> {
    let (began, mut pause) = (Instant::now(), PAUSES.0);
    loop {
        match session.screen.take_up(profile, transport, SIZE).await {
            Ok(TakenUp { by: By::Another { .. }, .. }) => return Ok(()),
            Ok(_) => bail!("the gateway that had the session has it still"),
            Err(error) if error.may_pass() && began.elapsed() < WITHIN => tokio::time::sleep(pause).await,
            Err(error) => return Err(error).context("a client does not come back"),
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn leave(mut session: Session) -> anyhow::Result<()> {
    session.keyboard.leave().await?;
    let rest = async { while let Ok(Event::Output(_) | Event::Notice(_)) = session.screen.next().await {} };
    tokio::time::timeout(WITHIN, rest).await.context("a session does not end")?;
    session.screen.close().await;
    Ok(())
}

/// Waits until all of them show numbers; gives up if one ends before its time.
async fn all(showing: &AtomicUsize, clients: &[(Transport, Client)]) -> anyhow::Result<()> {
    let until = Instant::now() + WITHIN;
    while showing.load(Ordering::Relaxed) < clients.len() && !clients.iter().any(|(_, client)| client.is_finished()) {
        ensure!(Instant::now() < until, "{} of {} sessions show something", showing.load(Ordering::Relaxed), clients.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One restart; gives the environment back.
async fn restarted(mut stage: Stage, profile: &Arc<Profile>, end: End) -> anyhow::Result<(Stage, Vec<Sample>)> {
    let permit: PermitId = PERMIT.parse().ok().context("a permit's id")?;
    let showing = Arc::<AtomicUsize>::default();
    let mut clients = Vec::new();
    for transport in [Transport::Tls, Transport::Quic] {
        for _ in 0..SESSIONS {
            let command = ["bash", "-c", COUNTS].map(str::to_owned).to_vec();
            let terminal = Terminal { term: "xterm".to_owned(), columns: SIZE.0, rows: SIZE.1 };
            let session = connect(profile, transport, Some(permit.clone()), Some(command), terminal, Stay::Stays).await?;
            clients.push((transport, tokio::task::spawn_local(counts(Arc::clone(profile), transport, session, Arc::clone(&showing)))));
        }
    }
    all(&showing, &clients).await?;
    // Beside the clients, which are not to stand still meanwhile.
    let (stage, signalled) = tokio::task::spawn_blocking(move || {
        let signalled = Instant::now();
        let ended = stage.kill(Daemon::Gateway, if matches!(end, End::Told) { Signal::TERM } else { Signal::KILL });
        ensure!(ended.is_some(), "the gateway does not end in time");
        stage.start(Daemon::Gateway)?;
        anyhow::Ok((stage, signalled))
    })
    .await??;
    let mut samples = Vec::new();
    for (transport, client) in clients {
        let (back, missing) = tokio::time::timeout(WITHIN, client).await.context("a client does not come back")???;
        let back = back.checked_duration_since(signalled).context("a client lost its connection before the gateway's end")?;
        samples.push(Sample { transport, back, missing });
    }
    Ok((stage, samples))
}

/// From the signal that ends a gateway, which is started again as soon as it is gone, to the first new byte at each of its clients.
///
/// # Errors
/// A session does not open, is not back in time, or shows a number twice or out of order.
pub async fn returns(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let tables = format!("[session]\nfrom_networks = [\"127.0.0.0/8\"]\nmax_per_person = {}\nmax_detached = \"2 min\"\n", 3 * SESSIONS);
    let permits = vec![PermitFile::bare(PERMIT, "restart", Person::Tiina, &tables)];
    let mut stage = Stage::raise(&Options { rows: 10, permits, ..Options::default() })?;
    let profile = Arc::new(Profile::load(&stage.profile(Person::Tiina))?);
    let ends = [(End::Told, "told to stop"), (End::Killed, "killed")];
    let transports = [(Transport::Tls, "TLS"), (Transport::Quic, "QUIC")];
    let shares = [(0.5, "p50"), (0.99, "p99"), (1.0, "max")];
    // A round's figure for each of these, in this order, and the numbers that killed gateways took with them.
    let mut rounds = vec![Vec::new(); ends.len() * transports.len() * shares.len()];
    let mut missing = vec![Vec::new(); ends.len()];
    for _ in 0..size.restart_rounds {
        let (mut figures, mut lines) = (rounds.iter_mut(), missing.iter_mut());
        for (end, _) in ends {
            let samples;
            (stage, samples) = restarted(stage, &profile, end).await?;
            let lost: u64 = samples.iter().map(|sample| sample.missing).sum();
            if let Some(missing) = lines.next() {
                missing.push(lost as f64);
            }
            for (transport, _) in transports {
                let times: Vec<_> = samples.iter().filter(|sample| sample.transport == transport).map(|sample| ms(sample.back)).collect();
                for (share, _) in shares {
                    figures.next().context("a figure for each")?.push(percentile(&times, share));
                }
            }
        }
        bench.unrest.sample();
    }
    let left = stage.close();
    ensure!(left.is_empty(), "something is left: {left:?}");
    let unrest = bench.unrest.take();
    let row = |metric: String, unit, goal, ours| Row { metric, peer: None, unit, goal, ours, theirs: Vec::new(), unrest };
    let all = 2 * SESSIONS;
    let (mut rows, mut rounds) = (Vec::new(), rounds.into_iter());
    for (_, end) in ends {
        for (_, transport) in transports {
            for (_, share) in shares {
                let what = format!("gateway {end} and started again → first new byte, {SESSIONS} of {all} sessions, {transport}, {share}");
                rows.push(row(what, "ms", Goal::AtMost(2000.0), rounds.next().context("a figure for each")?));
            }
        }
    }
    for ((end, name), lost) in ends.into_iter().zip(missing) {
        let goal = if matches!(end, End::Told) { Goal::AtMost(0.0) } else { Goal::Told };
        rows.push(row(format!("lines missing after a gateway was {name}, of {all} sessions with one each 100 ms"), "lines", goal, lost));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_seen_and_what_comes_twice_too() {
        let mut numbers = Numbers::default();
        numbers.read(b"<1>\r\n<2").expect("in order");
        numbers.read(b">\r\n<3>\r\n").expect("in order");
        assert_eq!((numbers.last, numbers.missing), (3, 0), "control");
        numbers.read(b"<4<6>\r\n").expect("in order");
        assert_eq!((numbers.last, numbers.missing), (6, 2), "half a number is none");
        assert!(numbers.read(b"<6>").is_err());
    }
}
