//! `sulku audit keys` on a log whose key was replaced by a real ledger: from the key that an auditor holds to the one that signs now.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use sulku_ledger::{Ledger, config, key};

const ORIGIN: &str = "test.example/audit";

struct Log(tempfile::TempDir);

impl Log {
    /// A log that the key `old` began, and `new` signs alone by now.
    fn with_new_key() -> Self {
        let log = Self(tempfile::tempdir().unwrap());
        for name in ["old", "new"] {
            key::create(ORIGIN, &log.path(name)).unwrap();
        }
        log.run("old", None);
        log.run("new", Some("old"));
        log.run("new", None);
        log
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a ledger with these keys, and stops it in order.
    fn run(&self, signing: &str, previous: Option<&str>) {
        let (directory, socket, signing) = (self.path("log"), self.path("socket"), self.path(signing));
        let mut text = format!(
            "origin = {ORIGIN:?}\ndirectory = {directory:?}\nsocket = {socket:?}\nsigning_key = {signing:?}\ngateway_uid = 0\nwarden_uid = 0\n"
        );
        let mut signer = key::load(&signing).unwrap();
        if let Some(previous) = previous {
            text += &format!("previous_signing_key = {:?}\n", self.path(previous));
            signer = signer.replacing(key::load(&self.path(previous)).unwrap()).unwrap();
        }
        let ledger = Ledger::start(config::parse("ledger.toml", &text).unwrap(), signer).unwrap();
        let stopper = ledger.stopper();
        let running = std::thread::spawn(|| ledger.run());
        stopper.stop("the test goes on");
        running.join().unwrap().unwrap();
    }

    fn audit(&self, command: &str, key: &str, more: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sulku"));
        program.args(["audit", command]).args(more).arg("--dir").arg(self.path("log")).arg("--key").arg(self.path(key));
        program.env_remove("SULKU_AUDIT_KEY").output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_auditor_with_the_old_key_is_led_to_the_new_one() {
    let log = Log::with_new_key();
    let old = log.audit("verify", "old.pub", &[]);
    assert!(old.status.code() == Some(1) && text(&old.stderr).contains("sulku audit keys"), "the control: {old:?}");
    let out = log.path("followed.pub");
    let led = log.audit("keys", "old.pub", &["--out", out.to_str().unwrap()]);
    let said = text(&led.stdout);
    assert!(led.status.success() && said.contains("since entry") && said.contains("signed by the new keys alone"), "{led:?}");
    assert_eq!(fs::read_to_string(&out).unwrap(), fs::read_to_string(log.path("new.pub")).unwrap());
    assert!(log.audit("verify", "followed.pub", &[]).status.success());
    let known = log.audit("keys", "new.pub", &[]);
    assert!(known.status.success() && text(&known.stdout).contains("they have not been changed"), "{known:?}");
    let again = log.audit("keys", "old.pub", &["--out", out.to_str().unwrap()]);
    assert!(!again.status.success() && text(&again.stderr).contains("can't be written"), "a file that is there is not written over: {again:?}");
}

#[test]
fn an_auditor_is_led_nowhere_by_a_change_that_the_old_key_did_not_sign() {
    let log = Log::with_new_key();
    let folder = log.path("log/tile/entries/000.p");
    let width = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u16>().unwrap();
    let bundle = fs::read_dir(&folder).unwrap().map(|item| item.unwrap().path()).max_by_key(width).unwrap();
    let mut bytes = fs::read(&bundle).unwrap();
    let field = b"\"signature\":\"";
    let at = bytes.windows(field.len()).position(|window| window == field).unwrap() + field.len();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    fs::write(&bundle, bytes).unwrap();
    let out = log.path("followed.pub");
    let refused = log.audit("keys", "old.pub", &["--out", out.to_str().unwrap()]);
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("is not to be believed"), "{refused:?}");
    assert!(!out.exists() && refused.stdout.is_empty());
}
