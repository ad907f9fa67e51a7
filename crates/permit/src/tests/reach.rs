//! Destinations by name, and how much of one a session may use.

use super::GOOD;
use crate::{Denial, NameCheck, Period, Permit, Policy, Problem, Rate, Shared, SharedKind, Source, Target, decide, parse, parse_with};

fn with(tables: &str) -> String {
    GOOD.replacen("[session]\n", &format!("{tables}\n[session]\n"), 1)
}

fn read(tables: &str) -> Result<Permit, Vec<Problem>> {
    parse("p.toml", &with(tables))
}

fn table(to: &str, rest: &str) -> String {
    format!("[[egress]]\nname = \"{to}\"\nto = \"{to}\"\nreason = \"r\"\n{rest}\n")
}

const TLS: &str = "ports = [\"443/tcp\"]";

#[test]
fn a_name_is_held_to_its_name_unless_the_permit_says_otherwise() {
    let permit = read(&table("cran.r-project.org", TLS)).expect("good");
    let names = permit.egress[1].to.names().expect("names");
    assert_eq!((names.check, names.within.len()), (NameCheck::NameChecked, 0));
    assert!(permit.lists_names() && !parse("p.toml", GOOD).expect("good").lists_names());
    let loose = format!("{TLS}\ncheck = \"address-only\"\nwithin = [\"10.0.0.0/8\", \"2001:db8::/32\"]");
    let permit = read(&table("*.example.org", &loose)).expect("good");
    let names = permit.egress[1].to.names().expect("names");
    assert_eq!((names.check, names.within.len(), names.pattern.to_string().as_str()), (NameCheck::AddressOnly, 2, "*.example.org"));
}

#[test]
fn only_what_can_be_checked_is_called_checked() {
    let problems = read(&table("cran.r-project.org", "ports = [\"443/tcp\", \"80/tcp\"]")).expect_err("port 80 gives no name");
    assert!(problems[0].what.contains("only connections to 443/tcp can be name-checked"), "{problems:?}");
    assert!(read(&table("cran.r-project.org", "ports = [\"443/udp\"]")).is_err(), "QUIC is not looked into");
    assert!(read(&table("cran.r-project.org", "ports = [\"80/tcp\"]\ncheck = \"address-only\"")).is_ok());
}

#[test]
fn what_is_no_name_or_no_place_for_one_is_refused() {
    for (to, rest, part) in [
        ("*.org", "", "no destination"),
        ("*", "", "no destination"),
        ("CRAN.r-project.org", "", "no destination"),
        ("cran.*.org", "", "no destination"),
        ("localhost", "", "no destination"),
        ("cran.r-project.org", "check = \"loosely\"", "no check of a name"),
        ("cran.r-project.org", "within = []", "within has 0 networks"),
        ("cran.r-project.org", "within = [\"169.254.0.0/16\"]", "metadata"),
        ("cran.r-project.org", "within = [\"0.0.0.0/0\"]", "more than any"),
        ("cran.r-project.org", "bytes = \"much\"", "no amount"),
        ("cran.r-project.org", "connections = \"60\"", "no rate"),
        ("cran.r-project.org", "connections = \"0 a minute\"", "no rate"),
        ("10.1.2.3", "check = \"closed\"", "only a name has a check"),
        ("10.1.2.3", "within = [\"10.0.0.0/8\"]", "only a name has a check"),
    ] {
        let problems = read(&table(to, &format!("{TLS}\n{rest}"))).expect_err(to);
        assert!(problems.iter().any(|problem| problem.what.contains(part)), "{to} {rest}: {problems:?}");
    }
}

