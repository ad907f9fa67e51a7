//! What becomes of cells when one of the processes around them is lost. They freeze or go; they never go on unwatched.

mod stage;

use std::fs;
use std::time::{Duration, Instant};

use stage::ledger::Manner;
use stage::{Gateway, Options, Stage, eventually};
use sulku_audit::{CloseReason, Draft, Event};
use sulku_plan::order::Report;

/// Writes the time into its workspace again and again, and speaks to the world.
const CLOCK: &[&str] = &["/bin/bash", "-c", "while :; do echo $((n++)) > clock; sleep 0.01; done"];

fn clock(stage: &Stage) -> Option<u64> {
    fs::read_to_string(stage.path("workspaces/ws-one/clock")).ok()?.trim().parse().ok()
}

fn stands_still(stage: &Stage) -> bool {
    let before = clock(stage);
    std::thread::sleep(Duration::from_millis(200));
    before == clock(stage)
}

/// A dead warden leaves no process, no namespace, no mount and no interface; the next one starts clean.
#[test]
fn a_warden_that_is_killed_takes_everything_with_it() {
    let mut stage = Stage::new();
    // Named network namespaces are no cell's, and others on the machine may make some meanwhile.
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("mounts").lines().filter(|line| !line.contains("/run/netns")).count();
    let before = mounts();
    let shell = stage.launch("one.toml", Some(CLOCK));
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    let processes = stage.cell_processes();
    assert!(processes.len() >= 2, "control: the cell has processes");
    let namespaces = |pids: &[u32]| -> Vec<_> { pids.iter().filter_map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).ok()).collect() };
    let inside = namespaces(&processes);
    assert!(!inside.is_empty(), "control: its namespace can be seen");
    stage.warden.kill().expect("killed");
    stage.warden.wait().expect("its end");
    eventually("all processes are gone", || stage.cell_processes().is_empty().then_some(()));
    let everybody: Vec<u32> = fs::read_dir("/proc").expect("proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    assert!(namespaces(&everybody).iter().all(|namespace| !inside.contains(namespace)), "a process is still in the cell's network");
    assert_eq!(mounts(), before);
    let gone = |pid: &u32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("the host's first process has buried them", || processes.iter().all(gone).then_some(()));
    // The uplink's far end went with the router.
    stage.await_uplinks_end();
    drop(shell);
    stage.restart();
    // The next warden removes the empty control groups.
    stage.await_groups(0);
    assert_eq!(stage.shell("one.toml", "echo again").trim(), "again");
}

/// A lost gateway stops its cells at once, in processor and network, and they are reaped after the grace.
#[test]
fn cells_of_a_lost_gateway_freeze_at_once_and_are_reaped_after_the_grace() {
    let mut stage = Stage::with(Options { grace_s: 2, ..Options::default() });
    let running = stage.launch("one.toml", Some(CLOCK));
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    assert!(!stands_still(&stage), "control: the clock goes while the gateway is there");
    stage.gateway.leave();
    let lost = Instant::now();
    stage.ledger.entry("the loss", |draft| matches!(draft.event, Event::GatewayLost { cells: 1, grace_s: 2 }).then_some(()));
    assert!(lost.elapsed() < Duration::from_secs(1));
    assert!(stands_still(&stage));
    // A new gateway hears of it in the meantime, and does not adopt it.
    stage.gateway = Gateway::connect(&stage.path("warden.sock")).expect("a connection");
    let orphans = stage.gateway.greet_orphans();
    assert!(matches!(&orphans[..], [(Report::Orphan { session, .. }, _)] if *session == running.session), "{orphans:?}");
    assert!(!stage.cell_processes().is_empty(), "control: the frozen cell is still there");
    stage.ledger.entry("the reaping", |draft| match &draft.event {
        Event::CellReaped { reason: CloseReason::GatewayLost, leftovers, .. } if draft.session == Some(running.session) => {
            leftovers.is_empty().then_some(())
        }
        _ => None,
    });
    assert!(lost.elapsed() >= Duration::from_secs(2));
    assert!(stage.cell_processes().is_empty());
    assert_eq!(stage.reaped(&running), "gateway-lost");
    assert_eq!(stage.shell("one.toml", "echo new").trim(), "new");
}

