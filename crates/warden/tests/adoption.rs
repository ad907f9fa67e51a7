//! Cells whose gateway is lost and that the next one adopts: by an entry of the ledger and no other way, and with no more than they had left.

mod stage;

use std::fs;
use std::os::fd::OwnedFd;

use jiff::{SignedDuration, Timestamp};
use stage::ledger::{receipt, signer};
use stage::{Gateway, Options, Running, Stage, eventually, launch};
use sulku_audit::{CloseReason, Draft, Event, Receipt};
use sulku_plan::Order;
use sulku_plan::order::Report;

/// Writes how often it was round into its workspace again and again.
const CLOCK: &[&str] = &["/bin/bash", "-c", "while :; do echo $((n++)) > clock; sleep 0.01; done"];

fn clock(stage: &Stage) -> Option<u64> {
    fs::read_to_string(stage.path("workspaces/ws-one/clock")).ok()?.trim().parse().ok()
}

fn goes(stage: &Stage) {
    let before = clock(stage);
    eventually("the clock goes", || (clock(stage) > before).then_some(()));
}

/// A launched cell, with what its opening says.
fn opened(stage: &mut Stage, command: &[&str]) -> (Draft, Running) {
    let draft = stage.opening("one.toml", Some(command));
    let session = draft.session.expect("a session");
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&launch(receipt));
    let (Report::Launched { .. }, Some(master)) = stage.gateway.report() else { panic!("control: the session opens") };
    (draft, Running { session, master })
}

/// The only cell that was left: the number of its opening entry, how many gateways have adopted it, and its terminal.
fn only(orphans: Vec<(Report, OwnedFd)>, draft: &Draft) -> (u64, u32, OwnedFd) {
    let [(Report::Orphan { session, entry, opening, adoptions, .. }, master)] = <[_; 1]>::try_from(orphans).expect("one orphan") else {
        panic!("no orphan")
    };
    assert_eq!(Some(session), draft.session);
    assert_eq!(serde_json::from_str::<Draft>(&opening).expect("a draft"), *draft, "all that the ledger signed");
    (entry, adoptions, master)
}

fn refused(stage: &Stage, receipt: Receipt, why: &str) {
    let before = stage.ledger.count("warden.order-refused");
    stage.gateway.order(&Order::Adopt { receipt });
    let reason = stage.gateway.refusal();
    assert!(reason.contains(why), "{why}: {reason}");
    eventually("the refusal's entry", || (stage.ledger.count("warden.order-refused") > before).then_some(()));
}

fn adopt(stage: &Stage, receipt: Receipt) {
    stage.gateway.order(&Order::Adopt { receipt });
    let answer = stage.gateway.report().0;
    assert!(matches!(answer, Report::Adopted { .. }), "{answer:?}");
}

/// LG-05, IA-01: no receipt, no cell, also for a gateway that says it is the next.
#[test]
fn a_cell_is_adopted_by_its_own_entry_of_now_and_once() {
    let mut stage = Stage::with(Options { grace_s: 60, ..Options::default() });
    let (draft, running) = opened(&mut stage, CLOCK);
    eventually("the clock runs", || clock(&stage).filter(|n| *n > 3));
    let (opening, adoptions, _master) = only(stage.change_gateways(), &draft);
    assert_eq!(adoptions, 0);
    let good = stage.adoption(&draft, opening, 1);
    let stood = clock(&stage);
    refused(&stage, receipt(&signer(8), opening + 1, &good, Timestamp::now()), "no receipt");
    let other = Draft { permit: Some("THL/2/2026".parse().expect("an id")), ..good.clone() };
    refused(&stage, stage.ledger.keep(&other), "another permit");
    let other = Draft { person: Some("mikko".parse().expect("an id")), ..good.clone() };
    refused(&stage, stage.ledger.keep(&other), "another permit, person");
    refused(&stage, stage.ledger.keep(&stage.adoption(&draft, opening + 1, 1)), "opening");
    refused(&stage, stage.ledger.keep(&stage.adoption(&draft, opening, 2)), "part");
    let nobodys = Draft { session: Some(stage.next_session()), ..good.clone() };
    refused(&stage, stage.ledger.keep(&nobodys), "no such cell");
    refused(&stage, stage.ledger.keep(&draft), "no receipt");
    refused(&stage, stage.ledger.keep_at(&good, Timestamp::now() - SignedDuration::from_secs(61)), "not of just now");
    assert_eq!(clock(&stage), stood, "it stands still until it is adopted");

    let receipt = stage.ledger.keep(&good);
    adopt(&stage, receipt.clone());
    goes(&stage);
    refused(&stage, receipt.clone(), "has its gateway");
    // The next gateway can't use what the one before used, nor what is no younger.
    let (_, adoptions, master) = only(stage.change_gateways(), &draft);
    assert_eq!(adoptions, 1);
    refused(&stage, receipt, "not younger");
    refused(&stage, stage.ledger.keep(&good), "part");
    adopt(&stage, stage.ledger.keep(&stage.adoption(&draft, opening, 2)));
    goes(&stage);
    stage.end(&Running { master, ..running }, "operator");
}

