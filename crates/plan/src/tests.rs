use std::collections::BTreeSet;

use proptest::prelude::*;
use sulku_permit::{Permit, Policy, Protocol, Source, parse};

use crate::Plan;
use crate::filesystem::Mount;

const GOOD: &str = include_str!("../../permit/tests/good.toml");

fn permit(file: &str, text: &str) -> Permit {
    parse(file, text).expect("a good permit")
}

/// What an auditor reads changes only on purpose: a change here changes every digest and needs a new rendering version.
#[test]
fn a_plan_reads_as_the_reviewed_text() {
    let rendered = Plan::of(&permit("good.toml", GOOD)).render();
    let reviewed = include_str!("../tests/good.plan.txt");
    for (index, (is, should)) in rendered.lines().zip(reviewed.lines()).enumerate() {
        assert_eq!(is, should, "line {}", index + 1);
    }
    assert_eq!(rendered, reviewed, "print Plan::render of good.toml, review it, and put it into tests/good.plan.txt");
}

#[test]
fn the_same_permit_gives_the_same_digest_wherever_its_file_lies() {
    let here = Plan::of(&permit("/etc/sulku/permits/good.toml", GOOD)).digest();
    let there = Plan::of(&permit("policies/good.toml", GOOD)).digest();
    assert_eq!(here, there);
    assert_eq!(here.to_string().len(), 64);
}

#[test]
fn a_permit_that_grants_something_else_gives_another_digest() {
    let digest = |text: &str| Plan::of(&permit("good.toml", text)).digest();
    for (from, to) in [
        ("443/tcp", "443/udp"),
        ("reason = \"R", "bytes = \"1 KiB\"\nreason = \"R"),
        ("10.20.30.40", "a.example.org"),
        ("10.20.30.40", "10.20.30.41"),
        ("processes = 256", "processes = 257"),
        ("name = \"statin-dementia\"\n", "name = \"statin-dementia\"\nprograms = \"image-only\"\n"),
        ("/srv/datasets/hilmo", "/srv/x"),
        ("name = \"statin-dementia\"\n", "name = \"statin-dementia\"\ndisk = \"20 GiB\"\n"),
    ] {
        let changed = GOOD.replace(from, to);
        assert_ne!(changed, GOOD);
        assert_ne!(digest(&changed), digest(GOOD), "{from} -> {to}");
    }
}

/// Nothing of the host is writable, and only the host's own entries and the permit's datasets are shown.
#[test]
fn a_plan_shows_no_more_of_the_host_than_usr_harmless_settings_and_the_permits_data() {
    let plan = Plan::of(&permit("good.toml", GOOD));
    for mount in plan.mounts() {
        match mount {
            Mount::Host { path } => {
                assert!(path.starts_with("/etc/") || ["/usr", "/bin", "/lib", "/lib64", "/sbin"].contains(&path.as_ref()), "{path}");
                for secret in ["shadow", "ssh", "sudo", "private", "krb5", "machine-id", "sulku"] {
                    assert!(!path.contains(secret), "{path}");
                }
            }
            Mount::Dataset { source, path } => {
                assert_eq!((source.as_path(), path.as_path()), ("/srv/datasets/hilmo".as_ref(), "/data/hilmo".as_ref()))
            }
            Mount::Image { path } => panic!("the permit names no image: {path}"),
            Mount::Memory { .. }
            | Mount::Made { .. }
            | Mount::Workspace { .. }
            | Mount::Processes
            | Mount::Terminals
            | Mount::Device { .. }
            | Mount::Link { .. } => {}
        }
    }
}

/// An image takes the place of all that the host would show as its system, and the plan says which it is.
#[test]
fn a_plan_with_an_image_shows_nothing_of_the_hosts_system() {
    let digest = format!("sha256:{}", "5a".repeat(32));
    let image = format!("schema = 1\n[image]\nname = \"r\"\ntitle = \"R\"\nsystem = {digest:?}\n");
    let text = GOOD.replace("name = \"statin-dementia\"\n", "name = \"statin-dementia\"\nimage = \"r\"\n");
    let sources = [("images/r.toml", image.as_str()), ("permits/a.toml", text.as_str())];
    let policy = Policy::read(sources.into_iter().map(|(path, text)| Source { path, shown: path, text })).expect("a policy");
    let plan = Plan::of(policy.in_file("permits/a.toml").expect("the permit"));
    let rendered = plan.render();
    assert!(rendered.contains(&format!("\nsystem r {digest}\n")), "{rendered}");
    assert!(!plan.mounts().iter().any(|mount| matches!(mount, Mount::Host { .. })));
    for line in ["mount image /usr read-only", "mount image /etc/ssl/certs read-only", "mount image /opt read-only", "landlock run /opt"] {
        assert!(rendered.lines().any(|found| found == line), "{line}");
    }
    let host = Plan::of(&permit("good.toml", GOOD)).render();
    assert!(host.contains("\nsystem of the host\n") && !host.contains("/opt"), "control");
}

