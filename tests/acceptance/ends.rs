//! Every way in which a session ends: a closing entry with its reason, and nothing left of the cell.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{ASTHMA, Daemon, Options, Person, Stage};
use sulku_tests::{IDLE, LIMIT_S, LONGEST, SOON, closed, session_of, shared};

/// SE-01: what counts is what the holder does, not what her programs show.
pub fn an_idle_session_is_closed_however_much_it_shows() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut session = stage.connected(Person::Tiina, &[IDLE])?;
    // While she types, she is not idle: more than the limit in all, less between two lines.
    for _ in 0..4 {
        session.type_line("echo here")?;
        std::thread::sleep(Duration::from_millis(LIMIT_S * 1_000 / 3));
    }
    session.type_line("while sleep 0.2; do echo showing; done")?;
    let typed = Instant::now();
    session.shows("showing", SOON).context("she was not idle so far")?;
    let id = session_of(&session)?;
    session.finish(SOON)?;
    let idle = typed.elapsed().as_secs_f64();
    ensure!(closed(&stage, &id)?.data("reason") == "idle");
    let limit = Duration::from_secs(LIMIT_S).as_secs_f64();
    ensure!((limit - 0.2..limit + 3.0).contains(&idle), "closed after {idle:.1} s of {limit} s");
    Ok(())
}

/// SE-02
pub fn the_longest_session_ends() -> anyhow::Result<()> {
    let stage = shared()?;
    let begun = Instant::now();
    let mut session = stage.connected(Person::Tiina, &[LONGEST, "--", "sh", "-c", "echo here; sleep 60"])?;
    session.shows("here", SOON)?;
    let id = session_of(&session)?;
    session.finish(SOON)?;
    let lasted = begun.elapsed().as_secs_f64();
    ensure!(closed(&stage, &id)?.data("reason") == "longest-session");
    ensure!(lasted < Duration::from_secs(LIMIT_S).as_secs_f64() + 3.0, "it lasted {lasted:.1} s");
    Ok(())
}

/// SE-05
pub fn an_operator_ends_a_session() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut session = stage.connected(Person::Maija, &["--", "sh", "-c", "echo here; sleep 60"])?;
    session.shows("here", SOON)?;
    let id = session_of(&session)?;
    let profile = stage.profile(Person::Onni).display().to_string();
    let ended = stage.run(&["sessions", "end", &id, "--profile", &profile])?;
    ensure!(ended.code() == Some(0), "{ended:?}");
    session.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "operator");
    let acted = stage.entry(&["--event", "operator.acted"], SOON, |entry| entry.data("action") == "session-ended" && entry.field("session") == id)?;
    ensure!(acted.field("person") == "onni", "{acted:?}");
    Ok(())
}

/// SE-05: the flow stops with the session, and no socket keeps anything of the cell alive.
pub fn a_session_that_ends_in_the_middle_of_a_flow_leaves_nothing() -> anyhow::Result<()> {
    const FLOWING: &str = "import socket, sys\nflow = socket.create_connection((sys.argv[1], 8080))\n\
                           flow.sendall(b'GET /flow HTTP/1.0\\r\\n\\r\\n')\nwhile flow.recv(100): print('flowing', flush=True)";
    let stage = shared()?;
    let mut session = stage.connected(Person::Maija, &["--", "python3", "-c", FLOWING, &stage.mirror().address().to_string()])?;
    session.shows("flowing", SOON)?;
    let id = session_of(&session)?;
    let profile = stage.profile(Person::Onni).display().to_string();
    ensure!(stage.run(&["sessions", "end", &id, "--profile", &profile])?.code() == Some(0));
    session.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "operator");
    stage.entry(&["--event", "egress.allowed", "--session", &id], SOON, |entry| entry.data("bytes_in").as_u64() > Some(0))?;
    Ok(())
}

pub fn a_session_ends_when_its_holder_leaves() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut session = stage.connected(Person::Maija, &["--", "sh", "-c", "trap '' TERM; echo here; sleep 60"])?;
    session.shows("here", SOON)?;
    let id = session_of(&session)?;
    session.signal(Signal::TERM);
    session.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "holder-left");
    Ok(())
}

/// SE-02
pub fn a_session_ends_when_its_connection_breaks() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut session = stage.connected(Person::Maija, &["--transport", "tls", "--", "sh", "-c", "echo here; sleep 60"])?;
    session.shows("here", SOON)?;
    let id = session_of(&session)?;
    session.signal(Signal::KILL);
    session.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "holder-left");
    Ok(())
}

/// LC-03
pub fn a_permits_end_ends_the_open_session() -> anyhow::Result<()> {
    let lasts = Duration::from_secs(12);
    let stage = Stage::raise(&Options { rows: 100, asthma_ends_after: Some(lasts), ..Options::default() })?;
    let mut bo = stage.connected(Person::Bo, &["--", "sh", "-c", "echo here; sleep 60"])?;
    bo.shows("here", SOON)?;
    let mut maija = stage.connected(Person::Maija, &["--", "sh", "-c", "echo here; sleep 3; echo still here; sleep 60"])?;
    maija.shows("here", SOON)?;
    let id = session_of(&bo)?;
    bo.finish(lasts + SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "permit-ended");
    let again = stage.connect(Person::Bo, &["--", "true"])?;
    ensure!(again.code() == Some(3), "{again:?}");
    stage.entry(&["--event", "session.refused", "--permit", ASTHMA], SOON, |entry| entry.data("code") == "permit-expired")?;
    maija.shows("still here", SOON).context("the control: Maija's permit has not ended")?;
    drop(maija);
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

pub fn a_draining_gateway_closes_its_sessions() -> anyhow::Result<()> {
    let mut stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let mut session = stage.connected(Person::Maija, &["--", "sh", "-c", "echo here; sleep 60"])?;
    session.shows("here", SOON)?;
    let id = session_of(&session)?;
    let ended = stage.kill(Daemon::Gateway, Signal::TERM).context("the gateway ends in time")?;
    ensure!(ended.success(), "{ended}: {}", stage.log(Daemon::Gateway));
    session.finish(SOON)?;
    ensure!(closed(&stage, &id)?.data("reason") == "drain");
    let stopped = stage.entry(&["--event", "gateway.stopped"], SOON, |_| true)?;
    ensure!(stopped.data("sessions_closed") == 1, "{stopped:?}");
    stage.start(Daemon::Gateway)?;
    let again = stage.connect(Person::Maija, &["--", "true"])?;
    ensure!(again.code() == Some(0), "it serves again: {again:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
