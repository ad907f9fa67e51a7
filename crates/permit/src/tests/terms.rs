//! What a permit says beyond who and until when, and what becomes of a session by it.

use super::*;

fn with(edits: &[(&str, &str)]) -> PermitSet {
    let text = edits.iter().fold(GOOD.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "the sample has {from}");
        text.replacen(from, to, 1)
    });
    set_of(&[text])
}

fn maija(set: &PermitSet, now: &str) -> Result<Admission, Refusal> {
    ask(set, uri(MAIJA), None, now, "192.0.2.7")
}

fn refused(set: &PermitSet, now: &str) -> (RefusalCode, u32) {
    let refusal = maija(set, now).expect_err("a refusal");
    (refusal.code, refusal.at.expect("the line that decided").line)
}

const TITLE: &str = "title = \"Statin use";

/// IA-01, LC: what the issuer takes back admits nobody, whatever the dates say; the line that says so is named.
#[test]
fn a_revoked_suspended_or_ended_permit_admits_nobody() {
    assert!(maija(&with(&[]), DURING).is_ok(), "the control");
    for (line, code) in [
        ("status = \"REVOKED\"", RefusalCode::PermitRevoked),
        ("status = \"EXPIRED\"", RefusalCode::PermitExpired),
        ("suspended = \"a complaint is looked into\"", RefusalCode::PermitSuspended),
    ] {
        assert_eq!(refused(&with(&[(TITLE, &format!("{line}\n{TITLE}"))]), DURING), (code, 5), "{line}");
    }
    let halted = with(&[]).halted(Some(Halt { reason: "a drill".to_owned(), at: Place::line_of("halt.toml", 3) }));
    assert_eq!(refused(&halted, DURING), (RefusalCode::Halted, 3));
}

/// IA-01
#[test]
fn a_persons_own_dates_role_and_revocation_are_hers_alone() {
    let own = |line: &str| with(&[("roles = [\"analyst\", \"export-requester\"]", line)]);
    let both = "roles = [\"analyst\", \"export-requester\"]\n";
    assert_eq!(refused(&own("roles = [\"observer\"]"), DURING).0, RefusalCode::RoleOpensNoSession);
    assert_eq!(refused(&own("roles = [\"export-requester\"]"), DURING).0, RefusalCode::RoleOpensNoSession);
    assert_eq!(refused(&own(&format!("{both}valid_from = 2026-07-01")), DURING).0, RefusalCode::HolderNotYetValid);
    let revoked = own(&format!("{both}revoked = 2026-06-01T10:00:00Z"));
    assert_eq!(refused(&revoked, "2026-06-01T10:00:00Z").0, RefusalCode::HolderRevoked);
    let before = maija(&revoked, "2026-06-01T09:00:00Z").expect("not taken back yet");
    assert_eq!((before.ends(), before.ends_because()), ("2026-06-01T10:00:00Z".parse().expect("a time"), EndCause::HolderEnd));
    let bo = Identity::Serial { issuer: "fineid".into(), serial_number: "99900001X".into() };
    assert!(ask(&revoked, bo, None, DURING, "192.0.2.7").is_ok(), "the control: the other holder goes on");
}

#[test]
fn a_session_without_a_connection_stays_for_as_long_as_the_permit_says() {
    let stays = |line: &str| {
        let set = with(&[("idle_disconnect = \"30 min\"", &format!("idle_disconnect = \"30 min\"\n{line}"))]);
        maija(&set, DURING).expect("admitted").permit().session.max_detached.map(|time| time.as_secs() / 60)
    };
    assert_eq!(stays("max_detached = \"8 h\""), Some(480));
    assert_eq!(stays("max_detached = \"never\""), None);
    assert_eq!(stays(""), Some(30), "as long as an idle one");
}

#[test]
fn a_session_ends_with_the_hours_and_none_opens_outside_them() {
    let set = with(&[("from_networks", "allowed_hours = [\"Mon-Fri 06:00-22:00\"]\nfrom_networks")]);
    // A Monday, 13 and 23 o'clock in Helsinki.
    let admission = maija(&set, "2026-06-01T10:00:00Z").expect("within the hours");
    assert_eq!((admission.ends(), admission.ends_because()), ("2026-06-01T19:00:00Z".parse().expect("a time"), EndCause::Hours));
    assert_eq!(refused(&set, "2026-06-01T20:00:00Z").0, RefusalCode::OutsideHours);
}

#[test]
fn an_open_session_keeps_the_end_that_its_opening_gave_it() {
    let set = with(&[]);
    let credential = credential(uri(MAIJA));
    let opened: Timestamp = DURING.parse().expect("a time");
    let now = opened.checked_add(jiff::SignedDuration::from_hours(3)).expect("a time");
    let request =
        Request { credential: &credential, permit: None, from: "192.0.2.7".parse().expect("an address"), now, opened: Some(opened), rung: None };
    assert_eq!(admit(&set, &request).expect("admitted").ends(), "2026-06-01T22:00:00Z".parse().expect("a time"), "12 h after it was opened");
}

