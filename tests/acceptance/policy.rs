//! What operators sign is what counts, at once and nothing else.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sulku_stage::{ASTHMA, Daemon, Options, Person, Stage};
use sulku_tests::{SOON, closed, session_of};

const WORK: &[&str] = &["--", "sh", "-c", "while sleep 0.1; do echo at work; done"];

/// IA-07, LC-01, SE-05. Each opening names the revision that admits; one that takes a permit away ends its sessions within a second and a
/// half, as the client sees it, and no other; a revision that was changed is refused, and what was in force stays so.
pub fn only_a_signed_revision_counts_and_it_counts_at_once() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let (mut maija, mut bo) = (stage.connected(Person::Maija, WORK)?, stage.connected(Person::Bo, WORK)?);
    for session in [&mut maija, &mut bo] {
        session.shows("at work", SOON)?;
    }
    let revision = |entry: &sulku_stage::Entry| entry.data("policy").as_str().map(str::to_owned);
    let first = stage.entry(&["--event", "policy.activated"], SOON, |entry| entry.data("number") == 1)?;
    let name = format!("1 {}", first.data("sha256").as_str().context("a digest")?);
    let (his, hers) = (session_of(&bo)?, session_of(&maija)?);
    let opened = stage.entry(&["--event", "session.opened", "--session", &hers], SOON, |_| true)?;
    ensure!(revision(&opened).as_ref() == Some(&name), "{opened:?}");

    // A file of the working copy is nobody's word; neither is a revision that was changed after it was signed.
    let permit = stage.folder().join("policies/permits/asthma-and-air.toml");
    let text = fs::read_to_string(&permit)?;
    fs::write(&permit, text.replace("[permit]\n", "[permit]\nstatus = \"REVOKED\"\n"))?;
    let (from, forged) = (stage.folder().join("policy/revisions/000001.revision"), stage.folder().join("policy/revisions/000002.revision"));
    fs::write(&forged, fs::read_to_string(from)?.replace("number 1\n", "number 2\n"))?;
    for event in ["policy.refused", "warden.policy-refused"] {
        stage.entry(&["--event", event], SOON, |entry| entry.data("in_force") == 1)?;
    }
    let lines = bo.out().lines().count();
    bo.shows("at work", SOON)?;
    ensure!(stage.connect(Person::Bo, &["--", "true"])?.code() == Some(0), "the control: what was in force stays so ({lines} lines)");
    fs::remove_file(forged)?;

    // The same words, signed.
    stage.apply("the issuer has revoked it")?;
    let applied = Instant::now();
    bo.finish(SOON)?;
    let took = applied.elapsed();
    ensure!(took < Duration::from_millis(1_500), "it took {} ms from the revision to his prompt", took.as_millis());
    ensure!(closed(&stage, &his)?.data("reason") == "permit-revoked");
    ensure!(stage.connect(Person::Bo, &["--", "true"])?.code() == Some(3));
    stage.entry(&["--event", "session.refused", "--permit", ASTHMA], SOON, |entry| entry.data("code") == "permit-revoked")?;
    stage.entry(&["--event", "policy.activated"], SOON, |entry| entry.data("number") == 2 && entry.data("before") == 1)?;
    let lines = maija.out().lines().count();
    let until = Instant::now() + SOON;
    while maija.out().lines().count() <= lines {
        ensure!(Instant::now() < until, "the control: Maija works on; {}", stage.log(Daemon::Gateway));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(maija);
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// SE-05: everything, now, under every permit; and on again. A gateway that is told to reload goes on as it was.
pub fn a_halt_ends_every_session_and_admits_nobody_until_it_is_lifted() -> anyhow::Result<()> {
    let stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let (mut maija, mut bo) = (stage.connected(Person::Maija, WORK)?, stage.connected(Person::Bo, WORK)?);
    for session in [&mut maija, &mut bo] {
        session.shows("at work", SOON)?;
    }
    let sessions = [session_of(&maija)?, session_of(&bo)?];
    let halt = stage.folder().join("policies/halt.toml");
    fs::write(&halt, "schema = 1\n\n[halt]\nreason = \"an incident\"\n")?;
    stage.apply("an incident")?;
    maija.finish(SOON)?;
    bo.finish(SOON)?;
    for session in &sessions {
        ensure!(closed(&stage, session)?.data("reason") == "halted");
    }
    for person in [Person::Maija, Person::Bo] {
        let refused = stage.connect(person, &["--", "true"])?;
        ensure!(refused.code() == Some(3) && refused.err.contains("halted"), "{refused:?}");
    }
    let gateway =
        stage.pid(Daemon::Gateway).and_then(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)).context("the gateway's process")?;
    rustix::process::kill_process(gateway, rustix::process::Signal::HUP)?;
    fs::remove_file(&halt)?;
    stage.apply("it is over")?;
    stage.entry(&["--event", "policy.activated"], SOON, |entry| entry.data("number") == 3)?;
    ensure!(stage.connect(Person::Maija, &["--", "true"])?.code() == Some(0), "{}", stage.log(Daemon::Gateway));
    ensure!(stage.log(Daemon::Gateway).contains("gateway reloads"), "it was told");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
