//! What operators ask of their policies and do with single permits, as they type it. What is printed stands in `tests/snapshots`:
//! `UPDATE_SNAPSHOTS=1 cargo test -p sulku --test permits` writes it anew.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod desk;

use std::fs;
use std::path::Path;
use std::process::Output;

use desk::{Desk, GOOD};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn is_as_reviewed(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let reviewed = fs::read_to_string(&file).unwrap_or_default();
    let differs = text.lines().zip(reviewed.lines()).position(|(new, old)| new != old);
    assert!(text == reviewed, "{} differs from line {:?} on; it is now:\n{text}", file.display(), differs.map(|line| line + 1));
}

/// Edits of the good permit, each with one mistake.
const MISTAKES: &[(&str, &str)] = &[
    ("valid_until = 2027-06-30\n", "valid_untill = 2027-06-30\n"),
    ("valid_until = 2027-06-30\n", "valid_until = 2025-06-30\n"),
    ("title = \"Statin use", "titel = 3\ntitle = \"Statin use"),
    ("valid_until = 2027-06-30\n", ""),
    ("issuer = \"Findata\"", "authority = \"findata\""),
    ("issuer = \"Findata\"\n", ""),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nstatus = \"AMENDED\""),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nreplaces = \"THL/1/2025\""),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nstatus = \"granted\""),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nassurance = \"good\""),
    ("issuer = \"Findata\"", "issuer = \"Findata\"\nisolation = \"none\""),
    ("time_zone = \"Europe/Helsinki\"", "time_zone = \"Europe/Atlantis\""),
    ("contacts = [\"tietosuoja@helsinki.example\"]", "contacts = []"),
    ("id = \"maija\"", "id = \"Maija M\""),
    ("id = \"bo\"", "id = \"maija\""),
    ("uri = \"spiffe://spe.example.fi/person/maija\"", "uri = \"https://maija\""),
    ("roles = [\"analyst\"]", "roles = []"),
    ("roles = [\"analyst\"]", "roles = [\"analist\"]"),
    ("valid_until = 2026-12-31", "valid_until = 2028-12-31"),
    ("valid_until = 2026-12-31", "valid_until = 2026-12-31\nsecond_factor = \"totp\""),
    ("[workspace]\n", "[[output_checker]]\nid = \"maija\"\nname = \"Maija Meikäläinen\"\ncertificate = { key_sha256 = \"00\" }\n\n[workspace]\n"),
    (
        "[workspace]\n",
        "[[output_checker]]\nid = \"maija\"\nname = \"Maija Meikäläinen\"\ncertificate = { uri = \"spiffe://spe.example.fi/person/maija\" }\n\n[workspace]\n",
    ),
    ("name = \"statin-dementia\"", "name = \"statin-dementia\"\ninterfaces = [\"desktop\"]"),
    ("name = \"statin-dementia\"", "name = \"statin-dementia\"\nimage = \"r\""),
    ("mounted_at = \"/data/hilmo\"", "mounted_at = \"/etc/hilmo\""),
    ("path = \"/srv/datasets/hilmo\"\n", ""),
    ("to = \"10.20.30.40\"\nports = [\"443/tcp\"]", "to = \"cran.example.fi\"\nports = [\"80/tcp\"]"),
    ("to = \"10.20.30.40\"", "to = \"10.20.30.40\"\nwithin = [\"10.20.0.0/16\"]"),
    ("reason = \"R packages", "connections = \"many\"\nreason = \"R packages"),
    ("to = \"10.20.30.40\"", "to = \"10.0.0.0/8\""),
    ("to = \"10.20.30.40\"", "to = \"169.254.169.254\""),
    ("to = \"10.20.30.40\"", "to = \"10.20.30.40/8\""),
    ("ports = [\"443/tcp\"]", "ports = [\"443\"]"),
    ("[session]\n", "[[egress]]\nname = \"all mirrors\"\nto = \"10.20.30.0/24\"\nports = [\"443/tcp\"]\nreason = \"more of them\"\n\n[session]\n"),
    ("from_networks = [\"192.0.2.0/24\"]\n", ""),
    ("from_networks = [\"192.0.2.0/24\"]", "from_networks = [\"192.0.2.0/24\"]\nallowed_hours = [\"Mon-Fri 6-22\"]"),
    ("from_networks = [\"192.0.2.0/24\"]", "from_networks = [\"192.0.2.0/24\"]\ncalendar = \"office\""),
    ("max_length = \"12 h\"", "max_length = \"forever\""),
    ("memory = \"4 GiB\"", "memory = \"4 gigs\""),
    ("retention = \"5 y\"", "retention = \"1 d\""),
    ("[resources]\n", "[clipboard]\ninto_workspace = \"4 KiB\"\n\n[resources]\n"),
    ("[resources]\n", "[output]\nterminal_per_minute = \"256 KiB\"\n\n[resources]\n"),
    ("[resources]\n", "[airlock.export]\nallowed_types = [\"csv\"]\n\n[resources]\n"),
    ("[resources]\n", "[[test]]\nname = \"at noon\"\nperson = \"maija\"\nat = 2030-01-01\ndoes = \"connect\"\nexpect = \"allow\"\n\n[resources]\n"),
    ("[resources]\n", "[[test]]\nname = \"at noon\"\nperson = \"maija\"\nat = 2030-01-01\ndoes = \"fly\"\nexpect = \"deny maybe\"\n\n[resources]\n"),
    ("schema = 1", "schema = 1\nschema = 1"),
];

