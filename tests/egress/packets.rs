//! What packets can do, with the router as the only wall, and what the same packets do without it.

use std::process::Command;

use sulku_audit::{Event, WhyDenied};
use sulku_warden::layers::Layer;

use crate::oracle::Oracle;
use crate::stage::{Options, Running, Stage, eventually};

const PROBE: &str = include_str!("packets.py");
const LISTED: &str = "198.18.0.10";
/// What each attempt looks like to who hears it arrive: protocol, destination, port.
const ATTEMPTS: &[(&str, &str, &str, u16)] = &[
    ("doh-unlisted", "6", "198.18.1.1", 443),
    ("dot", "6", LISTED, 853),
    ("quic", "17", LISTED, 443),
    ("address-literal", "6", "198.18.1.2", 443),
    ("other-port", "6", LISTED, 8080),
    ("resolver-udp", "17", "198.18.1.3", 53),
    ("resolver-tcp", "6", "198.18.1.4", 53),
    ("mptcp", "6", "198.18.1.5", 443),
    ("fast-open", "6", "198.18.1.6", 443),
    ("udplite", "136", LISTED, 53),
    ("fragments", "17", "198.18.1.8", 53),
    ("late-ports", "17", "198.18.1.9", 53),
    ("ping", "1", LISTED, 0),
    ("icmp-tunnel", "1", "198.18.1.10", 0),
    ("icmp-timestamp", "1", "198.18.1.11", 0),
    ("icmp-error", "1", "198.18.1.12", 0),
    ("gre", "47", "198.18.1.13", 0),
    ("ipip", "4", "198.18.1.14", 0),
    ("esp", "50", "198.18.1.15", 0),
    ("sctp", "132", "198.18.1.16", 443),
    ("spoofed", "17", "198.18.1.18", 53),
    ("spoofed-to-listed", "17", LISTED, 5353),
    ("far-end", "6", "10.211.0.2", 443),
];
/// What the permit lists, and the probe does after all its attempts.
const CONTROLS: &[(&str, &str, u16)] = &[("6", LISTED, 443), ("17", LISTED, 53)];

/// Has the probe make all of its attempts once; what it said.
fn round(probe: &Running) -> String {
    probe.write("again\n");
    probe.read_until("round")
}

/// NW-01, NW-02: no protocol, no fragment, no false sender and no resolver of one's own gets past the list.
pub fn no_packet_that_the_permit_does_not_list_arrives_whatever_it_is_made_of() {
    let missing = [Layer::Users, Layer::Landlock, Layer::Seccomp, Layer::Owners, Layer::Limits].map(Layer::name).join(",");
    let mut stage = Stage::with(Options { missing, ..Options::default() });
    let (oracle, door) = (Oracle::of(&stage.world), Oracle::at_the_routers_door(&stage));
    let probe = stage.launch("one.toml", Some(&["/usr/bin/python3", "-c", PROBE]));
    // Twice: what the first round sent has come by the end of the second one, if it comes at all. Within a round the last is what the permit lists.
    round(&probe);
    let said = round(&probe);
    eventually("what the permit lists", || CONTROLS.iter().all(|(protocol, to, port)| oracle.has_heard(protocol, to, *port)).then_some(()));
    let strange: Vec<_> =
        oracle.heard().into_iter().filter(|arrival| !CONTROLS.contains(&(arrival.protocol.as_str(), arrival.to.as_str(), arrival.port))).collect();
    // Of a datagram in parts the listed host gets all, also those parts that name no port.
    assert!(
        strange.iter().all(|arrival| (arrival.to.as_str(), arrival.protocol.as_str(), arrival.port) == (LISTED, "17", 0)),
        "{strange:?} after {said}"
    );
    assert_eq!(door.heard(), [], "nobody came to the router itself");
    for refused in ["router", "router-link", "resolvers-check", "metadata"] {
        assert!(said.lines().any(|line| line.starts_with(&format!("{refused} Connection refused"))), "{refused}: {said}");
    }
    every_denial_has_a_name(&stage);
    // The control: the same packets, where nothing is in their way, are heard one and all.
    signal(&stage, "-STOP");
    stage.in_router(&["/usr/sbin/nft", "flush", "ruleset"]);
    stage.in_router(&["/bin/ip", "rule", "add", "pref", "50", "lookup", "main"]);
    round(&probe);
    eventually("each attempt, once the wall is down", || {
        let missed = ATTEMPTS.iter().find(|(_, protocol, to, port)| !oracle.has_heard(protocol, to, *port));
        match missed {
            Some(_) => {
                round(&probe);
                None
            }
            None => (door.heard().len() == 2).then_some(()),
        }
    });
    stage.in_router(&["/bin/ip", "rule", "del", "pref", "50"]);
    signal(&stage, "-CONT");
    stage.end(&probe, "operator");
}

/// NW-04: each of them is in an entry, as what it is.
fn every_denial_has_a_name(stage: &Stage) {
    let denied = |to: &str, protocol: u8, port: u16, why: WhyDenied| {
        stage.ledger.entry(&format!("the denial of {to} {protocol} {port}"), |draft| match &draft.event {
            Event::EgressDenied { protocol: p, destination, port: n, reason, .. }
                if (destination.to_string().as_str(), *p, *n, *reason) == (to, protocol, port, Some(why)) =>
            {
                assert!(draft.person.is_some() && draft.permit.is_some() && draft.session.is_some());
                Some(())
            }
            _ => None,
        });
    };
    for (name, protocol, to, port) in ATTEMPTS {
        let why = if name.starts_with("spoofed") { WhyDenied::Spoofed } else { WhyDenied::NotListed };
        denied(to, protocol.parse().expect("a number"), *port, why);
    }
    denied("169.254.169.254", 6, 80, WhyDenied::NotListed);
}

fn signal(stage: &Stage, name: &str) {
    assert!(Command::new("/bin/kill").args([name, &stage.warden.id().to_string()]).status().expect("kill").success());
}
