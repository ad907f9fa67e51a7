//! An operator's desk: a folder of policies, a store, operators with keys.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType};

pub const GOOD: &str = include_str!("../../../permit/tests/good.toml");

/// An operator's desk: policies, store, keys.
pub struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    /// With keys of onni (P-256), aino (P-384) and elli (Ed25519); `signatures` of them are needed.
    pub fn new(signatures: usize) -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(desk.file("policies/permits")).unwrap();
        fs::create_dir(desk.file("store")).unwrap();
        desk.write("policies/permits/statins.toml", GOOD);
        desk.write("policies/README.md", "no part of the policy");
        let mut operators = format!("listen = \"0.0.0.0:8443\"\n[approval]\nsignatures = {signatures}\n");
        for (name, algorithm) in [("onni", &PKCS_ECDSA_P256_SHA256), ("aino", &PKCS_ECDSA_P384_SHA384), ("elli", &PKCS_ED25519)] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(format!("spiffe://spe.example.fi/operator/{name}").try_into().unwrap())];
            desk.write(&format!("{name}.pem"), &params.self_signed(&key).unwrap().pem());
            desk.write(&format!("{name}.key"), &key.serialize_pem());
            fs::set_permissions(desk.file(&format!("{name}.key")), fs::Permissions::from_mode(0o600)).unwrap();
            operators += &desk.ok(&format!("key --as {name} --certificate {name}.pem"));
        }
        desk.write("gateway.toml", &operators);
        desk
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// A permit of its own id and workspace.
    pub fn permit(&self, name: &str) {
        self.write(
            &format!("policies/permits/{name}.toml"),
            &GOOD.replace("THL/1234/14.02.00/2026", &format!("THL/{name}/2026")).replace("statin-dementia", name),
        );
    }

    pub fn sulku(&self, args: &str) -> Output {
        self.run(&["policy"], args)
    }

    /// Words with spaces are given apart.
    pub fn run(&self, words: &[&str], args: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sulku"));
        let args = args.split(' ').filter(|_| !args.is_empty());
        command.args(words).args(args).current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    pub fn ok(&self, args: &str) -> String {
        let output = self.sulku(args);
        assert!(output.status.success(), "sulku policy {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn refused(&self, args: &str) -> String {
        let output = self.sulku(args);
        assert!(!output.status.success(), "sulku policy {args} was to be refused: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn signer(name: &str) -> String {
        format!("--store store --operators gateway.toml --as {name} --key {name}.key --yes")
    }

    pub fn apply(name: &str) -> String {
        format!("apply --reason because {}", Self::signer(name))
    }

    pub fn approve(number: u64, name: &str) -> String {
        format!("approve {number} {}", Self::signer(name))
    }

    /// The lines of `log`, the newest first, each in its words.
    pub fn log(&self) -> Vec<String> {
        self.ok("log --store store --operators gateway.toml").lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    pub fn revisions(&self) -> Vec<String> {
        let entries =
            fs::read_dir(self.file("store/revisions")).map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        let mut names: Vec<_> = entries.map(Iterator::collect).unwrap_or_default();
        names.sort();
        names
    }
}
