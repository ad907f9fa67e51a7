//! A gateway for tests, on loopback: real TLS and QUIC, real certificates, and a script in place of sessions. It judges client
//! certificates as rustls does and knows no permits. The command line's own tests use it too.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::crypto::rustls::QuicServerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod,
    KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sulku_permit::SessionId;
use sulku_protocol::{ALPN, Ask, Decoder, OUTPUT_CREDIT_BYTES, Tell, WelcomeFrame, encode};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Small, so that a test sees soon where bytes stop.
pub const QUIC_WINDOW_BYTES: u32 = 64 * 1024;
/// Another process may take the UDP port of a number whose TCP port we have.
const PORT_TRIES_MAX: u32 = 50;

/// An authority with its gateway's and its holders' certificates, in a folder of its own.
pub struct Desk {
    authority: CertifiedIssuer<'static, KeyPair>,
    pub folder: TempDir,
    serials: AtomicUsize,
}

/// Whose certificate it is to be, and what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Gateway,
    ExpiredGateway,
    OtherGateway,
    Holder,
    ExpiredHolder,
}

/// A certificate, its key, and its serial number.
pub struct Issued {
    pub certificate: CertificateDer<'static>,
    pub certificate_pem: String,
    pub key: KeyPair,
    pub serial: SerialNumber,
}

impl Desk {
    pub fn new() -> Self {
        Self::named("authority")
    }

    /// Two desks of one name are two authorities that only their keys tell apart.
    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        Self { authority, folder: tempfile::tempdir().expect("a folder"), serials: AtomicUsize::new(1) }
    }

    pub fn authority(&self) -> CertificateDer<'static> {
        self.authority.as_ref().der().clone()
    }

    pub fn issue(&self, subject: Subject) -> Issued {
        let (names, usage) = match subject {
            Subject::Gateway | Subject::ExpiredGateway => (vec!["gateway.test".to_owned()], ExtendedKeyUsagePurpose::ServerAuth),
            Subject::OtherGateway => (vec!["other.test".to_owned()], ExtendedKeyUsagePurpose::ServerAuth),
            Subject::Holder | Subject::ExpiredHolder => (vec!["maija.test".to_owned()], ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::new(names).expect("good names");
        params.extended_key_usages = vec![usage];
        let serial = SerialNumber::from(self.serials.fetch_add(1, Ordering::Relaxed) as u64);
        params.serial_number = Some(serial.clone());
        if matches!(subject, Subject::ExpiredGateway | Subject::ExpiredHolder) {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("a certificate");
        Issued { certificate: certificate.der().clone(), certificate_pem: certificate.pem(), key, serial }
    }

    pub fn revocations(&self, revoked: &[SerialNumber]) -> CertificateRevocationListDer<'static> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: serial.clone(),
                    revocation_time: date_time_ymd(2020, 1, 2),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.authority).expect("a list").der().clone()
    }

    /// Writes a profile for this person at this gateway; its path.
    pub fn profile(&self, port: u16, person: &Issued) -> PathBuf {
        self.write("authority.pem", &self.authority.as_ref().pem());
        self.write("me.pem", &person.certificate_pem);
        let key = self.write("me.key", &person.key.serialize_pem());
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).expect("mine");
        let text = format!(
            "gateway = \"127.0.0.1:{port}\"\nserver_name = \"gateway.test\"\nauthority = \"authority.pem\"\ncertificate = \"me.pem\"\nprivate_key = \"me.key\"\n"
        );
        self.write("profile.toml", &text)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = Path::new(self.folder.path()).join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

/// What is behind the UDP port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Udp {
    Serves,
    Silent,
}

/// What is behind the TCP port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    Serves,
    Closed,
}

/// How a gateway is to be.
pub struct Options {
    pub subject: Subject,
    pub revoked: Vec<SerialNumber>,
    pub udp: Udp,
    pub tcp: Tcp,
}

impl Default for Options {
    fn default() -> Self {
        Self { subject: Subject::Gateway, revoked: Vec::new(), udp: Udp::Serves, tcp: Tcp::Serves }
    }
}

/// A gateway that runs until it is dropped.
pub struct Gateway {
    pub port: u16,
    /// Connections that came over each transport, before any handshake.
    pub came: Arc<Came>,
    _tasks: JoinSet<()>,
    _silent: Option<UdpSocket>,
}

#[derive(Default)]
pub struct Came {
    pub quic: AtomicUsize,
    pub tls: AtomicUsize,
}

