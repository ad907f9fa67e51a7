//! What a diff calls wider, and that what it calls narrower is.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sulku_permit::{Permit, Policy, Source};
use sulku_plan::Plan;

use crate::{Effect, File, Tree, diff, meaning, narrows};

const GOOD: &str = include_str!("../../../permit/tests/good.toml");

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (path.parse().expect("a path"), File::new(text))).collect()
}

fn policy(text: &str) -> Policy {
    Policy::read([Source { path: "permits/a.toml", shown: "permits/a.toml", text }]).expect("a good policy")
}

const NAMED: &str = "[[egress]]\nname = \"cran\"\nto = \"*.example.org\"\nports = [\"443/tcp\"]\nreason = \"r\"\nbytes = \"2 GiB\"\nconnections = \"60 a minute\"\n[session]\n";

/// An edit of the sample, what it does, and a part of what is said of it.
const EDITS: &[(&str, &str, Effect, &str)] = &[
    ("title = \"Statin", "title = \"On statin", Effect::Neither, "is called"),
    ("issuer = \"Findata\"", "issuer = \"THL\"", Effect::Neither, "its issuer is THL"),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nversion = 2", Effect::Neither, "is version 2"),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nstatus = \"REVOKED\"", Effect::Narrows, "is REVOKED now, GRANTED before, and its sessions end"),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nsuspended = \"a complaint\"", Effect::Narrows, "is suspended, and its sessions end: a complaint"),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nisolation = \"no-network\"", Effect::Widens, "asks for isolation \"no-network\""),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nassurance = \"high\"", Effect::Narrows, "asks for assurance of high"),
    ("valid_from = 2026-01-15", "valid_from = 2026-01-14", Effect::Widens, "begins"),
    ("valid_from = 2026-01-15", "valid_from = 2026-01-16", Effect::Narrows, "begins"),
    ("valid_until = 2027-06-30", "valid_until = 2027-07-01", Effect::Widens, "ends 2027-07-01"),
    ("valid_until = 2027-06-30", "valid_until = 2027-06-29", Effect::Narrows, "ends 2027-06-29"),
    ("name = \"Maija Meikäläinen\"", "name = \"Maija Virtanen\"", Effect::Neither, "maija is called Maija Virtanen"),
    ("person/maija", "person/maija.m", Effect::Widens, "maija comes with spiffe://spe.example.fi/person/maija.m"),
    ("[\"analyst\", \"export-requester\"]", "[\"analyst\"]", Effect::Narrows, "maija is no export-requester any more"),
    ("roles = [\"analyst\"]", "roles = [\"analyst\", \"export-requester\"]", Effect::Widens, "bo becomes export-requester"),
    ("valid_until = 2026-12-31", "", Effect::Widens, "bo's own time ends the permit's end"),
    ("valid_until = 2026-12-31", "valid_until = 2026-12-30", Effect::Narrows, "bo's own time ends"),
    ("valid_until = 2026-12-31", "valid_until = 2026-12-31\nvalid_from = 2026-03-01", Effect::Narrows, "bo's own time begins"),
    ("valid_until = 2026-12-31", "valid_until = 2026-12-31\nrevoked = 2026-03-01", Effect::Narrows, "bo's part is taken back"),
    ("name = \"statin-dementia\"", "name = \"other\"", Effect::Widens, "its workspace is other"),
    ("path = \"/srv/datasets/hilmo\"", "path = \"/srv/datasets/avohilmo\"", Effect::Widens, "from /srv/datasets/avohilmo"),
    ("mounted_at = \"/data/hilmo\"", "mounted_at = \"/data/hilmo\"\npersons = 9", Effect::Neither, "describes \"hilmo-2010-2024\""),
    ("to = \"10.20.30.40\"", "to = \"10.20.30.0/24\"", Effect::Widens, "opens \"package mirror\" (10.20.30.0/24"),
    ("[\"443/tcp\"]", "[\"443/tcp\", \"22/tcp\"]", Effect::Widens, "22/tcp"),
    (
        "reason = \"R packages, mirrored inside the environment\"",
        "reason = \"R\"\nvalid_until = 2026-03-01",
        Effect::Narrows,
        "no longer opens all of",
    ),
    ("reason = \"R packages, mirrored inside the environment\"", "reason = \"R\"", Effect::Neither, "says of"),
    ("environment\"\n", "environment\"\nbytes = \"2 GiB\"\n", Effect::Narrows, "no longer opens all of"),
    ("environment\"\n", "environment\"\nconnections = \"60 a minute\"\n", Effect::Narrows, "no longer opens all of"),
    ("to = \"10.20.30.40\"", "to = \"cran.example.org\"", Effect::Widens, "opens \"package mirror\" (cran.example.org at 443/tcp, name-checked"),
    ("[session]\n", NAMED, Effect::Widens, "opens \"cran\""),
    ("max_per_person = 2", "max_per_person = 3", Effect::Widens, "allows 3 sessions a person"),
    ("max_per_person = 2", "max_per_person = 2\nmax_at_once = 3", Effect::Narrows, "allows 3 at once, no bound before"),
    ("max_length = \"12 h\"", "max_length = \"90 min\"", Effect::Narrows, "sessions of 90 min, 12 h before"),
    ("idle_disconnect = \"30 min\"", "idle_disconnect = \"40 min\"\nmax_detached = \"30 min\"", Effect::Widens, "after 40 min"),
    ("idle_disconnect = \"30 min\"", "idle_disconnect = \"30 min\"\nmax_detached = \"8 h\"", Effect::Widens, "for 8 h, 30 min before"),
    ("idle_disconnect = \"30 min\"", "idle_disconnect = \"30 min\"\nmax_detached = \"never\"", Effect::Narrows, "for no time, 30 min before"),
    ("[\"192.0.2.0/24\"]", "[\"192.0.2.0/25\"]", Effect::Narrows, "no longer lets holders connect from all of 192.0.2.0/24"),
    ("[\"192.0.2.0/24\"]", "[\"192.0.2.0/24\", \"198.51.100.0/24\"]", Effect::Widens, "connect from 198.51.100.0/24"),
    ("[session]\n", "[session]\nallowed_hours = [\"Mon 08:00-16:00\"]\n", Effect::Narrows, "its hours are Mon 08:00-16:00"),
    (
        "name = \"statin-dementia\"",
        "name = \"statin-dementia\"\ndisk = \"20 GiB\"",
        Effect::Narrows,
        "gives its workspace a disk of 20 GiB, no bound before",
    ),
    ("memory = \"4 GiB\"", "memory = \"8 GiB\"", Effect::Widens, "gives 8 GiB of memory, 4 GiB before"),
    ("processes = 256", "processes = 128", Effect::Narrows, "gives 128 processes"),
    ("cpus = 1.5", "cpus = 1.6", Effect::Widens, "gives 1.60 processors, 1.50 before"),
    ("terminal = \"output-and-input-timing\"", "terminal = \"output-and-input\"", Effect::Widens, "passwords included"),
    ("durability = \"strict\"", "durability = \"windowed\"", Effect::Widens, "records windowed"),
    ("retention = \"5 y\"", "retention = \"4 y\"", Effect::Widens, "keeps recordings for 1464 days"),
    ("retention = \"5 y\"", "retention = \"6 y\"", Effect::Neither, "keeps recordings"),
];

