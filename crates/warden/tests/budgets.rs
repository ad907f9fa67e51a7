//! How much of a destination one session may use: counted by the kernel, spent once, by all ports and names of the permit's line together.

mod stage;

use stage::{Options, Resolving, Stage, eventually};
use sulku_audit::{Event, WhyDenied};

fn table(to: &str, ports: &str, rest: &str) -> String {
    format!("[[egress]]\nname = \"{to}\"\nto = \"{to}\"\nports = [{ports}]\nreason = \"r\"\n{rest}\n")
}

/// Sends so many KiB and says how it went.
fn send(to: &str, port: u16, kib: u32) -> String {
    format!("(exec 3<>/dev/tcp/{to}/{port} && head -c {}  /dev/zero >&3 && echo sent) 2>&1 | tail -n 1\n", kib * 1024)
}

fn greet(to: &str, port: u16) -> String {
    format!("(exec 3<>/dev/tcp/{to}/{port} && head -n 1 <&3) 2>&1 | tail -n 1\n")
}

fn denied(stage: &Stage, why: WhyDenied) {
    stage.ledger.entry(why.as_str(), |draft| match &draft.event {
        Event::EgressDenied { reason, .. } => (*reason == Some(why)).then_some(()),
        _ => None,
    });
}

/// One address and a network: they stand in sets of their own.
const BOUNDED: [&str; 2] = ["198.18.0.10", "198.18.0.10/31"];

/// NW-02: what is sent beyond the budget does not arrive, over whichever port, and its denial says why.
#[test]
fn no_more_bytes_leave_than_the_budget_has() {
    BOUNDED.into_iter().for_each(no_more_bytes_leave_for);
}

fn no_more_bytes_leave_for(bounded: &str) {
    let bounded = table(bounded, "\"443/tcp\", \"22/tcp\"", "bytes = \"96 KiB\"");
    let free = table("198.18.0.12", "\"443/tcp\"", "");
    let mut stage = Stage::with(Options { egress: bounded + &free, ..Options::default() });
    let script = [send("198.18.0.10", 22, 32), send("198.18.0.10", 443, 4_096), greet("198.18.0.10", 22)].concat();
    let output = stage.shell("one.toml", &script);
    let said: Vec<_> = output.lines().collect();
    assert!(said[0] == "sent" && said[1] != "sent" && said[2].contains("refused"), "{output}");
    assert!((1..=96 * 1024).contains(&stage.world.bytes()), "{} bytes arrived", stage.world.bytes());
    denied(&stage, WhyDenied::OverQuota);
    let before = stage.world.bytes();
    // A second session has a budget of its own; a destination without one is not bounded.
    // The world answers each piece of at most 4 KiB with a dot, so that what was answered has arrived.
    let free = "(exec 3<>/dev/tcp/198.18.0.12/443 && head -c 1048576 /dev/zero >&3 && head -c 256 <&3 > /dev/null && echo sent)\n";
    let output = stage.shell("one.toml", &(send("198.18.0.10", 22, 16) + free));
    assert_eq!(output.lines().collect::<Vec<_>>(), ["sent", "sent"]);
    eventually("more than the other destination's budget", || (stage.world.bytes() >= before + 128 * 1024).then_some(()));
    let left = stage.in_router(&["/usr/sbin/nft", "list", "ruleset"]);
    assert!(!left.contains("quota bytes-") && !left.contains("elements ="), "what was spent goes with its session: {left}");
}

#[test]
fn no_more_connections_begin_than_the_rate_has() {
    BOUNDED.into_iter().for_each(no_more_connections_begin_for);
}

fn no_more_connections_begin_for(bounded: &str) {
    let bounded = table(bounded, "\"443/tcp\", \"53/udp\"", "connections = \"4 an hour\"");
    let free = table("198.18.0.12", "\"443/tcp\"", "");
    let mut stage = Stage::with(Options { egress: bounded + &free, ..Options::default() });
    let script: String = (0..7).map(|_| greet("198.18.0.10", 443)).chain((0..7).map(|_| greet("198.18.0.12", 443))).collect();
    let output = stage.shell("one.toml", &script);
    let greeted: Vec<_> = output.lines().map(|line| line.contains("hello")).collect();
    assert_eq!(greeted, [&[true; 4][..], &[false; 3], &[true; 7]].concat(), "{output}");
    assert_eq!(stage.world.arrived().len(), 11);
    denied(&stage, WhyDenied::TooFast);
}

/// A destination by name has one budget, however many names and addresses it has.
#[test]
fn all_names_of_a_destination_spend_one_budget() {
    let rest = "check = \"address-only\"\nwithin = [\"198.18.0.0/16\"]\nbytes = \"64 KiB\"\nconnections = \"5 an hour\"";
    let resolver = r#"{"a.example.org": {"addresses": ["198.18.0.20"]}, "b.example.org": {"addresses": ["198.18.0.21", "198.18.0.22"]}}"#;
    let options = Options {
        egress: table("*.example.org", "\"443/tcp\"", rest),
        resolver: Some(Resolving::Scripted(resolver.to_owned())),
        ..Options::default()
    };
    let mut stage = Stage::with(options);
    let script =
        [send("a.example.org", 443, 24), send("b.example.org", 443, 24), send("a.example.org", 443, 512), greet("b.example.org", 443)].concat();
    let output = stage.shell("one.toml", &script);
    let said: Vec<_> = output.lines().collect();
    assert!(said[..2] == ["sent", "sent"] && said[2] != "sent" && !said[3].contains("hello"), "{output}");
    assert!((1..=64 * 1024).contains(&stage.world.bytes()), "{} bytes arrived", stage.world.bytes());
    denied(&stage, WhyDenied::OverQuota);
}
