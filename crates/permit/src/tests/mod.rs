use proptest::prelude::*;

use jiff::Timestamp;

use crate::*;

mod reach;
mod schema;
mod terms;

const GOOD: &str = include_str!("../../tests/good.toml");

fn good() -> Permit {
    parse("good.toml", GOOD).expect("the sample is a good permit")
}

fn credential(identity: Identity) -> Credential {
    Credential { identities: vec![Identity::Key([9; 32]), identity], expires: "2030-01-01T00:00:00Z".parse().expect("a time"), assurance: None }
}

fn uri(text: &str) -> Identity {
    Identity::Uri(text.to_owned())
}

fn ask(set: &PermitSet, identity: Identity, permit: Option<&str>, now: &str, from: &str) -> Result<Admission, Refusal> {
    let permit = permit.map(|id| id.parse().expect("an id"));
    admit(
        set,
        &Request {
            credential: &credential(identity),
            permit: permit.as_ref(),
            from: from.parse().expect("an address"),
            now: now.parse().expect("a time"),
            opened: None,
            rung: Some(Rung::Root),
        },
    )
}

fn code(set: &PermitSet, identity: Identity, permit: Option<&str>, now: &str, from: &str) -> RefusalCode {
    ask(set, identity, permit, now, from).expect_err("a refusal").code
}

const DURING: &str = "2026-06-01T10:00:00Z";
const MAIJA: &str = "spiffe://spe.example.fi/person/maija";

fn set_of(texts: &[String]) -> PermitSet {
    PermitSet::new(texts.iter().map(|text| parse("p.toml", text).expect("good")).collect()).expect("no contradiction")
}

fn other() -> String {
    GOOD.replace("THL/1234/14.02.00/2026", "THL/9/2026").replace("statin-dementia", "other-study")
}

/// IA-01
#[test]
fn a_listed_person_is_admitted_until_the_earliest_end() {
    let admission = ask(&set_of(&[GOOD.into()]), uri(MAIJA), None, DURING, "192.0.2.7").expect("admitted");
    assert_eq!(admission.holder().id.as_str(), "maija");
    assert_eq!(admission.ends(), "2026-06-01T22:00:00Z".parse().expect("a time"), "12 h after it began");
    let late = ask(&set_of(&[GOOD.into()]), uri(MAIJA), None, "2027-06-30T20:00:00Z", "192.0.2.7").expect("admitted");
    assert_eq!(late.ends(), "2027-06-30T21:00:00Z".parse().expect("a time"), "midnight in Helsinki, after the last day");
}

/// IA-01
#[test]
fn an_unlisted_person_is_refused() {
    let set = set_of(&[GOOD.into()]);
    assert_eq!(code(&set, uri("spiffe://spe.example.fi/person/stranger"), None, DURING, "192.0.2.7"), RefusalCode::NotAHolder);
}

#[test]
fn an_expired_permit_admits_nobody() {
    let refusal = ask(&set_of(&[GOOD.into()]), uri(MAIJA), None, "2027-06-30T21:00:00Z", "192.0.2.7").expect_err("refused");
    assert_eq!(refusal.code, RefusalCode::PermitExpired);
    let line = GOOD.lines().position(|line| line.starts_with("valid_until")).expect("a line") + 1;
    assert_eq!(refusal.at.expect("the line that decided").line as usize, line);
}

#[test]
fn a_permit_that_has_not_begun_admits_nobody() {
    assert_eq!(code(&set_of(&[GOOD.into()]), uri(MAIJA), None, "2026-01-14T21:59:59Z", "192.0.2.7"), RefusalCode::PermitNotYetValid);
}

#[test]
fn a_persons_own_end_comes_before_the_permits() {
    let bo = Identity::Serial { issuer: "fineid".into(), serial_number: "99900001X".into() };
    let set = set_of(&[GOOD.into()]);
    assert!(ask(&set, bo.clone(), None, DURING, "192.0.2.7").is_ok());
    assert_eq!(code(&set, bo, None, "2027-02-01T00:00:00Z", "192.0.2.7"), RefusalCode::HolderExpired);
}

#[test]
fn a_network_that_is_not_listed_is_refused() {
    let set = set_of(&[GOOD.into()]);
    assert_eq!(code(&set, uri(MAIJA), None, DURING, "198.51.100.1"), RefusalCode::SourceNotAllowed);
    assert!(ask(&set, uri(MAIJA), None, DURING, "::ffff:192.0.2.7").is_ok(), "an IPv4 address in IPv6 clothes is that IPv4 address");
}

