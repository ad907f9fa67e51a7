//! What an idle session keeps in memory.

use std::time::Duration;

use sulku_client::Transport;

use crate::bench::{Bench, Size};
use crate::ours::{Ours, SESSIONS_MAX, STRICT};
use crate::processes::{family, memory_kib, name};
use crate::row::{Goal, Row};
use crate::side::{Session, Side};

/// Idle sessions of each side.
const IDLE: usize = SESSIONS_MAX - 14;
/// What starting them has used for a moment is given back by then.
const SETTLE: Duration = Duration::from_secs(2);

async fn open(side: &Side, count: usize) -> anyhow::Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for _ in 0..count {
        let mut session = side.open(None).await?;
        session.until(b"$ ").await?;
        sessions.push(session);
    }
    tokio::time::sleep(SETTLE).await;
    Ok(sessions)
}

async fn close(sessions: Vec<Session>) -> anyhow::Result<()> {
    for session in sessions {
        session.close().await?;
    }
    tokio::time::sleep(SETTLE).await;
    Ok(())
}

/// What gateway, ledger and warden of an environment of their own have grown by; and beyond that, what the cells' first processes have, which
/// are copies of the warden. Of the daemons all that is resident counts, since their share of what they have in common with those copies shrinks
/// with each.
async fn ours(transport: Transport) -> anyhow::Result<(f64, f64)> {
    let ours = Ours::raise()?;
    let (side, pids) = (ours.side(transport, STRICT)?, ours.pids()?);
    let daemons = || pids.iter().map(|pid| memory_kib(*pid, "Rss")).sum::<u64>();
    let copies = || family(&pids).iter().filter(|pid| !pids.contains(pid) && name(**pid) != "bash").map(|pid| memory_kib(*pid, "Pss")).sum::<u64>();
    // What the first one brings, all share.
    let first = open(&side, 1).await?;
    let (before, others) = (daemons(), copies());
    let sessions = open(&side, IDLE).await?;
    let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / IDLE as f64;
    let figures = (each(daemons(), before), each(copies(), others));
    close(sessions).await?;
    close(first).await?;
    let left = ours.stage.close();
    anyhow::ensure!(left.is_empty(), "something is left: {left:?}");
    Ok(figures)
}

/// What all processes of sshd's name have together.
async fn theirs(bench: &Bench) -> anyhow::Result<f64> {
    let all = || family(&[bench.sshd_ecdsa.pid()]).iter().filter(|pid| name(**pid) == "sshd").map(|pid| memory_kib(*pid, "Pss")).sum::<u64>();
    let side = Side::Ssh(bench.ecdsa.clone());
    let first = open(&side, 1).await?;
    let before = all();
    let sessions = open(&side, IDLE).await?;
    let figure = all().saturating_sub(before) as f64 / IDLE as f64;
    close(sessions).await?;
    close(first).await?;
    Ok(figure)
}

/// Memory per idle session.
///
/// # Errors
/// A session does not open.
pub async fn per_session(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let (mut tls, mut quic, mut ssh): ((Vec<_>, Vec<_>), (Vec<_>, Vec<_>), Vec<_>) = Default::default();
    for _ in 0..size.memory_rounds {
        for (transport, figures) in [(Transport::Tls, &mut tls), (Transport::Quic, &mut quic)] {
            let (daemons, copies) = ours(transport).await?;
            figures.0.push(daemons);
            figures.1.push(daemons + copies);
        }
        ssh.push(theirs(bench).await?);
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let row = |what, goal, ours| Row {
        metric: format!("memory per idle session, {what}"),
        peer: Some("OpenSSH".to_owned()),
        unit: "KiB",
        goal,
        ours,
        theirs: ssh.clone(),
        unrest,
    };
    Ok(vec![
        row("TLS", Goal::AtMost(0.07), tls.0),
        row("QUIC", Goal::AtMost(0.1), quic.0),
        row("TLS, cell's first process included", Goal::Told, tls.1),
        row("QUIC, cell's first process included", Goal::Told, quic.1),
    ])
}