/// IA-01, SE-01: what an operator mistypes is shown where it stands, and widens nothing.
#[test]
fn every_mistake_is_drawn_with_its_line_and_what_to_write() {
    let desk = Desk::new(1);
    let mut text = String::new();
    for (good, bad) in MISTAKES {
        assert!(GOOD.contains(good), "the permit has {good}");
        desk.write("policies/permits/statins.toml", &GOOD.replacen(good, bad, 1));
        let output = desk.sulku("check");
        assert_eq!(output.status.code(), Some(1), "{bad}: {}", said(&output));
        text.push_str(&format!("{}\n", said(&output)));
    }
    is_as_reviewed("diagnostics.txt", &text);
    desk.write("policies/permits/statins.toml", GOOD);
    assert!(desk.ok("check").ends_with("1 permit in 1 file, 0 cases: no problem\n"), "the control");
}

#[test]
fn files_that_contradict_each_other_are_drawn_too() {
    let desk = Desk::new(1);
    desk.permit("asthma");
    let twin = GOOD.replace("THL/1234/14.02.00/2026", "THL/twin/2026").replace("id = \"maija\"", "id = \"mikko\"");
    desk.write("policies/permits/twin.toml", &twin);
    fs::create_dir(desk.file("policies/authorities")).unwrap();
    desk.write(
        "policies/authorities/findata.toml",
        "schema = 1\n[authority]\nname = \"findata\"\ntitle = \"Findata\"\ncontacts = [\"a@b.example\"]\ntime_zone = \"Europe/Helsinki\"\n\
         valid_from = 2026-02-01\nvalid_until = 2030-12-31\n",
    );
    let early = GOOD.replace("THL/1234/14.02.00/2026", "THL/early/2026").replace("statin-dementia", "early");
    desk.write("policies/permits/early.toml", &early.replace("issuer = \"Findata\"", "authority = \"findata\""));
    fs::create_dir(desk.file("policies/networks")).unwrap();
    desk.write("policies/networks/mirror.toml", "schema = 1\n[network]\nname = \"mirror\"\ntitle = \"A mirror\"\nto = \"127.0.0.1\"\nports = []\n");
    let output = desk.sulku("check");
    assert_eq!(output.status.code(), Some(1));
    is_as_reviewed("contradictions.txt", &said(&output));
}

const AT: &str = "--at 2026-06-01T10:00:00Z";

/// IA-01, SE-01
#[test]
fn what_the_policies_say_is_explained_line_by_line() {
    let desk = Desk::new(1);
    let hours = GOOD.replace("from_networks", "allowed_hours = [\"Mon-Fri 06:00-22:00\"]\nfrom_networks");
    desk.write("policies/permits/statins.toml", &hours);
    let mut text = String::new();
    for (question, allowed) in [
        (format!("maija connect {AT}"), true),
        (format!("maija reach 10.20.30.40:443/tcp {AT}"), true),
        (format!("maija reach 10.20.30.40:22 {AT}"), false),
        (format!("maija read hilmo-2010-2024 {AT}"), true),
        (format!("maija read avohilmo {AT}"), false),
        ("maija connect --at 2026-06-01T20:30:00Z".to_owned(), false),
        ("maija connect --at 2027-07-01T10:00:00Z".to_owned(), false),
        ("bo connect --at 2027-02-01T10:00:00Z".to_owned(), false),
        (format!("maija connect --from 198.51.100.7 {AT}"), false),
        (format!("nobody connect {AT}"), false),
        (format!("nobody connect --permit THL/1234/14.02.00/2026 {AT}"), false),
    ] {
        let output = desk.sulku(&format!("explain {question}"));
        assert_eq!(output.status.success(), allowed, "{question}: {}", said(&output));
        text.push_str(&format!("$ sulku policy explain {question}\n{}\n", said(&output)));
    }
    for question in [format!("10.20.30.40:443 {AT}"), format!("hilmo-2010-2024 {AT}"), format!("10.20.30.41:443 {AT}")] {
        text.push_str(&format!("$ sulku policy who-can {question}\n{}\n", said(&desk.sulku(&format!("who-can {question}")))));
    }
    is_as_reviewed("explain.txt", &text);
}

