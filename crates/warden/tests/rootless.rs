//! The suites of the rung `root` once more, on the rung below it: a warden that an ordinary user starts, without a capability. And what
//! is of this rung alone.
#![allow(clippy::duplicate_mod, reason = "each suite brings its stage")]

#[path = "adoption.rs"]
mod adoption;
#[path = "cells.rs"]
mod cells;
#[path = "holders.rs"]
mod holders;
#[path = "losses.rs"]
mod losses;
#[path = "names.rs"]
mod names;
mod stage;
#[path = "walls.rs"]
mod walls;

use std::fs;
use std::os::unix::fs::MetadataExt;

use stage::ledger::Manner;
use stage::{Stage, eventually};
use sulku_audit::{DriftOutcome, Event};

/// The processes of the stage's user outside of cells: the warden, and its relay.
fn outside_of_cells(stage: &Stage) -> Vec<u32> {
    let uid = fs::metadata(stage.folder.path()).expect("a folder").uid();
    let pids = fs::read_dir("/proc").expect("proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // Of one that ends meanwhile nothing more is known, and it is none.
    let is_outside = |pid: &u32| {
        field(*pid, "Uid:").starts_with(&uid.to_string())
            && field(*pid, "NSpid:").split_whitespace().count() == 1
            && field(*pid, "State:").starts_with(|state| state != 'Z' && state != 'X')
    };
    pids.filter(is_outside).collect()
}

fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

/// The relay alone: what the warden runs and waits for is gone once its rules stand.
fn relay(stage: &Stage) -> u32 {
    eventually("warden and relay are alone", || {
        let others: Vec<_> = outside_of_cells(stage).into_iter().filter(|pid| *pid != stage.warden.id()).collect();
        if let [relay] = others[..] { Some(relay) } else { None }
    })
}

/// The process that stays in the host's network can do nothing there but carry.
#[test]
fn the_relay_has_no_power_and_its_own_walls() {
    let stage = Stage::new();
    let relay = relay(&stage);
    for (name, value) in [("CapEff:", "0000000000000000"), ("CapPrm:", "0000000000000000"), ("NoNewPrivs:", "1"), ("Seccomp:", "2")] {
        assert_eq!(field(relay, name), value, "{name}");
    }
    let namespace = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
    let world = fs::read_link(stage.world.namespace()).expect("a namespace");
    assert_eq!(namespace(relay, "net"), world, "it is where the warden was started");
    assert_ne!(namespace(stage.warden.id(), "net"), world, "control: the warden is not there any more");
    assert_ne!(namespace(stage.warden.id(), "user"), namespace(relay, "user"));
    assert_eq!(field(stage.warden.id(), "Seccomp:"), "0", "control: a process without a filter says so");
}

/// A dead warden leaves no process, neither in cells nor beside them.
#[test]
fn a_killed_warden_takes_its_relay_with_it() {
    let mut stage = Stage::new();
    stage.launch("one.toml", None).read_until("$ ");
    assert_eq!((outside_of_cells(&stage).len(), stage.cell_processes().len()), (2, 2), "control: they run");
    stage.warden.kill().expect("killed");
    stage.warden.wait().expect("its end");
    eventually("no process of the user is left", || (outside_of_cells(&stage).len() + stage.cell_processes().len() == 0).then_some(()));
}

/// Without its relay nothing is reached: the warden does not go on as if it were.
#[test]
fn a_warden_whose_relay_is_killed_stops_and_reaps() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", None);
    running.read_until("$ ");
    let pid = rustix::process::Pid::from_raw(relay(&stage).cast_signed()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    stage.ledger.entry("the reaping", |draft| matches!(draft.event, Event::CellReaped { .. }).then_some(()));
    stage.warden.wait().expect("its end");
    assert!(stage.cell_processes().is_empty());
}

/// NW-06: also here the warden puts the router's rules back, with what turns connections to the relay.
#[test]
fn foreign_rules_are_taken_away_without_root_too() {
    let mut stage = Stage::new();
    let reach = |stage: &mut Stage| stage.shell("one.toml", "(exec 3<>/dev/tcp/198.18.0.10/443 && head -n 1 <&3) 2>&1");
    assert!(reach(&mut stage).contains("hello"), "control");
    let mended = |wanted: &str, stage: &Stage| {
        stage.ledger.entry(wanted, |draft| match &draft.event {
            Event::RulesetDrifted { changes, outcome: DriftOutcome::Mended, process: Some(_), .. } => {
                changes.iter().any(|change| change.contains(wanted)).then_some(())
            }
            _ => None,
        });
    };
    let rules = stage.in_router(&["/usr/sbin/nft", "--stateless", "--terse", "list", "ruleset"]);
    for (command, what) in [("add table ip other", "table ip other added"), ("flush ruleset", "table inet sulku deleted")] {
        stage.in_router(&["/usr/sbin/nft", command]);
        mended(what, &stage);
        assert_eq!(stage.in_router(&["/usr/sbin/nft", "--stateless", "--terse", "list", "ruleset"]), rules);
        assert!(reach(&mut stage).contains("hello"), "after {command}");
    }
}

/// A permit that asks for more isolation than there is gets no cell, whatever the gateway says.
#[test]
fn a_permit_that_asks_for_root_is_refused_below_it() {
    let mut stage = Stage::new();
    assert_eq!(stage.shell("one.toml", "echo fine").trim(), "fine", "control: one that asks for less is served");
    stage.change_permit("one.toml", "isolation = \"rootless\"", "isolation = \"root\"");
    let draft = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&stage::launch(receipt));
    let reason = stage.gateway.refusal();
    assert!(reason.contains("the host has rootless, the permit asks for root"), "{reason}");
    assert!(stage.cell_processes().is_empty());
}

