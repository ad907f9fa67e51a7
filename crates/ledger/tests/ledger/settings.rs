//! Configuration and keys: what is wrong is said with its place and what to do.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use sulku_ledger::config::{RunAs, parse};
use sulku_ledger::key::{self, KeyFileError};

const EXAMPLE: &str = include_str!("../../../../config/ledger.toml");

fn error(text: &str) -> String {
    parse("ledger.toml", text).unwrap_err().to_string()
}

#[test]
fn the_example_is_a_configuration() {
    let settings = parse("ledger.toml", EXAMPLE).unwrap();
    assert_eq!((settings.origin.as_str(), settings.gateway_uid, settings.warden_uid), ("spe.example.fi/audit/node1", 64021, 0));
    assert_eq!(settings.run_as, Some(RunAs { uid: 64020, gid: 64020 }));
    assert_eq!((settings.courier_uid, settings.auditors.len()), (Some(64022), 0));
}

#[test]
fn an_error_has_its_place() {
    let line_of = |what: &str| EXAMPLE.lines().position(|line| line.starts_with(what)).unwrap() + 1;
    let misspelt = error(&EXAMPLE.replace("gateway_uid", "gatewayuid"));
    assert!(misspelt.starts_with(&format!("ledger.toml:{}:1: unknown field `gatewayuid`", line_of("gateway_uid"))), "{misspelt}");
    let relative = error(&EXAMPLE.replace("\"/var/lib", "\"var/lib"));
    assert!(relative.starts_with(&format!("ledger.toml:{}:13: var/lib/sulku/ledger is not an absolute path; ", line_of("directory"))), "{relative}");
    let unnamed = error(&EXAMPLE.replace("\"spe.example.fi/audit/node1\"", "\"a log\""));
    assert!(unnamed.starts_with(&format!("ledger.toml:{}:10: the origin can't name a log", line_of("origin"))), "{unnamed}");
    assert!(error("").contains("missing field `origin`"));
    assert!(error(&EXAMPLE.replace("gateway_uid = 64021", "gateway_uid = \"sulku\"")).contains("expected u32"));
}

/// IA-08: who keeps the log does not write to it.
#[test]
fn the_ledger_runs_neither_as_root_nor_as_one_of_its_writers() {
    assert!(error(&EXAMPLE.replace("uid = 64020\ngid", "uid = 0\ngid")).contains("can't run as root"));
    assert!(error(&EXAMPLE.replace("uid = 64020\ngid", "uid = 64021\ngid")).contains("would both keep the log and write to it"));
}

#[test]
fn a_new_key_is_its_owners_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.key");
    let public = key::create("test.example/audit", &file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(key::load(&file).unwrap().own_keys(), public);
    assert_eq!(key::load_public(&folder.path().join("ledger.key.pub")).unwrap(), public);
    assert!(matches!(key::create("test.example/audit", &file), Err(KeyFileError::Exists(_))));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(key::create("test.example/audit", &file), Err(KeyFileError::Exists(_))), "nor its public half");
    assert!(!file.exists());
    assert!(matches!(key::create("no name", &folder.path().join("other")), Err(KeyFileError::Make(_))));
}

#[test]
fn a_key_that_others_may_read_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.key");
    key::create("test.example/audit", &file).unwrap();
    assert!(key::load(&file).is_ok(), "the control");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(key::load(&file), Err(KeyFileError::Mode { mode: 0o640, .. })));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "no key").unwrap();
    assert!(matches!(key::load(&file), Err(KeyFileError::Key(..))));
}