#[test]
fn a_diff_says_who_gains_and_loses_what() {
    let desk = Desk::new(1);
    desk.permit("asthma");
    fs::create_dir_all(desk.file("before")).unwrap();
    fs::rename(desk.file("policies"), desk.file("before/policies")).unwrap();
    fs::create_dir_all(desk.file("policies/permits")).unwrap();
    let wider = GOOD
        .replace("ports = [\"443/tcp\"]", "ports = [\"443/tcp\", \"22/tcp\"]")
        .replace("valid_until = 2026-12-31", "valid_until = 2026-11-30")
        .replace("cpus = 1.5", "cpus = 1.0")
        .replace("durability = \"strict\"", "durability = \"windowed\"")
        .replace("title = \"Statin use", "title = \"The use of statins")
        .replace("from_networks", "allowed_hours = [\"Mon-Fri 06:00-22:00\"]\nfrom_networks");
    desk.write("policies/permits/statins.toml", &wider);
    let against = "diff --against before/policies --operators gateway.toml";
    let output = desk.sulku(against);
    assert_eq!(output.status.code(), Some(1), "something widens");
    is_as_reviewed("diff.txt", &said(&output));
    desk.write("policies/permits/statins.toml", &GOOD.replace("cpus = 1.5", "cpus = 1.0"));
    assert!(desk.sulku(against).status.success(), "the control: nothing widens");
}

#[test]
fn a_plan_is_all_that_a_cell_gets() {
    let desk = Desk::new(1);
    is_as_reviewed("plan.txt", &desk.ok("plan THL/1234/14.02.00/2026"));
    assert!(desk.refused("plan THL/1/2026").contains("there is no permit THL/1/2026; see sulku permit list"));
}

#[test]
fn a_new_permit_is_good_as_it_is_written() {
    let desk = Desk::new(1);
    let facts = [
        "policy",
        "new",
        "--title",
        "Asthma and air",
        "--controller",
        "THL",
        "--holder",
        "eva",
        "Eva \"E\" Ek",
        "spiffe://spe.example.fi/person/eva",
    ];
    let rest = "--id THL/7/2026 --issuer Findata --contact a@thl.example --from 2026-01-01 --until 2026-12-31 --network 192.0.2.0/24";
    let output = desk.run(&facts, rest);
    assert!(output.status.success(), "{}", said(&output));
    is_as_reviewed("new.toml", &said(&output));
    let written = desk.run(&facts, &format!("{rest} --out policies/permits/asthma.toml"));
    assert!(written.status.success() && desk.ok("check").contains("2 permits in 2 files, 1 case: no problem"), "{}", said(&written));
    let again = desk.run(&facts, &format!("{rest} --out policies/permits/asthma.toml"));
    assert!(!again.status.success() && said(&again).contains("stays as it is"), "{}", said(&again));
    let bad = desk.run(&facts, &rest.replace("--until 2026-12-31", "--until 2025-12-31"));
    assert!(!bad.status.success() && said(&bad).contains("ends before it begins"), "{}", said(&bad));
}

fn change(desk: &Desk, words: &str, who: &str) -> Output {
    desk.run(&[], &format!("{words} --reason because {}", Desk::signer(who)))
}

fn permit_file(desk: &Desk) -> String {
    fs::read_to_string(desk.file("policies/permits/statins.toml")).unwrap()
}