#[test]
fn each_change_is_said_and_marked() {
    for (from, to, effect, what) in EDITS {
        assert!(GOOD.contains(from), "the sample has {from}");
        let changes = diff(&policy(GOOD), &policy(&GOOD.replacen(from, to, 1)));
        let found = changes.iter().any(|change| change.effect == *effect && change.what.contains(what));
        assert!(found, "{to}: expected {effect:?} {what:?}, got {changes:#?}");
        let worst = changes.iter().map(|change| change.effect).min();
        let narrower = narrows(&tree(&[("permits/a.toml", GOOD)]), &tree(&[("permits/a.toml", &GOOD.replacen(from, to, 1))]));
        assert_eq!(narrower, worst == Some(Effect::Narrows) && changes.iter().all(|change| change.effect == Effect::Narrows), "{to}");
        // There and back again: what narrows one way widens the other.
        if *effect == Effect::Narrows {
            let back = diff(&policy(&GOOD.replacen(from, to, 1)), &policy(GOOD));
            assert!(back.iter().any(|change| change.effect == Effect::Widens), "{to}: {back:#?}");
        }
    }
}

/// Edits of a destination by name, each of which only takes away; the other way round it widens.
#[test]
fn a_name_is_narrower_where_it_reaches_less() {
    let named = GOOD.replacen("[session]\n", NAMED, 1);
    let shut = "[[egress]]\nname = \"upload\"\nto = \"up.example.org\"\nports = [\"443/tcp\"]\nreason = \"r\"\ncheck = \"closed\"\n[session]\n";
    for (from, to) in [
        ("*.example.org", "a.example.org"),
        ("*.example.org", "*.a.example.org"),
        ("2 GiB", "1 GiB"),
        ("60 a minute", "59 a minute"),
        ("60 a minute", "60 an hour"),
        ("[session]\n", shut),
    ] {
        let (before, after) = (tree(&[("permits/a.toml", &named)]), tree(&[("permits/a.toml", &named.replacen(from, to, 1))]));
        assert!(narrows(&before, &after), "{to}: {:#?}", diff(&policy(&named), &policy(&named.replacen(from, to, 1))));
        let back = diff(&policy(&named.replacen(from, to, 1)), &policy(&named));
        assert!(back.iter().any(|change| change.effect == Effect::Widens), "{to}: {back:#?}");
    }
    let looser = named.replacen("bytes = \"2 GiB\"", "check = \"address-only\"\nbytes = \"2 GiB\"", 1);
    for (one, other) in [(&named, &looser), (&named, &named.replacen("reason = \"r\"\n", "reason = \"r\"\nwithin = [\"10.0.0.0/8\"]\n", 1))] {
        assert!(diff(&policy(one), &policy(other)).iter().any(|change| change.effect == Effect::Widens), "{other}");
    }
    assert!(diff(&policy(&looser), &policy(&named)).iter().all(|change| change.effect == Effect::Narrows));
}

