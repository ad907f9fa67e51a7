//! What becomes of cells when the warden's own permits change. The gateway of these tests never says that a cell is to end.

mod stage;

use std::fs;
use std::time::{Duration, Instant};

use stage::policy::By;
use stage::{Running, Stage, eventually};
use sulku_audit::{CloseReason, Event};

/// Writes the time into its workspace again and again.
const CLOCK: &[&str] = &["/bin/bash", "-c", "while :; do echo $((n++)) > clock; sleep 0.01; done"];
/// The same, with a byte to the world and one back each time, over one connection.
const FLOW: &[&str] = &[
    "/bin/bash",
    "-c",
    "exec 3<>/dev/tcp/198.18.0.10/443; head -c 10 <&3; while :; do echo x >&3; head -c 1 <&3 > /dev/null; echo $((n++)) > clock; done",
];

fn clock(stage: &Stage, workspace: &str) -> Option<u64> {
    fs::read_to_string(stage.path("workspaces").join(workspace).join("clock")).ok()?.trim().parse().ok()
}

fn goes_on(stage: &Stage, workspace: &str) {
    let before = clock(stage, workspace);
    eventually("the clock goes on", || (clock(stage, workspace) > before).then_some(()));
}

fn reaping(stage: &Stage, running: &Running) -> CloseReason {
    stage.ledger.entry("the reaping", |draft| match &draft.event {
        Event::CellReaped { reason, .. } if draft.session == Some(running.session) => Some(*reason),
        _ => None,
    })
}

/// SE-05, LC-03: the warden needs nobody to tell it. Processes, elements and flows go; another permit's do not.
#[test]
fn a_revoked_permit_ends_its_cells_and_cuts_their_flows_while_the_gateway_is_silent() {
    let mut stage = Stage::new();
    let (flowing, other) = (stage.launch("one.toml", Some(FLOW)), stage.launch("two.toml", Some(CLOCK)));
    eventually("the flow runs", || clock(&stage, "ws-one").filter(|n| *n > 10));
    let before = stage.world.bytes();
    eventually("its bytes arrive", || (stage.world.bytes() > before).then_some(()));
    let revoked = Instant::now();
    stage.change_permit("one.toml", "[permit]\n", "[permit]\nstatus = \"REVOKED\"\n");
    assert_eq!(stage.reaped(&flowing), "permit-revoked");
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    let arrived = stage.world.bytes();
    assert_eq!(reaping(&stage, &flowing), CloseReason::PermitRevoked);
    stage.ledger.entry("the flow's end", |draft| {
        matches!(draft.event, Event::EgressAllowed { port: 443, .. }).then_some(()).filter(|()| draft.session == Some(flowing.session))
    });
    goes_on(&stage, "ws-two");
    goes_on(&stage, "ws-two");
    assert_eq!(stage.world.bytes(), arrived, "no further byte");
    assert_eq!(stage.ledger.count("cell.reaped"), 1, "control: the other permit's cell was not reaped");
    stage.end(&other, "operator");
}

/// NW-02: a destination that closes before its permit does, closes in the kernel, under an open session and an open connection.
#[test]
fn a_destination_closes_at_its_own_end_while_the_session_goes_on() {
    let mut stage = Stage::new();
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let line = format!("valid_until = {}\nreason = ", ends.strftime("%Y-%m-%dT%H:%M:%SZ"));
    stage.change_permit("one.toml", "reason = ", &line);
    let (flowing, other) = (stage.launch("one.toml", Some(FLOW)), stage.launch("two.toml", Some(CLOCK)));
    eventually("the flow runs", || clock(&stage, "ws-one").filter(|n| *n > 10));
    let before = stage.world.bytes();
    eventually("its bytes arrive", || (stage.world.bytes() > before).then_some(()));
    eventually("the destination's end", || (jiff::Timestamp::now() > ends + jiff::SignedDuration::from_millis(300)).then_some(()));
    let arrived = stage.world.bytes();
    goes_on(&stage, "ws-two");
    goes_on(&stage, "ws-two");
    assert_eq!(stage.world.bytes(), arrived, "no further byte");
    assert_eq!(stage.ledger.count("cell.reaped"), 0, "the session goes on");
    stage.end(&flowing, "operator");
    stage.end(&other, "operator");
}