/// A comment is the operator's; the change is the permit's.
#[test]
fn revoking_holding_up_and_prolonging_keep_the_comments_and_are_revisions() {
    const ID: &str = "THL/1234/14.02.00/2026";
    let desk = Desk::new(2);
    let commented = GOOD.replace("valid_until = 2027-06-30", "valid_until = 2027-06-30   # as the board decided");
    desk.write("policies/permits/statins.toml", &format!("# kept by Onni\n{commented}"));
    desk.ok(&Desk::apply("onni"));
    desk.ok(&Desk::approve(1, "aino"));

    // What narrows counts with one signature.
    let output = change(&desk, &format!("permit suspend {ID}"), "onni");
    assert!(output.status.success() && said(&output).contains("revision 2 counts, signed by onni"), "{}", said(&output));
    assert!(permit_file(&desk).starts_with("# kept by Onni\n") && permit_file(&desk).contains("suspended = \"because\""));
    assert!(said(&desk.run(&["permit", "list"], "")).contains("suspended"));
    // What widens needs two.
    let output = change(&desk, &format!("permit resume {ID}"), "onni");
    assert!(output.status.success() && said(&output).contains("revision 3 does not count yet"), "{}", said(&output));
    desk.ok(&Desk::approve(3, "aino"));
    assert!(!permit_file(&desk).contains("suspended"));
    assert!(said(&change(&desk, &format!("permit resume {ID}"), "onni")).contains("is not suspended"));

    let output = change(&desk, &format!("permit extend {ID} --until 2028-06-30"), "onni");
    assert!(output.status.success() && said(&output).contains("ends 2028-06-30 21:00 UTC, 2027-06-30 21:00 UTC before"), "{}", said(&output));
    assert!(permit_file(&desk).contains("valid_until = 2028-06-30   # as the board decided"), "{}", permit_file(&desk));
    desk.ok(&Desk::approve(4, "elli"));

    let output = change(&desk, &format!("permit revoke {ID} --holder bo"), "elli");
    assert!(output.status.success() && said(&output).contains("bo's part is taken back from"), "{}", said(&output));
    let output = change(&desk, &format!("permit revoke {ID}"), "elli");
    assert!(output.status.success() && said(&output).contains("is REVOKED now, GRANTED before"), "{}", said(&output));
    assert!(said(&desk.run(&["permit", "list"], "")).contains("revoked"));
    assert!(said(&desk.run(&["permit", "due"], "")).contains("workspace statin-dementia is sealed, and kept"));
    // And what can't be applied leaves the file as it was.
    let before = permit_file(&desk);
    let output = change(&desk, &format!("permit extend {ID} --until 2020-06-30"), "elli");
    assert!(!output.status.success() && said(&output).contains("ends before it begins"), "{}", said(&output));
    assert_eq!(permit_file(&desk), before);
}

#[test]
fn a_halt_is_one_command_and_its_end_another() {
    let desk = Desk::new(2);
    desk.ok(&Desk::apply("onni"));
    desk.ok(&Desk::approve(1, "aino"));
    let output = change(&desk, "halt", "elli");
    assert!(output.status.success() && said(&output).contains("everything is halted, and every session ends: because"), "{}", said(&output));
    assert!(said(&output).contains("revision 2 counts, signed by elli"));
    assert!(said(&desk.sulku(&format!("explain maija connect {AT}"))).contains("halted"));
    let output = change(&desk, "halt --lift", "elli");
    assert!(output.status.success() && said(&output).contains("revision 3 does not count yet"), "{}", said(&output));
    assert!(!change(&desk, "halt --lift", "elli").status.success(), "it waits for its second signature already");
    desk.ok(&Desk::approve(3, "onni"));
    assert!(said(&change(&desk, "halt --lift", "elli")).contains("nothing is halted"));
}

/// What somebody is writing in the folder neither holds up a revocation nor comes into force with it.
#[test]
fn a_halt_and_a_revocation_go_past_a_half_written_folder() {
    const ID: &str = "THL/1234/14.02.00/2026";
    let desk = Desk::new(2);
    desk.ok(&Desk::apply("onni"));
    desk.ok(&Desk::approve(1, "aino"));
    desk.write("policies/permits/asthma.toml", "schema = ");
    desk.write("policies/permits/statins.toml", &GOOD.replace("ports = [\"443/tcp\"]", "ports = [\"443/tcp\", \"22/tcp\"]"));
    assert!(!desk.sulku("check").status.success(), "the control: the folder is not sound");
    let output = change(&desk, "halt", "elli");
    assert!(output.status.success() && said(&output).contains("revision 2 counts, signed by elli"), "{}", said(&output));
    let output = change(&desk, &format!("permit revoke {ID}"), "elli");
    assert!(output.status.success() && said(&output).contains("revision 3 counts, signed by elli"), "{}", said(&output));
    let in_force = desk.ok("show 3 permits/statins.toml --store store --operators gateway.toml");
    assert!(in_force.contains("status = \"REVOKED\"") && !in_force.contains("22/tcp"), "{in_force}");
    let copy = permit_file(&desk);
    assert!(copy.contains("status = \"REVOKED\"") && copy.contains("22/tcp"), "the copy follows, and keeps what was being written: {copy}");
    // A copy that can't follow is told of; what is signed stands.
    desk.write("policies/permits/statins.toml", "schema = ");
    let output = change(&desk, &format!("permit suspend {ID}"), "elli");
    assert!(output.status.success() && said(&output).contains("could not follow"), "{}", said(&output));
}

