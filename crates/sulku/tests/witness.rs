//! `sulku witness` and `sulku mirror` as an authority runs them: programs of their own, spoken to over HTTPS, ended by SIGTERM.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sulku_audit::witness::encode;
use sulku_audit::{Checkpoint, Hash, LogKeys, Trust};
use sulku_witness::https::{Https, Url};
use sulku_witness::serve::{acceptor, serve};
use sulku_witness::service::{Answers, Reply};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

#[path = "../../ledger/examples/make_log.rs"]
#[expect(dead_code, reason = "its `main` is the example's")]
mod make_log;

/// Nothing here takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "authority.example/witness";

/// A folder with certificates for `localhost`, and what is put there.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(place.path("cert.pem"), made.cert.pem()).unwrap();
        fs::write(place.path("cert.key"), made.signing_key.serialize_pem()).unwrap();
        fs::write(place.path("log.pub"), make_log::signer().own_keys().to_string()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes the keys; what is printed.
    fn init(&self) -> Output {
        sulku(&["witness", "init", "--name", NAME, "--out", self.path("key").to_str().unwrap()])
    }

    /// Settings that listen on this port; `log` says where a mirror finds the log.
    fn settings(&self, port: u16, log: &str) -> PathBuf {
        let path = |name: &str| self.path(name);
        let text = format!(
            "key = {:?}\ndirectory = {:?}\nlisten = \"127.0.0.1:{port}\"\ncertificate = {:?}\ncertificate_key = {:?}\n[[log]]\nkeys = {:?}\n{log}",
            path("key"),
            path("state"),
            path("cert.pem"),
            path("cert.key"),
            path("log.pub")
        );
        fs::write(path("witness.toml"), text).unwrap();
        path("witness.toml")
    }

    fn https(&self, port: u16) -> Https {
        Https::new(Url::parse(&format!("https://localhost:{port}/")).unwrap(), &self.path("cert.pem")).unwrap()
    }
}

