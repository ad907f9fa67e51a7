//! The two programs: a witness, and a mirror. Each runs until told to stop.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sulku_audit::source::CHECKPOINT;
use sulku_audit::tile::Tile;
use sulku_audit::{SecretKey, Trust};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::{LoadError, Settings};
use crate::files::read;
use crate::https::{Https, HttpsError, Url};
use crate::keys::KeyFileError;
use crate::mirror::{Mirror, MirrorError, Remote};
use crate::serve::{ServeError, acceptor, serve};
use crate::service::{Answers, Reply, Service};
use crate::state::{StateError, name_of};

/// How often a mirror looks for something new: as often as a log publishes.
const ROUND: Duration = Duration::from_secs(1);
/// How long a mirror waits at most after failures, each of which doubles the wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// A program that could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The settings or what they name.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// Its state.
    #[error(transparent)]
    State(#[from] StateError),
    /// Its certificates.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A mirrored log's place.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// A mirror's folder.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The address.
    #[error("{0} can't be listened on")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// A log's place is missing.
    #[error("the mirror is not told where the log of {0} is; add url and ca to its [[log]] table")]
    NoUrl(PathBuf),
}

/// Runs a witness.
///
/// # Errors
/// It can't begin.
pub async fn witness(settings: &Settings, stop: CancellationToken) -> Result<(), RunError> {
    let trusted = settings.logs.iter().map(crate::config::Log::trust).collect::<Result<Vec<_>, _>>()?;
    let service = Service::open(&settings.directory, trusted, crate::keys::load(&settings.key)?)?;
    let (listener, acceptor) = listen(settings).await?;
    tracing::info!(listen = %settings.listen, "the witness is ready");
    serve(listener, acceptor, service, stop).await;
    Ok(())
}

/// Runs a mirror: pulls each log, and serves what it holds.
///
/// # Errors
/// It can't begin. What goes wrong with a log later is logged, and tried again.
pub async fn mirror(settings: &Settings, stop: CancellationToken) -> Result<(), RunError> {
    let keys = Arc::new(crate::keys::load(&settings.key)?);
    let mut tasks = Vec::new();
    let mut origins: Vec<(String, Vec<Trust>, Url, PathBuf)> = Vec::new();
    for log in &settings.logs {
        let trust = log.trust()?;
        if let Some((_, trusted, ..)) = origins.iter_mut().find(|(origin, ..)| origin == trust.origin()) {
            trusted.push(trust);
            continue;
        }
        let url = log.url.as_deref().and_then(Url::parse).ok_or_else(|| RunError::NoUrl(log.keys.clone()))?;
        let ca = log.ca.clone().ok_or_else(|| RunError::NoUrl(log.keys.clone()))?;
        origins.push((trust.origin().to_owned(), vec![trust], url, ca));
    }
    let folders = origins.iter().map(|(origin, ..)| (name_of(origin), Mirror::folder_of(&settings.directory, origin))).collect();
    for (origin, trusted, url, ca) in origins {
        let mirror = Mirror::open(&settings.directory, trusted)?;
        tasks.push(tokio::spawn(follow(origin, mirror, Https::new(url, &ca)?, Arc::clone(&keys), stop.clone())));
    }
    let (listener, acceptor) = listen(settings).await?;
    tracing::info!(listen = %settings.listen, "the mirror is ready");
    serve(listener, acceptor, Arc::new(Tiles { folders }), stop).await;
    for task in tasks {
        let _stopped = task.await;
    }
    Ok(())
}

async fn listen(settings: &Settings) -> Result<(TcpListener, tokio_rustls::TlsAcceptor), RunError> {
    let acceptor = acceptor(&settings.certificate, &settings.certificate_key)?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| RunError::Listen(settings.listen, error))?;
    Ok((listener, acceptor))
}

/// Pulls a log until told to stop.
async fn follow(origin: String, mirror: Mirror, https: Https, keys: Arc<Vec<SecretKey>>, stop: CancellationToken) {
    let runtime = tokio::runtime::Handle::current();
    let (mut held, mut wait) = (Some((mirror, Remote::new(https, runtime))), ROUND);
    while let Some((mut mirror, mut remote)) = held.take() {
        let keys = Arc::clone(&keys);
        let round = tokio::task::spawn_blocking(move || {
            let time = u64::try_from(Timestamp::now().as_second()).unwrap_or(0);
            let outcome = mirror.pull(&mut remote, &keys, time);
            (mirror, remote, outcome)
        });
        // Only a defect ends the thread without its answer; the log's last cosignature then grows old, which others see.
        let Ok((mirror, remote, outcome)) = round.await else {
            tracing::error!(origin, "mirroring failed");
            return;
        };
        held = Some((mirror, remote));
        wait = match outcome {
            Ok(mirrored) => {
                if mirrored.new > 0 {
                    tracing::info!(origin, size = mirrored.size, new = mirrored.new, "entries were mirrored");
                }
                ROUND
            }
            Err(error) => {
                tracing::warn!(origin, error = &error as &dyn std::error::Error, "the log could not be mirrored");
                (wait * 2).min(BACK_OFF_MAX)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The copies, as tlog-mirror lays them out: `/<SHA-256 of the origin>/checkpoint`, `/…/tile/…`.
struct Tiles {
    folders: Vec<(String, PathBuf)>,
}

impl Answers for Tiles {
    fn body_bytes_max(&self) -> usize {
        0
    }

    fn answer(&self, method: &str, path: &str, _: &[u8]) -> Reply {
        let none = || Reply::text(404, "no such file");
        let Some((log, file)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else { return none() };
        let Some((_, folder)) = self.folders.iter().find(|(name, _)| name == log) else { return none() };
        // Nothing of the peer's text reaches the file system: a tile's path is what its parts print.
        let (name, content_type) = match file.parse::<Tile>() {
            _ if method != "GET" => return Reply::text(405, "files are read by GET"),
            Ok(tile) => (tile.to_string(), "application/octet-stream"),
            Err(_) if file == CHECKPOINT => (CHECKPOINT.to_owned(), "text/plain; charset=utf-8"),
            Err(_) => return none(),
        };
        match read(&folder.join(name), sulku_audit::tile::BUNDLE_BYTES_MAX as u64) {
            Ok(Some(body)) => Reply { status: 200, content_type, body },
            Ok(None) => none(),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a file of the mirror can't be read");
                Reply::text(500, "the file can't be read")
            }
        }
    }
}
