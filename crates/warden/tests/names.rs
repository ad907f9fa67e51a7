//! Destinations by name, on the warden's side: what a resolver says is judged, opened in the kernel and recorded. The resolver here is
//! scripted, so that it can lie.

mod stage;

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use stage::upstream::Upstream;
use stage::{Options, Resolving, Running, Stage, eventually};
use sulku_audit::Event;

const HOSTS: &str = r#"
[[egress]]
name = "forge"
to = "git.example.org"
ports = ["22/tcp", "53/udp"]
check = "address-only"
within = ["198.18.0.0/16"]
reason = "code"

[[egress]]
name = "mirrors"
to = "*.example.net"
ports = ["443/tcp"]
within = ["198.18.0.0/16"]
reason = "packages"

[[egress]]
name = "uploads"
to = "up.example.net"
ports = ["443/tcp"]
check = "closed"
reason = "nothing is published from here"
"#;

const TABLE: &str = r#"{
    "git.example.org": {"addresses": ["198.18.0.20"]},
    "escape.example.net": {"addresses": ["198.18.0.44"], "escape": 1},
    "cran.example.net": {"addresses": ["198.18.0.30", "198.18.0.31"]},
    "outside.example.net": {"addresses": ["198.18.0.40", "203.0.113.1"]},
    "private.example.net": {"addresses": ["10.0.0.1"]},
    "metadata.example.net": {"addresses": ["169.254.169.254"]},
    "own.example.net": {"addresses": ["10.211.0.2"]},
    "up.example.net": {"addresses": ["198.18.0.41"]},
    "evil.example.com": {"addresses": ["198.18.0.42"]},
    "lies.example.net": {"name": "lies.example.com", "addresses": ["198.18.0.43"]}
}"#;

fn stage() -> Stage {
    Stage::with(Options { egress: HOSTS.to_owned(), resolver: Some(Resolving::Scripted(TABLE.to_owned())), ..Options::default() })
}

fn tcp(to: &str, port: u16) -> String {
    format!("(exec 3<>/dev/tcp/{to}/{port} && head -n 1 <&3) 2>&1 | tail -n 1\n")
}

/// NW-02: an address is reached once its name was asked for, at the ports that the permit lists, and not before.
#[test]
fn a_name_opens_its_address_when_it_is_asked_for_and_not_before() {
    let mut stage = stage();
    let script = [
        tcp("198.18.0.20", 22),
        tcp("git.example.org", 22),
        tcp("198.18.0.20", 22),
        tcp("git.example.org", 443),
        tcp("198.18.0.21", 22),
        tcp("nowhere.example.org", 22),
    ]
    .concat();
    let output = stage.shell("one.toml", &script);
    let said: Vec<_> = output.lines().collect();
    assert!(said[0].contains("refused"), "before it was asked for: {output}");
    assert!(said[1].contains("hello") && said[2].contains("hello"), "{output}");
    assert!(said[3].contains("refused") && said[4].contains("refused"), "another port, another address: {output}");
    assert!(!said[5].contains("hello"), "{output}");
    assert_eq!(stage.world.arrived(), [("tcp".to_owned(), 22), ("tcp".to_owned(), 22)]);
    stage.ledger.entry("the flow with its name and line", |draft| match &draft.event {
        Event::EgressAllowed { destination, port: 22, at, name, .. } if destination.to_string() == "198.18.0.20" => {
            assert!(at.contains("one.toml:"), "{at}");
            (*name == Some("git.example.org".to_owned()).into()).then_some(())
        }
        _ => None,
    });
    stage.ledger.entry("the denial with its name", |draft| match &draft.event {
        Event::EgressDenied { port: 443, name, .. } => (*name == Some("git.example.org".to_owned()).into()).then_some(()),
        _ => None,
    });
    stage.ledger.entry("the question that was denied", |draft| match &draft.event {
        Event::NameDenied { name, reason, .. } if *name == "nowhere.example.org".to_owned().into() => (reason == "not-listed").then_some(()),
        _ => None,
    });
}

