//! Others' changes of the router's rules, where putting them back is not all: budgets that may not begin anew, names, changes that can't be
//! undone, that do not stop, or that could not be heard.

mod stage;

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use stage::rules::{await_change, changes, nft, signal, standing};
use stage::{Options, Resolving, Stage, eventually};
use sulku_audit::{Draft, DriftOutcome, Event, WhyDenied};

/// NW-02: a budget goes on with what is left of it when the rules are mended, and counts as used up where that is not known any more.
#[test]
fn no_budget_begins_anew_with_mended_rules() {
    let bounded = "[[egress]]\nname = \"mirror\"\nto = \"198.18.0.10\"\nports = [\"443/tcp\"]\nreason = \"r\"\nbytes = \"256 KiB\"\n\
                   connections = \"20 an hour\"\n";
    let mut stage = Stage::with(Options { egress: bounded.to_owned(), ..Options::default() });
    let running = stage.launch("one.toml", None);
    let upload = |round: u32, kib: u32| {
        running.write(&format!(
            "(exec 3<>/dev/tcp/198.18.0.10/443 && head -c {} /dev/zero >&3 && echo al\"\"l) 2>&1 | tail -n 1; echo done-\"\"{round}.\n",
            kib * 1024
        ));
        running.read_until(&format!("done-{round}.")).contains("all")
    };
    let used = || {
        let text = nft(&stage, &["list", "quotas"]);
        // In the words of nft: "over 256 kbytes used 70 kbytes".
        let (_, used) = text.split_once("used ")?;
        let mut words = used.split_whitespace();
        let unit = |unit| if unit == "kbytes" { 1024 } else { 1 };
        Some(words.next()?.parse::<u64>().ok()? * unit(words.next()?))
    };
    assert!(upload(1, 64));
    // Of what was written when the connection was closed, not all need be sent.
    let spent = eventually("what was sent is counted", || used().filter(|used| *used >= 8 * 1024));
    // Mended in its place, and made anew: a chain can't be given another hook.
    let another =
        "flush chain inet sulku output; delete chain inet sulku output; add chain inet sulku output { type filter hook output priority 7; }";
    for (command, what) in [("add rule inet sulku forward accept", "rule added"), (another, "chain inet sulku output deleted")] {
        nft(&stage, &[command]);
        await_change(&stage, what, DriftOutcome::Mended);
        assert!(used().is_some_and(|used| (spent..128 * 1024).contains(&used)), "after {command}: {}", nft(&stage, &["list", "quotas"]));
    }
    assert!(upload(2, 64), "control: there is something left");
    assert!(!upload(3, 4096), "and no more than that");
    stage.end(&running, "operator");
    // What was left of this session's can't be told.
    let running = stage.launch("one.toml", None);
    nft(&stage, &["flush", "ruleset"]);
    await_change(&stage, "object inet sulku bytes-2", DriftOutcome::Mended);
    let taken = |draft: &Draft| matches!(&draft.event, Event::RulesetDrifted { budgets_taken: 1, .. }).then_some(());
    stage.ledger.entry("the budget that counts as used up", taken);
    let arrived = stage.world.bytes();
    running.write("(exec 3<>/dev/tcp/198.18.0.10/443 && head -c 4096 /dev/zero >&3) 2>&1 | tail -n 1; echo done-\"\"4.\n");
    assert!(running.read_until("done-4.").contains("refused"));
    assert_eq!(stage.world.bytes(), arrived);
    stage.ledger.entry("the denial", |draft| match &draft.event {
        Event::EgressDenied { reason: Some(WhyDenied::OverQuota), .. } if draft.session == Some(running.session) => Some(()),
        _ => None,
    });
    stage.end(&running, "operator");
}

/// NW-06: what is open by name is put back with the rest: the name's address for new connections, the one that runs through the resolver,
/// and the resolver's own ways.
#[test]
fn what_is_open_by_name_is_put_back_too() {
    let destination =
        |to: &str, rest: &str| format!("[[egress]]\nname = \"{to}\"\nto = \"{to}\"\nwithin = [\"198.18.0.0/16\"]\nreason = \"r\"\n{rest}\n");
    let egress =
        destination("*.example.net", "ports = [\"443/tcp\"]") + &destination("git.example.org", "ports = [\"22/tcp\"]\ncheck = \"address-only\"");
    let table = r#"{"cran.example.net": {"addresses": ["198.18.0.30"]}, "cpan.example.net": {"addresses": ["198.18.0.31"]},
        "git.example.org": {"addresses": ["198.18.0.20"]}}"#;
    let mut stage = Stage::with(Options { egress, resolver: Some(Resolving::Scripted(table.to_owned())), ..Options::default() });
    let script = "exec 3<>/dev/tcp/cran.example.net/443; head -n 1 <&3 > /dev/null; while read -r line; do echo x >&3; head -c 1 <&3 > /dev/null && \
                  (exec 4<>/dev/tcp/$line && echo \"reached-\"$line); done";
    let flow = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    flow.write("git.example.org/22\n");
    flow.read_until("reached-git.example.org/22");
    let before = standing(&stage);
    assert!(["named_open", "checked", "dialled"].iter().all(|set| { nft(&stage, &["list", "set", "inet", "sulku", set]).contains("198.18.0.30") }));
    nft(&stage, &["flush", "ruleset"]);
    await_change(&stage, "table inet sulku deleted", DriftOutcome::Mended);
    assert_eq!(standing(&stage), before);
    // Its open connection, its address without asking again, and a name that is asked for only now.
    for place in ["198.18.0.20/22", "cpan.example.net/443"] {
        flow.write(&format!("{place}\n"));
        flow.read_until(&format!("reached-{place}"));
    }
    stage.end(&flow, "operator");
}

