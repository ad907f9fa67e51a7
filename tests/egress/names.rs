//! What names and TLS can do, in a whole cell and with the resolver itself.

use std::process::Command;

use sulku_audit::Event;

use crate::oracle::Oracle;
use crate::stage::upstream::Upstream;
use crate::stage::{Options, Resolving, Stage, eventually};

const PROBE: &str = include_str!("hello.py");
const HOSTS: &str = r#"
[[egress]]
name = "mirrors"
to = "*.example.net"
ports = ["443/tcp"]
within = ["198.18.0.0/16"]
reason = "packages"

[[egress]]
name = "forge"
to = "*.example.org"
ports = ["22/tcp"]
check = "address-only"
within = ["198.18.0.0/16"]
reason = "code"
"#;
const KNOWN: &[(&str, [u8; 4])] = &[
    ("cran.example.net", [198, 18, 0, 30]),
    ("cpan.example.net", [198, 18, 0, 31]),
    ("rebound.example.net", [10, 0, 0, 5]),
    ("metadata.example.net", [169, 254, 169, 254]),
    ("git.example.org", [198, 18, 0, 20]),
    ("svn.example.org", [198, 18, 0, 21]),
    ("evil.example.com", [198, 18, 0, 66]),
];

fn stage() -> Stage {
    Stage::with(Options { egress: HOSTS.to_owned(), resolver: Some(Resolving::Real), ..Options::default() })
}

/// NW-02: whatever name a hello gives, hides or leaves out, and whatever address a resolver gives a name, the connection arrives under a
/// listed name alone.
pub fn no_name_that_the_permit_does_not_list_is_reached_however_it_is_dressed() {
    let mut stage = stage();
    let upstream = Upstream::serve(&stage.world, KNOWN);
    let oracle = Oracle::of(&stage.world);
    let output = stage.shell("one.toml", &format!("cat > probe.py <<'END'\n{PROBE}END\npython3 probe.py\n"));
    let said: Vec<_> = output.lines().map(str::trim).collect();
    let reset = |what: &str| format!("{what} ConnectionResetError");
    let expected = [
        "listed 198.18.0.30 198.18.0.31".to_owned(),
        "unlisted gaierror".to_owned(),
        "tunnel gaierror".to_owned(),
        "rebound gaierror".to_owned(),
        "metadata gaierror".to_owned(),
        "ipv6 []".to_owned(),
        "over-ipv6 OSError".to_owned(),
        reset("other-name"),
        reset("no-name"),
        reset("other-listed-name"),
        reset("hidden"),
        reset("no-tls"),
        "rebound-address ConnectionRefusedError".to_owned(),
        // The control: the world's server speaks no TLS, which is heard when the hello has got there.
        "own-name WRONG_VERSION_NUMBER".to_owned(),
    ];
    assert_eq!(said, expected, "{output}");
    assert_eq!(stage.world.arrived(), [("tcp".to_owned(), 443)], "one connection arrived, the control");
    let mut asked = upstream.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["cpan.example.net", "cran.example.net", "metadata.example.net", "rebound.example.net"]);
    // Its packets, and the resolver's questions. It came last: once the oracle has told of it, it has told of all.
    eventually("the oracle tells of the control", || oracle.has_heard("6", "198.18.0.30", 443).then_some(()));
    let arrived = oracle.heard();
    assert!(arrived.iter().all(|arrival| ["198.18.0.30", "198.18.0.53"].contains(&arrival.to.as_str())), "{arrived:?}");
    for why in ["not-listed", "no-name", "other-address", "hidden", "not-tls"] {
        stage.ledger.entry(why, |draft| match &draft.event {
            Event::ConnectionDenied { reason, .. } => (draft.person.is_some() && reason == why).then_some(()),
            _ => None,
        });
    }
    for why in ["not-listed", "looks-like-a-tunnel", "forbidden-address"] {
        stage.ledger.entry(why, |draft| match &draft.event {
            Event::NameDenied { reason, .. } => (draft.person.is_some() && reason == why).then_some(()),
            _ => None,
        });
    }
}

fn greet(to: &str, port: u16) -> String {
    format!("(exec 3<>/dev/tcp/{to}/{port} && head -n 1 <&3) 2>&1 | tail -n 1\n")
}

