//! A ledger and a courier, each on a thread, with their folders.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use sulku_audit::{Draft, Event, Trust};
use sulku_courier::{Courier, Settings, config};
use sulku_ledger::client::Client;
use sulku_ledger::config::WitnessSettings;
use sulku_ledger::{Broken, Ledger, Stopper, key};
use tokio_util::sync::CancellationToken;

pub const ORIGIN: &str = "test.example/audit";
/// Longer than anything here takes on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// Waits until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder with a log, gone when dropped.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub key: Trust,
}

impl Home {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = key::create(ORIGIN, &folder.path().join("key")).unwrap();
        Self { folder, key: key.into() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A ledger in which this user may do all.
    pub fn ledger(&self) -> RunningLedger {
        self.ledger_in("log")
    }

    /// The same, with its log in another folder.
    pub fn ledger_in(&self, folder: &str) -> RunningLedger {
        self.start(folder, None, rustix::process::getuid().as_raw())
    }

    /// A ledger that asks for cosignatures.
    pub fn witnessed_ledger(&self, witness: WitnessSettings) -> RunningLedger {
        self.start("log", Some(witness), rustix::process::getuid().as_raw())
    }

    /// A ledger whose courier is another user.
    #[allow(dead_code, reason = "of use to the test of the process, which has this module too")]
    pub fn ledger_with_courier(&self, uid: u32) -> RunningLedger {
        self.start("log", None, uid)
    }

    fn start(&self, folder: &str, witness: Option<WitnessSettings>, courier: u32) -> RunningLedger {
        let uid = rustix::process::getuid().as_raw();
        let settings = sulku_ledger::Settings {
            origin: ORIGIN.to_owned(),
            directory: self.path(folder),
            socket: self.path("socket"),
            signing_key: self.path("key"),
            previous_signing_key: None,
            witness,
            run_as: None,
            gateway_uid: uid,
            warden_uid: uid,
            auditors: BTreeMap::new(),
            courier_uid: Some(courier),
        };
        let ledger = Ledger::start(settings.clone(), key::load(&settings.signing_key).unwrap()).unwrap();
        RunningLedger { stopper: ledger.stopper(), thread: Some(std::thread::spawn(|| ledger.run())), socket: settings.socket }
    }

    /// The settings in these words, beside those that every courier of a test has.
    pub fn settings(&self, words: &str) -> Settings {
        config::parse("courier.toml", &self.text(words), "test-host").unwrap()
    }

    /// The configuration's text with these words in it.
    pub fn text(&self, words: &str) -> String {
        format!("ledger_socket = {:?}\nledger_key = {:?}\nstate = {:?}\n{words}", self.path("socket"), self.path("key.pub"), self.path("courier"))
    }

    pub fn courier(&self, words: &str) -> RunningCourier {
        let (courier, stop) = (Courier::prepare(self.settings(words)).unwrap(), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(courier.run(stopped)).unwrap();
        });
        RunningCourier { stop, thread: Some(thread) }
    }
}

pub struct RunningLedger {
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), Broken>>>,
    socket: PathBuf,
}

impl RunningLedger {
    pub fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// Appends so many entries and publishes them; gives the log's size.
    pub fn grow(&self, entries: u64) -> u64 {
        let mut client = self.client();
        for number in 0..entries {
            let _receipt = client.append(acted(number), &[]).unwrap();
        }
        client.publish().unwrap()
    }
}

impl Drop for RunningLedger {
    fn drop(&mut self) {
        self.stopper.stop("the test is over");
        let _panicking_already = self.thread.take().map(JoinHandle::join);
    }
}

/// A courier; stopped in order when dropped.
pub struct RunningCourier {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Drop for RunningCourier {
    fn drop(&mut self) {
        self.stop.cancel();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(ended.is_some_and(|ended| ended.is_ok()), "the courier ended in order");
        }
    }
}

/// Something that the gateway writes, told apart by its number.
pub fn acted(number: u64) -> Draft {
    let from: std::net::IpAddr = "192.0.2.8".parse().unwrap();
    Draft::new(Event::OperatorActed { action: number.to_string(), from: from.into() })
}

/// The OCSF events in a file, one a line; the last may be in the making.
pub fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The number of the entry that an event was made from; its other names fit.
pub fn number(event: &Value) -> u64 {
    let sequence = event["metadata"]["sequence"].as_u64().unwrap();
    assert_eq!(event["metadata"]["uid"], format!("{ORIGIN}#{sequence}"));
    sequence
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