/// A connection whose name is to be checked comes to the resolver and nowhere else; its flow has the session, the name and the bytes.
#[test]
fn a_connection_that_is_to_be_checked_goes_through_the_resolver() {
    let mut stage = stage();
    let output = stage.shell("one.toml", &(tcp("cran.example.net", 443) + &tcp("169.254.0.53", 8443) + &tcp("169.254.0.53", 22)));
    let said: Vec<_> = output.lines().collect();
    assert!(said[0].contains("hello from the world"), "{output}");
    assert!(said[1].contains("refused") && said[2].contains("refused"), "nobody comes to the check by himself: {output}");
    let from = stage.in_router(&["/usr/sbin/nft", "list", "set", "inet", "sulku", "dialled"]);
    assert!(from.contains("198.18.0.30 . 443") && from.contains("198.18.0.31 . 443"), "{from}");
    stage.ledger.entry("the flow", |draft| match &draft.event {
        Event::EgressAllowed { destination, port: 443, bytes_in, name, .. } if destination.is_ipv4() && draft.session.is_some() => {
            assert!(destination.to_string().starts_with("198.18.0.3"), "where it was bound for: {destination}");
            (*name == Some("cran.example.net".to_owned()).into() && *bytes_in > 100).then_some(())
        }
        _ => None,
    });
}

/// A resolver that was taken over opens nothing that the permit does not list.
#[test]
fn what_a_resolver_says_is_judged_by_the_permit() {
    let mut stage = stage();
    let names = [
        "outside.example.net",
        "private.example.net",
        "metadata.example.net",
        "own.example.net",
        "up.example.net",
        "evil.example.com",
        "lies.example.net",
    ];
    let ask = |name: &str| format!("getent ahostsv4 {name} > /dev/null && echo {name} answered || echo {name} silent\n");
    let addresses = ["198.18.0.40", "10.0.0.1", "169.254.169.254", "10.211.0.2", "198.18.0.41", "198.18.0.42", "198.18.0.43"];
    let script: String =
        names.iter().map(|name| ask(name)).chain(addresses.iter().map(|address| tcp(address, 443))).chain([ask("cran.example.net")]).collect();
    let output = stage.shell("one.toml", &script);
    let said: Vec<_> = output.lines().collect();
    for (name, said) in names.iter().zip(&said) {
        assert_eq!(*said, format!("{name} silent"), "{output}");
    }
    for (address, said) in addresses.iter().zip(&said[names.len()..]) {
        assert!(said.contains("refused"), "{address}: {said}");
    }
    assert!(said.last().is_some_and(|said| *said == "cran.example.net answered"), "the control: {output}");
    assert_eq!(stage.world.arrived(), []);
}

/// NW-02: whoever takes the resolver over reaches what the warden has let it connect to, and nothing else, on either rung.
#[test]
fn a_resolver_that_was_taken_over_gets_out_nowhere_else() {
    let mut stage = stage();
    let output = stage.shell("one.toml", &(tcp("escape.example.net", 443) + &tcp("escape.example.net", 443)));
    assert!(output.lines().all(|said| said.contains("hello from the world")), "{output}");
    assert_eq!(stage.world.arrived(), [("tcp".to_owned(), 443), ("tcp".to_owned(), 443)], "the two connections alone, which are the control");
}

/// Also a datagram to a listed name goes where a link leads out. A relay carries none: it is a denial like any other.
#[test]
fn a_datagram_by_name_goes_over_a_link_and_over_no_relay() {
    let mut stage = stage();
    let ask = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.connect(('git.example.org', 53)); s.send(b'x')\n\
               try: print(s.recv(99).decode())\nexcept OSError as error: print(error)";
    let output = stage.shell("one.toml", &format!("python3 -c \"{ask}\"; {}", tcp("git.example.org", 22)));
    assert!(output.contains("hello from the world"), "control: the same name over TCP: {output}");
    let arrived = stage.world.arrived().contains(&("udp".to_owned(), 53));
    assert_eq!(arrived, !stage::is_rootless(), "{output}");
    let denied = |draft: &sulku_audit::Draft| matches!(&draft.event, Event::EgressDenied { port: 53, protocol: 17, .. }).then_some(());
    if stage::is_rootless() {
        stage.ledger.entry("the denial", denied);
    }
}

fn resolver(stage: &Stage) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", stage.warden.id())).ok()?;
    let named = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("resolver.py"));
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(named)
}

fn answers(running: &Running, round: u32) -> bool {
    running.write(&format!("{} echo done-\"\"{round}.\n", tcp("git.example.org", 22).replace('\n', ";")));
    running.read_until(&format!("done-{round}.")).contains("hello")
}