#[test]
fn a_public_register_names_no_person_and_no_network() {
    let desk = Desk::new(1);
    let text = said(&desk.run(&["permit", "list", "--public"], ""));
    is_as_reviewed("register.txt", &text);
    for private in ["maija", "Maija", "192.0.2", "10.20.30", "spiffe"] {
        assert!(!text.contains(private), "{private} is in {text}");
    }
    assert!(said(&desk.run(&["permit", "show", "THL/1234/14.02.00/2026"], "")).contains("maija"), "the control");
}

#[test]
fn a_failing_case_keeps_the_old_revision_in_force() {
    let desk = Desk::new(1);
    let case = |expect: &str| {
        format!("{GOOD}\n[[test]]\nname = \"Maija works\"\nperson = \"maija\"\nat = 2026-06-01T10:00:00\ndoes = \"connect\"\nexpect = \"{expect}\"\n")
    };
    desk.write("policies/permits/statins.toml", &case("allow"));
    desk.ok(&Desk::apply("onni"));
    assert_eq!(desk.ok("test"), "✓ THL/1234/14.02.00/2026  Maija works\n1 of 1 cases come out as they say\n");
    desk.write("policies/permits/statins.toml", &case("allow").replace("valid_from = 2026-01-15", "valid_from = 2026-07-01"));
    let refused = desk.refused(&Desk::apply("onni"));
    assert!(refused.contains("\"Maija works\" comes out as \"deny permit-not-yet-valid\""), "{refused}");
    assert!(said(&desk.sulku("test")).starts_with("✗ "));
    assert_eq!(desk.revisions(), ["000001.revision"]);
    // What is taken back on purpose is no mistake of the case.
    desk.write("policies/permits/statins.toml", &case("allow"));
    let output = change(&desk, "permit revoke THL/1234/14.02.00/2026", "onni");
    assert!(output.status.success(), "{}", said(&output));
}

/// The data that a permit grants are what was delivered: no byte, file or line other.
#[test]
fn data_are_compared_with_their_list_of_sums() {
    let desk = Desk::new(1);
    let data = desk.file("data");
    fs::create_dir_all(data.join("2024")).unwrap();
    desk.write("data/persons.csv", "1;2\n");
    desk.write("data/2024/visits.csv", "3;4\n");
    let script = "cd data && find . -type f | sort | xargs sha256sum > ../sums && mv ../sums SHA256SUMS";
    let made = std::process::Command::new("bash").args(["-ec", script]).current_dir(desk.file("")).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let listed = format!("path = {data:?}\nmanifest = {:?}", data.join("SHA256SUMS"));
    desk.write("policies/permits/statins.toml", &GOOD.replace("path = \"/srv/datasets/hilmo\"", &listed));
    assert!(desk.ok("check --data").ends_with("1 dataset compared with 2 listed files; 0 without one\n"), "the control");
    assert!(desk.ok("check").contains("no problem"), "data are read when that is asked for");
    for (file, text, what) in [
        ("data/persons.csv", Some("1;3\n"), "persons.csv is not what was listed"),
        ("data/2024/visits.csv", None, "2024/visits.csv is listed and not there"),
        ("data/more.csv", Some("5"), "more.csv is there and not listed"),
        ("data/SHA256SUMS", Some("nonsense\n"), "SHA256SUMS:1: this is no line of sha256sum"),
    ] {
        let before = fs::read(desk.file(file)).ok();
        match text {
            Some(text) => desk.write(file, text),
            None => fs::remove_file(desk.file(file)).unwrap(),
        }
        let output = desk.sulku("check --data");
        assert!(output.status.code() == Some(1) && said(&output).contains(what), "{what}: {}", said(&output));
        match before {
            Some(before) => fs::write(desk.file(file), before).unwrap(),
            None => fs::remove_file(desk.file(file)).unwrap(),
        }
    }
    assert!(desk.sulku("check --data").status.success(), "all is as it was");
}