#[test]
fn a_permit_asks_for_isolation_and_assurance_and_gets_no_less() {
    let asked = |assurance, rung| {
        let set = with(&[(TITLE, &format!("assurance = \"substantial\"\n{TITLE}"))]);
        let credential = Credential { assurance, ..credential(uri(MAIJA)) };
        let from = "192.0.2.7".parse().expect("an address");
        let request = Request { credential: &credential, permit: None, from, now: DURING.parse().expect("a time"), opened: None, rung };
        admit(&set, &request).map(drop).map_err(|refusal| refusal.code)
    };
    for given in [None, Some(Assurance::Low)] {
        assert_eq!(asked(given, Some(Rung::Root)), Err(RefusalCode::AssuranceTooLow));
    }
    for given in [Assurance::Substantial, Assurance::High] {
        assert_eq!(asked(Some(given), Some(Rung::Root)), Ok(()));
    }
    for weak in [Rung::NoNetwork, Rung::Rootless] {
        assert_eq!(asked(Some(Assurance::High), Some(weak)), Err(RefusalCode::IsolationTooWeak), "root is what a silent permit asks for");
    }
}

#[test]
fn a_workspace_has_a_disk_of_the_size_that_its_permit_says_or_none() {
    let disk = |text: &str| {
        let permit = GOOD.replacen("name = \"statin-dementia\"", &format!("name = \"statin-dementia\"\n{text}"), 1);
        parse("new.toml", &permit).map(|permit| permit.workspace.disk_bytes).map_err(|problems| problems[0].help.clone())
    };
    assert_eq!(disk(""), Ok(None));
    assert_eq!(disk("disk = \"20 GiB\""), Ok(Some(20 << 30)));
    for outside in ["63 MiB", "65 TiB"] {
        assert_eq!(disk(&format!("disk = {outside:?}")), Err("write 64 MiB to 64 TiB".to_owned()));
    }
    assert!(disk("disk = \"20 GB\"").is_err_and(|help| help.contains("GiB")));
}

/// What is not built is not ignored: a permit that asks for it is not in force as if it were there.
#[test]
fn what_this_version_has_not_is_refused() {
    for (from, to, what) in [
        ("valid_until = 2026-12-31", "second_factor = \"totp\"", "second factor"),
        ("name = \"statin-dementia\"", "name = \"statin-dementia\"\ninterfaces = [\"terminal\", \"desktop\"]", "desktop"),
        ("[resources]", "[clipboard]\nout_of_workspace = \"4 KiB\"\n[resources]", "clipboard"),
        ("[resources]", "[output]\nterminal_per_session = \"20 MiB\"\n[resources]", "budget"),
        ("[resources]", "[airlock.import]\nmax_files = 3\n[resources]", "airlock"),
    ] {
        let problems = parse("new.toml", &GOOD.replacen(from, to, 1)).expect_err("refused");
        assert!(problems.len() == 1 && problems[0].what.contains("this version has no") && problems[0].what.contains(what), "{to}: {problems:?}");
    }
}

const SHARED: &[(&str, &str)] = &[
    ("images/host.toml", "schema = 1\n[image]\nname = \"host\"\ntitle = \"The host\"\nsystem = \"host\"\n"),
    ("datasets/hilmo.toml", "schema = 1\n[dataset]\nname = \"hilmo\"\ntitle = \"Care register\"\npath = \"/srv/hilmo\"\npersons = 250000\n"),
    (
        "networks/mirror.toml",
        "schema = 1\n[network]\nname = \"mirror\"\ntitle = \"Packages\"\nto = \"10.1.2.3\"\nports = [\"443/tcp\"]\nowner = \"the host's team\"\n",
    ),
    (
        "calendars/office.toml",
        "schema = 1\n[calendar]\nname = \"office\"\ntime_zone = \"Europe/Helsinki\"\nhours = [\"Mon-Fri 08:00-16:00\"]\nclosed = [2026-12-24]\n",
    ),
    (
        "authorities/findata.toml",
        "schema = 1\n[authority]\nname = \"findata\"\ntitle = \"Findata\"\ncontacts = [\"a@b.example\"]\ntime_zone = \"Europe/Helsinki\"\nvalid_from = 2020-01-01\nvalid_until = 2030-12-31\n",
    ),
];

fn referring() -> String {
    GOOD.replace("issuer = \"Findata\"", "authority = \"findata\"")
        .replace("name = \"statin-dementia\"", "name = \"statin-dementia\"\nimage = \"host\"")
        .replace("name = \"hilmo-2010-2024\"\npath = \"/srv/datasets/hilmo\"", "dataset = \"hilmo\"")
        .replace("name = \"package mirror\"\nto = \"10.20.30.40\"\nports = [\"443/tcp\"]", "network = \"mirror\"")
        .replace("from_networks", "calendar = \"office\"\nfrom_networks")
}

fn read(files: &[(&str, &str)]) -> Result<Policy, Vec<Problem>> {
    Policy::read(files.iter().map(|(path, text)| Source { path, shown: path, text }))
}

