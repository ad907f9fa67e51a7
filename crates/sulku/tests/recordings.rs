//! Recordings as an auditor meets them: the real command line on a log that a real ledger kept, whole and tampered with.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use asciicast_rs::{Asciicast, V3};
use sulku_audit::{CloseReason, Draft, Event};
use sulku_ledger::client::Client;
use sulku_ledger::{Ledger, config, key};
use sulku_permit::SessionId;
use sulku_recording::{Began, Cast, Sealer, SessionKey, sha256};

const ORIGIN: &str = "test.example/audit";
/// How many chunks the recording has, one a second.
const CHUNKS: u64 = 5;

/// How long a lock may take to be free.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log with one recorded session, in a folder that goes away; the ledger has stopped.
struct Log {
    folder: tempfile::TempDir,
    session: SessionId,
}

#[derive(Clone, Copy)]
enum Ending {
    Closed,
    Died,
    /// The gateway died after three seconds, and another had the session until it was closed.
    Restarted,
}

impl Ending {
    /// The parts of the recording, each with its seconds.
    fn parts(self) -> Vec<(u32, std::ops::RangeInclusive<u64>)> {
        match self {
            Self::Closed | Self::Died => vec![(0, 1..=CHUNKS)],
            Self::Restarted => vec![(0, 1..=3), (1, 4..=CHUNKS)],
        }
    }
}

impl Log {
    fn new(ending: Ending) -> Self {
        assert!(rustix::process::getuid().is_root(), "this test needs root: it writes as the gateway");
        Self::kept_until(ending, "2030-01-01T00:00:00Z")
    }

    fn kept_until(ending: Ending, until: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
        let log = Self { folder, session: SessionId::from_random([3; 10]) };
        key::create(ORIGIN, &log.path("key")).expect("a key");
        log.while_running(|| log.record(ending, until));
        log
    }

    /// Does something while the log's ledger runs.
    fn while_running<T>(&self, act: impl FnOnce() -> T) -> T {
        let (log, signing_key) = (self, self.path("key"));
        let text = format!(
            "origin = {ORIGIN:?}\ndirectory = {:?}\nsocket = {:?}\nsigning_key = {signing_key:?}\ngateway_uid = 0\nwarden_uid = 0\n",
            log.path("log"),
            log.path("socket")
        );
        let start = || Ledger::start(config::parse("ledger.toml", &text).expect("settings"), key::load(&signing_key).expect("a key"));
        let until = Instant::now() + PATIENCE;
        let ledger = loop {
            match start() {
                // A program that another test is just starting has the one before's lock until it runs.
                Err(error) if format!("{error:?}").contains("Locked") && Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                started => break started.expect("a ledger"),
            }
        };
        let stopper = ledger.stopper();
        let running = std::thread::spawn(|| ledger.run());
        let done = act();
        stopper.stop("all is done");
        running.join().expect("no panic").expect("in order");
        done
    }

