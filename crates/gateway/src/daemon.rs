//! The gateway as a process: start in the one order that is safe, run, drain.
//!
//! Start: read the configuration and certificates; bind; become an ordinary user; connect to ledger and warden; confine; read
//! the policy; tell the ledger; adopt what another gateway left; accept. Stop: accept no more, leave every session to the next gateway (SIGTERM) or
//! end it in order (SIGINT), tell the ledger, exit. When the ledger or the warden is lost, sessions end at once and the process with them: its
//! supervisor starts it anew.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sulku_audit::CloseReason;
use sulku_audit::event::{Draft, Event};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::adoption;
use crate::busy::{self, Addresses, Handshakes, TooFewDescriptors};
use crate::config::{Config, ConfigError};
use crate::confine::{self, ConfineError};
use crate::denied::Remembered;
use crate::known::Known;
use crate::ledger::{AppendError, Ledger};
use crate::listener;
use crate::lists;
use crate::policy::{Current, PolicyError, PolicyStore};
use crate::refusals::{self, Refusals};
use crate::registry::{Registry, Verdict};
use crate::revisions::{self, Start};
use crate::tls::{TlsError, Trust};
use crate::warden::{Warden, WardenError};

/// The ledger and the warden may be starting at the same time; they have this long.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for them.
const START_PAUSE: Duration = Duration::from_millis(50);
/// Sessions have this long to end when the gateway stops.
const DRAIN_PATIENCE: Duration = Duration::from_secs(15);