/// Counts in its workspace for as long as it moves.
const CLOCK: &[&str] = &["/bin/bash", "-c", "while :; do echo $((n++)) > clock; sleep 0.01; done"];

fn clock(stage: &Stage) -> Option<u64> {
    std::fs::read_to_string(stage.path("workspaces/ws-one/clock")).ok()?.trim().parse().ok()
}

/// NW-06: what can't be put back lets nothing move and nothing begin, says so, and all goes on once it can.
#[test]
fn rules_that_can_not_be_mended_freeze_every_cell_until_they_are() {
    let bounded = "[[egress]]\nname = \"mirror\"\nto = \"198.18.0.10\"\nports = [\"443/tcp\"]\nreason = \"r\"\nbytes = \"256 KiB\"\n";
    let mut stage = Stage::with(Options { egress: bounded.to_owned(), ..Options::default() });
    let running = stage.launch("one.toml", Some(CLOCK));
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    // A table that belongs to a socket is nobody else's to delete, as long as that is open.
    let mut owner = stage.command_in_router(&["/usr/sbin/nft", "-i"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("nft");
    let mut asks = owner.stdin.take().expect("its input");
    asks.write_all(b"add table inet theirs { flags owner; }\n").expect("asked");
    await_change(&stage, "table inet theirs added or changed", DriftOutcome::Frozen);
    let stands_still = |stage: &Stage| {
        let before = clock(stage);
        std::thread::sleep(Duration::from_millis(200));
        before == clock(stage)
    };
    eventually("the clock stands still", || stands_still(&stage).then_some(()));
    let draft = stage.opening("two.toml", None);
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&stage::launch(receipt));
    let refusal = stage.gateway.refusal();
    assert!(refusal.contains("nftables") && refusal.contains("ruleset.drifted"), "{refusal}");
    // What is done in the meantime is told too, and what it did to budgets is not forgotten.
    nft(&stage, &["delete", "table", "inet", "sulku"]);
    await_change(&stage, "table inet sulku deleted", DriftOutcome::Frozen);
    let taken = |draft: &Draft| matches!(&draft.event, Event::RulesetDrifted { outcome: DriftOutcome::Frozen, budgets_taken: 1, .. }).then_some(());
    stage.ledger.entry("the budget that is taken meanwhile", taken);
    assert_eq!(stage.ledger.count("ruleset.restored"), 0);
    // Whoever it was lets go of it.
    drop(asks);
    owner.wait().expect("its end");
    stage.ledger.entry("that it is whole again", |draft| matches!(draft.event, Event::RulesetRestored { budgets_taken: 1, .. }).then_some(()));
    let stood = clock(&stage);
    eventually("the clock goes on", || (clock(&stage) > stood).then_some(()));
    assert_eq!(stage.shell("two.toml", "echo begins").trim(), "begins");
    stage.end(&running, "operator");
}

/// Somebody who does not stop is not fought for ever, and fills no ledger.
#[test]
fn who_changes_the_rules_again_and_again_freezes_every_cell() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(CLOCK));
    let script = "while :; do /usr/sbin/nft add table inet again; done";
    let mut somebody = stage.command_in_router(&["/bin/sh", "-c", script]).stderr(Stdio::null()).spawn().expect("a shell");
    await_change(&stage, "table inet again added or changed", DriftOutcome::Frozen);
    // Sixteen times mended and once given up, with one entry for each of at most nine processes.
    let entries = changes(&stage).len();
    assert!(entries <= 17 * 9, "{entries} entries");
    somebody.kill().expect("killed");
    somebody.wait().expect("its end");
    stage.ledger.entry("that it is whole again", |draft| matches!(draft.event, Event::RulesetRestored { .. }).then_some(()));
    let stood = clock(&stage);
    eventually("the clock goes on", || (clock(&stage) > stood).then_some(()));
    stage.end(&running, "operator");
}

/// NW-06: what the kernel had no room to tell of is taken for somebody else's doing, and all is written anew.
#[test]
fn changes_that_could_not_be_heard_count_as_changes() {
    const ELEMENTS: u32 = 130_000;
    let mut stage = Stage::new();
    let before = standing(&stage);
    signal(&stage, "-STOP");
    let elements: Vec<_> = (0..ELEMENTS).map(|mark| mark.to_string()).collect();
    let flood = format!("add table ip flood\nadd set ip flood marks {{ type mark; }}\nadd element ip flood marks {{ {} }}\n", elements.join(","));
    let file = stage.path("flood.nft");
    std::fs::write(&file, flood).expect("written");
    nft(&stage, &["-f", &file.display().to_string()]);
    // Each element is told of when it comes and when it goes.
    nft(&stage, &["flush", "set", "ip", "flood", "marks"]);
    signal(&stage, "-CONT");
    stage.ledger.entry("that something was not heard", |draft| match &draft.event {
        Event::RulesetDrifted { changes, process: None, program: None, outcome: DriftOutcome::Mended, .. } => {
            changes.iter().any(|change| change.contains("could not tell of")).then_some(())
        }
        _ => None,
    });
    eventually("all is as before", || (standing(&stage) == before).then_some(()));
    assert_eq!(stage.shell("one.toml", "echo served").trim(), "served");
}