    /// `sulku audit` on the log's folder.
    fn audit(&self, command: &str) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sulku"));
        program.args(["audit", command]).arg("--dir").arg(self.path("log")).arg("--key").arg(self.path("key.pub")).output().expect("sulku runs")
    }

    /// `sulku audit delete-recording`, asked of the running ledger.
    fn delete(&self) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sulku"));
        program.args(["audit", "delete-recording", &self.session.to_string(), "--ledger"]).arg(self.path("socket")).output().expect("sulku runs")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn recording(&self) -> PathBuf {
        self.path("log").join(format!("recordings/{}.rec", self.session))
    }

    fn record(&self, ending: Ending, until: &str) {
        let mut client = Client::connect(&self.path("socket")).expect("a connection");
        let mut keep = |event, blob: &[u8]| {
            let draft = Draft { permit: Some("THL/1/2026".parse().expect("an id")), session: Some(self.session), person: None, event };
            client.append(draft, blob).map(|_receipt| ()).expect("kept");
        };
        let identity = Identity::generate();
        fs::write(self.path("identity"), format!("# aino\n{}\n", identity.to_string().expose_secret())).expect("written");
        fs::write(self.path("stranger"), Identity::generate().to_string().expose_secret()).expect("written");
        let (mut chunks, mut recorded_bytes) = (0, 0);
        for (part, seconds) in ending.parts() {
            let own_key = [7 + u8::try_from(part).expect("few"); 32];
            let wrapped = age::encrypt(&identity.to_public(), &own_key).expect("wrapped");
            keep(
                Event::RecordingBegun {
                    part,
                    key_sha256: hex(&sha256(&wrapped)),
                    key_length: wrapped.len() as u64,
                    recipients: vec![identity.to_public().to_string()],
                    durability: "windowed".to_owned(),
                    input: "timing".to_owned(),
                    keep_until: until.parse().expect("a time"),
                },
                &wrapped,
            );
            let before = seconds.start() - 1;
            let mut cast = Cast::begin(Began { size: (80, 24), term: "xterm", timestamp: 0, title: "t" }, Duration::from_secs(before));
            let mut sealer = Sealer::new(SessionKey::take(&mut own_key.clone()), self.session);
            let mut offset = 0;
            (chunks, recorded_bytes) = (seconds.clone().count() as u64, 0);
            for second in seconds {
                cast.push('o', &format!("shown in second {second}\r\n"), Duration::from_secs(second));
                let lines = cast.take().expect("lines");
                let sealed = sealer.seal(&lines);
                let length = sealed.bytes.len() as u64;
                let (began, ended) = lines.span();
                let ms = |moment: Duration| u64::try_from((moment - Duration::from_secs(before)).as_millis()).expect("few");
                let event = Event::RecordingChunk {
                    part,
                    chunk: sealed.number,
                    offset,
                    length,
                    sha256: hex(&sealed.sha256),
                    began_ms: ms(began),
                    ended_ms: ms(ended),
                    lines: lines.count(),
                };
                keep(event, &sealed.bytes);
                offset += length;
                recorded_bytes = offset;
            }
        }
        if !matches!(ending, Ending::Died) {
            let event = Event::SessionClosed {
                reason: CloseReason::ShellExited,
                bytes_out: 1,
                bytes_in: 0,
                duration_ms: 5000,
                exit_status: Some(0),
                chunks,
                recorded_bytes,
                from_part: ending.parts().last().map_or(0, |(part, _)| *part),
            };
            keep(event, b"");
        }
    }

    fn play(&self, identity: &str, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sulku"));
        command.args(["audit", "play", &self.session.to_string()]).arg("--dir").arg(self.path("log")).arg("--key").arg(self.path("key.pub"));
        command.env_remove("SULKU_AUDIT_IDENTITY");
        if !identity.is_empty() {
            command.arg("--identity").arg(self.path(identity));
        }
        command.args(more).output().expect("sulku runs")
    }

    /// Plays a recording that somebody changed: what was shown before it was noticed, and what was said then.
    fn play_changed(&self, bytes: &[u8]) -> (String, String) {
        let before = fs::read(self.recording()).expect("there");
        fs::write(self.recording(), bytes).expect("written");
        let played = self.play("identity", &["--no-wait"]);
        fs::write(self.recording(), before).expect("put back");
        assert_eq!(played.status.code(), Some(1), "{played:?}");
        (text(&played.stdout), text(&played.stderr))
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// LG-02
#[test]
fn a_recording_plays_for_its_auditor_and_for_nobody_else() {
    let log = Log::new(Ending::Closed);
    let played = log.play("identity", &["--no-wait"]);
    assert!(played.status.success() && played.stderr.is_empty(), "{played:?}");
    let all: String = (1..=CHUNKS).map(|second| format!("shown in second {second}\r\n")).collect();
    assert_eq!(text(&played.stdout), all);
    for (identity, said) in [("", "--identity"), ("stranger", "does not open the recording"), ("key", "is no identity")] {
        let refused = log.play(identity, &["--no-wait"]);
        assert!(refused.status.code() == Some(1) && refused.stdout.is_empty(), "{refused:?}");
        assert!(text(&refused.stderr).contains(said), "{identity}: {refused:?}");
    }
    let from = text(&log.play("identity", &["--no-wait", "--from", "3.5"]).stdout);
    let (drawn, rest) = from.split_at(from.find("shown in second 4").expect("it goes on"));
    assert!((1..=3).all(|second| drawn.contains(&format!("shown in second {second}"))) && rest.ends_with("second 5\r\n"), "{from:?}");
    let beyond = log.play("identity", &["--from", "60"]);
    assert!(text(&beyond.stderr).contains("the recording is 5.0 s long"), "{beyond:?}");
}

/// LG-02: another reader of asciicast v3 takes what is exported.
#[test]
fn an_exported_recording_is_asciicast_for_others() {
    let log = Log::new(Ending::Closed);
    let path = log.path("export.cast");
    let exported = log.play("identity", &["--export", path.to_str().expect("text")]);
    assert!(exported.status.success() && exported.stdout.is_empty(), "{exported:?}");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let cast = Asciicast::<V3>::from_path(&path).expect("asciicast");
    let times: Vec<f64> = cast.absolute_times().map(|(time, _)| time).collect();
    assert_eq!(times, [1.0, 2.0, 3.0, 4.0, 5.0]);
    let again = log.play("identity", &["--export", path.to_str().expect("text")]);
    assert!(text(&again.stderr).contains("name a new file"), "{again:?}");
}

/// LG-02
#[test]
fn a_chunk_that_is_missing_moved_added_or_changed_is_named_and_not_shown() {
    let log = Log::new(Ending::Closed);
    let whole = fs::read(log.recording()).expect("there");
    let chunk = whole.len() / CHUNKS as usize;
    let flipped = [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat();
    let (shown, said) = log.play_changed(&flipped);
    assert!(shown.contains("second 4") && !shown.contains("second 5") && said.contains("was changed"), "{shown} {said}");
    let (shown, said) = log.play_changed(&whole[..whole.len() - chunk]);
    assert!(!shown.contains("second 5") && said.contains("ends before the entry says"), "{shown} {said}");
    let (shown, said) = log.play_changed(&[&whole[chunk..], &whole[..chunk]].concat());
    assert!(shown.is_empty() && said.contains("was changed"), "{shown} {said}");
    let (_, said) = log.play_changed(&[&whole[..], &whole[..chunk]].concat());
    assert!(said.contains("goes on beyond byte"), "{said}");
    fs::remove_file(log.recording()).expect("removed");
    let played = log.play("identity", &["--no-wait"]);
    assert!(text(&played.stderr).contains("no entry says that it was deleted"), "{played:?}");
}

/// LG-02: a crash loses at most the window, and the recording says so.
#[test]
fn a_recording_without_an_end_says_so() {
    let log = Log::new(Ending::Died);
    let played = log.play("identity", &["--no-wait"]);
    assert!(played.status.success() && text(&played.stdout).contains("second 5"), "{played:?}");
    assert!(text(&played.stderr).contains("has no end") && text(&played.stderr).contains("64 KiB and 250 ms"), "{played:?}");
}

/// LG-02: what several gateways recorded of a session plays as one, each part checked and opened with its own key.
#[test]
fn the_parts_of_a_recording_play_one_after_the_other() {
    let log = Log::new(Ending::Restarted);
    let later = |ending: &str| log.path("log").join(format!("recordings/{}.1.{ending}", log.session));
    let played = log.play("identity", &["--no-wait"]);
    let all: String = (1..=CHUNKS).map(|second| format!("shown in second {second}\r\n")).collect();
    assert!(played.status.success() && text(&played.stdout) == all, "{played:?}");
    assert!(text(&played.stderr).contains("has 2 parts") && text(&played.stderr).contains("64 KiB"), "{played:?}");
    let path = log.path("export.cast");
    assert!(log.play("identity", &["--export", path.to_str().expect("text")]).status.success());
    let cast = Asciicast::<V3>::from_path(&path).expect("one asciicast of both");
    let times: Vec<f64> = cast.absolute_times().map(|(time, _)| time).collect();
    assert_eq!(times, [1.0, 2.0, 3.0, 3.0, 4.0, 5.0], "the second begins with the terminal's size");
    let verified = log.audit("verify");
    assert!(verified.status.success() && text(&verified.stdout).contains("5 recorded chunks"), "{verified:?}");
    for (file, said) in [(later("rec"), "was changed"), (later("key"), "key")] {
        let whole = fs::read(&file).expect("there");
        fs::write(&file, [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat()).expect("written");
        let (played, verified) = (log.play("identity", &["--no-wait"]), log.audit("verify"));
        assert!(text(&played.stderr).contains(said) && !text(&played.stdout).contains("second 5"), "{played:?}");
        assert!(!verified.status.success() && format!("{verified:?}").contains(".1."), "{verified:?}");
        fs::write(&file, whole).expect("put back");
    }

    let log = Log::kept_until(Ending::Restarted, "2026-01-01T00:00:00Z");
    let files = || fs::read_dir(log.path("log/recordings")).expect("a folder").count();
    assert_eq!(files(), 4, "the control");
    let deleted = log.while_running(|| log.delete());
    assert!(deleted.status.success() && files() == 0, "{deleted:?}");
    assert!(log.audit("verify").status.success());
}

#[test]
fn only_what_is_past_its_retention_is_due() {
    let log = Log::new(Ending::Closed);
    let listed = log.audit("due");
    assert!(listed.status.success() && text(&listed.stderr).contains("0 of 1 recordings may be deleted"), "{listed:?}");
}

/// LG-03: what is past its retention goes with its key, on an order that is an entry; what is not stays.
#[test]
fn a_recording_past_its_retention_is_deleted_by_command_and_the_log_verifies_without_it() {
    let kept = Log::new(Ending::Closed);
    let refused = kept.while_running(|| kept.delete());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(text(&refused.stderr).contains("is kept until 2030-01-01"), "{refused:?}");
    assert!(kept.recording().exists() && kept.play("identity", &["--no-wait"]).status.success(), "nothing of it is gone");

    let log = Log::kept_until(Ending::Closed, "2026-01-01T00:00:00Z");
    let due = log.audit("due");
    assert!(text(&due.stdout).contains(&log.session.to_string()) && text(&due.stderr).contains("1 of 1 recordings may be deleted"), "{due:?}");
    assert!(log.play("identity", &["--no-wait"]).status.success(), "the control: it plays");
    let deleted = log.while_running(|| (log.delete(), log.delete()));
    assert!(deleted.0.status.success() && text(&deleted.0.stdout).contains("is gone for good"), "{:?}", deleted.0);
    assert!(text(&deleted.1.stderr).contains("was deleted already"), "{:?}", deleted.1);
    assert!(!log.recording().exists() && !log.recording().with_extension("key").exists());
    let verified = log.audit("verify");
    assert!(verified.status.success() && text(&verified.stdout).contains("1 recording deleted, as entries say"), "{verified:?}");
    let played = log.play("identity", &["--no-wait"]);
    assert!(played.status.code() == Some(1) && text(&played.stderr).contains("was deleted, as entry"), "{played:?}");
    assert!(text(&log.audit("due").stderr).contains("0 of 0 recordings"), "it is listed no more");
}
