//! Settings, and what is said about mistakes in them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use sulku_witness::config::parse;
use sulku_witness::keys::{self, KeyFileError};

const SAMPLE: &str = include_str!("../../../../config/witness.toml");

#[test]
fn the_sample_is_a_configuration() {
    let settings = parse("witness.toml", SAMPLE).unwrap();
    assert_eq!(settings.logs.len(), 1);
    let mirror = SAMPLE.replace("# url", "url").replace("# ca", "ca");
    assert!(parse("witness.toml", &mirror).unwrap().logs[0].url.is_some());
}

#[test]
fn a_mistake_is_named_with_its_place() {
    for (from, to, place, what) in [
        ("key = \"/etc", "kye = \"/etc", "witness.toml:6:1", "unknown field `kye`"),
        ("\"/var/lib", "\"var/lib", "witness.toml:9:13", "not an absolute path"),
        ("[::]:8443", "[::]", "witness.toml:12:10", "is no address"),
        ("[[log]]", "[[logs]]", "witness.toml:18:3", "unknown field `logs`"),
    ] {
        let error = parse("witness.toml", &SAMPLE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.starts_with(place) && error.contains(what), "{error}");
    }
    let plain = SAMPLE.replace("# url = \"https", "url = \"http");
    assert!(parse("witness.toml", &plain).unwrap_err().to_string().contains("no https address"));
    let none = SAMPLE.split("[[log]]").next().unwrap();
    assert!(parse("witness.toml", none).unwrap_err().to_string().contains("0 logs are named"));
}

#[test]
fn a_witnesss_keys_are_its_owners_alone_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("witness.key");
    let public = keys::create("authority.example/witness", &file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let loaded = keys::load(&file).unwrap();
    assert_eq!(loaded.iter().map(|key| key.public().clone()).collect::<Vec<_>>(), public);
    assert_eq!(std::fs::read_to_string(folder.path().join("witness.key.pub")).unwrap().lines().count(), 2);
    assert!(matches!(keys::create("authority.example/witness", &file), Err(KeyFileError::Exists(_))));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(keys::load(&file), Err(KeyFileError::Mode { mode: 0o644, .. })));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.lines().next().unwrap()).unwrap();
    assert!(matches!(keys::load(&file), Err(KeyFileError::Key(..))), "one key of the two");
    assert!(matches!(keys::load(&folder.path().join("other")), Err(KeyFileError::Missing(_))));
    assert!(matches!(keys::create("no name", &folder.path().join("other")), Err(KeyFileError::Make(_))));
}
