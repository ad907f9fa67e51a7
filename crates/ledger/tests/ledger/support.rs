//! A ledger's home, the ledger in it as a thread or as a process, and drafts to give it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use rustix::fs::Uid;
use rustix::thread::set_thread_res_uid;
use sulku_audit::{Draft, Event, Fault, Recordings, Trust, Verified};
use sulku_ledger::client::Client;
use sulku_ledger::folder::Folder;
use sulku_ledger::{Broken, Ledger, Settings, StartError, Stopper, key};
use sulku_permit::{PermitId, SessionId};

pub const ORIGIN: &str = "test.example/audit";
/// User ids that nobody has here; the tests' threads take them on.
pub const GATEWAY: u32 = 64_001;
pub const WARDEN: u32 = 64_002;
pub const AUDITOR: u32 = 64_003;
pub const STRANGER: u32 = 64_004;
pub const COURIER: u32 = 64_005;

/// A folder with a key, a log and a socket, gone when dropped.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub settings: Settings,
    pub key: Trust,
}

impl Home {
    /// A home where this process may write as gateway and warden, and read.
    pub fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// A home in memory, for tests that start many ledgers and need no disk.
    pub fn in_memory() -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").unwrap())
    }

    fn within(folder: tempfile::TempDir) -> Self {
        assert!(rustix::process::getuid().is_root(), "this test needs root");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let signing_key = folder.path().join("key");
        let key = key::create(ORIGIN, &signing_key).unwrap().into();
        let settings = Settings {
            origin: ORIGIN.to_owned(),
            directory: folder.path().join("log"),
            socket: folder.path().join("socket"),
            signing_key,
            previous_signing_key: None,
            witness: None,
            run_as: None,
            gateway_uid: 0,
            warden_uid: 0,
            auditors: [(AUDITOR, "aino.auditor".parse().unwrap())].into(),
            courier_uid: Some(COURIER),
        };
        Self { folder, settings, key }
    }

    /// The same, but the gateway and the warden are other users.
    pub fn with_separate_users() -> Self {
        let mut home = Self::new();
        (home.settings.gateway_uid, home.settings.warden_uid) = (GATEWAY, WARDEN);
        home
    }

    /// What verifies its receipts.
    pub fn receipt_keys(&self) -> Vec<sulku_audit::Verifier> {
        vec![key::load(&self.settings.signing_key).unwrap().receipts().verifier()]
    }

    pub fn log(&self) -> &Path {
        &self.settings.directory
    }

    pub fn start(&self) -> Running {
        self.try_start().unwrap()
    }

    pub fn try_start(&self) -> Result<Running, StartError> {
        let mut signer = key::load(&self.settings.signing_key).unwrap();
        if let Some(previous) = &self.settings.previous_signing_key {
            signer = signer.replacing(key::load(previous).unwrap()).unwrap();
        }
        let ledger = Ledger::start(self.settings.clone(), signer)?;
        Ok(Running { stopper: ledger.stopper(), thread: Some(std::thread::spawn(|| ledger.run())), socket: self.settings.socket.clone() })
    }

    pub fn verify(&self) -> Result<Verified, Fault> {
        sulku_audit::verify::verify(&mut Folder::new(self.log().to_owned()), &self.key, Recordings::Check, |_, _, _| {})
    }

    /// Every event of the log, in order.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut folder = Folder::new(self.log().to_owned());
        let _: Verified =
            sulku_audit::verify::verify(&mut folder, &self.key, Recordings::Check, |_, entry, _| events.push((*entry.event).clone())).unwrap();
        events
    }

    /// The ledger as a process of its own.
    pub fn spawn(&self) -> Process {
        let config = self.folder.path().join("ledger.toml");
        let Settings { origin, directory, socket, signing_key, gateway_uid, warden_uid, .. } = &self.settings;
        let text = format!(
            "origin = {origin:?}\ndirectory = {directory:?}\nsocket = {socket:?}\nsigning_key = {signing_key:?}\n\
             gateway_uid = {gateway_uid}\nwarden_uid = {warden_uid}\n"
        );
        std::fs::write(&config, text).unwrap();
        let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name("examples").join("ledger");
        let mut child = Command::new(program).arg(config).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Process { child, socket: socket.clone() }
    }
}

