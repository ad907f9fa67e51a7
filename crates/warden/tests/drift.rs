//! What holds when somebody else than the warden changes the router's rules.

mod stage;

use std::process::Command;

use stage::rules::{await_change, changes, nft, signal, standing};
use stage::{Options, Running, Stage, eventually};
use sulku_audit::DriftOutcome;

/// Sends a datagram from the cell and waits until it is sent, whatever becomes of it.
fn send(running: &Running, to: &str, port: u16, round: u32) {
    // In two parts, so that the terminal's echo is not taken for the answer.
    running.write(&format!("echo x > /dev/udp/{to}/{port}; echo sent-\"\"{round}.\n"));
    running.read_until(&format!("sent-{round}."));
}

/// NW-06: without any ruleset, and without a warden that could put it back, a cell has no way out: its packets have no route.
#[test]
fn an_emptied_ruleset_opens_nothing() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", None);
    send(&running, "198.18.0.10", 53, 1);
    eventually("the listed datagram", || (stage.world.arrived() == [("udp".to_owned(), 53)]).then_some(()));
    signal(&stage, "-STOP");
    stage.in_router(&["/usr/sbin/nft", "flush", "ruleset"]);
    assert_eq!(stage.in_router(&["/usr/sbin/nft", "list", "ruleset"]), "");
    for (round, (to, port)) in (2..).zip([("198.18.0.10", 53), ("198.18.0.11", 443), ("10.211.0.2", 443), ("10.211.0.2", 53)]) {
        send(&running, to, port, round);
    }
    // The control: with a route, which is what this wall takes away, the same datagram arrives.
    stage.in_router(&["/bin/ip", "rule", "add", "pref", "50", "lookup", "main"]);
    send(&running, "198.18.0.12", 443, 9);
    eventually("the datagram that has a route", || (stage.world.arrived().len() > 1).then_some(()));
    assert_eq!(stage.world.arrived(), [("udp".to_owned(), 53), ("udp".to_owned(), 443)], "nothing but what had a route arrived");
    stage.in_router(&["/bin/ip", "rule", "del", "pref", "50"]);
    signal(&stage, "-CONT");
    stage.end(&running, "operator");
}

/// A connection of the cell's that is open, and answers as long as its packets pass.
const FLOW: &str = "exec 3<>/dev/tcp/198.18.0.10/443; head -n 1 <&3 > /dev/null; while read -r line; do echo x >&3; head -c 1 <&3 > /dev/null && \
                    echo \"answered-\"$line; done";

/// NW-06: a rule that lets through what no permit lists is gone at once, the entry names who made it, and whoever works on notices nothing.
#[test]
fn a_foreign_rule_is_taken_away_and_its_maker_named() {
    let mut stage = Stage::new();
    let flow = stage.launch("one.toml", Some(&["/bin/bash", "-c", FLOW]));
    flow.write("1\n");
    flow.read_until("answered-1");
    let running = stage.launch("two.toml", None);
    send(&running, "198.18.0.11", 443, 1);
    let denials = || stage.ledger.count("egress.denied");
    eventually("the denial", || (denials() == 1).then_some(()));
    let (before, arrived) = (standing(&stage), stage.world.arrived().len());
    assert_eq!(changes(&stage), [], "control: what the warden writes for sessions is nobody else's");
    // The control: while the warden sleeps, the rule lets the packet pass.
    signal(&stage, "-STOP");
    let rule = "insert rule inet sulku leaving meta mark set iifname . ip saddr map @sessions ip daddr 198.18.0.11 accept";
    nft(&stage, &rule.split(' ').collect::<Vec<_>>());
    send(&running, "198.18.0.11", 443, 2);
    eventually("the packet that the rule lets pass", || (stage.world.arrived().len() > arrived).then_some(()));
    signal(&stage, "-CONT");
    await_change(&stage, "rule added or changed in inet sulku leaving", DriftOutcome::Mended);
    assert_eq!(standing(&stage), before);
    send(&running, "198.18.0.11", 53, 3);
    eventually("the denial after", || (denials() == 2).then_some(()));
    assert_eq!(stage.world.arrived().len(), arrived + 1);
    flow.write("2\n");
    flow.read_until("answered-2");
    assert_eq!(changes(&stage).len(), 1, "control: mending is nobody else's work either: {:?}", changes(&stage));
    stage.end(&running, "operator");
    stage.end(&flow, "operator");
    assert_eq!(stage.shell("one.toml", "echo again").trim(), "again");
    assert_eq!(changes(&stage).len(), 1);
}

