//! The full handshake with a client's certificate, and the first answer behind it: what it costs a gateway.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sulku_client::{Transport, own_sessions};
use sulku_stage::{Daemon, Person, Stage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::bench::{Bench, Size};
use crate::processes;
use crate::proxy::{Kind, Proxy};
use crate::row::{Goal, Row, us};

/// Handshakes at once.
const AT_ONCE: usize = 16;
/// Who waits for a connection to be let go counts its end, too.
const SETTLE: Duration = Duration::from_millis(200);

/// Whoever is greeted.
#[derive(Clone)]
enum Door {
    /// Our gateway: the handshake, the identity, and a question that it answers by itself: which sessions this key has.
    Ours(Arc<sulku_client::Profile>, Transport),
    /// A proxy: the handshake, and one byte from the service behind it. Whose own time is not counted.
    Proxy(TlsConnector, u16),
}

impl Door {
    async fn knock(&self) -> anyhow::Result<()> {
        match self {
            Self::Ours(profile, transport) => {
                own_sessions(profile, *transport).await?;
            }
            Self::Proxy(connector, port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
                stream.set_nodelay(true)?;
                let mut stream = connector.connect(ServerName::try_from("localhost")?, stream).await?;
                stream.write_all(b"x").await?;
                stream.read_u8().await?;
                stream.shutdown().await?;
            }
        }
        Ok(())
    }
}

/// Our own client's handshake, with the classical key exchange alone, which is all that the peers know.
fn connector(stage: &Stage) -> anyhow::Result<TlsConnector> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(stage.authority().certificate())?)?;
    let (certificate, key) = stage.authority().files_of(Person::Tiina.name());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![CertificateDer::from_pem_file(certificate)?], PrivateKeyDer::from_pem_file(key)?)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A service that gives back what it gets, in a thread of its own.
fn service() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    // Whoever asks has gone when this fails.
                    let _gone = tokio::io::copy(&mut reader, &mut writer).await;
                });
            }
        });
    });
    Ok(port)
}

/// Processor time of those processes for each of so many handshakes, in microseconds.
async fn cost(door: &Door, roots: &[u32], count: usize) -> anyhow::Result<f64> {
    let before = processes::cpu(roots);
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut all = JoinSet::new();
    for _ in 0..count {
        let (door, slot) = (door.clone(), Arc::clone(&slots).acquire_owned().await?);
        all.spawn_local(async move {
            let outcome = door.knock().await;
            drop(slot);
            outcome
        });
    }
    while let Some(outcome) = all.join_next().await {
        outcome?.context("a handshake")?;
    }
    tokio::time::sleep(SETTLE).await;
    Ok(us(processes::cpu(roots).saturating_sub(before)) / count as f64)
}

/// What a handshake costs.
///
/// # Errors
/// A peer is missing, or a handshake fails.
pub async fn costs(bench: &mut Bench, size: Size) -> anyhow::Result<Vec<Row>> {
    const PEERS: [Kind; 3] = [Kind::HaProxy, Kind::Nginx, Kind::Stunnel];
    let (service, connector) = (service()?, connector(&bench.ours.stage)?);
    let proxies = PEERS.map(|kind| Proxy::start(kind, bench.ours.stage.authority(), service));
    let proxies: Vec<_> = proxies.into_iter().collect::<anyhow::Result<_>>()?;
    let gateway = vec![bench.ours.stage.pid(Daemon::Gateway).context("the gateway runs")?];
    let ours = |transport| (Door::Ours(bench.ours.profile(), transport), gateway.clone());
    let mut doors = vec![ours(Transport::Tls), ours(Transport::Quic)];
    doors.extend(proxies.iter().map(|proxy| (Door::Proxy(connector.clone(), proxy.port), vec![proxy.pid()])));
    let mut rounds = vec![Vec::new(); doors.len()];
    for _ in 0..size.rounds {
        for ((door, roots), costs) in doors.iter().zip(&mut rounds) {
            costs.push(cost(door, roots, size.handshakes).await?);
        }
        bench.unrest.sample();
    }
    let unrest = bench.unrest.take();
    let mut rows = Vec::new();
    for (transport, ours) in ["TLS", "QUIC"].iter().zip(&rounds) {
        for (kind, theirs) in PEERS.iter().zip(rounds.iter().skip(2)) {
            rows.push(Row {
                metric: format!("full mTLS handshake, server CPU: {transport} with X25519MLKEM768"),
                peer: Some(format!("{}, X25519", kind.name())),
                unit: "µs",
                // Nothing of theirs speaks QUIC to compare with.
                goal: if *kind == Kind::Stunnel || *transport == "QUIC" { Goal::Told } else { Goal::AtMost(0.5) },
                ours: ours.clone(),
                theirs: theirs.clone(),
                unrest,
            });
        }
    }
    Ok(rows)
}
