//! HTTPS for a service: TLS 1.3, HTTP/1.1, and bounds on all that a stranger can make us wait for or hold.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::service::{Answers, Reply};

/// Connections at a time. A log needs one; the rest is for logs, mirrors and auditors of an authority, and against strangers.
const CONNECTIONS_MAX: usize = 256;
/// How long a handshake, a request's head, or its body may take.
const STEP_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last, whatever it does.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// The longest head of a request: a few lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A service that can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A certificate or key can't be read.
    #[error("{0} could not be used: {1}")]
    Pem(PathBuf, String),
    /// TLS does not take them.
    #[error("the certificate and its key can't be used together")]
    Tls(#[from] rustls::Error),
}

/// What TLS shows of us.
///
/// # Errors
/// The files can't be used.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, ServeError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |error: rustls::pki_types::pem::Error| ServeError::Pem(path, error.to_string())
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(wrong(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until told to stop; then lets the answers that are being made go out.
pub async fn serve(listener: TcpListener, acceptor: TlsAcceptor, service: Arc<dyn Answers>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = tokio_util::task::TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of one peer, or for want of descriptors, which must not become a busy loop.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!("{CONNECTIONS_MAX} connections are open; one more was closed");
            continue;
        };
        let (acceptor, service, stop) = (acceptor.clone(), Arc::clone(&service), stop.clone());
        tasks.spawn(async move {
            let _slot = slot;
            let Ok(Ok(stream)) = tokio::time::timeout(STEP_MAX, acceptor.accept(stream)).await else { return };
            let answer = hyper::service::service_fn(move |request| answer(Arc::clone(&service), request));
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(STEP_MAX).max_buf_size(HEAD_BYTES_MAX);
            let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), answer));
            tokio::select! {
                _ended = connection.as_mut() => return,
                () = tokio::time::sleep(CONNECTION_MAX) => {}
                () = stop.cancelled() => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ended = tokio::time::timeout(STEP_MAX, connection).await;
        });
    }
    tasks.close();
    let _in_order = tokio::time::timeout(STEP_MAX, tasks.wait()).await;
}

async fn answer(service: Arc<dyn Answers>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
    let body = Limited::new(request.into_body(), service.body_bytes_max()).collect();
    let reply = match tokio::time::timeout(STEP_MAX, body).await {
        Ok(Ok(body)) => {
            let body = body.to_bytes();
            // The disk and the signatures are not waited for on a thread that other connections need.
            let work = tokio::task::spawn_blocking(move || service.answer(&method, &path, &body));
            work.await.unwrap_or_else(|_| Reply::text(500, "the service failed"))
        }
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Reply::text(413, "the request is longer than any can be"),
        Ok(Err(_)) => Reply::text(400, "the request ended too soon"),
        Err(_) => Reply::text(408, "the request took too long"),
    };
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(reply.content_type));
    Ok(response)
}