/// A ledger on a thread, stopped when dropped.
pub struct Running {
    stopper: Stopper,
    thread: Option<JoinHandle<Result<(), Broken>>>,
    socket: PathBuf,
}

impl Running {
    pub fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// What `act` gives when a process of this user id does it with a connection of its own.
    pub fn as_user<T: Send>(&self, uid: u32, act: impl FnOnce(Client) -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // Of this thread alone; the kernel reports the ids of the thread that connects.
                let uid = Uid::from_raw(uid);
                set_thread_res_uid(uid, uid, uid).unwrap();
                act(Client::connect(&self.socket).unwrap())
            });
            thread.join().unwrap()
        })
    }

    pub fn stop(mut self) -> Result<(), Broken> {
        self.stopper.stop("the test is over");
        self.thread.take().unwrap().join().unwrap()
    }

    /// Waits for it to end by itself.
    pub fn ended(mut self) -> Result<(), Broken> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.stopper.stop("the test failed");
            let _panicking_already = thread.join();
        }
    }
}

/// A ledger as a process, killed when dropped.
pub struct Process {
    child: Child,
    socket: PathBuf,
}

impl Process {
    pub fn client(&self) -> Client {
        Client::connect(&self.socket).unwrap()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it ends by itself; its exit status, and the last that it said.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.child.stdout.as_mut().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap(), said)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

pub fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

fn permit() -> PermitId {
    "THL/1/2026".parse().unwrap()
}

pub fn opened(number: u8) -> Draft {
    Draft {
        permit: Some(permit()),
        session: Some(session(number)),
        person: Some("maija.meikalainen".parse().unwrap()),
        event: Event::SessionOpened {
            from: "192.0.2.7".parse::<std::net::IpAddr>().unwrap().into(),
            transport: "quic".to_owned(),
            identity: "spiffe://example/maija".to_owned().into(),
            at: "thl-1.toml:7".to_owned(),
            command: Some(vec!["python3".to_owned(), "-c".to_owned(), "print(\"å\")".to_owned()]).into(),
            ends: "2027-01-01T00:00:00Z".parse().unwrap(),
            plan: "0".repeat(64),
            rung: "root".to_owned(),
            policy: "1 0".to_owned(),
            client: "sulku 0.1.0".to_owned().into(),
            stays_s: None,
            certificates: None.into(),
        },
    }
}

pub fn closed(number: u8) -> Draft {
    Draft {
        permit: Some(permit()),
        session: Some(session(number)),
        person: None,
        event: Event::SessionClosed {
            from_part: 0,
            reason: sulku_audit::CloseReason::AuditFull,
            bytes_out: 0,
            bytes_in: 0,
            duration_ms: 1,
            exit_status: None,
            chunks: 0,
            recorded_bytes: 0,
        },
    }
}

/// Something that the gateway writes, told apart by its number.
pub fn acted(number: u64) -> Draft {
    Draft {
        permit: Some(permit()),
        session: None,
        person: None,
        event: Event::OperatorActed { action: number.to_string(), from: "192.0.2.8".parse::<std::net::IpAddr>().unwrap().into() },
    }
}

/// Something that the gateway writes, of about this many bytes.
pub fn long(bytes: usize) -> Draft {
    Draft::new(Event::CrlLoaded { file: "x".repeat(bytes), sha256: String::new() })
}

pub fn chunk(number: u8, chunk: u64, offset: u64, bytes: &[u8]) -> Draft {
    let sha256 = sulku_audit::merkle::sha256(&[bytes]).to_string();
    let event = Event::RecordingChunk { part: 0, chunk, offset, length: bytes.len() as u64, sha256, began_ms: chunk, ended_ms: chunk, lines: 1 };
    Draft { permit: Some(permit()), session: Some(session(number)), person: None, event }
}

/// A recording that begins, with its wrapped key, kept until then.
pub fn begun(number: u8, key: &[u8], keep_until: &str) -> Draft {
    let event = Event::RecordingBegun {
        part: 0,
        key_sha256: sulku_audit::merkle::sha256(&[key]).to_string(),
        key_length: key.len() as u64,
        recipients: vec!["age1auditor".to_owned()],
        durability: "strict".to_owned(),
        input: "timing".to_owned(),
        keep_until: keep_until.parse().unwrap(),
    };
    Draft { event, ..chunk(number, 0, 0, b"any") }
}
