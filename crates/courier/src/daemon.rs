//! The courier as a whole: settings to tasks, and an end in order.
//!
//! Opens its doors and reads its certificates before it gives up root, then confines itself, and only then starts a thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use sulku_ledger::{key, privilege};
use sulku_witness::Client;
use sulku_witness::https::{Https, HttpsError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Begin, LoadError, MetricsPlace, ServeSettings, Settings, WitnessSettings};
use crate::confine::{ConfineError, confine};
use crate::cursor::{Cursor, CursorError};
use crate::file::FileSink;
use crate::metrics::{Figures, SinkFigures, WitnessFigures};
use crate::runner::Following;
use crate::serve::{FiguresSite, Tiles, listen_at, over_tls, plain_tcp, plain_unix};
use crate::sink::Sink;
use crate::syslog::SyslogSink;
use crate::tls::{self, TlsError};
use crate::trail::{Place, Trail, prepare_state};
use crate::witness::{Asked, have_cosigned};

/// Why the courier does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log's public key.
    #[error("the log's public key can't be used")]
    Key(#[from] key::KeyFileError),
    /// A certificate or key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The authority of a witness's certificate.
    #[error(transparent)]
    Witness(#[from] HttpsError),
    /// It would keep privileges.
    #[error(transparent)]
    Privilege(#[from] privilege::PrivilegeError),
    /// It would not be confined.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// A sink's cursor.
    #[error(transparent)]
    Cursor(#[from] CursorError),
    /// Something of the host.
    #[error("{0} could not be used")]
    Host(String, #[source] std::io::Error),
}

fn host(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> RunError {
    let what = what.into();
    move |error| RunError::Host(what, error)
}

/// What was opened while that was still possible.
enum Door {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// A courier that is ready to run.
pub struct Courier {
    settings: Settings,
    place: Place,
    receivers: Vec<Arc<ClientConfig>>,
    metrics: Option<Door>,
    serve: Option<(Door, Arc<ServerConfig>)>,
    witnesses: Vec<Asked>,
}

/// Reads the configuration and runs until SIGTERM or SIGINT.
///
/// # Errors
/// It could not start.
pub fn run(file: &Path) -> Result<(), RunError> {
    let settings = config::load(file)?;
    let courier = Courier::prepare(settings)?;
    privilege::drop(courier.settings.run_as)?;
    courier.check_state()?;
    confine(&courier.settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(host("the runtime"))?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let (mut terminate, mut interrupt) = {
            use tokio::signal::unix::{SignalKind, signal};
            let take = |kind| signal(kind).map_err(host("signals"));
            (take(SignalKind::terminate())?, take(SignalKind::interrupt())?)
        };
        let stopping = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stopping.cancel();
        });
        courier.run(stop).await
    })?;
    tracing::info!("the courier stopped in order");
    Ok(())
}

impl Courier {
    /// Reads certificates and keys and opens the doors: what may need root, and what a mistake in is told at once.
    ///
    /// # Errors
    /// The first that can't be used.
    pub fn prepare(settings: Settings) -> Result<Self, RunError> {
        let key = key::load_trust(&settings.ledger_key)?;
        let receivers = settings.syslogs.iter().map(tls::to_receiver).collect::<Result<_, _>>()?;
        let metrics = match &settings.metrics {
            None => None,
            Some(MetricsPlace::Loopback(address)) => Some(tcp_door(*address)?),
            Some(MetricsPlace::Socket(path)) => Some(Door::Unix(listen_at(path).map_err(host(path.display().to_string()))?)),
        };
        let door = |serve: &ServeSettings| Ok::<_, RunError>((tcp_door(serve.listen)?, tls::for_mirrors(serve)?));
        let serve = settings.serve.as_ref().map(door).transpose()?;
        let witnesses = settings.witnesses.iter().map(witness).collect::<Result<_, _>>()?;
        let place = Place { socket: settings.ledger_socket.clone(), key, state: settings.state.clone() };
        Ok(Self { settings, place, receivers, metrics, serve, witnesses })
    }

    /// Whether the courier's folder can be written by the user that it is now.
    fn check_state(&self) -> Result<(), RunError> {
        prepare_state(&self.settings.state).map_err(host(self.settings.state.display().to_string()))
    }

    /// Runs until told to stop: then lets each sink confirm what it sent, within a bound.
    ///
    /// # Errors
    /// A cursor is of another log, or the host lacks something.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        self.check_state()?;
        let Self { settings, place, receivers, metrics, serve, witnesses } = self;
        let (origin, state) = (place.key.origin().to_owned(), settings.state);
        let mut figures = Figures::default();
        let trail = Trail::start(place, Arc::clone(&figures.trail)).map_err(host(state.display().to_string()))?;
        let tasks = TaskTracker::new();
        let follow = Follow { state, origin, trail: trail.clone(), tasks: tasks.clone(), stop: stop.clone() };
        for file in settings.files {
            let (name, begin) = (file.name.clone(), file.begin);
            follow.start(&mut figures, name, "file", begin, FileSink::new(file, follow.origin.clone()))?;
        }
        for (syslog, tls) in settings.syslogs.into_iter().zip(receivers) {
            let (name, begin) = (syslog.name.clone(), syslog.begin);
            follow.start(&mut figures, name, "syslog", begin, SyslogSink::new(syslog, follow.origin.clone(), tls))?;
        }
        if !witnesses.is_empty() {
            figures.witnesses = witnesses.iter().map(|witness| Arc::clone(&witness.figures)).collect();
            tasks.spawn(have_cosigned(witnesses, trail.clone(), stop.clone()));
        }
        let site = Arc::new(FiguresSite { figures: figures.clone(), trail: trail.clone() });
        match metrics {
            None => {}
            Some(Door::Tcp(listener)) => drop(tasks.spawn(plain_tcp(tokio_tcp(listener)?, site, stop.clone()))),
            Some(Door::Unix(listener)) => {
                let listener = tokio::net::UnixListener::from_std(listener).map_err(host("the figures' socket"))?;
                tasks.spawn(plain_unix(listener, site, stop.clone()));
            }
        }
        if let Some((Door::Tcp(listener), tls)) = serve {
            tasks.spawn(over_tls(tokio_tcp(listener)?, tls, Arc::new(Tiles(trail.clone())), stop.clone()));
        }
        tracing::info!(sinks = figures.sinks.len(), "the courier is ready");
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
        Ok(())
    }
}

struct Follow {
    state: PathBuf,
    origin: String,
    trail: Trail,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Follow {
    fn start(&self, figures: &mut Figures, name: String, kind: &'static str, begin: Begin, sink: impl Sink + 'static) -> Result<(), RunError> {
        let cursor = Cursor::open(self.state.join(format!("{name}.cursor")), &self.origin)?;
        let of_sink = SinkFigures::new(&name, kind);
        of_sink.cursor(cursor.next().unwrap_or(0));
        figures.sinks.push(Arc::clone(&of_sink));
        let following = Following { name, sink, cursor, begin, trail: self.trail.clone(), figures: of_sink, fresh: 0 };
        self.tasks.spawn(following.run(self.stop.clone()));
        Ok(())
    }
}

fn witness(settings: &WitnessSettings) -> Result<Asked, RunError> {
    let WitnessSettings { name, url, authority, keys } = settings;
    let https = match authority {
        Some(authority) => Https::new(url.clone(), authority)?,
        None => Https::loopback(url.clone()).ok_or_else(|| host(url.to_string())(std::io::Error::other("not an address of this host's own")))?,
    };
    Ok(Asked { name: name.clone(), client: Client::new(https, keys.clone(), 0), figures: WitnessFigures::new(name) })
}

fn tcp_door(address: std::net::SocketAddr) -> Result<Door, RunError> {
    let listener = std::net::TcpListener::bind(address).map_err(host(address.to_string()))?;
    listener.set_nonblocking(true).map_err(host(address.to_string()))?;
    Ok(Door::Tcp(listener))
}

fn tokio_tcp(listener: std::net::TcpListener) -> Result<TcpListener, RunError> {
    TcpListener::from_std(listener).map_err(host("a listener"))
}
