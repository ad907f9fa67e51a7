//! The rung `no-network`: a warden that an ordinary user starts on a host without nftables. Cells have every wall but the router, and no way to need it.

mod stage;

use std::fs;
use std::process::Command;

use stage::{Options, Stage, eventually, launch};
use sulku_audit::{Draft, Event};
use sulku_plan::Order;
use sulku_plan::order::Report;

const LISTED: &str = "[[egress]]\nname = \"mirror\"\nto = \"198.18.0.10\"\nports = [\"443/tcp\"]\nreason = \"packages\"\n";

fn refusal(stage: &mut Stage, file: &str) -> String {
    let opening = stage.opening(file, None);
    let receipt = stage.ledger.keep(&opening);
    stage.gateway.order(&launch(receipt));
    stage.gateway.refusal()
}

/// Tries a socket of that family and kind, and prints its error number: 0 when it was made.
fn socket(family: u32, kind: u32, protocol: u32) -> String {
    format!("perl -e '$r = syscall(41, {family}, {kind}, {protocol}); print $r < 0 ? $!+0 : 0, \" \";'")
}

/// NW-02: without nftables a cell has no socket that could reach anything, and everything else of a cell.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_cell_without_a_network_has_no_socket_but_its_own_processes() {
    let mut stage = Stage::new();
    let families = [(2, 1, 6), (2, 2, 17), (10, 1, 6), (10, 2, 17), (2, 1, 0), (16, 3, 0), (17, 3, 768), (40, 1, 0)];
    let script: String = families.map(|(family, kind, protocol)| socket(family, kind, protocol) + "\n").concat() + &socket(1, 1, 0);
    assert_eq!(stage.shell("one.toml", &script).trim(), "1 1 1 1 1 1 1 1 0", "EPERM, and the control: a unix socket");
    // The second wall: an empty network namespace, of the cell alone.
    assert_eq!(stage.shell("one.toml", "readlink /proc/self/ns/net | grep -c net; cat /proc/net/dev 2>&1 | grep -c 'No such'"), "1\r\n1\r\n");
    let here = std::fs::read_link("/proc/self/ns/net").expect("a namespace").display().to_string();
    assert!(!stage.shell("one.toml", "readlink /proc/self/ns/net").contains(&here));
    let walls = "cat /data/one/rows.csv; id -u; ls /home 2>&1 | grep -c 'No such'; echo kept > note; cat note; touch /usr/x 2>&1 | grep -c Read-only";
    assert_eq!(stage.shell("one.toml", walls), "id,value\r\n1,2\r\n1000\r\n1\r\nkept\r\n1\r\n");
    let (rung, ruleset) = stage.ledger.entry("the cell", |draft| match &draft.event {
        Event::CellLaunched { rung, ruleset, .. } => Some((rung.clone(), ruleset.clone())),
        _ => None,
    });
    assert_eq!((rung.as_str(), ruleset), ("no-network", None));
    stage.ledger.entry("the start", |draft| match &draft.event {
        Event::WardenStarted { rung, ruleset, .. } => (rung == "no-network" && ruleset.is_empty()).then_some(()),
        _ => None,
    });
}

/// A permit that lists what can't be reached, or asks for more isolation, opens nothing here.
#[test]
fn a_permit_that_needs_a_network_or_a_stronger_rung_opens_nothing() {
    let mut stage = Stage::with(Options { egress: LISTED.to_owned(), ..Options::default() });
    let refused = refusal(&mut stage, "one.toml");
    assert!(refused.contains("lists destinations and no cell on this host has a network"), "{refused}");
    let mut stage = Stage::new();
    assert_eq!(stage.shell("one.toml", "echo on"), "on\r\n", "control");
    stage.change_permit("one.toml", "isolation = \"no-network\"", "isolation = \"rootless\"");
    assert!(refusal(&mut stage, "one.toml").contains("isolation-too-weak"));
}

fn clock(stage: &Stage) -> Option<u64> {
    fs::read_to_string(stage.path("workspaces/ws-one/clock")).ok()?.trim().parse().ok()
}

/// What a session lives through is the same here: it stands still without a gateway, goes on with the next one, and goes with its warden.
#[test]
fn a_cell_without_a_network_is_held_adopted_and_gone_like_any_other() {
    let mut stage = Stage::with(Options { grace_s: 60, ..Options::default() });
    let draft: Draft = stage.opening("one.toml", Some(&["/bin/bash", "-c", "while :; do echo $((n++)) > clock; sleep 0.01; done"]));
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&launch(receipt));
    assert!(matches!(stage.gateway.report().0, Report::Launched { .. }), "control: the session opens");
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    let orphans = stage.change_gateways();
    let [(Report::Orphan { entry, .. }, _)] = orphans[..] else { panic!("no orphan: {orphans:?}") };
    let stood = clock(&stage);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(clock(&stage), stood, "it stands still");
    let receipt = stage.ledger.keep(&stage.adoption(&draft, entry, 1));
    stage.gateway.order(&Order::Adopt { receipt });
    assert!(matches!(stage.gateway.report().0, Report::Adopted { .. }));
    eventually("it goes on", || (clock(&stage) > stood).then_some(()));
    stage.warden.kill().expect("killed");
    stage.warden.wait().expect("its end");
    eventually("all processes are gone", || stage.cell_processes().is_empty().then_some(()));
    stage.restart();
    assert_eq!(stage.shell("one.toml", "echo again"), "again\r\n");
}

/// What the doctor says is what the warden does.
#[test]
fn the_doctor_names_the_rung_and_what_it_lacks() {
    let said = |host: &str| {
        let doctor = format!("{host}\nexec setpriv --reuid 3999999 --regid 3999999 --clear-groups {} doctor", env!("CARGO_BIN_EXE_sulku-warden"));
        let output =
            Command::new("/usr/bin/unshare").args(["--mount", "--propagation", "private", "/bin/sh", "-c", &doctor]).output().expect("unshare");
        (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success())
    };
    let (without, fit) = said(&Options::default().host);
    assert!(fit && without.contains("rung     no-network") && without.contains("without  nft"), "{without}");
    assert!(without.contains("no cell has a network"), "{without}");
    let (with, fit) = said("true");
    assert!(fit && with.contains("rung     rootless") && !with.contains("no cell has a network"), "control: {with}");
}