type Script = Arc<dyn Fn(Peer) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl Gateway {
    /// Starts one that plays the script with every peer whose certificate is good.
    pub fn start<F>(desk: &Desk, options: Options, script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let script: Script = Arc::new(move |peer| Box::pin(script(peer)));
        let config = Arc::new(server_config(desk, &options));
        let (tcp, udp) = one_port();
        let port = tcp.local_addr().expect("bound").port();
        let came = Arc::new(Came::default());
        let mut tasks = JoinSet::new();
        let silent = match options.udp {
            Udp::Silent => Some(udp),
            Udp::Serves => {
                tasks.spawn(serve_quic(udp, Arc::clone(&config), Arc::clone(&came), Arc::clone(&script)));
                None
            }
        };
        match options.tcp {
            Tcp::Closed => drop(tcp),
            Tcp::Serves => drop(tasks.spawn(serve_tls(tcp, config, Arc::clone(&came), script))),
        }
        Self { port, came, _tasks: tasks, _silent: silent }
    }
}

fn one_port() -> (TcpListener, UdpSocket) {
    for _ in 0..PORT_TRIES_MAX {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let address: SocketAddr = tcp.local_addr().expect("bound");
        if let Ok(udp) = UdpSocket::bind(address) {
            tcp.set_nonblocking(true).expect("a socket");
            return (tcp, udp);
        }
    }
    panic!("no port number was free for TCP and UDP");
}

fn server_config(desk: &Desk, options: &Options) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(desk.authority()).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls([desk.revocations(&options.revoked)])
        .build()
        .expect("a verifier");
    let own = desk.issue(options.subject);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]).expect("TLS 1.3");
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(vec![own.certificate], key).expect("a key of its certificate");
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

async fn serve_tls(listener: TcpListener, config: Arc<ServerConfig>, came: Arc<Came>, script: Script) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
    let mut peers = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        came.tls.fetch_add(1, Ordering::SeqCst);
        let (acceptor, script) = (TlsAcceptor::from(Arc::clone(&config)), Arc::clone(&script));
        peers.spawn(async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let (reader, writer) = tokio::io::split(stream);
                script(Peer { reader: Box::new(reader), writer: Writer::Tls(Box::new(writer)), decoder: Decoder::default() }).await;
            }
        });
    }
}

async fn serve_quic(socket: UdpSocket, config: Arc<ServerConfig>, came: Arc<Came>, script: Script) {
    let crypto = QuicServerConfig::try_from(config).expect("TLS 1.3");
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(QUIC_WINDOW_BYTES.into()).send_window(QUIC_WINDOW_BYTES.into());
    config.transport_config(Arc::new(transport));
    let runtime = quinn::default_runtime().expect("tokio");
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), Some(config), socket, runtime).expect("an endpoint");
    let mut peers = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        came.quic.fetch_add(1, Ordering::SeqCst);
        let script = Arc::clone(&script);
        peers.spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let Ok((writer, reader)) = connection.accept_bi().await else { return };
            script(Peer { reader: Box::new(reader), writer: Writer::Quic(writer, connection), decoder: Decoder::default() }).await;
        });
    }
}

/// One connection, as a script sees it.
pub struct Peer {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Writer,
    decoder: Decoder<Ask>,
}

enum Writer {
    Tls(Box<dyn AsyncWrite + Send + Unpin>),
    Quic(quinn::SendStream, quinn::Connection),
}

impl Peer {
    /// The next frame; none at the end.
    pub async fn ask(&mut self) -> Option<Ask> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(ask) = self.decoder.next().expect("our client sends good frames") {
                return Some(ask);
            }
            let length = self.reader.read(&mut bytes).await.unwrap_or(0);
            if length == 0 {
                return None;
            }
            self.decoder.feed(bytes.get(..length).unwrap_or_default());
        }
    }

    pub async fn tell(&mut self, tell: &Tell) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(tell, &mut bytes).expect("a short frame");
        self.raw(&bytes).await
    }

    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Writer::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Writer::Quic(stream, _) => Ok(stream.write_all(bytes).await?),
        }
    }

    /// Ends the connection after what was sent has arrived, with this QUIC code where it is QUIC.
    pub async fn end(mut self, code: u32) {
        match self.writer {
            Writer::Tls(mut stream) => {
                let _ = stream.shutdown().await;
                // Reading to the end, so that what was sent is not overtaken by a reset.
                let mut rest = Vec::new();
                let _ = self.reader.read_to_end(&mut rest).await;
            }
            Writer::Quic(mut stream, connection) => {
                let _ = stream.finish();
                let _ = stream.stopped().await;
                connection.close(code.into(), b"");
            }
        }
    }
}

/// The welcome of a session that lasts.
pub fn welcome() -> WelcomeFrame {
    WelcomeFrame {
        session: SessionId::from_random([7; 10]),
        permit: "DEMO/1/2026".parse().expect("an id"),
        title: "Synthetic heart data".into(),
        person: "maija".parse().expect("an id"),
        workspace: "demo-heart".into(),
        ends: "2999-01-01T00:00:00Z".parse().expect("a time"),
        recording: "all output, and when you type".into(),
        off: vec!["clipboard".into(), "file transfer".into()],
        credit: OUTPUT_CREDIT_BYTES,
        stays_s: None,
        resumed: None,
    }
}
