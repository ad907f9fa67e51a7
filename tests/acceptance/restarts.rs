//! The gateway is started anew while its holders work: nobody's work ends with it, and nothing of it is lost without a word.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{Daemon, Finished, Options, PermitFile, Person, Stage, poll};
use sulku_tests::{AGAIN, AtTerminal, SOON, closed, session_id};

fn raised() -> anyhow::Result<Stage> {
    let terms = "[session]\nfrom_networks = [\"127.0.0.0/8\"]\nmax_per_person = 4\n";
    let permit = PermitFile::bare(AGAIN, "again", Person::Tiina, terms);
    Ok(Stage::raise(&Options { rows: 100, permits: vec![permit], ..Options::default() })?)
}

fn at_terminal(stage: &Stage, transport: &str) -> anyhow::Result<AtTerminal> {
    let mut command: Command = stage.sulku(&["connect", "--profile"]);
    command.arg(stage.profile(Person::Tiina)).args([AGAIN, "--new", "--transport", transport]);
    AtTerminal::start(command)
}

fn audit(stage: &Stage, args: &[&str]) -> anyhow::Result<Finished> {
    let (ledger, key) = (stage.ledger_socket().display().to_string(), stage.ledger_key().display().to_string());
    Ok(stage.run(&[&["audit"], args, &["--ledger", &ledger, "--key", &key]].concat())?)
}

/// The recording of the session, as its auditor sees it.
fn played(stage: &Stage, id: &str) -> anyhow::Result<Finished> {
    let identity = stage.auditor_identity().display().to_string();
    let played = audit(stage, &["play", id, "--no-wait", "--identity", &identity])?;
    ensure!(played.code() == Some(0), "{played:?}");
    Ok(played)
}

/// The number of the last tick that was shown.
fn last_tick(shown: &str) -> u32 {
    shown.rsplit("tick-").filter_map(|rest| rest.split_once('-')?.0.parse().ok()).next().unwrap_or_default()
}