/// A budget that is split into two of the same size is twice as much.
#[test]
fn one_budget_does_not_become_two() {
    let one = GOOD.replacen("[session]\n", NAMED, 1).replacen("*.example.org", "10.1.0.0/24", 1);
    let two = one.replacen("10.1.0.0/24", "10.1.0.0/25", 1).replacen("[session]\n", &NAMED.replacen("*.example.org", "10.1.0.128/25", 1), 1);
    assert!(diff(&policy(&one), &policy(&two)).iter().any(|change| change.effect == Effect::Widens));
    let unbounded = |text: &str| text.replace("bytes = \"2 GiB\"\nconnections = \"60 a minute\"\n", "");
    assert!(diff(&policy(&unbounded(&one)), &policy(&unbounded(&two))).iter().all(|change| change.effect != Effect::Widens), "the control");
}

#[test]
fn files_come_and_go() {
    let other = GOOD.replace("THL/1234/14.02.00/2026", "THL/9/2026").replace("statin-dementia", "other");
    let (one, both) = (tree(&[("permits/a.toml", GOOD)]), tree(&[("permits/a.toml", GOOD), ("permits/b.toml", &other)]));
    let halt = ("halt.toml", "schema = 1\n[halt]\nreason = \"a drill\"\n");
    let halted = tree(&[("permits/a.toml", GOOD), halt]);
    let broken = tree(&[("permits/a.toml", "schema = ")]);
    for (before, after, narrower) in [
        (&both, &one, true),
        (&one, &both, false),
        (&one, &halted, true),
        (&halted, &one, false),
        (&one, &one, false),
        (&one, &broken, false),
        (&broken, &one, false),
    ] {
        assert_eq!(narrows(before, after), narrower, "{before:?} {after:?}");
    }
    assert!(diff(&meaning(&one).expect("good"), &meaning(&one).expect("good")).is_empty());
}

/// All that a plan opens, as a set of facts each of which is a grant.
fn grants(permit: &Permit) -> BTreeSet<String> {
    let plan = Plan::of(permit);
    let mounts = plan.mounts().iter().map(|mount| format!("{mount:?}")).filter(|mount| mount.starts_with("Dataset"));
    let networks = plan.destinations().iter().map(|allowed| format!("{} {} {:?}", allowed.to, allowed.port, allowed.until));
    mounts.chain(networks).chain(plan.named().iter().map(|hosts| format!("{:?} {:?} {:?}", hosts.listed, hosts.budget, hosts.until))).collect()
}

proptest! {
    /// A narrower document never yields a wider plan.
    #[test]
    fn what_only_narrows_gives_no_wider_plan(picked in prop::collection::vec(0..EDITS.len(), 1..6)) {
        let text = picked.iter().fold(GOOD.to_owned(), |text, index| text.replacen(EDITS[*index].0, EDITS[*index].1, 1));
        let Ok(after) = Policy::read([Source { path: "permits/a.toml", shown: "permits/a.toml", text: &text }]) else { return Ok(()) };
        let before = policy(GOOD);
        let changes = diff(&before, &after);
        if !changes.is_empty() && changes.iter().all(|change| change.effect == Effect::Narrows) {
            let (old, new) = (before.in_file("permits/a.toml").expect("a permit"), after.in_file("permits/a.toml").expect("a permit"));
            for grant in grants(new) {
                let shorter = grant.contains("Some(") && grants(old).iter().any(|wide| grant.starts_with(wide.trim_end_matches("None")));
                prop_assert!(shorter || grants(old).contains(&grant), "{grant}");
            }
            let (old, new) = (Plan::of(old), Plan::of(new));
            prop_assert!(new.limits().memory_bytes <= old.limits().memory_bytes && new.limits().processes <= old.limits().processes);
            prop_assert!(new.limits().cpu_percent <= old.limits().cpu_percent && new.workspace() == old.workspace());
        }
    }

    /// No document without a matching destination yields an element.
    #[test]
    fn only_what_the_document_lists_is_opened(octets in any::<[u8; 4]>(), port in 1..=65_535_u16) {
        let permit = policy(GOOD);
        let permit = permit.in_file("permits/a.toml").expect("a permit");
        let address = std::net::IpAddr::from(octets);
        let port = sulku_permit::Port { number: port, protocol: sulku_permit::Protocol::Tcp };
        let opened = Plan::of(permit).destinations().iter().any(|allowed| allowed.to.contains(&address) && allowed.port == port);
        prop_assert_eq!(opened, address == std::net::IpAddr::from([10, 20, 30, 40]) && port.number == 443);
        prop_assert_eq!(opened, permit.destination(address, port).is_some());
    }
}
