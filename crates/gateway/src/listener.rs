//! The two doors: TCP with TLS, UDP with QUIC. What comes out is a verified peer, or an entry about why there is none.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use quinn::crypto::rustls::QuicServerConfig;
use rustix::io::Errno;
use rustls::pki_types::CertificateDer;
use rustls::server::Acceptor;
use sulku_audit::event::{Draft, Event};
use sulku_protocol::quic_code;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;

use crate::busy::{Counted, sockets_max, with_place};
use crate::connection;
use crate::daemon::Shared;
use crate::identity::VerifiedIdentity;
use crate::known::{Full, Here, Sessions, Standing};
use crate::operator::operator;
use crate::refusals::{Kept, Kind};
use crate::strangers::{STRANGERS_MAX, Stranger, Strangers};
use crate::tls::{self, Note, Refused, Trust};
use crate::transport::{FAREWELL, Peer, Writer, watch_over};
use crate::warden::chain;

/// A QUIC connection without a sign of life for this long is gone. The client sends one every 10 s.
const QUIC_IDLE: Duration = Duration::from_secs(45);
/// The window of a terminal's stream; output is bounded by its own credit.
const QUIC_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// TLS alert 116 (RFC 8446 section 6.2), as QUIC carries it (RFC 9001 section 4.8).
const QUIC_CERTIFICATE_REQUIRED: u64 = 0x174;
/// After an error of accept, such as no more descriptors, the listener waits this long instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts TLS connections until the gateway drains.
pub async fn tls(shared: Arc<Shared>, listener: TcpListener) {
    let strangers = Strangers::new(STRANGERS_MAX);
    let sockets = Arc::new(Semaphore::new(sockets_max(shared.config.limits.sessions)));
    let mut failing = false;
    loop {
        let accepted = async {
            let socket = Arc::clone(&sockets).acquire_owned().await.map_err(std::io::Error::other)?;
            listener.accept().await.map(|(stream, from)| (socket, stream, from))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = shared.drain.cancelled() => return,
        };
        match accepted {
            Ok((socket, stream, from)) => {
                if std::mem::take(&mut failing) {
                    tracing::warn!("connections are accepted again");
                }
                let Some(mut counted) = shared.addresses.count(from.ip()) else {
                    tracing::debug!(from = %from.ip(), "connection dropped: the address has as many as it may");
                    continue;
                };
                counted.has(socket);
                let stranger = strangers.enter(from.ip());
                shared.tasks.spawn(tls_peer(Arc::clone(&shared), stream, from, counted, stranger));
            }
            // Of that connection alone (accept(2)): the next one is another matter.
            Err(error) if !is_lack(&error) => tracing::debug!(%error, "connection was gone before it was accepted"),
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "no connection is accepted over TCP until there is room; over QUIC they are");
                }
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    () = shared.drain.cancelled() => return,
                }
            }
        }
    }
}

/// Whether the host or the process has no room for a connection, which stays in the kernel's queue. Asked again at once, the kernel says so again.
fn is_lack(error: &std::io::Error) -> bool {
    let of_a_connection = [
        Errno::CONNABORTED,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NONET,
        Errno::OPNOTSUPP,
        Errno::TIMEDOUT,
        Errno::PERM,
    ];
    !Errno::from_io_error(error).is_some_and(|error| of_a_connection.contains(&error))
}