#[test]
fn a_holder_of_several_permits_names_one() {
    let set = set_of(&[GOOD.into(), other()]);
    let refusal = ask(&set, uri(MAIJA), None, DURING, "192.0.2.7").expect_err("must choose");
    assert_eq!((refusal.code, refusal.choices.len()), (RefusalCode::ChooseAPermit, 2));
    let admission = ask(&set, uri(MAIJA), Some("THL/9/2026"), DURING, "192.0.2.7").expect("chosen");
    assert_eq!(admission.permit().id.as_str(), "THL/9/2026");
    assert_eq!(code(&set, uri(MAIJA), Some("THL/404/2026"), DURING, "192.0.2.7"), RefusalCode::NotAHolder, "as for a permit of others");
}

/// IA-02
#[test]
fn a_key_that_stands_for_two_persons_is_refused_at_load() {
    let twin = other().replace("id = \"maija\"", "id = \"mikko\"").replace("Maija Meikäläinen", "Mikko Mallikas");
    let problems = PermitSet::new(vec![good(), parse("twin.toml", &twin).expect("good alone")]).expect_err("a contradiction");
    assert!(problems.iter().any(|problem| problem.what.contains("stands for maija")), "{problems:?}");
}

#[test]
fn a_certificate_that_shows_two_persons_is_refused() {
    let both = Credential {
        identities: vec![uri(MAIJA), Identity::Serial { issuer: "fineid".into(), serial_number: "99900001X".into() }],
        expires: "2030-01-01T00:00:00Z".parse().expect("a time"),
        assurance: None,
    };
    let set = set_of(&[GOOD.into()]);
    let from = "192.0.2.7".parse().expect("an address");
    let request = Request { credential: &both, permit: None, from, now: DURING.parse().expect("a time"), opened: None, rung: None };
    assert_eq!(admit(&set, &request).expect_err("refused").code, RefusalCode::AmbiguousIdentity);
}

#[test]
fn two_permits_never_share_a_workspace() {
    let shared = GOOD.replace("THL/1234/14.02.00/2026", "THL/9/2026");
    assert!(PermitSet::new(vec![good(), parse("b.toml", &shared).expect("good alone")]).is_err());
}

/// Each case: what is replaced by what, and what the one problem must say.
const BAD: &[(&str, &str, &str)] = &[
    ("valid_until = 2027-06-30", "valid_untill = 2027-06-30", "unknown field `valid_untill`"),
    ("valid_until = 2027-06-30", "valid_until = 2025-06-30", "ends before it begins"),
    ("valid_until = 2027-06-30", "valid_until = 10:00:00", "no date"),
    ("Europe/Helsinki", "Europe/Atlantis", "time zone is unknown"),
    ("id = \"maija\"", "id = \"Maija M\"", "no id"),
    ("uri = \"spiffe://spe.example.fi/person/maija\"", "uri = \"https://maija\"", "does not identify one person"),
    ("uri = \"spiffe://spe.example.fi/person/maija\"", "common_name = \"maija\"", "unknown field `common_name`"),
    ("\"443/tcp\"", "\"443\"", "no port"),
    ("\"443/tcp\"", "\"0/tcp\"", "no port"),
    ("to = \"10.20.30.40\"", "to = \"10.20.30.40/8\"", "no destination"),
    ("to = \"10.20.30.40\"", "to = \"0.0.0.0/0\"", "more than any workspace needs"),
    ("to = \"10.20.30.40\"", "to = \"169.254.169.254\"", "metadata"),
    ("to = \"10.20.30.40\"", "to = \"127.0.0.1\"", "loopback"),
    ("mounted_at = \"/data/hilmo\"", "mounted_at = \"/data/../etc\"", "cannot be mounted"),
    ("mounted_at = \"/data/hilmo\"", "mounted_at = \"/etc/hilmo\"", "cannot be mounted"),
    ("path = \"/srv/datasets/hilmo\"", "path = \"srv/../hilmo\"", "no folder"),
    ("memory = \"4 GiB\"", "memory = \"4 gigs\"", "no amount of memory"),
    ("max_length = \"12 h\"", "max_length = \"forever\"", "no length of time"),
    ("max_length = \"12 h\"", "max_detached = \"always\"", "no length of time"),
    ("max_length = \"12 h\"", "max_detached = \"8 d\"", "too long"),
    ("schema = 1", "schema = 2", "schema 2 is unknown"),
    ("terminal = \"output-and-input-timing\"", "terminal = \"off\"", "no kind of recording"),
    ("durability = \"strict\"", "durability = \"sloppy\"", "no durability of a recording"),
    ("retention = \"5 y\"", "retention = \"364 d\"", "no time to keep a recording"),
    ("retention = \"5 y\"", "retention = \"101 y\"", "no time to keep a recording"),
    ("retention = \"5 y\"", "retention = \"5 months\"", "no time to keep a recording"),
    ("[workspace]", "[workspce]", "unknown field `workspce`"),
];

