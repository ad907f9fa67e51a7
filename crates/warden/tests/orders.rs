//! What the warden obeys and what it refuses. A refusal leaves nothing behind and is recorded.

mod stage;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use stage::ledger::{receipt, signer};
use stage::{Gateway, Stage, launch};
use sulku_audit::{Draft, Event, Receipt};
use sulku_plan::order::{ORDER_VERSION, Order, Report};

/// Orders the launch and returns the refusal's reason, after seeing that nothing is left and that it is recorded.
fn refused(stage: &Stage, receipt: Receipt) -> String {
    let before = stage.ledger.count("warden.order-refused");
    stage.gateway.order(&launch(receipt));
    let reason = stage.gateway.refusal();
    assert_eq!(stage.cell_processes(), Vec::<u32>::new());
    stage.await_groups(0);
    stage::eventually("the refusal's entry", || (stage.ledger.count("warden.order-refused") > before).then_some(()));
    assert!(stage.ledger.refusals().contains(&reason));
    reason
}

fn altered(receipt: &Receipt, alter: impl Fn(&mut serde_json::Value)) -> Receipt {
    let mut value = serde_json::to_value(receipt).expect("a value");
    alter(&mut value);
    serde_json::from_value(value).expect("a receipt's shape")
}

/// LG-05, IA-01: no receipt, no cell. A receipt that anybody but the ledger made, or that was altered, opens nothing.
#[test]
fn a_forged_or_altered_receipt_is_refused() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", None);
    let good = stage.ledger.keep(&draft);
    let forged = receipt(&signer(8), 0, &draft, Timestamp::now());
    assert!(refused(&stage, forged).contains("signature"));
    let other_person = altered(&good, |value| {
        let draft = value["opening"]["draft"].as_str().expect("a draft").replace("maija", "mikko");
        value["opening"]["draft"] = draft.into();
    });
    assert!(refused(&stage, other_person).contains("signature"));
    assert!(refused(&stage, altered(&good, |value| value["index"] = 99.into())).contains("signature"));
    let unsigned = altered(&good, |value| drop(value.as_object_mut().expect("an object").remove("opening")));
    assert!(refused(&stage, unsigned).contains("no signed draft"));
    // Control: the receipt as the ledger gave it opens the session.
    stage.gateway.order(&launch(good));
    assert!(matches!(stage.gateway.report(), (Report::Launched { .. }, Some(_))));
}

#[test]
fn a_replayed_or_stale_receipt_is_refused() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", Some(&["true"]));
    let good = stage.ledger.keep(&draft);
    stage.gateway.order(&launch(good.clone()));
    let (Report::Launched { session }, Some(master)) = stage.gateway.report() else { panic!("control: the first use opens the session") };
    assert!(matches!(stage.gateway.report().0, Report::Exited { status: 0, .. }));
    stage.end(&stage::Running { session, master }, "shell-exited");
    assert!(refused(&stage, good).contains("has had its cell"));
    for (age_s, why) in [(61, "not of just now"), (-10, "not of just now")] {
        let draft = stage.opening("one.toml", None);
        let old = stage.ledger.keep_at(&draft, Timestamp::now() - SignedDuration::from_secs(age_s));
        let reason = refused(&stage, old);
        assert!(reason.contains(why), "{age_s}: {reason}");
    }
}

/// What an earlier warden may have launched, this one does not know; it goes by the entries' numbers.
#[test]
fn an_opening_from_before_the_wardens_start_is_refused() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", None);
    let before = stage.ledger.keep(&draft);
    stage.stop();
    stage.await_uplinks_end();
    stage.restart();
    assert!(refused(&stage, before).contains("before this warden started"));
}

/// A clock that was set back makes entries look older than the warden: that keeps nobody out.
#[test]
fn a_clock_that_was_set_back_keeps_nobody_out() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", Some(&["true"]));
    let receipt = stage.ledger.keep_at(&draft, Timestamp::now() - SignedDuration::from_secs(50));
    stage.gateway.order(&launch(receipt));
    assert!(matches!(stage.gateway.report(), (Report::Launched { .. }, Some(_))));
}

fn with_opening(draft: &Draft, change: impl Fn(&mut String, &mut Timestamp, &mut Option<Vec<String>>)) -> Draft {
    let mut draft = draft.clone();
    if let Event::SessionOpened { plan, ends, command, .. } = &mut draft.event {
        let mut asked = command.known().cloned().expect("a draft tells all");
        change(plan, ends, &mut asked);
        *command = asked.into();
    }
    draft
}

