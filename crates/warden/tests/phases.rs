//! The warden, the gateway or the ledger is lost, in each phase of a session: nothing is left open, and the next session opens.

mod stage;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::Duration;

use stage::ledger::Manner;
use stage::{Gateway, Options, Stage, eventually};
use sulku_audit::Event;
use sulku_permit::SessionId;
use sulku_plan::order::{Order, Report};

/// Networks that the stage's warden keeps ready.
const POOL: usize = 2;

/// Where a session is when somebody dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// The order has just been given.
    Ordered,
    /// It is built; its record is not durable.
    AwaitingReceipt,
    /// Its shell waits for its holder.
    Idle,
    /// It works, and speaks with the world.
    Busy,
    /// Its command has ended; nobody has taken note.
    Ended,
    /// It has just been told to end.
    Ending,
}

const PHASES: [At; 6] = [At::Ordered, At::AwaitingReceipt, At::Idle, At::Busy, At::Ended, At::Ending];

/// Brings a session there.
fn bring(stage: &mut Stage, at: At) -> (SessionId, Option<stage::Running>) {
    let talk = "exec 3<>/dev/tcp/198.18.0.10/443; head -c 10 <&3; echo talking; while :; do echo x >&3; head -c 1 <&3 > /dev/null; done";
    match at {
        At::Ordered | At::AwaitingReceipt => {
            let draft = stage.opening("one.toml", None);
            let receipt = stage.ledger.keep(&draft);
            if at == At::AwaitingReceipt {
                stage.ledger.be(Manner::Silent);
            }
            stage.gateway.order(&stage::launch(receipt));
            if at == At::AwaitingReceipt {
                eventually("the cell is there, and what will be its shell", || (stage.cell_processes().len() == 2).then_some(()));
                assert!(!stage.gateway.readable(Duration::from_millis(200)), "control: it waits for its receipt");
            }
            (draft.session.expect("a session"), None)
        }
        At::Idle | At::Busy => {
            let running = stage.launch("one.toml", (at == At::Busy).then_some(&["/bin/bash", "-c", talk]));
            running.read_until(if at == At::Busy { "talking" } else { "$ " });
            assert!(in_router(stage, &["/usr/sbin/nft", "list", "ruleset"]).contains("\" . 10.210."), "control: its element can be seen");
            (running.session, Some(running))
        }
        At::Ended => {
            let running = stage.launch("one.toml", Some(&["true"]));
            assert!(matches!(stage.gateway.report().0, Report::Exited { .. }));
            (running.session, Some(running))
        }
        At::Ending => {
            let running = stage.launch("one.toml", None);
            running.read_until("$ ");
            stage.gateway.order(&Order::End { session: running.session, reason: "operator".to_owned() });
            (running.session, Some(running))
        }
    }
}

/// The network namespaces that processes are in.
fn namespaces() -> BTreeSet<String> {
    let processes =
        fs::read_dir("/proc").expect("proc").flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit()));
    processes.filter_map(|entry| fs::read_link(entry.path().join("ns/net")).ok()).map(|link| link.display().to_string()).collect()
}

fn mounts() -> usize {
    fs::read_to_string("/proc/self/mounts").expect("mounts").lines().count()
}

/// What a command says in the router, which only the warden holds.
fn in_router(stage: &Stage, command: &[&str]) -> String {
    let warden = format!("/proc/{}", stage.warden.id());
    let own = fs::read_link("/proc/self/ns/net").expect("a namespace");
    for entry in fs::read_dir(format!("{warden}/fd")).into_iter().flatten().flatten() {
        let Ok(found) = fs::read_link(entry.path()) else { continue };
        if !found.to_string_lossy().starts_with("net:[") || found == own {
            continue;
        }
        let net = format!("--net={}", entry.path().display());
        let output = Command::new("/usr/bin/nsenter").arg(&net).args(command).output().expect("nsenter");
        let links = Command::new("/usr/bin/nsenter").arg(&net).args(["/bin/ip", "-o", "link"]).output().expect("nsenter");
        if String::from_utf8_lossy(&links.stdout).contains("up-world") {
            return String::from_utf8_lossy(&output.stdout).into_owned();
        }
    }
    String::new()
}