#[test]
fn a_budget_is_of_a_destination_whatever_that_is() {
    let rest = format!("{TLS}\nbytes = \"2 GiB\"\nconnections = \"60 a minute\"");
    for to in ["10.1.2.3", "cran.r-project.org"] {
        let budget = read(&table(to, &rest)).expect("good").egress[1].budget;
        assert_eq!((budget.bytes, budget.connections), (Some(2 << 30), Some(Rate { connections: 60, per: Period::Minute })));
    }
    let mut shared = Shared::default();
    let file = "schema = 1\n[network]\nname = \"cran\"\ntitle = \"CRAN\"\nto = \"cran.r-project.org\"\nports = [\"443/tcp\"]\nbytes = \"1 GiB\"\nconnections = \"5 a second\"\n";
    shared.add(SharedKind::Network, "networks/cran.toml", file).expect("good");
    let refers = with("[[egress]]\nnetwork = \"cran\"\nreason = \"r\"\nbytes = \"3 GiB\"\n");
    let permit = parse_with("p.toml", &refers, &shared).expect("good").permit;
    let budget = permit.egress[1].budget;
    assert_eq!((budget.bytes, budget.connections.map(|rate| rate.connections)), (Some(3 << 30), Some(5)), "the permit's own word comes first");
    let checked = refers.replace("bytes = \"3 GiB\"", "check = \"address-only\"");
    assert!(parse_with("p.toml", &checked, &shared).is_err(), "what is shared is not loosened in passing");
}

#[test]
fn one_line_says_why_a_name_is_open_and_an_exception_is_narrower() {
    let closed = format!("{TLS}\ncheck = \"closed\"");
    let private = format!("{TLS}\nwithin = [\"10.0.0.0/8\"]");
    let ssh = "ports = [\"22/tcp\"]\ncheck = \"address-only\"".to_owned();
    let tls = TLS.to_owned();
    for (one, other, good) in [
        (("*.example.org", &tls), ("a.example.org", &tls), false),
        (("*.example.org", &tls), ("a.example.org", &ssh), true),
        (("*.example.org", &tls), ("example.org", &tls), true),
        (("*.example.org", &tls), ("a.example.org", &closed), true),
        (("*.example.org", &tls), ("*.a.example.org", &closed), true),
        (("a.example.org", &tls), ("*.example.org", &closed), false),
        (("a.example.org", &ssh), ("a.example.org", &closed), false),
        (("*.example.org", &closed), ("a.example.org", &closed), false),
        (("10.1.2.3", &tls), ("a.example.org", &tls), true),
        (("10.1.2.3", &tls), ("a.example.org", &private), true),
    ] {
        for tables in [[one, other], [other, one]] {
            let text: String = tables.iter().map(|(to, rest)| table(to, rest)).collect();
            assert_eq!(read(&text).is_ok(), good, "{text}");
        }
    }
}

#[test]
fn a_name_is_answered_by_the_line_that_decides_on_it() {
    let tables = table("*.example.org", TLS) + &table("up.example.org", &format!("{TLS}\ncheck = \"closed\""));
    let text = with(&tables);
    let policy = Policy::read([Source { path: "permits/p.toml", shown: "permits/p.toml", text: &text }]).expect("good");
    let permit = policy.in_file("permits/p.toml").expect("a permit");
    let maija = "maija".parse().expect("an id");
    for (what, denial, words) in [
        ("reach cran.example.org:443/tcp", None, "lists *.example.org at 443/tcp, name-checked"),
        ("reach a.b.example.org:443", None, "lists *.example.org"),
        ("reach up.example.org:443/tcp", Some(Denial::EgressNotListed), "shuts up.example.org"),
        ("reach cran.example.org:443/udp", Some(Denial::EgressNotListed), "lists cran.example.org at 443/udp"),
        ("reach example.org:443/tcp", Some(Denial::EgressNotListed), "lists example.org"),
        ("reach 10.20.30.40:443/tcp", None, "lists 10.20.30.40"),
    ] {
        let action = what.parse().expect("an action");
        let at = super::DURING.parse().expect("a time");
        let decision = decide(policy.permits(), permit, &crate::Question { person: &maija, at, from: None, action: &action });
        assert_eq!(decision.denial, denial, "{what}");
        assert!(decision.reasons.last().is_some_and(|reason| reason.what.contains(words)), "{what}: {decision:?}");
    }
    let asked: crate::Action = "reach CRAN.example.org:443/tcp".parse().expect("an action");
    assert!(matches!(asked, crate::Action::Reach(Target::Name(name), _) if name.as_str() == "cran.example.org"));
}