/// What is held while the ledger is away goes on as it was: a job in the foreground stays there, a suspended one stays suspended.
#[test]
fn a_shell_that_was_held_does_not_take_its_job_for_suspended() {
    let mut stage = Stage::new();
    let shell = stage.launch("one.toml", None);
    shell.read_until("$ ");
    shell.write("sleep 1003\n");
    stage.await_foreground("sleep");
    shell.write("\x1a");
    shell.read_until("Stopped");
    shell.write("cat\n");
    stage.await_foreground("cat");
    stage.ledger.be(Manner::Away);
    let is_stopped = |pid: &u32| field(*pid, "State:").starts_with('T');
    // The first process of the cell is the one that holds the others.
    let held = |stage: &Stage| stage.cell_processes().iter().filter(|pid| is_stopped(pid)).count();
    eventually("shell and jobs are held", || (held(&stage) == 3).then_some(()));
    stage.ledger.be(Manner::Keeping);
    eventually("all but the suspended job go on", || (held(&stage) == 1).then_some(()));
    stage.await_foreground("cat");
    shell.write("still here\n");
    shell.read_until("still here\r\nstill here");
    stage.end(&shell, "holder-left");
}

/// What only root can mount is refused where it is the system, and said of a workspace's disk.
#[test]
fn an_image_is_refused_and_a_disk_is_a_folder() {
    let mut stage = Stage::new();
    stage.change_permit("one.toml", "name = \"ws-one\"\n", "name = \"ws-one\"\ndisk = \"64 MiB\"\n");
    assert_eq!(stage.shell("one.toml", "echo here > file; cat file"), "here\r\n");
    assert!(stage.path("workspaces/ws-one/file").exists() && !stage.path("workspaces/ws-one.disk").exists());
    let image = format!("schema = 1\n[image]\nname = \"system\"\ntitle = \"A system\"\nsystem = \"sha256:{}\"\n", "00".repeat(32));
    fs::write(stage.path("images/system.toml"), image).expect("written");
    stage.change_permit("one.toml", "name = \"ws-one\"\n", "name = \"ws-one\"\nimage = \"system\"\n");
    let opening = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&opening);
    stage.gateway.order(&stage::launch(receipt));
    let refused = stage.gateway.refusal();
    assert!(refused.contains("only a warden that root started mounts images"), "{refused}");
}