/// What a cell may write, it may not run, where the permit says so; and what is shared with other cells holds no sockets.
#[test]
fn a_permit_decides_whether_a_cell_runs_what_it_writes() {
    let only = GOOD.replace("name = \"statin-dementia\"\n", "name = \"statin-dementia\"\nprograms = \"image-only\"\n");
    let rendered = |text: &str| Plan::of(&permit("good.toml", text)).render();
    let (anywhere, only) = (rendered(GOOD), rendered(&only));
    let line = |text: &str, begins: &str| text.lines().find(|line| line.starts_with(begins)).unwrap_or_default().to_owned();
    for begins in ["mount workspace /workspace", "mount memory /tmp", "landlock write /workspace", "landlock write /tmp"] {
        assert!(line(&only, begins).contains(", no programmes"), "{begins} in {only}");
        assert!(!line(&anywhere, begins).contains(", no programmes"), "{begins} in {anywhere}");
    }
    for text in [&anywhere, &only] {
        assert!(line(text, "landlock write /workspace").ends_with(", no sockets"));
        assert!(!line(text, "landlock write /tmp").contains(", no sockets"), "control: what the cell alone sees may hold some");
    }
}

fn with_egress(lines: &[(u8, u8, u16, bool)]) -> String {
    let start = GOOD.find("[[egress]]").expect("the sample has egress");
    let end = GOOD.find("[session]").expect("the sample has sessions");
    let tables: String = lines
        .iter()
        .map(|(host, length, port, tcp)| {
            let protocol = if *tcp { "tcp" } else { "udp" };
            let network: ipnet::IpNet = format!("10.77.{host}.0/{length}").parse().expect("a network");
            format!("[[egress]]\nname = \"n\"\nto = \"{}\"\nports = [\"{port}/{protocol}\"]\nreason = \"r\"\n", network.trunc())
        })
        .collect();
    format!("{}{tables}{}", &GOOD[..start], &GOOD[end..])
}

#[test]
fn a_permit_without_egress_gives_a_plan_without_destinations() {
    let plan = Plan::of(&permit("p.toml", &with_egress(&[])));
    assert!(plan.destinations().is_empty());
    assert!(plan.render().lines().filter(|line| line.starts_with("egress")).eq(["egress nothing else"]));
}

const NAMED: &str = "[[egress]]
name = \"cran\"
to = \"*.r-project.org\"
ports = [\"443/tcp\"]
reason = \"packages\"
bytes = \"2 GiB\"
connections = \"60 a minute\"

[[egress]]
name = \"forge\"
to = \"git.example.org\"
ports = [\"22/tcp\", \"9418/tcp\"]
check = \"address-only\"
within = [\"10.20.0.0/16\", \"192.0.2.0/24\"]
reason = \"code\"
valid_until = 2026-03-01

[[egress]]
name = \"uploads\"
to = \"upload.r-project.org\"
ports = [\"443/tcp\"]
check = \"closed\"
reason = \"nothing is published from here\"

[session]
";

#[test]
fn hosts_by_name_read_as_one_line_each_and_give_the_cell_a_resolver() {
    let text = GOOD.replacen("[session]\n", NAMED, 1);
    let plan = Plan::of(&permit("p.toml", &text));
    let line = |name: &str| text.lines().position(|line| line == format!("name = \"{name}\"")).expect("it is there") + 1;
    let rendered = plan.render();
    let egress: Vec<_> = rendered.lines().filter(|line| line.starts_with("egress")).skip(1).collect();
    assert_eq!(
        egress,
        [
            format!(
                "egress *.r-project.org 443/tcp name-checked at most 2147483648 bytes out at most 60 a minute new connections by p.toml:{}",
                line("cran")
            ),
            format!(
                "egress git.example.org 22/tcp 9418/tcp address-only within 10.20.0.0/16, 192.0.2.0/24 until 2026-03-01T22:00:00Z by p.toml:{}",
                line("forge")
            ),
            format!("egress upload.r-project.org 443/tcp closed by p.toml:{}", line("uploads")),
            "egress nothing else".to_owned(),
        ]
    );
    let resolver = |plan: &Plan| plan.render().lines().any(|line| line == "mount made /etc/resolv.conf \"nameserver 169.254.0.53\\n\"");
    assert!(resolver(&plan) && !resolver(&Plan::of(&permit("p.toml", GOOD))));
}

proptest! {
    #[test]
    fn no_plan_has_a_destination_that_its_permit_lacks(lines in prop::collection::vec((any::<u8>(), 17_u8..=32, 1_u16.., any::<bool>()), 0..12)) {
        let permit = permit("p.toml", &with_egress(&lines));
        let plan = Plan::of(&permit);
        let granted: BTreeSet<_> = permit.egress.iter().flat_map(|to| to.ports.iter().map(|port| (*to.to.network().expect("networks alone"), *port, to.at.line))).collect();
        let planned: BTreeSet<_> = plan.destinations().iter().map(|allowed| (allowed.to, allowed.port, allowed.at.line)).collect();
        prop_assert_eq!(&granted, &planned);
        let rendered = plan.render();
        for (_, port, line) in granted {
            let protocol = if port.protocol == Protocol::Tcp { "tcp" } else { "udp" };
            let tail = format!(" {}/{protocol} by p.toml:{line}", port.number);
            prop_assert!(rendered.lines().any(|text| text.starts_with("egress ") && text.ends_with(&tail)));
        }
    }
}