#[test]
fn an_image_is_what_its_digest_says_and_nothing_else() {
    let system = |system: &str| {
        let image = SHARED[0].1.replace("system = \"host\"", &format!("system = {system:?}"));
        let text = referring();
        let files: Vec<_> = SHARED[1..].iter().copied().chain([("images/host.toml", image.as_str()), ("permits/a.toml", text.as_str())]).collect();
        let image = |policy: Policy| policy.in_file("permits/a.toml").expect("the permit").workspace.image.clone();
        read(&files)
            .map(|policy| image(policy).expect("an image").digest.map(|digest| digest.to_string()))
            .map_err(|problems| problems[0].help.clone())
    };
    let digest = format!("sha256:{}", "0a".repeat(32));
    assert_eq!((system("host"), system(&digest)), (Ok(None), Ok(Some(digest.clone()))));
    for wrong in ["Host", "sha256:00", &digest.to_uppercase(), &digest.replace("sha256", "md5"), &format!("{digest}00"), "/srv/image.squashfs"] {
        assert!(system(wrong).is_err_and(|help| help.contains("sha256sum")), "{wrong}");
    }
}

#[test]
fn permits_refer_to_shared_files_by_name() {
    let text = referring();
    let files: Vec<_> = SHARED.iter().copied().chain([("permits/a.toml", text.as_str())]).collect();
    let policy = read(&files).expect("a policy");
    let permit = policy.in_file("permits/a.toml").expect("the permit");
    assert_eq!((permit.issuer.as_str(), permit.datasets[0].persons), ("Findata", Some(250_000)));
    assert_eq!((permit.egress[0].to.to_string().as_str(), permit.egress[0].owner.as_deref()), ("10.1.2.3", Some("the host's team")));
    let hours = permit.session.hours.as_ref().expect("the calendar's hours");
    assert!(!hours.are_open("2026-12-24T10:00:00Z".parse().expect("a time")) && hours.are_open("2026-12-23T10:00:00Z".parse().expect("a time")));
    for index in 0..SHARED.len() {
        let mut without = files.clone();
        let (path, _) = without.remove(index);
        let problems = read(&without).expect_err("something is missing");
        assert!(problems.iter().any(|problem| problem.what.starts_with("there is no ")), "{path}: {problems:?}");
    }
    let misspelt = text.replace("calendar = \"office\"", "calendar = \"offise\"");
    let files: Vec<_> = SHARED.iter().copied().chain([("permits/a.toml", misspelt.as_str())]).collect();
    assert!(read(&files).expect_err("misspelt").iter().any(|problem| problem.help.starts_with("did you mean \"office\"?")));
}

#[test]
fn a_file_that_has_no_place_is_a_problem() {
    for path in ["permits.toml", "permits/sub/a.toml", "datasets/x.txt", "secrets/a.toml", "permits/.toml"] {
        assert!(read(&[(path, GOOD)]).expect_err(path).iter().any(|problem| problem.what.contains("no place in a policy")));
    }
}

/// A permit is read again when the file that it refers to has changed, and not otherwise.
#[test]
fn what_has_not_changed_is_not_read_again() {
    let (text, second) = (referring(), other());
    let files: Vec<_> = SHARED.iter().copied().chain([("permits/a.toml", text.as_str()), ("permits/b.toml", second.as_str())]).collect();
    let first = read(&files).expect("a policy");
    let next = |files: &[(&str, &str)]| first.next(files.iter().map(|(path, text)| Source { path, shown: path, text })).expect("a policy");
    let same =
        |one: &Policy, other: &Policy, path| std::sync::Arc::ptr_eq(one.in_file(path).expect("a permit"), other.in_file(path).expect("a permit"));
    let changed = text.replace("Statin use", "The use of statins");
    let mut edited = files.clone();
    edited[SHARED.len()].1 = &changed;
    let after = next(&edited);
    assert!(!same(&first, &after, "permits/a.toml") && same(&first, &after, "permits/b.toml"));
    let network = SHARED[2].1.replace("10.1.2.3", "10.1.2.4");
    let mut edited = files.clone();
    edited[2].1 = &network;
    assert_eq!(next(&edited).in_file("permits/a.toml").expect("a permit").egress[0].to.to_string(), "10.1.2.4");
}

#[test]
fn a_permit_and_the_one_that_replaces_it_are_not_both_in_force() {
    let renewed = other().replacen("issuer = ", "status = \"RENEWED\"\nreplaces = \"THL/1234/14.02.00/2026\"\nissuer = ", 1);
    let pair = |old: &str, new: &str| PermitSet::new(vec![parse("old.toml", old).expect("good"), parse("new.toml", new).expect("good")]);
    assert!(pair(GOOD, &renewed).expect_err("both").iter().any(|problem| problem.what.contains("both would be in force")));
    let later = renewed.replace("valid_from = 2026-01-15\nvalid_until = 2027-06-30", "valid_from = 2027-07-01\nvalid_until = 2028-06-30");
    let later = later.replace("valid_until = 2026-12-31\n", "");
    assert!(pair(GOOD, &later).is_ok(), "one after the other");
    assert!(pair(&GOOD.replacen("issuer = ", "status = \"EXPIRED\"\nissuer = ", 1), &renewed).is_ok(), "the old one has ended");
}
