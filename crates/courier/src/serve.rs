//! The courier's two doors: the log's tiles for mirrors and witnesses (C2SP tlog-tiles), and the figures for Prometheus.
//!
//! Gives out the checkpoint that was checked, the last that witnesses cosigned, tiles and entry bundles below it, and nothing else: no recording, no key. Who comes
//! in by the first door shows a certificate, unless the operator says otherwise; the second is for this host alone.

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use sulku_audit::source::{CHECKPOINT, COSIGNED};
use sulku_audit::tile::Tile;
use sulku_ledger::exposition::CONTENT_TYPE;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::{self, Answer, Cache, Site, Status};
use crate::metrics::Figures;
use crate::trail::{Trail, TrailError};

/// Connections at one door; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A handshake that takes longer is broken off.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// After a failed accept, for want of descriptors mostly.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How long a scrape waits for the ledger's figures.
const LEDGER_WITHIN: Duration = Duration::from_secs(2);
/// Whoever is let into the socket's folder may read the figures.
const SOCKET_MODE: u32 = 0o666;

/// The log's tiles.
pub(crate) struct Tiles(pub(crate) Trail);

impl Site for Tiles {
    async fn get(&self, path: &str) -> Answer {
        let Some(head) = self.0.heads().borrow().clone() else {
            return Answer::words(Status::Unavailable, "no checkpoint was seen yet");
        };
        let path = path.strip_prefix('/').unwrap_or(path);
        if path == CHECKPOINT {
            return Answer { status: Status::Ok, content_type: "text/plain; charset=utf-8", cache: Cache::Never, body: head.note.clone() };
        }
        if path == COSIGNED {
            return Self::answer(self.0.last_cosigned().await, "text/plain; charset=utf-8", Cache::Never, "no witness is asked for");
        }
        let Ok(tile) = path.parse::<Tile>() else {
            return Answer::words(Status::NotFound, "there are checkpoint, cosigned and tile/… here");
        };
        let covered = Tile::in_tree(tile.kind, tile.number, head.checkpoint.size).is_some_and(|whole| whole.width >= tile.width);
        if !covered {
            return Answer::words(Status::NotFound, "the checkpoint does not cover this tile");
        }
        let gone = "a partial tile goes when its full one is there; or none was ever published of this width";
        Self::answer(self.0.file(tile).await, "application/octet-stream", Cache::ForEver, gone)
    }
}

impl Tiles {
    fn answer(read: Result<Option<Vec<u8>>, TrailError>, content_type: &'static str, cache: Cache, absent: &'static str) -> Answer {
        match read {
            Ok(Some(body)) => Answer { status: Status::Ok, content_type, cache, body },
            Ok(None) => Answer::words(Status::NotFound, absent),
            Err(TrailError::Busy | TrailError::Stopping) => Answer::words(Status::Unavailable, "try again"),
            Err(error) => {
                tracing::warn!(%error, "a file of the log could not be read");
                Answer::words(Status::Unavailable, "the log can't be read now")
            }
        }
    }
}

/// The figures, the courier's own and the ledger's.
pub(crate) struct FiguresSite {
    pub(crate) figures: Figures,
    pub(crate) trail: Trail,
}

impl Site for FiguresSite {
    async fn get(&self, path: &str) -> Answer {
        if path != "/metrics" {
            return Answer::words(Status::NotFound, "there is /metrics here");
        }
        let mut text = self.figures.to_text();
        // Without a ledger the courier's own figures say so; a scrape does not wait for it.
        match timeout(LEDGER_WITHIN, self.trail.ledger_figures()).await {
            Ok(Ok(of_ledger)) => text.push_str(&of_ledger),
            Ok(Err(error)) => tracing::debug!(%error, "the ledger's figures could not be had"),
            Err(_) => tracing::debug!("the ledger's figures took too long"),
        }
        Answer { status: Status::Ok, content_type: CONTENT_TYPE, cache: Cache::Never, body: text.into_bytes() }
    }
}

/// Whoever takes connections.
trait Door: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    fn next(&self) -> impl Future<Output = std::io::Result<Self::Stream>> + Send;
}

impl Door for TcpListener {
    type Stream = tokio::net::TcpStream;
    async fn next(&self) -> std::io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Door for UnixListener {
    type Stream = tokio::net::UnixStream;
    async fn next(&self) -> std::io::Result<Self::Stream> {
        Ok(self.accept().await?.0)
    }
}

/// A unix socket at that path, in the place of one that was left there.
pub(crate) fn listen_at(path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Lets in over TCP without TLS.
pub(crate) async fn plain_tcp(listener: TcpListener, site: Arc<impl Site + 'static>, stop: CancellationToken) {
    let serving = |stream, site, stop| http::serve(stream, site, stop);
    let_in(listener, site, stop, serving).await;
}

/// Lets in over a unix socket.
pub(crate) async fn plain_unix(listener: UnixListener, site: Arc<impl Site + 'static>, stop: CancellationToken) {
    let serving = |stream, site, stop| http::serve(stream, site, stop);
    let_in(listener, site, stop, serving).await;
}

/// Lets in over TLS.
pub(crate) async fn over_tls(listener: TcpListener, tls: Arc<ServerConfig>, site: Arc<impl Site + 'static>, stop: CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let serving = move |stream, site, stop| {
        let acceptor = acceptor.clone();
        async move {
            match timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => http::serve(stream, site, stop).await,
                Ok(Err(error)) => tracing::warn!(%error, "a peer was not let in"),
                Err(_) => tracing::warn!("a peer's handshake took too long"),
            }
        }
    };
    let_in(listener, site, stop, serving).await;
}

async fn let_in<D, T, F, R>(door: D, site: Arc<T>, stop: CancellationToken, serve: F)
where
    D: Door,
    F: Fn(D::Stream, Arc<T>, CancellationToken) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    let (connections, slots) = (TaskTracker::new(), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    loop {
        let slot = tokio::select! {
            () = stop.cancelled() => break,
            slot = Arc::clone(&slots).acquire_owned() => slot,
        };
        let Ok(slot) = slot else { break };
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            stream = door.next() => stream,
        };
        match stream {
            Ok(stream) => {
                let serving = serve(stream, Arc::clone(&site), stop.clone());
                connections.spawn(async move {
                    serving.await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}