async fn tls_peer(shared: Arc<Shared>, stream: TcpStream, from: SocketAddr, mut counted: Counted, stranger: Stranger) {
    if let Err(error) = watch_over(&stream) {
        tracing::debug!(%error, "peer was gone before its handshake");
        return;
    }
    let trust = shared.trust();
    let (config, note) = match trust.for_connection() {
        Ok(configured) => configured,
        Err(error) => return tracing::error!(%error, "TLS can't be configured"),
    };
    let handshake = async {
        // Who has said nothing to be computed takes no place from who has.
        let hello = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let place = shared.handshakes.place(from.ip()).await;
        with_place(place, hello.into_stream(Arc::new(config))).await
    };
    let accepted = tokio::select! {
        accepted = tokio::time::timeout(shared.config.limits.handshake_deadline(), handshake) => accepted,
        () = stranger.displaced() => return tracing::debug!(from = %from.ip(), "another has the place of a peer that was slow"),
        // Whoever has not said who it is keeps no gateway from its end, and no holder from the next one.
        () = shared.drain.cancelled() => return,
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // Its descriptor is closed: it keeps nothing from others while it is written down.
            drop((stranger, counted));
            let no_certificate =
                error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) == Some(&rustls::Error::NoCertificatesPresented);
            return refused(&shared, &note, no_certificate, from.ip(), "tls", &error).await;
        }
        Err(_) => return tracing::debug!(from = %from.ip(), "handshake took too long"),
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let Some(identity) = identity(&shared, &trust, chain, from.ip(), "tls").await else {
        return;
    };
    let (reader, writer) = tokio::io::split(stream);
    let writer = Writer::Tls(Box::new(writer));
    match enter(&shared, &identity) {
        Ok(here) => {
            drop(stranger);
            counted.is_of(here);
            connection::serve(shared, Peer { identity, from: from.ip(), transport: "tls", reader: Box::new(reader), writer, counted }).await;
        }
        Err(full) => {
            // Until then it has a stranger's place; an entry that has been begun is not given up with it.
            if let Some((_told, frame)) = connection::record_full(&shared, &identity, full, from.ip(), "tls").await {
                connection::turn_out(Box::new(reader), writer, frame).await;
            }
            drop((stranger, counted));
        }
    }
}

/// Counts a connection whose peer has shown who it is.
fn enter(shared: &Shared, identity: &VerifiedIdentity) -> Result<Here, Full> {
    let standing = if operator(shared, identity).is_some() { Standing::Operator } else { Standing::Holder };
    let (hers, all) = shared.registry.count_of_key(identity.key());
    shared.known.enter(identity.key(), standing, Sessions { hers, all })
}

/// A QUIC endpoint on this socket.
///
/// # Errors
/// The socket or the cryptography can't be used for QUIC.
pub fn quic_endpoint(shared: &Shared, socket: UdpSocket) -> std::io::Result<quinn::Endpoint> {
    let (config, _) = shared.trust().for_connection().map_err(std::io::Error::other)?;
    let config = quic_config(config)?;
    let runtime = quinn::default_runtime().ok_or_else(|| std::io::Error::other("no tokio runtime"))?;
    quinn::Endpoint::new(shared.trust().reset_key().endpoint(), Some(config), socket, runtime)
}

fn quic_config(config: rustls::ServerConfig) -> std::io::Result<quinn::ServerConfig> {
    let crypto = QuicServerConfig::try_from(config).map_err(std::io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    let idle = QUIC_IDLE.try_into().expect("45 s is within QUIC's range of time-outs");
    // One stream a connection; quinn prepares state for every stream that it allows.
    transport
        .max_concurrent_bidi_streams(1_u8.into())
        .max_concurrent_uni_streams(0_u8.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(QUIC_STREAM_WINDOW_BYTES.into())
        .receive_window(QUIC_STREAM_WINDOW_BYTES.into())
        .send_window(u64::from(QUIC_STREAM_WINDOW_BYTES))
        .max_idle_timeout(Some(idle));
    config.transport_config(Arc::new(transport));
    // Admission judged the address that the connection began at; whoever holds the connection judges each that it goes on from.
    config.migration(true);
    Ok(config)
}

/// Accepts QUIC connections until the gateway drains.
pub async fn quic(shared: Arc<Shared>, endpoint: quinn::Endpoint) {
    let strangers = Strangers::new(STRANGERS_MAX);
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = shared.drain.cancelled() => return,
        };
        let Some(incoming) = incoming else { return };
        let from = incoming.remote_address();
        // RFC 9000 section 8.1.2: when busy, have an address prove that it is one before spending a handshake on it, or another's place.
        if !incoming.remote_address_validated() && (shared.handshakes.are_many() || strangers.are_many()) {
            if let Err(error) = incoming.retry() {
                tracing::debug!(%error, "retry not sent");
            }
            continue;
        }
        let Some(counted) = shared.addresses.count(from.ip()) else {
            tracing::debug!(from = %from.ip(), "connection refused: the address has as many as it may");
            incoming.refuse();
            continue;
        };
        shared.tasks.spawn(quic_peer(Arc::clone(&shared), incoming, from, counted, strangers.enter(from.ip())));
    }
}