/// Each thing that a permit says of who may be there, and when.
#[test]
fn whatever_no_longer_admits_a_session_ends_its_cell() {
    let mut stage = Stage::new();
    let hers = "id = \"maija\"\nname = \"Maija M\"\ncertificate = { uri = \"spiffe://spe.example.fi/person/maija\" }".to_owned();
    let holder = "roles = [\"analyst\"]";
    let cases = [
        ("[permit]\n", "[permit]\nsuspended = \"a complaint\"\n", "suspended"),
        (holder, "roles = [\"analyst\"]\nrevoked = 2021-12-31", "holder-revoked"),
        (holder, "roles = [\"observer\"]", "no-longer-admitted"),
        (&hers, &hers.replace("maija", "mikko").replace("Maija", "Mikko"), "holder-revoked"),
        ("2099-12-31", "2021-12-31", "permit-ended"),
        ("127.0.0.0/8", "192.0.2.0/24", "no-longer-admitted"),
        ("[session]\n", "[session]\nallowed_hours = [\"HOURS\"]\n", "outside-hours"),
    ];
    let other = stage.launch("two.toml", Some(CLOCK));
    eventually("the other clock runs", || clock(&stage, "ws-two"));
    for (from, to, reason) in cases {
        let running = stage.launch("one.toml", Some(CLOCK));
        let before = stage.change_permit("one.toml", from, &to.replace("HOURS", &hours_that_are_over()));
        assert_eq!(stage.reaped(&running), reason);
        stage.put_permit("one.toml", &before);
        goes_on(&stage, "ws-two");
    }
    stage.end(&other, "operator");
}

/// A day of the week that is neither today nor a neighbour of today in any time zone.
fn hours_that_are_over() -> String {
    let day = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date() + jiff::Span::new().days(3);
    format!("{} 03:00-04:00", day.strftime("%a"))
}

/// SE-02: an end that comes earlier is the warden's own deadline, and one that is later again changes nothing beyond the opening's.
#[test]
fn a_permit_that_ends_earlier_ends_its_cells_by_the_wardens_own_clock() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(CLOCK));
    let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    stage.change_permit("one.toml", "2099-12-31", &ends.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let ran = || stage.ledger.count("cell.reaped") == 0;
    assert!(ran(), "control: it runs until then");
    assert_eq!(stage.reaped(&running), "permit-ended");
    assert!(jiff::Timestamp::now().as_second() >= ends.as_second());
}

/// IA-07, LC-01. What no operator has signed, or what is broken, changes nothing: what was in force stays so, and that it was refused is an entry.
#[test]
fn a_revision_that_is_forged_or_broken_changes_nothing() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(CLOCK));
    let good = stage.revisions.last();
    let text = fs::read_to_string(stage.path("permits/one.toml")).expect("a permit");
    let suspended = text.replace("[permit]\n", "[permit]\nsuspended = \"a complaint\"\n");
    let refusals = |count| eventually("the refusal's entry", || (stage.ledger.count("warden.policy-refused") == count).then_some(()));

    // A file of the working copy alone is nobody's word.
    stage.write_permit("one.toml", &suspended);
    // Somebody else's signature.
    let forged = stage.revisions.apply(By::Stranger);
    refusals(1);
    goes_on(&stage, "ws-one");
    fs::remove_file(stage.revisions.path(forged)).expect("removed");
    // An operator's, over a file that is broken.
    stage.put_permit("one.toml", "schema = ");
    refusals(2);
    goes_on(&stage, "ws-one");
    stage.write_permit("one.toml", &text);
    assert_eq!(stage.shell("two.toml", "echo opened").trim(), "opened", "control: by what is in force a session opens");
    assert_eq!(stage.ledger.count("warden.policy-activated"), 1, "number {good} alone has been in force");

    stage.put_permit("one.toml", &suspended);
    assert_eq!(stage.reaped(&running), "suspended", "control: signed, the same words count");
    assert_eq!(stage.ledger.count("warden.policy-activated"), 2);
}

/// A warden that starts on a store that was tampered with launches nothing, not by an older revision either.
#[test]
fn a_tampered_store_launches_nothing() {
    let mut stage = Stage::new();
    assert_eq!(stage.shell("one.toml", "echo opened").trim(), "opened", "control: as it was signed, a session opens");
    stage.change_permit("two.toml", "2099-12-31", "2098-12-31");
    let (number, launch) = (stage.revisions.last(), |stage: &mut Stage| {
        let draft = stage.opening("one.toml", None);
        let receipt = stage.ledger.keep(&draft);
        stage.gateway.order(&stage::launch(receipt));
        stage.gateway.refusal()
    });
    let path = stage.revisions.path(number);
    let signed = fs::read_to_string(&path).expect("a revision");
    fs::write(&path, signed.replace("reason a test", "reason b test")).expect("tampered with");
    stage.stop();
    stage.await_uplinks_end();
    stage.restart();
    let reason = launch(&mut stage);
    assert!(reason.contains("no revision of the policy is in force") && reason.contains("signature of onni"), "{reason}");
    fs::write(&path, signed).expect("as it was");
    assert_eq!(stage.shell("one.toml", "echo opened").trim(), "opened", "control: put back, it counts again");
}
