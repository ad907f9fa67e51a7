//! A running ledger: its threads, how it starts, and its two ways to end, in order or because it can't keep what it must.
//!
//! Gives up no privilege and reads no configuration: that is the program's part, before [`Ledger::start`].

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_audit::rotation::Rotation;
use sulku_audit::{Event, LogSigner};

use crate::answers::Gathered;
use crate::clock::{ClockWatch, Reading};
use crate::config::Settings;
use crate::disk::{Disk, RealDisk, WriteMode};
use crate::handover::Handover;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::publishing::Publishing;
use crate::queue::Desk;
pub use crate::recover::RecoverError;
use crate::recover::{Recovered, lock, recover};
use crate::room::{FLOOR_BYTES, Room};
use crate::segment::SEGMENT_BYTES;
use crate::server::Server;
use crate::stage::{Stage, monotonic_ns};
use crate::witnessing::Witnessing;
use crate::writer::{Command, Writer};

/// How long peers have to take the last answers.
const HANG_UP_AFTER: Duration = Duration::from_secs(2);
/// What a full disk must have left in the log for a start: what is kept until there is room, and the floor below it.
const RESTART_BYTES: usize = 2 * FLOOR_BYTES;
/// Any process may connect; the ledger looks at its user id.
const SOCKET_MODE: u32 = 0o666;

/// A ledger that could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key is another log's.
    #[error("the signing key is of {found:?}, the configuration's origin is {expected:?}; one of them is another log's")]
    Key {
        /// The key's name.
        found: String,
        /// The configuration's origin.
        expected: String,
    },
    /// The log can't be gone on with.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The witnesses' quorum can't be reached.
    #[error("[witness] of the configuration can't be kept")]
    Witness(#[source] sulku_audit::policy::TrustError),
    /// The first entry could not be kept.
    #[error("the first entry could not be kept: {0}")]
    FirstEntry(String),
    /// Something of the host.
    #[error("{0} could not be used")]
    Host(PathBuf, #[source] io::Error),
}

/// The ledger ended because it could not keep or publish entries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(String);

enum Signal {
    Stop(String),
    Broken(String),
}

/// Ends a ledger in order.
#[derive(Debug, Clone)]
pub struct Stopper(Sender<Signal>);

impl std::fmt::Debug for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stop(reason) | Self::Broken(reason) => f.write_str(reason),
        }
    }
}

impl Stopper {
    /// Asks the ledger to stop; the reason goes into its last entry. Nothing happens if it has stopped already.
    pub fn stop(&self, reason: &str) {
        let _stopped_already = self.0.send(Signal::Stop(reason.to_owned()));
    }
}

/// How a thread says that the log can't go on.
#[derive(Debug, Clone)]
pub(crate) struct Alarm {
    signals: Sender<Signal>,
    sounded: Arc<AtomicBool>,
}

impl Alarm {
    pub(crate) fn has_sounded(&self) -> bool {
        self.sounded.load(Ordering::Acquire)
    }

    pub(crate) fn sound(&self, reason: String) {
        self.sounded.store(true, Ordering::Release);
        tracing::error!(reason, "the ledger can't go on");
        let _ended_already = self.signals.send(Signal::Broken(reason));
    }

    /// An alarm that nobody hears.
    #[cfg(test)]
    pub(crate) fn unheard() -> Self {
        Self { signals: channel().0, sounded: Arc::default() }
    }

    /// Ends the ledger in order; what else asks for it meanwhile changes nothing.
    pub(crate) fn stop(&self, reason: &str) {
        let _ended_already = self.signals.send(Signal::Stop(reason.to_owned()));
    }
}

/// A running ledger.
pub struct Ledger {
    settings: Settings,
    signals: (Sender<Signal>, Receiver<Signal>),
    desk: Arc<Desk>,
    server: Arc<Server>,
    accepting: JoinHandle<()>,
    writing: JoinHandle<()>,
    publishing: JoinHandle<()>,
    /// The thread of the witnesses' timers ends with it.
    _watching: Sender<()>,
    _lock: fs::File,
}