/// The gateway can ask for no more than the warden's own copy of the permit gives.
#[test]
fn a_launch_beyond_the_wardens_own_permits_is_refused() {
    let mut stage = Stage::new();
    type Change = Box<dyn Fn(Draft) -> Draft>;
    let cases: [(&str, Change); 6] = [
        ("names plan", Box::new(|draft| with_opening(&draft, |plan, _, _| *plan = "0".repeat(64)))),
        ("there is no permit", Box::new(|draft| Draft { permit: Some("THL/9/2026".parse().expect("an id")), ..draft })),
        ("not listed", Box::new(|draft| Draft { person: Some("mikko".parse().expect("an id")), ..draft })),
        ("end has passed", Box::new(|draft| with_opening(&draft, |_, ends, _| *ends = Timestamp::now() - SignedDuration::from_secs(1)))),
        ("malformed", Box::new(|draft| with_opening(&draft, |_, _, command| *command = Some(Vec::new())))),
        ("malformed", Box::new(|draft| with_opening(&draft, |_, _, command| *command = Some(vec!["a\0b".to_owned()])))),
    ];
    for (why, change) in cases {
        let draft = change(stage.opening("one.toml", None));
        let receipt = stage.ledger.keep(&draft);
        let reason = refused(&stage, receipt);
        assert!(reason.contains(why), "{why}: {reason}");
    }
    // A permit that has changed since the gateway read it: the plans differ, so there is no cell.
    let draft = stage.opening("one.toml", None);
    let text = stage.change_permit("one.toml", "443/tcp", "444/tcp");
    let receipt = stage.ledger.keep(&draft);
    assert!(refused(&stage, receipt).contains("names plan"));
    // One that has ended: SE-05.
    stage.put_permit("one.toml", &text.replace("2099-12-31", "2021-12-31"));
    let draft = stage.opening("two.toml", None);
    let ended = Draft { permit: Some("THL/1/2026".parse().expect("an id")), ..draft };
    let receipt = stage.ledger.keep(&ended);
    assert!(refused(&stage, receipt).contains("permit-expired"));
    stage.put_permit("one.toml", &text);
    assert_eq!(stage.shell("one.toml", "echo opened").trim(), "opened", "control: with its permit as it was the session opens");
}

#[test]
fn an_order_out_of_phase_is_refused_and_recorded() {
    let stage = Stage::new();
    stage.gateway.order(&Order::Hello { version: ORDER_VERSION });
    assert!(stage.gateway.refusal().contains("out of phase"));
    stage.gateway.packet(b"{\"order\":\"make-coffee\"}");
    assert!(stage.gateway.refusal().contains("malformed"));
    stage.gateway.packet(&vec![b'x'; 100_000]);
    assert!(stage.gateway.refusal().contains("malformed"));
    let nobody = sulku_permit::SessionId::from_random([9; 10]);
    stage.gateway.order(&Order::End { session: nobody, reason: "operator".to_owned() });
    assert!(stage.gateway.refusal().contains("no such cell"));
    stage.gateway.order(&Order::End { session: nobody, reason: "whim".to_owned() });
    assert!(stage.gateway.refusal().contains("reason"));
    stage::eventually("each refusal's entry", || (stage.ledger.count("warden.order-refused") == 5).then_some(()));
}

#[test]
fn before_hello_nothing_is_obeyed() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.leave();
    stage.gateway = stage::eventually("a new connection", || {
        Gateway::connect(&stage.path("warden.sock")).filter(|gateway| {
            gateway.order(&launch(receipt.clone()));
            gateway.readable(Duration::from_secs(2))
        })
    });
    assert!(stage.gateway.refusal().contains("out of phase"));
    stage.gateway.greet();
    stage.gateway.order(&launch(receipt));
    assert!(matches!(stage.gateway.report(), (Report::Launched { .. }, Some(_))), "control: after hello the same order is obeyed");
}

/// A permit's end ends the session, without anybody's order and even though its shell would go on.
#[test]
fn a_session_ends_when_its_time_is_over() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", None);
    let short = with_opening(&draft, |_, ends, _| *ends = Timestamp::now() + SignedDuration::from_millis(1_500));
    let receipt = stage.ledger.keep(&short);
    stage.gateway.order(&launch(receipt));
    assert!(matches!(stage.gateway.report(), (Report::Launched { .. }, Some(_))));
    let begun = std::time::Instant::now();
    match stage.gateway.report().0 {
        Report::Reaped { session, reason, leftovers } => {
            assert_eq!((Some(session), reason.as_str(), leftovers.len()), (draft.session, "certificate-ended", 0));
        }
        other => panic!("not reaped: {other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

/// IA-01, LC-03: what the gateway says of a permit opens nothing that the permit does not.
#[test]
fn a_gateway_that_lies_about_a_permit_gets_nothing() {
    let mut stage = Stage::new();
    let cases = [
        ("roles = [\"analyst\"]", "roles = [\"observer\"]", "role-opens-no-session"),
        ("[permit]\n", "[permit]\nsuspended = \"a complaint\"\n", "permit-suspended"),
        ("[permit]\n", "[permit]\nstatus = \"REVOKED\"\n", "permit-revoked"),
        ("roles = [\"analyst\"]", "roles = [\"analyst\"]\nvalid_until = 2021-12-31", "holder-expired"),
        ("127.0.0.0/8", "192.0.2.0/24", "source-not-allowed"),
    ];
    for (from, to, code) in cases {
        // Its entry is as that of the permit before.
        let draft = stage.opening("one.toml", None);
        let before = stage.change_permit("one.toml", from, to);
        let receipt = stage.ledger.keep(&draft);
        let reason = refused(&stage, receipt);
        assert!(reason.contains(code), "{code}: {reason}");
        stage.put_permit("one.toml", &before);
    }
    assert_eq!(stage.shell("one.toml", "echo opened").trim(), "opened", "control: with its permit as it was the session opens");
}