/// SE-02: what ran goes on in the same processes, at the same terminal, and its last words are not lost.
#[test]
fn an_adopted_cell_has_its_processes_and_its_terminal() {
    let mut stage = Stage::with(Options { grace_s: 60, ..Options::default() });
    let (draft, running) = opened(&mut stage, &["/bin/bash", "-c", "echo ready; read -r word; echo heard $word; read -r _; exit 7"]);
    running.read_until("ready");
    let before = stage.cell_processes();
    let (opening, _, master) = only(stage.change_gateways(), &draft);
    let taken = Running { session: running.session, master };
    taken.write("typed-before\n");
    adopt(&stage, stage.ledger.keep(&stage.adoption(&draft, opening, 1)));
    taken.read_until("heard typed-before");
    assert_eq!(stage.cell_processes(), before);
    taken.write("\n");
    let ended = stage.gateway.report().0;
    assert!(matches!(ended, Report::Exited { status: 7, .. }), "{ended:?}");
    // It has ended, nobody has ended it, and its gateway is lost once more.
    let (_, adoptions, master) = only(stage.change_gateways(), &draft);
    assert_eq!(adoptions, 1);
    adopt(&stage, stage.ledger.keep(&stage.adoption(&draft, opening, 2)));
    let ended = stage.gateway.report().0;
    assert!(matches!(ended, Report::Exited { status: 7, .. }), "how it ended is told to whoever has it: {ended:?}");
    stage.end(&Running { session: running.session, master }, "shell-exited");
}

#[test]
fn a_gateway_ends_what_it_does_not_adopt_and_time_ends_the_rest() {
    let mut stage = Stage::with(Options { grace_s: 8, ..Options::default() });
    let (first, running) = opened(&mut stage, CLOCK);
    only(stage.change_gateways(), &first);
    stage.end(&running, "permit-revoked");
    stage.ledger.entry("the end that was ordered", |draft| {
        matches!(draft.event, Event::CellReaped { reason: CloseReason::PermitRevoked, .. } if draft.session == first.session).then_some(())
    });
    let (second, running) = opened(&mut stage, CLOCK);
    let (opening, ..) = only(stage.change_gateways(), &second);
    assert_eq!(stage.reaped(&running), "gateway-lost");
    refused(&stage, stage.ledger.keep(&stage.adoption(&second, opening, 1)), "no such cell");
    assert!(stage.cell_processes().is_empty());
}

/// NW-02: an adopted cell reaches what it reached, and a budget goes on where it was.
#[test]
fn an_adopted_cell_has_its_egress_and_what_its_budget_has_left() {
    let egress = "[[egress]]\nname = \"mirror\"\nto = \"198.18.0.10\"\nports = [\"443/tcp\", \"22/tcp\"]\nreason = \"r\"\nbytes = \"96 KiB\"\n";
    let mut stage = Stage::with(Options { egress: egress.to_owned(), grace_s: 60, ..Options::default() });
    let send = |kib: u32| format!("(exec 3<>/dev/tcp/198.18.0.10/443 && head -c {} /dev/zero >&3 && echo sent) 2>&1 | tail -n 1; ", kib * 1024);
    let greet = "(exec 3<>/dev/tcp/198.18.0.10/22 && head -n 1 <&3) 2>&1 | tail -n 1; ";
    // The world greets with 21 bytes and answers each piece of at most 4 KiB with one more: what was answered has arrived.
    let first = "exec 3<>/dev/tcp/198.18.0.10/443; head -c 32768 /dev/zero >&3; head -c 29 <&3 > /dev/null; exec 3<&-; ";
    let script = [first, "echo one; read -r _; ", greet, "echo two; read -r _; ", &send(4_096), "echo three"].concat();
    let (draft, running) = opened(&mut stage, &["/bin/bash", "-c", &script]);
    running.read_until("one");
    assert!(stage.world.bytes() >= 32 * 1024, "control: {} bytes arrived", stage.world.bytes());
    let (opening, _, master) = only(stage.change_gateways(), &draft);
    let taken = Running { session: running.session, master };
    adopt(&stage, stage.ledger.keep(&stage.adoption(&draft, opening, 1)));
    taken.write("\n");
    let said = taken.read_until("two");
    assert!(said.contains("hello"), "control: it reaches what it reached: {said}");
    taken.write("\n");
    let said = taken.read_until("three");
    assert!(!said.contains("sent"), "{said}");
    assert!((32 * 1024..=96 * 1024).contains(&stage.world.bytes()), "{} bytes arrived of 96 KiB in all", stage.world.bytes());
    eventually("the cell's end", || match stage.gateway.report().0 {
        Report::Exited { .. } => Some(()),
        other => panic!("{other:?}"),
    });
    stage.end(&taken, "shell-exited");
}

/// A session whose cell went while nobody could close it is told to the next gateway, and once.
#[test]
fn what_went_while_there_was_no_gateway_is_told_to_the_next_one() {
    let mut stage = Stage::with(Options { grace_s: 1, ..Options::default() });
    let (draft, _running) = opened(&mut stage, CLOCK);
    stage.gateway.leave();
    stage.ledger.entry("the reaping", |entry| (entry.session == draft.session && entry.event.name() == "cell.reaped").then_some(()));
    stage.gateway = Gateway::connect(&stage.path("warden.sock")).expect("a connection");
    stage.gateway.greet();
    let [Report::Gone { session, opening, adoptions: 0, reason, .. }] = &stage.gateway.gone[..] else { panic!("{:?}", stage.gateway.gone) };
    assert_eq!((Some(*session), reason.as_str()), (draft.session, "gateway-lost"));
    assert_eq!(serde_json::from_str::<Draft>(opening).expect("a draft"), draft);
    stage.change_gateways();
    assert!(stage.gateway.gone.is_empty(), "once");
}