fn nothing_is_left(stage: &Stage, at: At) {
    eventually(&format!("no process of the cell is left, {at:?}"), || stage.cell_processes().is_empty().then_some(()));
    eventually(&format!("no control group is left, {at:?}"), || (stage.cell_groups() == 0).then_some(()));
    eventually(&format!("no element is left, {at:?}"), || {
        let ruleset = in_router(stage, &["/usr/sbin/nft", "list", "ruleset"]);
        // A session's element is the link and the address that it comes from.
        (ruleset.contains("table") && !ruleset.contains("\" . 10.210.")).then_some(())
    });
    eventually(&format!("no link is left but the pool's, {at:?}"), || {
        let links = in_router(stage, &["/bin/ip", "-o", "link"]);
        (links.lines().filter(|line| line.contains(": cell")).count() == POOL).then_some(())
    });
}

#[test]
fn a_warden_that_is_killed_in_any_phase_leaves_nothing() {
    for at in PHASES {
        let mut stage = Stage::new();
        let (mounted, before) = (mounts(), namespaces());
        let (_, running) = bring(&mut stage, at);
        stage.warden.kill().expect("killed");
        stage.warden.wait().expect("its end");
        eventually(&format!("all processes are gone, {at:?}"), || stage.cell_processes().is_empty().then_some(()));
        assert_eq!(mounts(), mounted, "{at:?}");
        // Tests beside this one make and unmake their own.
        eventually(&format!("no process is in the cell's network, {at:?}"), || stage.cell_processes().is_empty().then_some(before.len()));
        stage.await_uplinks_end();
        drop(running);
        stage.ledger.be(Manner::Away);
        stage.ledger.be(Manner::Keeping);
        stage.restart();
        nothing_is_left(&stage, at);
        assert_eq!(stage.shell("one.toml", "echo again").trim(), "again", "{at:?}");
    }
}

#[test]
fn a_gateway_that_is_killed_in_any_phase_leaves_nothing_after_the_grace() {
    for at in PHASES {
        let mut stage = Stage::with(Options { grace_s: 1, ..Options::default() });
        let (session, running) = bring(&mut stage, at);
        stage.gateway.leave();
        stage.ledger.be(Manner::Away);
        stage.ledger.be(Manner::Keeping);
        stage.ledger.entry("the loss", |draft| matches!(draft.event, Event::GatewayLost { .. }).then_some(()));
        drop(running);
        nothing_is_left(&stage, at);
        let launched = stage.ledger.entries().iter().any(|draft| draft.session == Some(session) && draft.event.name() == "cell.launched");
        if launched {
            stage.ledger.entry("the reaping", |draft| match &draft.event {
                Event::CellReaped { leftovers, .. } if draft.session == Some(session) => leftovers.is_empty().then_some(()),
                _ => None,
            });
        }
        stage.gateway = Gateway::connect(&stage.path("warden.sock")).expect("a connection");
        stage.gateway.greet();
        assert_eq!(stage.shell("one.toml", "echo again").trim(), "again", "{at:?}");
    }
}

#[test]
fn a_ledger_that_is_killed_in_any_phase_and_comes_back_finds_every_session_or_its_end() {
    for at in PHASES {
        let mut stage = Stage::new();
        let (session, running) = bring(&mut stage, at);
        stage.ledger.be(Manner::Away);
        stage.ledger.be(Manner::Keeping);
        if matches!(at, At::Ordered | At::AwaitingReceipt) {
            match stage.gateway.report() {
                (Report::Launched { session: launched }, Some(_)) => assert_eq!(launched, session),
                (Report::Refused { reason, .. }, _) if at == At::Ordered => assert!(reason.contains("ledger"), "{reason}"),
                (other, _) => panic!("{at:?}: {other:?}"),
            }
        }
        if at != At::Ending && !stage.cell_processes().is_empty() {
            stage.gateway.order(&Order::End { session, reason: "operator".to_owned() });
        } else if at == At::Ended {
            stage.gateway.order(&Order::End { session, reason: "shell-exited".to_owned() });
        }
        drop(running);
        nothing_is_left(&stage, at);
        let (launched, reaped) = ("cell.launched", "cell.reaped");
        let count = |name: &str| stage.ledger.entries().iter().filter(|draft| draft.session == Some(session) && draft.event.name() == name).count();
        eventually(&format!("what was launched is reaped in the record, {at:?}"), || (count(launched) == count(reaped)).then_some(()));
    }
}