/// Without a resolver nothing is opened; the next one knows the sessions that are there.
#[test]
fn a_resolver_that_dies_is_replaced_and_its_death_is_an_entry() {
    let mut stage = stage();
    let running = stage.launch("one.toml", None);
    assert!(answers(&running, 1));
    let first = eventually("the resolver runs", || resolver(&stage));
    let status = std::fs::read_to_string(format!("/proc/{first}/status")).expect("its status");
    // On the rung below it is the warden's user for the host, and nobody else's where it is.
    let user = if stage::is_rootless() { std::fs::metadata(stage.folder.path()).expect("a folder").uid() } else { 64_990 };
    for line in [
        format!("Uid:\t{user}\t{user}\t{user}\t{user}").as_str(),
        format!("Gid:\t{user}\t{user}\t{user}\t{user}").as_str(),
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert!(status.contains("Groups:\t\n") || status.contains("Groups:\t \n"), "{status}");
    assert_eq!(std::fs::read(format!("/proc/{first}/environ")).expect("its environment"), b"");
    assert!(Command::new("/bin/kill").args(["-KILL", &first.to_string()]).status().expect("kill").success());
    stage.ledger.entry("its end", |draft| match &draft.event {
        Event::ResolverEnded { reason, .. } => reason.contains("signal 9").then_some(()),
        _ => None,
    });
    eventually("another one", || resolver(&stage).filter(|pid| *pid != first));
    let mut round = 1;
    eventually("it answers", || {
        round += 1;
        answers(&running, round).then_some(())
    });
    stage.end(&running, "operator");
}

/// The end of a session ends what it had open by name, whoever stands in between.
#[test]
fn nothing_by_name_outlives_its_session() {
    let mut stage = stage();
    let script = "exec 3<>/dev/tcp/cran.example.net/443; head -c 10 <&3; while :; do echo x >&3; head -c 1 <&3 > /dev/null; done";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    eventually("the flow runs", || (stage.world.bytes() > 100).then_some(()));
    stage.end(&running, "revoked");
    let left = stage.in_router(&["/usr/sbin/nft", "list", "ruleset"]);
    for set in ["set named {", "set named_open {", "set checked {", "map sessions {", "map named_bytes {"] {
        let body = left.split(set).nth(1).and_then(|rest| rest.split("\n\t}").next()).expect(set);
        assert!(!body.contains("elements"), "{set}{body}");
    }
}

#[test]
fn a_permit_with_names_is_refused_where_nobody_resolves_them() {
    let mut stage = Stage::with(Options { egress: HOSTS.to_owned(), ..Options::default() });
    let draft = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&stage::launch(receipt));
    assert!(stage.gateway.refusal().contains("no resolver"), "said in words");
}

/// What a cell's own programs see of the resolver that the warden starts: names, and the check of a TLS connection's name.
const PROBE: &str = r#"import socket, ssl
def address(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return type(error).__name__
def hello(host, name):
    try:
        ssl.create_default_context().wrap_socket(socket.create_connection((host, 443), 10), server_hostname=name)
    except ssl.SSLError as error:
        return error.reason
    except OSError as error:
        return type(error).__name__
print("|".join([address("git.example.org"), address("evil.example.com"), address("absent.example.net"),
    hello("cran.example.net", "evil.example.com"), hello("cran.example.net", "cran.example.net")]))
"#;

/// NW-02: the resolver itself, from a cell's library call to the world and back, with nothing scripted but the world.
#[test]
fn listed_names_alone_are_asked_for_and_a_tls_connection_passes_under_its_own_name_alone() {
    let mut stage = Stage::with(Options { egress: HOSTS.to_owned(), resolver: Some(Resolving::Real), ..Options::default() });
    let upstream = Upstream::serve(&stage.world, &[("git.example.org", [198, 18, 0, 20]), ("cran.example.net", [198, 18, 0, 30])]);
    let output = stage.shell("one.toml", &format!("cat > probe.py <<'END'\n{PROBE}END\npython3 probe.py\n"));
    // The world's server speaks no TLS: that it was heard is what shows that the ClientHello arrived.
    assert_eq!(output.trim(), "198.18.0.20|gaierror|gaierror|ConnectionResetError|WRONG_VERSION_NUMBER");
    let mut asked = upstream.asked();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["absent.example.net", "cran.example.net", "git.example.org"]);
    assert_eq!(stage.world.arrived(), [("tcp".to_owned(), 443)], "the connection under another name did not arrive");
    stage.ledger.entry("the denied question", |draft| match &draft.event {
        Event::NameDenied { name, reason, .. } if *name == "evil.example.com".to_owned().into() => (reason == "not-listed").then_some(()),
        _ => None,
    });
    stage.ledger.entry("the denied connection", |draft| match &draft.event {
        Event::ConnectionDenied { name, reason, .. } => (*name == Some("evil.example.com".to_owned()).into() && reason == "not-listed").then_some(()),
        _ => None,
    });
    stage.ledger.entry("the flow under its name", |draft| match &draft.event {
        Event::EgressAllowed { port: 443, name, .. } => (*name == Some("cran.example.net".to_owned()).into()).then_some(()),
        _ => None,
    });
}