#[test]
fn what_is_recorded_is_what_the_permit_says() {
    let recording = Recording { terminal: TerminalRecording::OutputAndInputTiming, durability: Durability::Strict, retention_days: 5 * 366 };
    assert_eq!(good().recording, recording);
    let typed = GOOD.replace("output-and-input-timing", "output-and-input").replace("\"strict\"", "\"windowed\"").replace("\"5 y\"", "\"365 d\"");
    let recording = Recording { terminal: TerminalRecording::OutputAndInput, durability: Durability::Windowed, retention_days: 365 };
    assert_eq!(parse("typed.toml", &typed).expect("good").recording, recording);
    let silent = GOOD.split("[recording]").next().expect("what is before it");
    assert_eq!(parse("silent.toml", silent).expect("good").recording, good().recording, "without a word: the strict way, and no input");
}

#[test]
fn a_mistake_about_recordings_says_what_to_write() {
    let problems = parse("bad.toml", &GOOD.replace("retention = \"5 y\"", "retention = \"1 d\"")).expect_err("too short");
    let line = GOOD.lines().position(|line| line.starts_with("retention")).expect("a line") + 1;
    assert_eq!((problems[0].at.line as usize, problems[0].at.column), (line, 13));
    assert!(problems[0].help.contains("\"1 y\"") && problems[0].help.contains("a year at least"), "{problems:?}");
}

#[test]
fn each_mistake_is_named_with_its_line() {
    for (from, to, what) in BAD {
        assert!(GOOD.contains(from), "the sample has {from}");
        let text = GOOD.replace(from, to);
        let problems = parse("bad.toml", &text).expect_err("a mistake is refused");
        let line = text.lines().position(|line| line.contains(to)).map_or(0, |line| line + 1);
        let found = problems.iter().any(|problem| problem.what.contains(what) && problem.at.line as usize == line);
        assert!(found, "{to}: expected {what:?} at line {line}, got {problems:#?}");
    }
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = BAD[1..]
        .iter()
        .filter(|(from, ..)| *from != "schema = 1")
        .fold(GOOD.to_owned(), |text, (from, to, what)| if what.starts_with("unknown field") { text } else { text.replacen(from, to, 1) });
    let problems = parse("bad.toml", &text).expect_err("mistakes");
    assert!(problems.len() >= 8, "{problems:#?}");
}

#[test]
fn a_session_id_reads_back_as_written() {
    let id = SessionId::from_random([0, 1, 2, 3, 254, 255, 128, 127, 9, 77]);
    assert_eq!(id.to_string().parse::<SessionId>().expect("well formed"), id);
    assert!("0123456789abcdei".parse::<SessionId>().is_err(), "i is not in the alphabet");
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,400}") {
        let _ = parse("any.toml", &text);
    }

    #[test]
    fn no_edit_of_a_good_permit_makes_the_parser_panic(at in 0..GOOD.len(), length in 0..40_usize, put in "\\PC{0,12}") {
        let end = (at + length).min(GOOD.len());
        if let (Some(head), Some(tail)) = (GOOD.get(..at), GOOD.get(end..)) {
            let _ = parse("edited.toml", &format!("{head}{put}{tail}"));
        }
    }

    #[test]
    fn an_unknown_key_never_parses(key in "[a-z]{13,20}") {
        for table in ["[permit]", "[workspace]", "[session]", "[resources]", "[recording]"] {
            let text = GOOD.replace(table, &format!("{table}\n{key} = 1"));
            prop_assert!(parse("key.toml", &text).is_err());
        }
    }
}
