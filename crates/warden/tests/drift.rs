//! What holds when somebody else than the warden changes the router's rules.

mod stage;

use std::process::Command;

use stage::{Running, Stage};

/// Sends a datagram from the cell and waits until it is sent, whatever becomes of it.
fn send(running: &Running, to: &str, port: u16, round: u32) {
    // In two parts, so that the terminal's echo is not taken for the answer.
    running.write(&format!("echo x > /dev/udp/{to}/{port}; echo sent-\"\"{round}.\n"));
    running.read_until(&format!("sent-{round}."));
}

fn signal(stage: &Stage, name: &str) {
    assert!(Command::new("/bin/kill").args([name, &stage.warden.id().to_string()]).status().expect("kill").success());
}

/// NW-06: without any ruleset, and without a warden that could put it back, a cell has no way out: its packets have no route.
#[test]
fn an_emptied_ruleset_opens_nothing() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", None);
    send(&running, "198.18.0.10", 53, 1);
    stage::eventually("the listed datagram", || (stage.world.arrived() == [("udp".to_owned(), 53)]).then_some(()));
    signal(&stage, "-STOP");
    stage.in_router(&["/usr/sbin/nft", "flush", "ruleset"]);
    assert_eq!(stage.in_router(&["/usr/sbin/nft", "list", "ruleset"]), "");
    for (round, (to, port)) in (2..).zip([("198.18.0.10", 53), ("198.18.0.11", 443), ("10.211.0.2", 443), ("10.211.0.2", 53)]) {
        send(&running, to, port, round);
    }
    // The control: with a route, which is what this wall takes away, the same datagram arrives.
    stage.in_router(&["/bin/ip", "rule", "add", "pref", "50", "lookup", "main"]);
    send(&running, "198.18.0.12", 443, 9);
    stage::eventually("the datagram that has a route", || (stage.world.arrived().len() > 1).then_some(()));
    assert_eq!(stage.world.arrived(), [("udp".to_owned(), 53), ("udp".to_owned(), 443)], "nothing but what had a route arrived");
    stage.in_router(&["/bin/ip", "rule", "del", "pref", "50"]);
    signal(&stage, "-CONT");
    stage.end(&running, "operator");
}
