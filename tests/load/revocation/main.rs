//! How long a revocation takes, from the list's or the permit's change to the last byte at each client.
//!
//! `revocation real N ROUNDS` opens N sessions in real cells, half over QUIC and half over TLS, of a person whose certificate is then
//! revoked; `revocation permit N ROUNDS` revokes the permit by a signed revision instead, from the operator's command on. `revocation
//! played N ROUNDS` has a warden that only plays cells, so that thousands fit on a small machine: ledger, gateway, wire and clients are
//! real; `played-permit` revokes their permits by a revision. All of it is measured here, in the clients' process. It asserts nothing: a figure is not a test.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Resource, Rlimit, Signal};
use sulku_client::{Event, Profile, Session, Terminal, Transport, connect};
use sulku_load::played;
use sulku_permit::PermitId;
use sulku_protocol::Stay;
use sulku_stage::{Daemon, Options, PermitFile, Person, Stage};

/// Sessions that a permit lets one person have.
const PER_PERMIT: usize = 64;
/// All sessions must be open and showing by then.
const OPEN_WITHIN: Duration = Duration::from_secs(300);
/// All sessions must have ended by then.
const END_WITHIN: Duration = Duration::from_secs(60);

/// What one client saw, counted from the change.
struct Sample {
    transport: Transport,
    last_byte: Duration,
    told: Duration,
}

/// What is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Real,
    Permit,
    Played,
    PlayedPermit,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (mode, count, rounds) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["real", count, rounds] => (Mode::Real, count, rounds),
        ["permit", count, rounds] => (Mode::Permit, count, rounds),
        ["played", count, rounds] => (Mode::Played, count, rounds),
        ["played-permit", count, rounds] => (Mode::PlayedPermit, count, rounds),
        _ => bail!("usage: revocation real|permit|played|played-permit SESSIONS ROUNDS"),
    };
    let (count, rounds): (usize, usize) = (count.parse().context("a number of sessions")?, rounds.parse().context("a number of rounds")?);
    // The daemons inherit it: a thousand connections and as many terminals are beyond what shells set.
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        samples.extend(tokio::task::LocalSet::new().block_on(&runtime, measure(mode, count))?);
    }
    println!("{:<10} {:>9} {:>22} {:>22}", "", "sessions", "last byte p50/p99/max", "told p50/p99/max");
    for (name, of) in [("QUIC", Some(Transport::Quic)), ("TLS", Some(Transport::Tls)), ("together", None)] {
        let these: Vec<_> = samples.iter().filter(|sample| of.is_none_or(|of| sample.transport == of)).collect();
        let figures = |of: fn(&Sample) -> Duration| summary(these.iter().map(|sample| of(sample)).collect());
        println!("{name:<10} {:>9} {:>22} {:>22}", these.len(), figures(|sample| sample.last_byte), figures(|sample| sample.told));
    }
    Ok(())
}

/// p50, p99 and the most, in milliseconds.
fn summary(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |part: f64| times.get(((times.len() as f64 * part).ceil() as usize).saturating_sub(1)).map_or(0, Duration::as_millis);
    format!("{}/{}/{} ms", at(0.5), at(0.99), at(1.0))
}

async fn measure(mode: Mode, count: usize) -> anyhow::Result<Vec<Sample>> {
    let permits: Vec<_> = (0..count.div_ceil(PER_PERMIT)).map(|number| (format!("TEST/load-{number}/2026"), format!("load-{number}"))).collect();
    let limits = format!("[session]\nmax_per_person = {PER_PERMIT}\nfrom_networks = [\"127.0.0.0/8\"]\nmax_length = \"12 h\"\n");
    let files = permits.iter().map(|(id, workspace)| PermitFile::bare(id, workspace, Person::Tiina, &limits)).collect();
    let options = Options { rows: 10, permits: files, limits: "connections_per_address = 4000".to_owned(), ..Options::default() };
    let mut stage = Stage::raise(&options)?;
    let playing = match mode {
        Mode::Played | Mode::PlayedPermit => {
            stage.kill(Daemon::Gateway, Signal::TERM).context("the gateway ends")?;
            stage.kill(Daemon::Warden, Signal::TERM).context("the warden ends")?;
            let playing = played::Warden::at(&stage.warden_socket())?;
            stage.start(Daemon::Gateway)?;
            Some(playing)
        }
        Mode::Real | Mode::Permit => None,
    };
    let profile = Arc::new(Profile::load(&stage.profile(Person::Tiina))?);
    let showing = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for number in 0..count {
        let transport = if number % 2 == 0 { Transport::Quic } else { Transport::Tls };
        let permit: PermitId = permits[number / PER_PERMIT].0.parse().map_err(|_| anyhow::anyhow!("an id"))?;
        let command = ["sh", "-c", "while sleep 0.05; do echo at work; done"].map(str::to_owned).to_vec();
        let terminal = Terminal { term: "xterm".to_owned(), columns: 80, rows: 24 };
        let session =
            connect(&profile, transport, Some(permit), Some(command), terminal, Stay::Ends).await.with_context(|| format!("session {number}"))?;
        clients.push((transport, tokio::task::spawn_local(look(session, Arc::clone(&showing)))));
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
        Mode::Real | Mode::Played => stage.authority().revoke(Person::Tiina)?,
        Mode::Permit | Mode::PlayedPermit => {
            permits.iter().try_for_each(|(_, workspace)| revoke(&stage.folder().join(format!("policies/permits/{workspace}.toml"))))?;
            stage.apply("revoked")?;
        }
    }
    let mut samples = Vec::new();
    for (transport, client) in clients {
        let (last, ended) = tokio::time::timeout(END_WITHIN, client).await.context("a session did not end")??;
        samples.push(Sample { transport, last_byte: last.saturating_duration_since(changed), told: ended.saturating_duration_since(changed) });
    }
    // How long the gateway judged them, as it says itself.
    stage.log(Daemon::Gateway).lines().filter(|line| line.contains("judged anew")).for_each(|line| eprintln!("{line}"));
    drop(playing);
    let left = stage.close();
    ensure!(left.is_empty(), "something is left: {left:?}");
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
