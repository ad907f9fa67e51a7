//! Thousands of sessions in played cells, which a small machine has room for: ledger, gateway, wire and clients are the real ones. Nobody
//! publishes such figures, so there is no peer.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sulku_client::{Event, Session};
use sulku_load::crowd::{Cells, Crowd, transport_of};
use sulku_load::played::Shows;
use sulku_load::revocation::{self, Mode};
use sulku_stage::Daemon;

use crate::bench::{Bench, Size};
use crate::processes::{memory_kib, own_cpu};
use crate::row::{Goal, Row, ms, percentile};

/// Until what opening them has caused is done.
const SETTLE: Duration = Duration::from_secs(5);
/// Long enough for several signs of life of each connection.
const COUNTED: Duration = Duration::from_secs(30);

async fn hold(mut session: Session) {
    // Until it ends, which it does with the environment.
    while let Ok(Event::Output(_) | Event::Notice(_)) = session.screen.next().await {}
}

/// What so many idle sessions cost gateway and ledger: processor time in percent of a core, and memory in KiB for each.
///
/// # Errors
/// A session does not open.
pub async fn idle(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let crowd = Crowd::raise(size.idle, Cells::Played(Shows::Nothing))?;
    let profile = crowd.profile()?;
    let pid = |daemon| crowd.stage.pid(daemon).context("a daemon has ended");
    let pids = [pid(Daemon::Gateway)?, pid(Daemon::Ledger)?];
    let memory = || pids.iter().map(|pid| memory_kib(*pid, "Rss")).sum::<u64>();
    let before = memory();
    let mut holding = Vec::new();
    for number in 0..size.idle {
        let session = crowd.open(&profile, number, transport_of(number), &["true"]).await?;
        holding.push(tokio::task::spawn_local(hold(session)));
    }
    tokio::time::sleep(SETTLE).await;
    let grown = memory().saturating_sub(before) as f64 / size.idle as f64;
    let (cpu, begun) = (own_cpu(&pids)?, Instant::now());
    tokio::time::sleep(COUNTED).await;
    let used = own_cpu(&pids)?.saturating_sub(cpu).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    anyhow::ensure!(!holding.iter().any(tokio::task::JoinHandle::is_finished), "a session ended meanwhile");
    holding.iter().for_each(tokio::task::JoinHandle::abort);
    crowd.close()?;
    bench.unrest.sample();
    let unrest = bench.unrest.take();
    let row = |metric: &str, unit, goal, ours| Row {
        metric: format!("{} idle sessions in played cells, half QUIC and half TLS: {metric}", size.idle),
        peer: None,
        unit,
        goal,
        ours: vec![ours],
        theirs: Vec::new(),
        unrest,
    };
    Ok(vec![
        row("CPU of gateway and ledger", "% of a core", Goal::AtMost(5.0), used),
        row("memory of gateway and ledger for each", "KiB", Goal::Told, grown),
    ])
}

/// From a revocation to the last byte at each client.
///
/// # Errors
/// A session does not open, or does not end.
pub async fn revocation(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let mut rounds: [Vec<f64>; 2] = Default::default();
    for _ in 0..size.revocation_rounds {
        for (mode, round) in [Mode::Played, Mode::PlayedPermit].into_iter().zip(&mut rounds) {
            let samples = revocation::measure(mode, size.revoked).await?;
            round.push(percentile(&samples.iter().map(|sample| ms(sample.last_byte)).collect::<Vec<_>>(), 0.99));
        }
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let row = |what: &str, ours| Row {
        metric: format!("{what} → last byte at {} clients, p99", size.revoked),
        peer: None,
        unit: "ms",
        goal: Goal::AtMost(1000.0),
        ours,
        theirs: Vec::new(),
        unrest,
    };
    let [list, permits] = rounds;
    Ok(vec![row("certificate revoked", list), row("permits revoked by a signed revision", permits)])
}
