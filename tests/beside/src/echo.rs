//! From a key to its echo: alone, and while other sessions flood.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sulku_client::Transport;
use tokio::task::{JoinSet, LocalSet};

use crate::bench::{Bench, Size};
use crate::ours::{STRICT, WINDOWED};
use crate::row::{Goal, Row, median, percentile, us};
use crate::side::{Session, Side};

/// Each byte comes back as it is, from a program: the way of a key in an editor or a shell.
const ECHOES: &str = "stty raw -echo; printf ready; exec cat";
const FLOODS: &str = "exec yes";
/// Between two keys: the machine is at rest again, as it is between those of a person.
const GAP: Duration = Duration::from_millis(3);
/// Sessions that flood.
const FLOODING: usize = 8;
const FLOOD_BEGINS_WITHIN: Duration = Duration::from_secs(60);

async fn echoing(side: &Side) -> anyhow::Result<Session> {
    let mut session = side.open(Some(ECHOES)).await?;
    session.until(b"ready").await?;
    Ok(session)
}

async fn key(session: &mut Session, number: usize) -> anyhow::Result<Duration> {
    let byte = [b'a' + u8::try_from(number % 26)?];
    let begun = Instant::now();
    session.types(&byte).await?;
    Ok(session.until(&byte).await? - begun)
}

/// With nothing else going on.
///
/// # Errors
/// A session breaks.
pub async fn alone(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let ours = |transport, permit| bench.ours.side(transport, permit);
    let sides = [
        ours(Transport::Tls, STRICT)?,
        ours(Transport::Quic, STRICT)?,
        ours(Transport::Tls, WINDOWED)?,
        ours(Transport::Quic, WINDOWED)?,
        Side::SshRecorded(bench.ecdsa.clone()),
        Side::Ssh(bench.ecdsa.clone()),
    ];
    let mut rounds: [Vec<f64>; 6] = Default::default();
    let mut sessions = Vec::new();
    for side in &sides {
        sessions.push(echoing(side).await?);
    }
    for _ in 0..size.rounds {
        let mut times: [Vec<f64>; 6] = Default::default();
        for number in 0..size.keys {
            for (session, times) in sessions.iter_mut().zip(&mut times) {
                tokio::time::sleep(GAP).await;
                times.push(us(key(session, number).await?));
            }
        }
        rounds.iter_mut().zip(&times).for_each(|(round, times)| round.push(median(times)));
        bench.unrest.sample();
    }
    for session in sessions {
        session.close().await?;
    }
    let unrest = bench.unrest.take();
    let [strict_tls, strict_quic, windowed_tls, windowed_quic, recorded, plain] = rounds;
    let row = |what: &str, ours: &Vec<f64>, peer: &str, theirs: &Vec<f64>, goal| Row {
        metric: format!("keystroke echo, {what}, p50"),
        peer: Some(peer.to_owned()),
        unit: "µs",
        goal,
        ours: ours.clone(),
        theirs: theirs.clone(),
        unrest,
    };
    const RECORDED: &str = "OpenSSH + script";
    const PLAIN: &str = "OpenSSH";
    Ok(vec![
        row("strict, TLS", &strict_tls, RECORDED, &recorded, Goal::AtMost(1.6)),
        row("strict, QUIC", &strict_quic, RECORDED, &recorded, Goal::AtMost(1.6)),
        row("windowed, TLS", &windowed_tls, RECORDED, &recorded, Goal::AtMost(0.8)),
        row("windowed, QUIC", &windowed_quic, RECORDED, &recorded, Goal::AtMost(0.8)),
        row("strict, TLS", &strict_tls, PLAIN, &plain, Goal::Told),
        row("windowed, TLS", &windowed_tls, PLAIN, &plain, Goal::Told),
    ])
}

/// Sessions that flood and are read as fast as can be, by a thread of their own, so that no client's runtime is shared with who types.
struct Floods {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Floods {
    fn begin(side: Side) -> anyhow::Result<Self> {
        let (stop, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, flooding) = (Arc::clone(&stop), Arc::clone(&begun));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, async {
                let mut all = JoinSet::new();
                for _ in 0..FLOODING {
                    let (side, stopped, flooding) = (side.clone(), Arc::clone(&stopped), Arc::clone(&flooding));
                    all.spawn_local(async move { read(&side, &stopped, &flooding).await });
                }
                while let Some(read) = all.join_next().await {
                    read??;
                }
                Ok(())
            })
        });
        let deadline = Instant::now() + FLOOD_BEGINS_WITHIN;
        while begun.load(Ordering::Relaxed) < FLOODING {
            ensure!(Instant::now() < deadline && !thread.is_finished(), "the floods do not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { stop, thread })
    }

    fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("reading a flood panicked")?
    }
}

async fn read(side: &Side, stop: &AtomicBool, begun: &AtomicUsize) -> anyhow::Result<()> {
    let mut session = side.open(Some(FLOODS)).await?;
    let mut first = true;
    while !stop.load(Ordering::Relaxed) {
        let bytes = session.output().await?.context("a flood ended by itself")?;
        session.shown(bytes.len());
        if std::mem::take(&mut first) {
            begun.fetch_add(1, Ordering::Relaxed);
        }
    }
    session.close_flooding().await
}

/// While others flood.
///
/// # Errors
/// A session breaks.
pub async fn among_floods(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let sides = [bench.tls()?, bench.quic()?, Side::Ssh(bench.ecdsa.clone())];
    let mut rounds: [(Vec<f64>, Vec<f64>); 3] = Default::default();
    for _ in 0..size.rounds {
        for (side, (middle, worst)) in sides.iter().zip(&mut rounds) {
            let mut session = echoing(side).await?;
            let floods = Floods::begin(side.clone())?;
            let mut times = Vec::new();
            for number in 0..size.keys_among_floods {
                tokio::time::sleep(GAP).await;
                times.push(us(key(&mut session, number).await?) / 1e3);
            }
            floods.end()?;
            session.close().await?;
            middle.push(percentile(&times, 0.5));
            worst.push(percentile(&times, 0.99));
        }
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let [tls, quic, ssh] = rounds;
    let row = |share, transport, goal, ours: Vec<f64>, theirs: &Vec<f64>| Row {
        metric: format!("keystroke echo while {FLOODING} others flood, {transport}, {share}"),
        peer: Some("OpenSSH".to_owned()),
        unit: "ms",
        goal,
        ours,
        theirs: theirs.clone(),
        unrest,
    };
    Ok(vec![
        row("p99", "TLS", Goal::AtMost(1.0), tls.1, &ssh.1),
        row("p99", "QUIC", Goal::AtMost(1.0), quic.1, &ssh.1),
        row("p50", "TLS", Goal::Told, tls.0, &ssh.0),
        row("p50", "QUIC", Goal::Told, quic.0, &ssh.0),
    ])
}