impl Ledger {
    /// Recovers the log, writes `ledger.started`, and takes connections.
    ///
    /// # Errors
    /// The log can't be gone on with, or the socket can't be made.
    pub fn start(settings: Settings, signer: LogSigner) -> Result<Self, StartError> {
        let host = |path: &std::path::Path| {
            let path = path.to_owned();
            move |error| StartError::Host(path, error)
        };
        if signer.origin() != settings.origin {
            return Err(StartError::Key { found: signer.origin().to_owned(), expected: settings.origin });
        }
        let boot_path = PathBuf::from("/proc/sys/kernel/random/boot_id");
        let boot = fs::read_to_string(&boot_path).map_err(host(&boot_path))?.trim().to_owned();
        let signer = Arc::new(signer);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let lock = lock(&settings.directory, &*disk)?;
        let Recovered { wal, counters, mut publisher, destroyed, dropped_bytes, rotated_to, last } =
            recover(&settings.directory, &disk, SEGMENT_BYTES, Arc::clone(&signer))?;
        let keys = Arc::new(Keys::open(settings.directory.join("keys")).map_err(RecoverError::from)?);
        for key in &destroyed {
            keys.destroy(key).map_err(RecoverError::from)?;
        }
        let entries = wal.next();
        tracing::info!(entries, dropped_bytes, origin = settings.origin, "the log was recovered");
        match wal.mode() {
            mode @ WriteMode::Direct => tracing::info!(%mode, "the log is written past the page cache"),
            mode @ WriteMode::WriteThenSync => tracing::warn!(%mode, "the log's file system refuses O_DIRECT; appends are slower"),
        }

        let rotation = Rotation::sign(&signer).map(|Rotation { old, new, signature }| Event::LedgerKeyRotated { old, new, signature });
        let new_keys: Vec<String> = signer.own_keys().keys().iter().map(ToString::to_string).collect();
        let log_keys = signer.own_keys();
        let signals = channel();
        let alarm = Alarm { signals: signals.0.clone(), sounded: Arc::default() };
        let (handover, room) = (Arc::<Handover>::default(), Arc::<Room>::default());
        // Otherwise the publisher makes the next segment, and finds out whether there is room, while the first requests are answered.
        if wal.room_bytes() < RESTART_BYTES {
            match wal.prepare_spare() {
                Err(error) if error.is_full() => return Err(RecoverError::NoReserve(settings.directory).into()),
                prepared => prepared.map_err(RecoverError::from)?,
            }
        }
        let now = Reading { time: Timestamp::now(), mono_ns: monotonic_ns() };
        let clock = ClockWatch::new(&now, last.as_ref().map(|(last, _)| last), last.as_ref().is_some_and(|(_, of)| *of == boot));
        let metrics = Metrics::new(entries);
        let mut writer = Writer {
            wal,
            stage: Stage::new(counters, boot),
            keys: Arc::clone(&keys),
            signer,
            handover: Arc::clone(&handover),
            room: Arc::clone(&room),
            metrics: Arc::clone(&metrics),
            alarm: alarm.clone(),
            clock,
            noted: None,
            publish_next: Vec::new(),
            taken: VecDeque::new(),
            answers: Gathered::default(),
            ended: None,
        };
        let started = Event::LedgerStarted { version: env!("CARGO_PKG_VERSION").to_owned(), entries, dropped_bytes };
        writer.append_own(started).map_err(StartError::FirstEntry)?;
        if let Some(rotated) = rotation.filter(|_| rotated_to.as_ref() != Some(&new_keys)) {
            publisher.rotate(new_keys);
            writer.append_own(rotated).map_err(StartError::FirstEntry)?;
        }
        let desk = Desk::new(writer);

        // The folder's lock is held, so a socket that is left there is nobody's.
        match fs::remove_file(&settings.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StartError::Host(settings.socket, error)),
            _ => {}
        }
        let listener = UnixListener::bind(&settings.socket).map_err(host(&settings.socket))?;
        fs::set_permissions(&settings.socket, fs::Permissions::from_mode(SOCKET_MODE)).map_err(host(&settings.socket))?;
        let witnessing = Witnessing::new(log_keys, &settings, Arc::clone(&keys), Arc::clone(&desk), alarm.clone()).map_err(StartError::Witness)?;
        let server = Server::new(settings.clone(), keys, Arc::clone(&desk), Arc::clone(&witnessing), Arc::clone(&room), Arc::clone(&metrics));
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.to_owned()).spawn(body);
        let publishing = Publishing { publisher, handover, room, metrics, desk: Arc::clone(&desk), alarm, asking: Vec::new() };
        let publishing = spawn("publisher", Box::new(move || publishing.run())).map_err(host(&settings.directory))?;
        let writer = Arc::clone(&desk);
        let writing = spawn("writer", Box::new(move || writer.write_until_stopped())).map_err(host(&settings.directory))?;
        let acceptor = Arc::clone(&server);
        let accepting = spawn("acceptor", Box::new(move || acceptor.accept(&listener))).map_err(host(&settings.socket))?;
        let (watching, stop_watching) = channel();
        spawn("witnessing", Box::new(move || witnessing.watch(&stop_watching))).map_err(host(&settings.directory))?;
        Ok(Self { settings, signals, desk, server, accepting, writing, publishing, _watching: watching, _lock: lock })
    }

    /// What ends it in order.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(self.signals.0.clone())
    }

    /// Runs until stopped: then takes no more requests, answers those taken, writes `ledger.stopped` and publishes a last checkpoint.
    ///
    /// # Errors
    /// [`Broken`]: entries can't be kept or published any more. Requests that waited have been refused.
    pub fn run(self) -> Result<(), Broken> {
        let (stop, outcome) = match self.signals.1.recv() {
            Ok(Signal::Stop(reason)) => (reason, Ok(())),
            Ok(Signal::Broken(reason)) => (reason.clone(), Err(Broken(reason))),
            Err(_) => ("no thread is left".to_owned(), Err(Broken("no thread is left".to_owned()))),
        };
        self.server.close();
        // Wakes the acceptor, which then sees that the server closes.
        let _woken = UnixStream::connect(&self.settings.socket);
        let panicked = |_| Broken("a thread of the ledger panicked".to_owned());
        let mut outcome = self.accepting.join().map_err(panicked).and(outcome);
        let _ended_already = self.desk.submit(&mut vec![(Command::Stop { reason: stop }, 0)]);
        // The writer ends after what was queued before; the publisher when the writer is gone.
        outcome = self.writing.join().map_err(panicked).and(outcome);
        outcome = self.publishing.join().map_err(panicked).and(outcome);
        let deadline = Instant::now() + HANG_UP_AFTER;
        while self.server.open() > 0 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.server.hang_up();
        let _removed_already = fs::remove_file(&self.settings.socket);
        // The alarm may have sounded only during the last entry or the last checkpoint.
        let late = self.signals.1.try_iter().find_map(|signal| if let Signal::Broken(reason) = signal { Some(Broken(reason)) } else { None });
        outcome.and(late.map_or(Ok(()), Err))
    }
}