/// LG-05: while nothing can be recorded, nothing runs; when the ledger is back, it goes on.
#[test]
fn cells_stand_still_while_the_ledger_is_away() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(CLOCK));
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    stage.ledger.be(Manner::Away);
    eventually("the clock stands still", || stands_still(&stage).then_some(()));
    let draft = stage.opening("two.toml", None);
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&stage::launch(receipt));
    let (reason, session) = stage.gateway.refusal_of();
    assert!(reason.contains("ledger"));
    assert_eq!(session, draft.session, "the gateway learns for which session, so that its holder need not wait");
    stage.ledger.be(Manner::Keeping);
    let stood = clock(&stage);
    eventually("the clock goes on", || (clock(&stage) > stood).then_some(()));
    eventually("the refusal of the meantime is recorded after all", || {
        stage.ledger.refusals().iter().any(|reason| reason.contains("ledger")).then_some(())
    });
    stage.end(&running, "operator");
}

/// LG-05: what a ledger with a full disk keeps it is asked for once, or there would be no room for it soon; what it does not keep, it keeps when
/// there is room.
#[test]
fn a_full_ledger_is_asked_once_for_what_it_keeps() {
    let mut stage = Stage::new();
    let ends = stage.launch("one.toml", Some(CLOCK));
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    let draft = stage.opening("two.toml", None);
    let launch = stage::launch(stage.ledger.keep(&draft));
    // The launch of another is not kept, so that nothing goes on. At once: what the clock runs is an entry, too, now and then.
    stage.ledger.be(Manner::Full);
    stage.gateway.order(&launch);
    eventually("the clock stands still", || stands_still(&stage).then_some(()));
    stage.end(&ends, "audit-full");
    let reaped = |stage: &Stage| {
        let of = |draft: &Draft| (draft.session == Some(ends.session) && draft.event.name() == "cell.reaped").then_some(());
        stage.ledger.all(of).len()
    };
    eventually("its end is kept", || (reaped(&stage) > 0).then_some(()));
    // Longer than the warden waits before it asks again, several times.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(reaped(&stage), 1, "its end is asked for again and again");
    stage.ledger.be(Manner::Keeping);
    let (Report::Launched { session }, Some(master)) = stage.gateway.report() else { panic!("what was not kept is kept now, and the cell goes on") };
    assert_eq!((Some(session), reaped(&stage)), (draft.session, 1));
    stage.end(&stage::Running { session, master }, "operator");
}

/// SE-05: after the end of a session not a byte passes, in either direction.
#[test]
fn a_flow_stops_when_its_session_ends() {
    let mut stage = Stage::new();
    let script =
        "exec 3<>/dev/tcp/198.18.0.10/443; head -c 10 <&3; while :; do echo x >&3; head -c 1 <&3 > /dev/null; n=$((n+1)); echo $n > clock; done";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    eventually("the flow runs", || clock(&stage).filter(|n| *n > 10));
    let ordered = Instant::now();
    stage.end(&running, "revoked");
    assert!(ordered.elapsed() < Duration::from_secs(1), "{:?}", ordered.elapsed());
    stage.ledger.entry("the flow's bytes", |draft| match &draft.event {
        Event::EgressAllowed { port: 443, bytes_out, bytes_in, .. } if draft.session == Some(running.session) => {
            (*bytes_out > 500 && *bytes_in > 500).then_some(())
        }
        _ => None,
    });
    stage.ledger.entry("the cell's last entry", |draft| matches!(draft.event, Event::CellReaped { .. }).then_some(()));
    let entries = stage.ledger.entries();
    let place = |name: &str| entries.iter().position(|draft| draft.event.name() == name && draft.session == Some(running.session));
    assert!(place("egress.allowed") < place("cell.reaped"), "the last entry of a cell is the last");
}

#[test]
fn a_warden_that_is_told_to_stop_reaps_and_says_so() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(CLOCK));
    let pid = rustix::process::Pid::from_raw(stage.warden.id().cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
    assert!(stage.warden.wait().expect("an end").success());
    assert!(matches!(stage.gateway.report().0, Report::Reaped { session, .. } if session == running.session));
    stage.ledger.entry("the reaping", |draft| matches!(draft.event, Event::CellReaped { reason: CloseReason::Drain, .. }).then_some(()));
    assert_eq!(stage.ledger.entries().last().map(|draft| draft.event.name()), Some("warden.stopped"));
    let left: Vec<_> = stage.cell_processes().into_iter().map(|pid| fs::read_to_string(format!("/proc/{pid}/status"))).collect();
    assert!(left.is_empty(), "{left:#?}");
    assert_eq!(stage.cell_groups(), 0);
}
