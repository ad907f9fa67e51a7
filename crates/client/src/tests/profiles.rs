use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::gateway::Subject;
use super::*;
use crate::profile::Address;

fn problems(desk: &Desk, change: impl Fn(&str) -> String) -> String {
    let path = desk.profile(8443, &desk.issue(Subject::Holder));
    let text = std::fs::read_to_string(&path).expect("a profile");
    let path = desk.write("changed.toml", &change(&text));
    let error = Profile::load(&path).expect_err("a problem");
    error.to_string().replace(&path.display().to_string(), "P").replace(&desk.folder.path().display().to_string(), "D")
}

#[test]
fn a_good_profile_loads_and_its_paths_count_from_its_folder() {
    let desk = Desk::new();
    let path = desk.profile(8443, &desk.issue(Subject::Holder));
    let text = std::fs::read_to_string(&path).expect("a profile") + "permit = \"THL/1/2026\"\n";
    std::fs::write(&path, text).expect("written");
    let profile = Profile::load(&path).expect("a good profile");
    assert_eq!(profile.gateway(), "127.0.0.1:8443");
    assert_eq!(profile.permit().map(ToString::to_string).as_deref(), Some("THL/1/2026"));
    let (from, until) = profile.certificate_validity();
    assert!(from < until);
}

#[test]
fn each_problem_is_told_with_line_column_and_what_to_do() {
    let desk = Desk::new();
    assert!(problems(&desk, |text| text.replace("gateway =", "gatevay =")).starts_with("P:1:1: unknown field `gatevay`"));
    assert_eq!(
        problems(&desk, |text| text.replace("127.0.0.1:8443", "127.0.0.1")),
        "P:1:11: this is no gateway; write host:port, as in \"spe.example.fi:8443\" or \"[2001:db8::7]:8443\""
    );
    assert!(problems(&desk, |text| text.replace("\"me.pem\"", "\"absent.pem\"")).starts_with("P:4:15: D/absent.pem can't be read: No such file"));
    assert!(problems(&desk, |text| text.replace("\"me.key\"", "\"me.pem\"")).contains("P:5:15: "));
    assert!(problems(&desk, |text| format!("{text}permit = \"no id\"\n")).starts_with("P:6:10: this is no permit's id; "));
    let both = problems(&desk, |text| text.replace("127.0.0.1:8443", "x").replace("authority.pem", "profile.toml"));
    assert_eq!(both.lines().count(), 2, "all problems come at once: {both}");
}

/// IA-02: a key stands for one person, so nobody else may read it.
#[test]
fn a_key_that_others_can_read_is_refused() {
    let desk = Desk::new();
    let path = desk.profile(8443, &desk.issue(Subject::Holder));
    let key = desk.folder.path().join("me.key");
    for mode in [0o640, 0o604, 0o622] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).expect("mine");
        let error = Profile::load(&path).expect_err("others can read it").to_string();
        assert!(error.ends_with(&format!("others can read or change {0}; chmod 600 {0}", key.display())), "{error}");
    }
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).expect("mine");
    Profile::load(&path).expect("mine alone");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let desk = Desk::new();
    let path = desk.profile(8443, &desk.issue(Subject::Holder));
    let key = desk.folder.path().join("me.key");
    std::fs::write(key, desk.issue(Subject::Holder).key.serialize_pem()).expect("written");
    assert!(Profile::load(&path).expect_err("not its key").to_string().contains(":5:15: this key does not belong to the certificate; "));
}

#[test]
fn a_missing_profile_says_where_it_was_looked_for() {
    let error = Profile::load(std::path::Path::new("/nonexistent/profile.toml")).expect_err("absent").to_string();
    assert_eq!(error, "the profile /nonexistent/profile.toml can't be read; put the one that you were given there, or name it with --profile");
}

#[test]
fn a_profile_that_is_too_long_is_not_read_to_its_end() {
    let error = Profile::load(std::path::Path::new("/dev/zero")).expect_err("no profile");
    assert!(error.to_string().starts_with("/dev/zero:1:1: the file is too long; "), "{error}");
}

#[test]
fn a_named_pipe_in_place_of_a_certificate_makes_nobody_wait() {
    let desk = Desk::new();
    let pipe = desk.folder.path().join("pipe.pem");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).expect("a pipe");
    assert!(problems(&desk, |text| text.replace("\"me.pem\"", "\"pipe.pem\"")).contains("D/pipe.pem is no file; "));
}

proptest! {
    #[test]
    fn a_gateways_address_is_read_as_it_is_shown(host in "[a-z][a-z0-9]{0,12}(\\.[a-z]{2,5}){0,2}", bits in any::<u128>(), port in 1_u16..) {
        for text in [format!("{host}:{port}"), format!("[{}]:{port}", std::net::Ipv6Addr::from(bits))] {
            let address = Address::parse(&text);
            prop_assert_eq!(address.map(|address| address.to_string()), Some(text));
        }
    }

    #[test]
    fn no_text_makes_the_profile_panic(text in "\\PC{0,200}", key in "(gateway|authority|permit)", value in "\\PC{0,40}") {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("p.toml");
        for text in [text, format!("{key} = {value:?}")] {
            std::fs::write(&path, text).expect("written");
            prop_assert!(Profile::load(&path).is_err(), "no such text names all the files");
        }
        let _ = Address::parse(&value);
    }
}