/// NW-02: what some other resolver says, reached over a listed host or carried in by hand, is worth nothing: an address is open because this
/// session asked this resolver for its name.
pub fn an_address_that_was_learned_elsewhere_opens_nothing() {
    let mut stage = stage();
    let _upstream = Upstream::serve(&stage.world, KNOWN);
    let oracle = Oracle::of(&stage.world);
    // Another session of the same permit has asked, and it opens nothing for this one.
    let other = stage.launch("one.toml", None);
    other.write(&format!("{} echo done-\"\"1.\n", greet("git.example.org", 22).replace('\n', ";")));
    assert!(other.read_until("done-1.").contains("hello"), "control: who asks reaches it");
    eventually("the oracle tells of it", || oracle.has_heard("6", "198.18.0.20", 22).then_some(()));
    let before = stage.world.arrived().len();
    let script =
        [greet("198.18.0.20", 22), greet("198.18.0.66", 443), greet("git.example.org", 22), greet("198.18.0.20", 22), greet("svn.example.org", 22)]
            .concat();
    let output = stage.shell("one.toml", &script);
    let said: Vec<_> = output.lines().collect();
    assert!(said[0].contains("refused") && said[1].contains("refused"), "{output}");
    assert!(said[2].contains("hello") && said[3].contains("hello"), "control: once this session has asked: {output}");
    assert!(said[4].contains("hello"), "{output}");
    eventually("the oracle tells of the last", || oracle.has_heard("6", "198.18.0.21", 22).then_some(()));
    assert_eq!(stage.world.arrived().len(), before + 3);
    assert!(!oracle.has_heard("6", "198.18.0.66", 443));
    stage.end(&other, "operator");
}

/// NW-02: a resolver's word that an address is good for days does not keep it open: after some minutes no new connection begins, and one
/// that is open goes on.
pub fn an_answer_that_holds_for_days_opens_its_address_for_minutes() {
    const DAYS: u32 = 3 * 24 * 3600;
    let mut stage = stage();
    let _upstream = Upstream::serve_for(&stage.world, KNOWN, DAYS);
    // No programme is run once the warden sleeps: it would wait until that has seen it.
    let script = "exec 3<>/dev/tcp/git.example.org/22; read -r -u 3; while read -r line; do case $line in flow*) echo x >&3; read -r -n 1 -u 3 && \
                  echo \"answered-\"$line;; *) (exec 4<>/dev/tcp/198.18.0.20/22 && echo \"reached-\"$line) 2>&1; echo \"tried-\"$line;; esac; done";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    running.write("flow1\nnew1\n");
    assert!(running.read_until("tried-new1").contains("reached-new1"), "control: while the answer holds");
    let element = |set: &str| {
        let listed = stage.in_router(&["/usr/sbin/nft", "-j", "list", "set", "inet", "sulku", set]);
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("a list");
        let elements = listed["nftables"].as_array().and_then(|parts| parts.iter().find_map(|part| part["set"]["elem"].as_array())).cloned();
        let to = |element: &serde_json::Value| element["elem"]["val"]["concat"][1] == "198.18.0.20";
        elements.unwrap_or_default().into_iter().find(to).map(|element| element["elem"].clone())
    };
    let lasts = element("named").and_then(|element| element["timeout"].as_u64()).expect("the address is open");
    assert!((60..=6 * 60).contains(&lasts), "five minutes and one: {lasts} s");
    // The kernel's clock can't be put forward: what it does when the time is over is done by hand, while nobody is there to undo it.
    let warden = stage.warden.id().to_string();
    assert!(Command::new("/bin/kill").args(["-STOP", &warden]).status().expect("kill").success());
    let mark = element("named").expect("the element")["val"]["concat"][0].clone();
    let gone = format!("delete element inet sulku named {{ {mark} . 198.18.0.20 . tcp . 22 }}");
    stage.in_router(&["/usr/sbin/nft", &gone]);
    eventually("it is gone", || element("named").is_none().then_some(()));
    running.write("new2\nflow2\n");
    let said = running.read_until("answered-flow2");
    assert!(said.contains("refused") && !said.contains("reached-new2"), "{said}");
    assert_eq!(stage.world.arrived().len(), 2, "no third connection arrived");
    assert!(Command::new("/bin/kill").args(["-CONT", &warden]).status().expect("kill").success());
    stage.end(&running, "operator");
}