/// NW-06: whatever is done to the rules is undone, and told in words.
#[test]
fn whatever_is_changed_is_put_back_with_the_sessions_that_live() {
    let mut stage = Stage::new();
    let flow = stage.launch("one.toml", Some(&["/bin/bash", "-c", FLOW]));
    flow.write("begin\n");
    flow.read_until("answered-begin");
    let before = standing(&stage);
    for (round, (command, what)) in [
        ("add table ip other", "table ip other added or changed"),
        ("add element inet sulku allowed { 0x00000001 . 198.18.0.11 . tcp . 443 }", "element added or changed in inet sulku allowed"),
        ("flush map inet sulku sessions", "element deleted in inet sulku sessions"),
        ("flush chain inet sulku leaving", "rule deleted in inet sulku leaving"),
        ("add chain inet sulku forward { policy accept; }", "chain inet sulku forward added or changed"),
        ("add chain inet sulku mine { type filter hook forward priority -5; }", "chain inet sulku mine added or changed"),
        ("add set inet sulku mine { type mark; }", "set inet sulku mine added or changed"),
        ("add quota inet sulku mine { over 5 mbytes; }", "object inet sulku mine added or changed"),
        ("add table inet sulku { flags dormant; }", "table inet sulku added or changed"),
        ("flush ruleset", "table inet sulku deleted"),
        (
            "flush chain inet sulku output; delete chain inet sulku output; add chain inet sulku output { type filter hook output priority 7; }",
            "chain inet sulku output added or changed",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        nft(&stage, &[command]);
        await_change(&stage, what, DriftOutcome::Mended);
        assert_eq!(standing(&stage), before, "after {command}");
        flow.write(&format!("round{round}\n"));
        flow.read_until(&format!("answered-round{round}"));
    }
    let output = stage.shell("two.toml", "(exec 3<>/dev/tcp/198.18.0.11/443) 2>&1");
    assert!(output.contains("refused"), "{output}");
    assert_eq!(stage.world.arrived().len(), 1, "control: the one connection of the permit is all that came through");
    stage.end(&flow, "operator");
}

/// NW-05: what an auditor reads is what is in force, word for word where `nft` is the version whose words the text is in; any other version
/// lists it in its own, and the warden goes by those.
#[test]
fn the_rules_in_force_are_the_text_that_an_auditor_reads() {
    let mut stage = Stage::new();
    let listed = nft(&stage, &["--stateless", "--terse", "list", "ruleset"]);
    let (listed, text): (Vec<_>, Vec<_>) =
        (sulku_plan::ruleset::lines(&listed).collect(), sulku_plan::ruleset::lines(sulku_plan::ruleset::TEXT).collect());
    if nft(&stage, &["--version"]).contains("v1.0.6 ") {
        assert_eq!(listed, text);
    } else {
        assert!(listed.len() >= text.len(), "{listed:?}");
    }
    assert_eq!(stage.shell("one.toml", "echo served").trim(), "served");
}

/// The warden goes by what this host's `nft` lists, in whatever words.
#[test]
fn an_nft_of_other_words_is_taken_at_them() {
    // The real one, whose lists another one rewrites on their way.
    let words = "sed -e 's/0x00000000/0x0/g' -e 's/priority mangle/priority -150/' -e 's/^\\(.*\\)policy drop;/\\1policy drop; # other words/'";
    let filtered = Command::new("/bin/sh").args(["-c", &format!("echo 'meta mark 0x00000000 drop' | {words}")]).output().expect("sh");
    assert_eq!(String::from_utf8_lossy(&filtered.stdout), "meta mark 0x0 drop\n", "control: its words are other ones");
    let stage = Stage::with(Options { nft: Some(words.to_owned()), ..Options::default() });
    assert_eq!(changes(&stage), []);
    nft(&stage, &["insert rule inet sulku forward accept"]);
    await_change(&stage, "rule added or changed in inet sulku forward", DriftOutcome::Mended);
    assert!(!nft(&stage, &["list", "chain", "inet", "sulku", "forward"]).contains("\t\taccept"));
}