/// A gateway that could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's text says what it is, and its source why")]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    #[error("certificates can't be used")]
    Tls(#[from] TlsError),
    #[error("the policy's store can't be used")]
    Policy(#[from] PolicyError),
    #[error("can't listen on {address}; is another process using it?")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("can't confine itself")]
    Confine(#[from] ConfineError),
    #[error("no ledger at {}; start sulkud ledger first", socket.display())]
    Ledger { socket: PathBuf, source: std::io::Error },
    #[error("no warden at {}; start sulku-warden first", socket.display())]
    Warden { socket: PathBuf, source: WardenError },
    #[error("the ledger does not keep the gateway's entries")]
    Append(#[from] AppendError),
    #[error("the runtime can't be started")]
    Runtime(#[source] std::io::Error),
    #[error("the connection to the ledger was lost; sessions were ended, since nothing could be recorded")]
    LedgerLost,
    #[error("the connection to the warden was lost; sessions were ended with their cells")]
    WardenLost,
}

/// What every connection needs.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Where the policy's revisions are.
    pub store: Arc<PolicyStore>,
    /// Where entries go.
    pub ledger: Ledger,
    /// Who builds cells.
    pub warden: Warden,
    /// Cancelled when the warden is gone.
    pub warden_lost: CancellationToken,
    /// The open sessions.
    pub registry: Registry,
    /// What sessions were denied of late.
    pub denied: Remembered,
    /// Whose refusals are entries.
    pub refusals: Refusals,
    /// Connections by address.
    pub addresses: Addresses,
    /// Connections by key.
    pub known: Known,
    /// Places for handshakes.
    pub handshakes: Handshakes,
    /// Told when files are to be looked at now, changed or not: an operator sent SIGHUP.
    pub reload: Notify,
    /// Cancelled when no new session may open.
    pub drain: CancellationToken,
    /// Sessions that were left to the next gateway.
    pub left: AtomicU64,
    /// Every task that serves a peer.
    pub tasks: TaskTracker,
    trust: RwLock<Arc<Trust>>,
    policy: RwLock<Arc<Current>>,
}

impl Shared {
    /// Certificates and lists in force now.
    pub fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The policy in force now.
    pub fn policy(&self) -> Arc<Current> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another in force, once that is recorded. Who does so has open sessions judged by it ([`crate::readmission`]).
    pub fn set_policy(&self, policy: Arc<Current>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// Puts others in force. Who does so has open sessions judged by them ([`crate::readmission`]).
    pub fn set_trust(&self, trust: Trust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }
}

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// It could not start, or lost the ledger or the warden.
pub fn run(config_file: &Path) -> Result<(), StartError> {
    let config = Config::read(config_file)?;
    busy::reserve_descriptors(config.limits.sessions)?;
    let trust = Trust::load(&config)?;
    let store = PolicyStore::open(&config)?;
    let address = config.listen;
    let listen = |source| StartError::Listen { address, source };
    let tcp = TcpListener::bind(address).map_err(listen)?;
    let bound = tcp.local_addr().map_err(listen)?;
    let udp = UdpSocket::bind(bound).map_err(listen)?;
    tcp.set_nonblocking(true).map_err(listen)?;
    confine::drop_privileges(config.run_as)?;
    let readable = readable(&config);
    let confinement = confine::confine(&readable.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // With few events a turn, a flood in one session does not delay the keystrokes of the others.
        .event_interval(8)
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(serve(config, trust, store, tcp, udp, confinement))
}

async fn serve(config: Config, trust: Trust, store: PolicyStore, tcp: TcpListener, udp: UdpSocket, confinement: String) -> Result<(), StartError> {
    // Before anything is promised to anybody: a signal that comes early is kept until it is asked for.
    let signals = Signals::caught()?;
    let (ledger_lost, warden_lost, drain) = (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let deadline = Instant::now() + START_PATIENCE;
    let socket = config.ledger_socket.clone();
    let ledger = loop {
        match Ledger::connect(&socket, ledger_lost.clone()).await {
            Err(error) if not_yet(&error) && Instant::now() < deadline => tokio::time::sleep(START_PAUSE).await,
            connected => break connected.map_err(|source| StartError::Ledger { socket, source })?,
        }
    };
    let socket = config.warden_socket.clone();
    let (warden, left) = loop {
        match Warden::connect(&socket, warden_lost.clone()).await {
            Err(WardenError::Socket(error)) if not_yet(&error) && Instant::now() < deadline => tokio::time::sleep(START_PAUSE).await,
            connected => break connected.map_err(|source| StartError::Warden { socket, source })?,
        }
    };
    warden.missing.iter().for_each(|missing| tracing::error!(missing, "host lacks what cells need; sessions will be refused"));

    let address = config.listen;
    let tcp = tokio::net::TcpListener::from_std(tcp).map_err(|source| StartError::Listen { address, source })?;
    let listen = tcp.local_addr().map_err(|source| StartError::Listen { address, source })?;
    let Start { current, drafts, seen } = revisions::start(&store);
    for draft in drafts {
        ledger.append(draft).await?;
    }
    for draft in lists::drafts(&trust, Timestamp::now()) {
        ledger.append(draft).await?;
    }
    let version = env!("CARGO_PKG_VERSION").to_owned();
    ledger.append(Draft::new(Event::GatewayStarted { version, listen, rung: warden.rung.clone(), confinement, policy: current.name() })).await?;

    let shared = Arc::new(Shared {
        addresses: Addresses::new(config.limits.connections_per_address),
        known: Known::new(config.limits.connections_per_holder),
        handshakes: Handshakes::new(config.limits.handshakes_in_flight),
        store: Arc::new(store),
        policy: RwLock::new(Arc::new(current)),
        ledger,
        warden,
        warden_lost: warden_lost.clone(),
        registry: Registry::default(),
        denied: Remembered::default(),
        refusals: Refusals::new(Instant::now()),
        reload: Notify::new(),
        drain: drain.clone(),
        left: AtomicU64::new(0),
        tasks: TaskTracker::new(),
        trust: RwLock::new(Arc::new(trust)),
        config,
    });
    // Before anybody can come for one of them.
    adoption::take_over(&shared, left).await?;
    let endpoint = listener::quic_endpoint(&shared, udp).map_err(|source| StartError::Listen { address, source })?;
    shared.tasks.spawn(listener::tls(Arc::clone(&shared), tcp));
    shared.tasks.spawn(listener::quic(Arc::clone(&shared), endpoint.clone()));
    shared.tasks.spawn(refusals::tell(Arc::clone(&shared)));
    shared.tasks.spawn(lists::watch(Arc::clone(&shared)));
    shared.tasks.spawn(revisions::watch(Arc::clone(&shared), seen));
    tracing::info!(%listen, rung = shared.warden.rung, "gateway accepts connections");

    let stopped = until_stopped(signals, &shared, &ledger_lost, &warden_lost).await;
    let (reason, verdict) = match &stopped {
        Ok(Stop::Leave) => ("told to stop", Verdict::HandedOver),
        Ok(Stop::Drain) => ("told to end every session and stop", Verdict::Ends(CloseReason::Drain)),
        Err(StartError::WardenLost) => ("the warden was lost", Verdict::Ends(CloseReason::WardenLost)),
        Err(_) => ("the ledger was lost", Verdict::Ends(CloseReason::AuditFailed)),
    };
    tracing::info!(reason, "gateway drains");
    drain.cancel();
    let sessions = shared.registry.tell_all(verdict) as u64;
    shared.tasks.close();
    if tokio::time::timeout(DRAIN_PATIENCE, shared.tasks.wait()).await.is_err() {
        tracing::error!(left = shared.registry.count(), "sessions did not end in time");
    }
    endpoint.close(sulku_protocol::quic_code::DONE.into(), b"gateway stops");
    let sessions_left = shared.left.load(Ordering::Relaxed);
    let sessions_closed = sessions.saturating_sub(sessions_left);
    if !matches!(stopped, Err(StartError::LedgerLost)) {
        shared.ledger.append(Draft::new(Event::GatewayStopped { reason: reason.to_owned(), sessions_closed, sessions_left })).await?;
    }
    tracing::info!(reason, sessions_closed, sessions_left, "gateway stopped");
    stopped.map(|_told| ())
}

/// How the gateway was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The next gateway takes the sessions over.
    Leave,
    /// They end.
    Drain,
}

/// The signals that the gateway answers.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn caught() -> Result<Self, StartError> {
        let caught = |kind| signal(kind).map_err(StartError::Runtime);
        let (terminate, interrupt) = (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: caught(SignalKind::hangup())? })
    }
}

async fn until_stopped(
    mut signals: Signals,
    shared: &Shared,
    ledger_lost: &CancellationToken,
    warden_lost: &CancellationToken,
) -> Result<Stop, StartError> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(Stop::Leave),
            _ = signals.interrupt.recv() => return Ok(Stop::Drain),
            () = ledger_lost.cancelled() => return Err(StartError::LedgerLost),
            () = warden_lost.cancelled() => return Err(StartError::WardenLost),
            _ = signals.hangup.recv() => {
                tracing::info!("gateway reloads the policy and the lists of revoked certificates");
                shared.reload.notify_waiters();
            }
        }
    }
}

/// Nobody listens there yet; all else is final.
fn not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

/// What the gateway still reads after start: the policy's store, and revocation lists with the authorities they belong to. Folders, since
/// lists are replaced.
fn readable(config: &Config) -> Vec<PathBuf> {
    let files = config.issuer.iter().flat_map(|issuer| [&issuer.crl, &issuer.certificate]);
    let mut folders: Vec<_> =
        files.map(|file| file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()).collect();
    folders.push(config.policy.clone());
    folders.sort();
    folders.dedup();
    folders
}