fn sulku(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sulku")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program under way, killed when dropped.
struct Running(Child);

impl Running {
    fn start(args: &[&str], config: &Path) -> Self {
        Self(Command::new(env!("CARGO_BIN_EXE_sulku")).args(args).arg("--config").arg(config).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Ends it as a service manager does.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success(), "it ends in order");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

/// Asks until somebody answers; status and body.
fn post(runtime: &Runtime, https: &mut Https, body: &str) -> (u16, String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match runtime.block_on(https.post("/add-checkpoint", body.as_bytes().to_vec(), 64 << 10)) {
            Ok(answered) => return (answered.status, text(&answered.body)),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// A log of one entry, which hashes to this.
fn note(leaf: u8) -> String {
    let signer = make_log::signer();
    signer.sign(&Checkpoint { origin: signer.origin().to_owned(), size: 1, root: Hash::from_bytes([leaf; 32]) }, 0)
}

#[test]
fn a_witness_cosigns_and_keeps_what_shows_that_a_log_lied() {
    let place = Place::new();
    let made = place.init();
    assert!(made.status.success(), "{made:?}");
    assert_eq!(text(&made.stdout), fs::read_to_string(place.path("key.pub")).unwrap(), "it prints what others check with");
    assert!(!place.init().status.success(), "keys are not written over");
    let port = free_port();
    let config = place.settings(port, "");
    let evidence = || sulku(&["witness", "evidence", "--config", config.to_str().unwrap()]);
    let (runtime, mut https) = (Runtime::new().unwrap(), place.https(port));

    let witness = Running::start(&["witness", "run"], &config);
    let (status, lines) = post(&runtime, &mut https, &encode(0, &[], &note(1)));
    assert_eq!(status, 200, "{lines}");
    let witnesses: Vec<_> = text(&made.stdout).lines().map(|line| line.parse().unwrap()).collect();
    let trust = Trust::with_witnesses(make_log::signer().own_keys(), &witnesses, 1).unwrap();
    assert!(trust.open((note(1) + &lines).as_bytes()).is_ok() && trust.open(note(1).as_bytes()).is_err(), "its word is what was missing");
    let none = evidence();
    assert!(none.status.success() && text(&none.stdout).starts_with("nothing"), "{none:?}");

    let (status, said) = post(&runtime, &mut https, &encode(1, &[], &note(2)));
    assert!((400..500).contains(&status), "{status} {said}");
    witness.stop();
    let found = evidence();
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(text(&found.stdout).contains("the log signed two trees of one size"), "{found:?}");

    // What it cosigned is not forgotten.
    let witness = Running::start(&["witness", "run"], &config);
    let (status, said) = post(&runtime, &mut https, &encode(0, &[], &note(2)));
    assert_eq!((status, said.as_str()), (409, "1\n"));
    witness.stop();
}

/// A log's folder over HTTPS.
struct Files(PathBuf);

impl Answers for Files {
    fn body_bytes_max(&self) -> usize {
        0
    }

    fn answer(&self, _: &str, path: &str, _: &[u8]) -> Reply {
        match fs::read(self.0.join(path.trim_start_matches('/'))) {
            Ok(body) => Reply { status: 200, content_type: "application/octet-stream", body },
            Err(_) => Reply::text(404, "none"),
        }
    }
}

#[test]
fn a_mirror_holds_a_log_that_verifies_and_signs_for_it() {
    let place = Place::new();
    assert!(place.init().status.success());
    let log = place.path("log");
    make_log::make(&log, 700).unwrap();
    let (runtime, stop) = (Runtime::new().unwrap(), CancellationToken::new());
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let from = listener.local_addr().unwrap().port();
    let tls = acceptor(&place.path("cert.pem"), &place.path("cert.key")).unwrap();
    runtime.spawn(serve(listener, tls, Arc::new(Files(log.clone())), stop.clone()));

    let port = free_port();
    let config = place.settings(port, &format!("url = \"https://localhost:{from}/\"\nca = {:?}\n", place.path("cert.pem")));
    let mirror = Running::start(&["mirror", "run"], &config);
    let copy = sulku_witness::mirror::Mirror::folder_of(&place.path("state"), make_log::signer().origin());
    let deadline = Instant::now() + PATIENCE;
    while !copy.join("checkpoint").exists() {
        assert!(Instant::now() < deadline, "the mirror never held the log");
        std::thread::sleep(Duration::from_millis(20));
    }
    let verify = |dir: &Path| {
        let args = ["audit", "verify", "--no-recordings", "--dir", dir.to_str().unwrap(), "--key", place.path("log.pub").to_str().unwrap()]
            .map(str::to_owned);
        sulku(&args.each_ref().map(String::as_str))
    };
    let verified = verify(&copy);
    assert!(verified.status.success() && text(&verified.stdout).contains("700 entries"), "{verified:?}");
    let keys = fs::read_to_string(place.path("key.pub")).unwrap();
    let mirrors: Vec<_> = keys.lines().map(|line| line.parse().unwrap()).collect();
    let trust = Trust::with_witnesses(fs::read_to_string(place.path("log.pub")).unwrap().parse::<LogKeys>().unwrap(), &mirrors, 1).unwrap();
    let held = fs::read(copy.join("checkpoint")).unwrap();
    assert!(trust.open(&held).is_ok() && trust.open(&fs::read(log.join("checkpoint")).unwrap()).is_err(), "it signs for what it holds");
    let name = sulku_audit::merkle::sha256(&[make_log::signer().origin().as_bytes()]);
    let served = runtime.block_on(place.https(port).get(&format!("/{name}/checkpoint"), 64 << 10)).unwrap();
    assert_eq!((served.status, served.body), (200, held), "and serves it");
    mirror.stop();

    // A byte of the source changed: what is mirrored stays as it was, and another mirror takes nothing.
    let bundle = log.join("tile/entries/001");
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[99] ^= 1;
    fs::write(bundle, bytes).unwrap();
    assert!(verify(&copy).status.success() && !verify(&log).status.success());
    stop.cancel();
}