/// SE-02: a gateway that is killed takes nobody's work with it: the same processes go on, their holder is back by herself, and the recording's
/// parts show what she saw.
pub fn a_killed_gateway_is_replaced_and_its_sessions_go_on() -> anyhow::Result<()> {
    let mut stage = raised()?;
    let mut terminal = at_terminal(&stage, "tls")?;
    terminal.shows("with ~d it goes on without you", SOON)?;
    let id = session_id(&terminal.shown())?;
    terminal.types("echo pid-is-$$; n=0; while sleep 0.1; do n=$((n+1)); echo tick-$n-; done\r")?;
    terminal.shows("tick-3-", SOON)?;
    let running = stage.cell_processes();
    for round in 1..=2 {
        let before = terminal.shown().len();
        stage.kill(Daemon::Gateway, Signal::KILL);
        terminal.shows_after(before, "connection lost, trying again", SOON)?;
        let ticks = last_tick(&terminal.shown());
        stage.start(Daemon::Gateway)?;
        terminal.shows_after(before, "back after", SOON)?;
        terminal.shows_after(before, "the gateway was started anew", SOON)?;
        poll(SOON, || (last_tick(&terminal.shown()) > ticks + 3).then_some(())).with_context(|| format!("it stands still: {}", terminal.shown()))?;
        let adopted = stage.entries(&["--event", "session.adopted", "--session", &id])?;
        ensure!(adopted.len() == round && adopted.iter().any(|entry| entry.data("part") == round), "{adopted:?}");
    }
    let shell = |processes: &[String]| processes.iter().find(|process| process.contains("bash")).cloned();
    ensure!(shell(&running).is_some() && shell(&running) == shell(&stage.cell_processes()), "{running:?}, {:?}", stage.cell_processes());
    terminal.types("\u{3}")?;
    terminal.types("echo pid-still-$$; exit 5\r")?;
    let (status, shown) = terminal.finish(SOON)?;
    ensure!(status.code() == Some(5), "{status}: {shown}");
    let number = |after: &str| shown.split(after).skip(1).find_map(|rest| rest.lines().next()?.trim().parse::<u32>().ok());
    ensure!(number("pid-is-").is_some() && number("pid-is-") == number("pid-still-"), "the same shell: {shown}");

    let closed = closed(&stage, &id)?;
    ensure!(closed.data("reason") == "shell-exited" && closed.data("from_part") == 2, "{closed:?}");
    ensure!(stage.entries(&["--event", "session.opened", "--session", &id])?.len() == 1);
    let played = played(&stage, &id)?;
    ensure!(played.err.contains("has 3 parts") && played.out.contains("pid-is-"), "{played:?}");
    let ticks = shown.split("tick-").skip(1).filter_map(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
    for tick in ticks {
        ensure!(played.out.contains(&format!("tick-{tick}-")), "tick {tick} was shown, and is in no part: {}", played.out);
    }
    let verified = audit(&stage, &["verify"])?;
    ensure!(verified.code() == Some(0), "{verified:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// SE-02: told to stop, it leaves its sessions to the next one in order; nothing that was shown or typed is lost.
pub fn a_gateway_that_is_told_to_stop_leaves_its_sessions_to_the_next_one() -> anyhow::Result<()> {
    let mut stage = raised()?;
    for transport in ["quic", "tls"] {
        let mut terminal = at_terminal(&stage, transport)?;
        terminal.shows("with ~d it goes on without you", SOON)?;
        let id = session_id(&terminal.shown())?;
        terminal.types("kept=here; echo rea''dy\r")?;
        terminal.shows("ready", SOON)?;
        let before = terminal.shown().len();
        let ended = stage.kill(Daemon::Gateway, Signal::TERM).context("the gateway ends in time")?;
        ensure!(ended.success(), "{ended}: {}", stage.log(Daemon::Gateway));
        let detached = stage.entry(&["--event", "session.detached", "--session", &id], SOON, |_| true)?;
        ensure!(detached.data("reason") == "gateway-stopped", "{detached:?}");
        let stopped = stage.entry(&["--event", "gateway.stopped"], SOON, |entry| entry.data("sessions_left") == 1)?;
        ensure!(stopped.data("sessions_closed") == 0, "{stopped:?}");
        terminal.shows_after(before, "connection lost, trying again", SOON)?;
        stage.start(Daemon::Gateway)?;
        terminal.shows_after(before, "back after", SOON)?;
        ensure!(!terminal.shown().contains("may have been lost"), "all that was typed had been taken: {}", terminal.shown());
        terminal.types("echo still $kept; exit\r")?;
        let (_, shown) = terminal.finish(SOON)?;
        ensure!(shown.contains("still here"), "{shown}");
        ensure!(closed(&stage, &id)?.data("reason") == "shell-exited");
        let played = played(&stage, &id)?;
        ensure!(played.out.contains("ready") && played.out.contains("still here"), "{played:?}");
    }
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// SE-06: whoever connects and says nothing has ten seconds of a gateway that serves, and none of one that is to end: the next one waits.
pub fn peers_that_say_nothing_do_not_keep_a_gateway_from_its_end() -> anyhow::Result<()> {
    let mut stage = raised()?;
    let silent: Vec<_> = (0..16).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, stage.port()))).collect::<Result<_, _>>()?;
    let mut last = silent.last().context("there are some")?;
    last.set_read_timeout(Some(Duration::from_millis(500)))?;
    ensure!(last.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "the control: the gateway still waits for them");
    let began = Instant::now();
    let ended = stage.kill(Daemon::Gateway, Signal::TERM).context("the gateway ends in time")?;
    let took = began.elapsed();
    ensure!(ended.success() && took < Duration::from_secs(6), "{ended} after {took:?}: {}", stage.log(Daemon::Gateway));
    stage.start(Daemon::Gateway)?;
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A client over QUIC, to which a killed gateway says nothing, hears from the next one that its connection is none any more.
pub fn over_quic_the_next_gateway_says_that_the_connection_is_gone() -> anyhow::Result<()> {
    let mut stage = raised()?;
    let mut terminal = at_terminal(&stage, "quic")?;
    terminal.shows("with ~d it goes on without you", SOON)?;
    terminal.types("kept=here; echo rea''dy\r")?;
    terminal.shows("ready", SOON)?;
    let before = terminal.shown().len();
    stage.kill(Daemon::Gateway, Signal::KILL);
    stage.start(Daemon::Gateway)?;
    // Whatever is sent over the old connection is answered so.
    terminal.types("\r")?;
    terminal.shows_after(before, "back after", SOON)?;
    terminal.shows_after(before, "the gateway was started anew", SOON)?;
    terminal.types("echo still $kept; exit\r")?;
    let (_, shown) = terminal.finish(SOON)?;
    ensure!(shown.contains("still here"), "{shown}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// IA-07: whoever is not admitted any more when the gateway is back has no session any more.
pub fn a_gateway_that_comes_back_ends_the_session_of_a_revoked_certificate() -> anyhow::Result<()> {
    let mut stage = raised()?;
    let mut terminal = at_terminal(&stage, "tls")?;
    terminal.shows("with ~d it goes on without you", SOON)?;
    let id = session_id(&terminal.shown())?;
    terminal.types("echo he''re\r")?;
    terminal.shows("here", SOON)?;
    stage.kill(Daemon::Gateway, Signal::KILL);
    terminal.shows("connection lost", SOON)?;
    ensure!(!stage.cell_processes().is_empty(), "the control: its cell is still there");
    stage.authority().revoke(Person::Tiina)?;
    stage.start(Daemon::Gateway)?;
    let closed = closed(&stage, &id)?;
    ensure!(closed.data("reason") == "revoked" && closed.data("from_part") == 1, "{closed:?}");
    let reaped = stage.entry(&["--event", "cell.reaped", "--session", &id], SOON, |_| true)?;
    ensure!(reaped.data("reason") == "revoked", "{reaped:?}");
    ensure!(stage.entries(&["--event", "session.adopted", "--session", &id])?.is_empty(), "nobody had it in between");
    let (status, shown) = terminal.finish(SOON)?;
    ensure!(!status.success() && !shown.contains("back after"), "{shown}");
    ensure!(played(&stage, &id)?.out.contains("here"), "what was recorded before is there");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
