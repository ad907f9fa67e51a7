//! A process of the environment dies in the middle of everything.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{Daemon, Options, Person, Running, Stage, poll};
use sulku_tests::{SOON, session_of};

/// How long the warden keeps the cells of a lost gateway in these tests.
const GRACE_S: u32 = 4;
/// What a program in a cell is called, to be found among the host's processes.
const MARK: &str = "marked-for-loss";

/// A program that keeps a flow from the mirror going and says so.
const FLOWING: &str = "
import socket, sys
with socket.create_connection((sys.argv[1], 8080), timeout=8) as flow:
    flow.sendall(b'GET /flow HTTP/1.0\\r\\n\\r\\n')
    while flow.recv(100):
        print('flowing', flush=True)
";

fn flowing(stage: &Stage) -> anyhow::Result<Running> {
    let address = stage.mirror().address().to_string();
    let mut session = stage.connected(Person::Maija, &["--", "python3", "-c", FLOWING, &address, MARK])?;
    session.shows("flowing", SOON)?;
    ensure!(in_cell(stage), "the host sees the program in the cell");
    Ok(session)
}

fn in_cell(stage: &Stage) -> bool {
    stage.cell_processes().iter().any(|process| process.contains(MARK))
}

/// NW-06: with the warden, the cells and every way out of them are gone.
pub fn a_killed_warden_leaves_no_cell() -> anyhow::Result<()> {
    let mut stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let session = flowing(&stage)?;
    let id = session_of(&session)?;
    stage.kill(Daemon::Warden, Signal::KILL);
    poll(SOON, || stage.cell_processes().is_empty().then_some(())).with_context(|| format!("cells run on: {:?}", stage.cell_processes()))?;
    session.finish(SOON)?;
    let closed = stage.entry(&["--event", "session.closed", "--session", &id], SOON, |_| true)?;
    ensure!(closed.data("reason") == "warden-lost", "{closed:?}");
    let silent = stage.mirror().arrivals().len();
    let refused = stage.connect(Person::Maija, &["--", "echo", "inside"])?;
    ensure!(refused.code() != Some(0) && refused.out.is_empty(), "no cell can be built: {refused:?}");
    ensure!(stage.mirror().arrivals().len() == silent, "nothing reaches the mirror any more");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// NW-06: without its gateway, a cell has neither input nor egress at once, and is gone after the grace.
pub fn a_killed_gateway_leaves_cells_without_egress_and_soon_none() -> anyhow::Result<()> {
    let mut stage = Stage::raise(&Options { rows: 100, gateway_lost_grace_s: GRACE_S, ..Options::default() })?;
    let session = flowing(&stage)?;
    let id = session_of(&session)?;
    let before = stage.mirror().arrivals().len();
    poll(SOON, || (stage.mirror().arrivals().len() > before).then_some(())).context("the control: its packets keep arriving")?;
    stage.kill(Daemon::Gateway, Signal::KILL);
    let lost = stage.entry(&["--event", "warden.gateway-lost"], SOON, |_| true)?;
    ensure!(lost.data("cells") == 1, "{lost:?}");
    // The mirror repeats what it is owed nothing for; only the cell's own packets would be counted.
    let silent = stage.mirror().arrivals().len();
    std::thread::sleep(Duration::from_secs(1));
    ensure!(stage.mirror().arrivals().len() == silent, "packets of the cell still arrive");
    let reaped = stage.entry(&["--event", "cell.reaped", "--session", &id], Duration::from_secs(u64::from(GRACE_S)) + SOON, |_| true)?;
    ensure!(reaped.data("reason") == "gateway-lost" && reaped.data("leftovers").as_array().is_some_and(Vec::is_empty), "{reaped:?}");
    ensure!(!in_cell(&stage), "{:?}", stage.cell_processes());
    drop(session);
    stage.start(Daemon::Gateway)?;
    let closed = sulku_tests::closed(&stage, &id)?;
    ensure!(closed.data("reason") == "gateway-lost" && closed.data("from_part") == 1, "{closed:?}");
    let again = stage.connect(Person::Maija, &["--", "echo", "inside"])?;
    ensure!(again.code() == Some(0), "a new gateway serves: {again:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// LG-05: no record, no access.
pub fn without_a_ledger_nothing_opens_and_nothing_goes_on() -> anyhow::Result<()> {
    let mut stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let session = flowing(&stage)?;
    stage.kill(Daemon::Ledger, Signal::KILL);
    let refused = stage.connect(Person::Maija, &["--", "echo", "inside"])?;
    ensure!(refused.code() != Some(0) && !refused.out.contains("inside"), "{refused:?}");
    let shown = session.out().len();
    std::thread::sleep(Duration::from_secs(2));
    ensure!(session.out().len() == shown, "the session shows what nobody records");
    session.finish(Duration::from_secs(60)).context("a session without a ledger ends")?;
    // The other two end when they can't record; they are started anew, and what was recorded before is whole.
    for daemon in [Daemon::Gateway, Daemon::Warden] {
        stage.kill(daemon, Signal::TERM);
    }
    for daemon in Daemon::ALL {
        stage.start(*daemon)?;
    }
    let again = stage.connect(Person::Maija, &["--", "echo", "inside"])?;
    ensure!(again.code() == Some(0), "{again:?}");
    let (socket, key) = (stage.ledger_socket().display().to_string(), stage.ledger_key().display().to_string());
    let verified = stage.run(&["audit", "verify", "--ledger", &socket, "--key", &key])?;
    ensure!(verified.code() == Some(0), "{verified:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A shell that says the seconds as they pass.
const TICKING: &[&str] = &["--", "sh", "-c", "while :; do echo tick; sleep 0.2; done"];

/// LG-05: nothing goes on unrecorded, the holder is told why, and what waited comes when the ledger is back.
pub fn a_stalled_ledger_freezes_a_session_which_goes_on_with_it() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let mut session = stage.connected(Person::Maija, TICKING)?;
    session.shows("tick", SOON)?;
    let ledger = Stalled::new(&stage)?;
    let stalled = Instant::now();
    poll(Duration::from_secs(8), || session.err().contains("can't record this session just now").then_some(()))
        .with_context(|| format!("she was not told: {}", session.err()))?;
    let took = stalled.elapsed();
    ensure!((Duration::from_secs(4)..Duration::from_secs(7)).contains(&took), "frozen after {took:?}");
    let shown = session.out().len();
    session.type_line("echo typed-while-frozen > /dev/null")?;
    let until = Instant::now() + Duration::from_secs(2);
    poll(Duration::from_secs(3), || (Instant::now() >= until || session.out().len() > shown).then_some(()));
    ensure!(session.out().len() == shown, "it shows what nobody records");
    drop(ledger);
    poll(SOON, || session.err().contains("recorded again and goes on").then_some(()))
        .with_context(|| format!("it did not go on: {}", session.err()))?;
    poll(SOON, || (session.out().len() > shown).then_some(())).context("what waited is shown")?;
    let id = session_of(&session)?;
    session.signal(Signal::TERM);
    session.finish(SOON)?;
    let closed = stage.entry(&["--event", "session.closed", "--session", &id], SOON, |_| true)?;
    ensure!(closed.data("reason") == "shell-exited" || closed.data("reason") == "holder-left", "{closed:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// LG-05: half a minute without a record ends it; the closing entry follows when the ledger is back.
pub fn a_ledger_that_stays_stalled_ends_the_session() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let mut session = stage.connected(Person::Maija, TICKING)?;
    session.shows("tick", SOON)?;
    let id = session_of(&session)?;
    let ledger = Stalled::new(&stage)?;
    let stalled = Instant::now();
    let ended = session.finish(Duration::from_secs(40)).context("it goes on")?;
    let took = stalled.elapsed();
    ensure!((Duration::from_secs(28)..Duration::from_secs(35)).contains(&took), "it ended after {took:?}");
    ensure!(ended.err.contains("audit-failed") && ended.err.contains("call its operator"), "{}", ended.err);
    poll(SOON, || stage.cell_processes().is_empty().then_some(())).context("its cell runs on")?;
    drop(ledger);
    let closed = stage.entry(&["--event", "session.closed", "--session", &id], SOON, |_| true)?;
    let chunks = stage.entries(&["--event", "recording.chunk", "--session", &id])?.len();
    ensure!(closed.data("reason") == "audit-failed" && closed.data("chunks") == chunks, "{closed:?}, {chunks} chunks");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A ledger that is stopped in its tracks until this is dropped.
struct Stalled(rustix::process::Pid);

impl Stalled {
    fn new(stage: &Stage) -> anyhow::Result<Self> {
        let pid = stage.pid(Daemon::Ledger).and_then(|pid| rustix::process::Pid::from_raw(pid.try_into().ok()?)).context("the ledger runs")?;
        rustix::process::kill_process(pid, Signal::STOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // A ledger that is gone needs no waking.
        let _gone = rustix::process::kill_process(self.0, Signal::CONT);
    }
}

/// NW-06: a host that lacks one control holds no cell, and each refusal says which.
pub fn a_host_without_a_control_refuses_every_session() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 100, hidden_from_warden: Some("/usr/sbin/nft".into()), ..Options::default() })?;
    let refused = stage.connect(Person::Maija, &["--", "echo", "inside"])?;
    ensure!(refused.code() == Some(3) && refused.out.is_empty(), "{refused:?}");
    ensure!(
        refused.err.contains("cell-unavailable") && !refused.err.contains("nft"),
        "the holder learns what to do, not what is inside: {refused:?}"
    );
    let entry = stage.entry(&["--event", "session.refused", "--person", "maija"], SOON, |_| true)?;
    let reason = entry.data("reason").to_string();
    ensure!(reason.contains("/usr/sbin/nft") && reason.contains("install the package nftables"), "{reason}");
    Ok(())
}