async fn quic_peer(shared: Arc<Shared>, incoming: quinn::Incoming, from: SocketAddr, mut counted: Counted, stranger: Stranger) {
    let trust = shared.trust();
    let configured = trust.for_connection().map_err(std::io::Error::other);
    let (config, note) = match configured.and_then(|(config, note)| Ok((quic_config(config)?, note))) {
        Ok(configured) => configured,
        Err(error) => return tracing::error!(%error, "QUIC can't be configured"),
    };
    let deadline = shared.config.limits.handshake_deadline();
    let handshake = async {
        let place = shared.handshakes.place(from.ip()).await;
        with_place(place, incoming.accept_with(Arc::new(config))?).await
    };
    let connected = tokio::select! {
        connected = tokio::time::timeout(deadline, handshake) => connected,
        () = stranger.displaced() => return tracing::debug!(from = %from.ip(), "another has the place of a peer that was slow"),
        () = shared.drain.cancelled() => return,
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            drop((stranger, counted));
            let no_certificate =
                matches!(&error, quinn::ConnectionError::TransportError(inner) if u64::from(inner.code) == QUIC_CERTIFICATE_REQUIRED);
            return refused(&shared, &note, no_certificate, from.ip(), "quic", &error).await;
        }
        Err(_) => return tracing::debug!(from = %from.ip(), "handshake took too long"),
    };
    let chain = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok()).map(|chain| *chain);
    let Some(identity) = identity(&shared, &trust, chain.unwrap_or_default(), from.ip(), "quic").await else {
        return;
    };
    match enter(&shared, &identity) {
        Ok(here) => {
            drop(stranger);
            counted.is_of(here);
        }
        Err(full) => {
            let told = connection::record_full(&shared, &identity, full, from.ip(), "quic").await;
            // It is told on the stream that it opens, if it does so at once.
            let stream = tokio::time::timeout(if told.is_some() { FAREWELL } else { Duration::ZERO }, connection.accept_bi()).await;
            let (Some((_told, frame)), Ok(Ok((writer, reader)))) = (told, stream) else {
                return connection.close(quic_code::REFUSED.into(), b"refused");
            };
            connection::turn_out(Box::new(reader), Writer::Quic(writer, connection), frame).await;
            return drop((stranger, counted));
        }
    }
    let stream = tokio::select! {
        stream = tokio::time::timeout(deadline, connection.accept_bi()) => stream,
        () = shared.drain.cancelled() => return connection.close(quic_code::DONE.into(), b"gateway stops"),
    };
    let (writer, reader) = match stream {
        Ok(Ok(stream)) => stream,
        _ => return connection.close(quic_code::PROTOCOL.into(), b"no stream"),
    };
    let writer = Writer::Quic(writer, connection);
    connection::serve(shared, Peer { identity, from: from.ip(), transport: "quic", reader: Box::new(reader), writer, counted }).await;
}

/// Audits a certificate that was refused. A handshake that failed otherwise is noise of the network: browsers and scanners open
/// connections that they drop.
async fn refused(
    shared: &Shared,
    note: &Note,
    no_certificate: bool,
    from: IpAddr,
    transport: &'static str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) {
    let refused = note.take().or_else(|| no_certificate.then(tls::missing));
    let Some(refused) = refused else {
        return tracing::debug!(%from, error = %chain(error), "handshake failed");
    };
    audit_refused(shared, refused, from, transport).await;
}

async fn audit_refused(shared: &Shared, refused: Refused, from: IpAddr, transport: &'static str) {
    let Refused { code, reason, serial, sha256 } = refused;
    if shared.refusals.keep(Kind::Certificate, from, Instant::now(), Timestamp::now()) == Kept::AsNumber {
        return;
    }
    tracing::info!(%from, transport, %code, "certificate refused");
    let event = Event::CertificateRefused {
        code,
        reason,
        serial: serial.into(),
        certificate_sha256: sha256.into(),
        from: from.into(),
        transport: transport.to_owned(),
    };
    if let Err(error) = shared.ledger.append(Draft::new(event)).await {
        tracing::error!(%error, "refused certificate not recorded");
    }
}

async fn identity(
    shared: &Shared,
    trust: &Trust,
    chain: Vec<CertificateDer<'static>>,
    from: IpAddr,
    transport: &'static str,
) -> Option<VerifiedIdentity> {
    match VerifiedIdentity::of_verified_chain(chain, trust) {
        Ok(identity) => Some(identity),
        Err(error) => {
            let refused = Refused { reason: error.to_string(), code: sulku_permit::RefusalCode::CertificateInvalid, serial: None, sha256: None };
            audit_refused(shared, refused, from, transport).await;
            None
        }
    }
}
