//! What holds when somebody else than the warden changes the router's rules.

mod stage;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use stage::{Options, Resolving, Running, Stage, eventually};
use sulku_audit::{Draft, DriftOutcome, Event, WhyDenied};

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

/// What stands in the router: its rules, and its elements without their times, in no order.
fn standing(stage: &Stage) -> Vec<String> {
    let text = nft(stage, &["--stateless", "list", "ruleset"]);
    let mut words = text.split(|letter: char| letter.is_whitespace() || letter == ',').filter(|word| !word.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "timeout" | "expires" if found.last().is_some_and(|last: &String| last != "flags") => drop(words.next()),
            word => found.push(word.to_owned()),
        }
    }
    found.sort();
    found
}

fn nft(stage: &Stage, command: &[&str]) -> String {
    stage.in_router(&[&["/usr/sbin/nft"], command].concat())
}

/// What the entries of changes say: what was changed, by what, and what came of it.
fn changes(stage: &Stage) -> Vec<(String, String, DriftOutcome)> {
    stage.ledger.all(|draft| match &draft.event {
        Event::RulesetDrifted { changes, process, program, outcome, .. } => {
            assert!(program.is_some() == process.is_some_and(|process| process > 1), "{draft:?}");
            Some((changes.join(", "), program.clone().unwrap_or_default(), *outcome))
        }
        _ => None,
    })
}

fn await_change(stage: &Stage, what: &str, outcome: DriftOutcome) {
    eventually(what, || changes(stage).iter().any(|(said, by, came)| said.contains(what) && by == "nft" && *came == outcome).then_some(()));
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
    eventually("what was sent is counted", || used().filter(|used| *used >= 64 * 1024));
    // Mended in its place, and made anew: a chain can't be given another hook.
    let another =
        "flush chain inet sulku output; delete chain inet sulku output; add chain inet sulku output { type filter hook output priority 7; }";
    for (command, what) in [("add rule inet sulku forward accept", "rule added"), (another, "chain inet sulku output deleted")] {
        nft(&stage, &[command]);
        await_change(&stage, what, DriftOutcome::Mended);
        assert!(used().is_some_and(|used| (64 * 1024..128 * 1024).contains(&used)), "after {command}: {}", nft(&stage, &["list", "quotas"]));
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

/// Counts in its workspace for as long as it moves.
const CLOCK: &[&str] = &["/bin/bash", "-c", "while :; do echo $((n++)) > clock; sleep 0.01; done"];

fn clock(stage: &Stage) -> Option<u64> {
    std::fs::read_to_string(stage.path("workspaces/ws-one/clock")).ok()?.trim().parse().ok()
}

/// NW-06: what can't be put back lets nothing move and nothing begin, says so, and all goes on once it can.
#[test]
fn rules_that_can_not_be_mended_freeze_every_cell_until_they_are() {
    let mut stage = Stage::new();
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
    assert_eq!(stage.ledger.count("ruleset.restored"), 0);
    // Whoever it was lets go of it.
    drop(asks);
    owner.wait().expect("its end");
    stage.ledger.entry("that it is whole again", |draft| matches!(draft.event, Event::RulesetRestored { .. }).then_some(()));
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
    let entries = changes(&stage).len();
    assert!(entries <= 40, "{entries} entries");
    somebody.kill().expect("killed");
    somebody.wait().expect("its end");
    stage.ledger.entry("that it is whole again", |draft| matches!(draft.event, Event::RulesetRestored { .. }).then_some(()));
    let stood = clock(&stage);
    eventually("the clock goes on", || (clock(&stage) > stood).then_some(()));
    stage.end(&running, "operator");
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

/// NW-06: what the kernel had no room to tell of is taken for somebody else's doing, and all is written anew.
#[test]
fn changes_that_could_not_be_heard_count_as_changes() {
    const ELEMENTS: u32 = 200_000;
    let mut stage = Stage::new();
    let before = standing(&stage);
    signal(&stage, "-STOP");
    let elements: Vec<_> = (0..ELEMENTS).map(|mark| mark.to_string()).collect();
    let flood = format!("add table ip flood\nadd set ip flood marks {{ type mark; }}\nadd element ip flood marks {{ {} }}\n", elements.join(","));
    let file = stage.path("flood.nft");
    std::fs::write(&file, flood).expect("written");
    nft(&stage, &["-f", &file.display().to_string()]);
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
