//! From the first packet to the first prompt: one at a time, and many at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sulku_client::DialError;
use sulku_permit::RefusalCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::bench::{Bench, Size};
use crate::machine::PAUSE;
use crate::processes;
use crate::row::{Goal, Row, median, ms};
use crate::side::Side;
use crate::ssh::Account;

/// Sessions that open at once.
const AT_ONCE: usize = 32;
const PROMPT: &[u8] = b"$ ";
const TRIES_EVERY: Duration = Duration::from_millis(20);
const ROOM_WITHIN: Duration = Duration::from_secs(60);
/// What a session leaves is cleared away by then, and its processor time counted with its parent's.
const SETTLE: Duration = Duration::from_millis(500);

async fn prompted(side: &Side) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let mut session = side.open(None).await?;
    let shown = session.until(PROMPT).await?;
    session.close().await?;
    Ok(shown - begun)
}

/// One at a time.
///
/// # Errors
/// A session does not open.
pub async fn one_at_a_time(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let ssh = |account: &Account| Side::Ssh(account.clone());
    let sides = [bench.tls()?, bench.quic()?, ssh(&bench.ed25519), ssh(&bench.ecdsa), Side::SshSandboxed(bench.ecdsa.clone())];
    let mut rounds: [Vec<f64>; 5] = Default::default();
    for side in &sides {
        prompted(side).await?;
    }
    for _ in 0..size.rounds {
        let mut times: [Vec<f64>; 5] = Default::default();
        for _ in 0..size.connects {
            for (side, times) in sides.iter().zip(&mut times) {
                tokio::time::sleep(PAUSE).await;
                times.push(ms(prompted(side).await?));
            }
        }
        rounds.iter_mut().zip(&times).for_each(|(round, times)| round.push(median(times)));
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let [tls, quic, ed25519, ecdsa, sandboxed] = rounds;
    let row = |transport, ours: &Vec<f64>, peer: &str, theirs: &Vec<f64>, goal| Row {
        metric: format!("connect to first prompt, {transport}, p50"),
        peer: Some(peer.to_owned()),
        unit: "ms",
        goal,
        ours: ours.clone(),
        theirs: theirs.clone(),
        unrest,
    };
    Ok(vec![
        row("TLS", &tls, "OpenSSH, Ed25519 certificates", &ed25519, Goal::AtMost(0.10)),
        row("TLS", &tls, "OpenSSH, ECDSA certificates", &ecdsa, Goal::AtMost(0.10)),
        row("TLS", &tls, "OpenSSH, ECDSA, + bubblewrap", &sandboxed, Goal::Told),
        row("QUIC", &quic, "OpenSSH, Ed25519 certificates", &ed25519, Goal::AtMost(0.12)),
        row("QUIC", &quic, "OpenSSH, ECDSA certificates", &ecdsa, Goal::AtMost(0.12)),
        row("QUIC", &quic, "OpenSSH, ECDSA, + bubblewrap", &sandboxed, Goal::Told),
    ])
}

/// A session of ours has its place until its cell is gone, which is after its client knows that it is closed. Who finds no place tries again, and
/// that counts.
async fn prompted_when_there_is_room(side: &Side) -> anyhow::Result<()> {
    let deadline = Instant::now() + ROOM_WITHIN;
    loop {
        let Err(error) = prompted(side).await else { return Ok(()) };
        let full = matches!(error.downcast_ref(), Some(DialError::Refused(refused)) if refused.code == RefusalCode::TooManySessions);
        anyhow::ensure!(full && Instant::now() < deadline, error);
        tokio::time::sleep(TRIES_EVERY).await;
    }
}

/// What many at once cost.
struct Crowd {
    per_second: f64,
    cpu_ms: f64,
}

async fn crowd(side: &Side, roots: &[u32], sessions: usize) -> anyhow::Result<Crowd> {
    let before = processes::cpu(roots);
    let begun = Instant::now();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut open = JoinSet::new();
    for _ in 0..sessions {
        let (side, slot) = (side.clone(), Arc::clone(&slots).acquire_owned().await?);
        open.spawn_local(async move {
            let outcome = prompted_when_there_is_room(&side).await;
            drop(slot);
            outcome
        });
    }
    while let Some(outcome) = open.join_next().await {
        outcome?.context("one of many sessions")?;
    }
    let took = begun.elapsed();
    tokio::time::sleep(SETTLE).await;
    let cpu = processes::cpu(roots).saturating_sub(before);
    let count = sessions as f64;
    Ok(Crowd { per_second: count / took.as_secs_f64(), cpu_ms: ms(cpu) / count })
}

/// Many at once.
///
/// # Errors
/// A session does not open.
pub async fn many_at_once(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    let (ours, theirs) = (bench.ours.pids()?, vec![bench.sshd_ecdsa.pid()]);
    let sides = [(bench.tls()?, &ours), (bench.quic()?, &ours), (Side::Ssh(bench.ecdsa.clone()), &theirs)];
    let mut rounds: [(Vec<f64>, Vec<f64>); 3] = Default::default();
    for _ in 0..size.rounds {
        for ((side, roots), (rates, cpus)) in sides.iter().zip(&mut rounds) {
            let Crowd { per_second, cpu_ms } = crowd(side, roots, size.crowd).await?;
            rates.push(per_second);
            cpus.push(cpu_ms);
        }
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let [tls, quic, ssh] = rounds;
    let row = |what, transport, unit, goal, ours: Vec<f64>, theirs: &Vec<f64>| Row {
        metric: format!("{what}, {AT_ONCE} at once, {transport}"),
        peer: Some("OpenSSH, ECDSA certificates".to_owned()),
        unit,
        goal,
        ours,
        theirs: theirs.clone(),
        unrest,
    };
    Ok(vec![
        row("sessions opened and closed", "TLS", "/s", Goal::AtLeast(8.0), tls.0, &ssh.0),
        row("sessions opened and closed", "QUIC", "/s", Goal::AtLeast(8.0), quic.0, &ssh.0),
        row("server CPU per session", "TLS", "ms", Goal::AtMost(0.2), tls.1, &ssh.1),
        row("server CPU per session", "QUIC", "ms", Goal::AtMost(0.2), quic.1, &ssh.1),
    ])
}
