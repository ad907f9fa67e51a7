//! The way to the gateway: QUIC first, TLS over TCP beside it when QUIC has not answered soon, the first handshake to complete
//! wins. A certificate's refusal is final: it is never tried again on the other transport.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use quinn::Endpoint;
use rustls::pki_types::ServerName;
use sulku_protocol::ALPN;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use crate::ending::Ending;
use crate::error::DialError;
use crate::link::{Farewell, Link};
use crate::profile::Profile;
use crate::tls;

/// How long QUIC alone may take; then TLS starts beside it. Above the round trip to any gateway on the same continent, and not
/// yet felt as waiting.
pub const QUIC_PATIENCE: Duration = Duration::from_millis(300);
/// Between attempts at two addresses of one name (RFC 8305 allows no less).
const ADDRESS_GAP: Duration = Duration::from_millis(100);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;
/// A handshake takes three round trips at most; the slowest satellite link has 0.7 s each.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// For QUIC where TLS is tried too: when TLS has failed already, there is little left to hope for.
const QUIC_BESIDE_TLS_PATIENCE: Duration = Duration::from_secs(2);

/// Which transport to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// QUIC, and TLS where QUIC does not answer.
    #[default]
    Auto,
    /// QUIC or nothing.
    Quic,
    /// TLS over TCP or nothing.
    Tls,
}

/// What a link runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// QUIC.
    Quic,
    /// TLS over TCP.
    Tls,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Carrier {
    const fn name(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::Tls => "TLS",
        }
    }
}

/// A handshake with the gateway that completed on our side. Nothing counts before the gateway's first frame.
pub(crate) async fn dial(profile: &Profile, transport: Transport) -> Result<Link, DialError> {
    let addresses = resolve(profile).await?;
    let caller = Arc::new(Caller {
        gateway: profile.gateway(),
        server_name: profile.server_name().clone(),
        tcp: TlsConnector::from(Arc::new(tls::over_tcp(profile))),
        quic: tls::over_quic(profile),
    });
    race(&caller, attempts(&addresses, transport)).await
}

async fn resolve(profile: &Profile) -> Result<Vec<SocketAddr>, DialError> {
    let address = profile.address();
    let not_found = |source| DialError::NameNotFound { host: address.host.clone(), source };
    let found = timeout(ANSWER_PATIENCE, lookup_host((address.host.as_str(), address.port))).await;
    let found: Vec<_> = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(not_found)?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(not_found(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

struct Attempt {
    after: Duration,
    carrier: Carrier,
    address: SocketAddr,
    patience: Duration,
}

/// What to try and when, in order of time.
fn attempts(addresses: &[SocketAddr], transport: Transport) -> VecDeque<Attempt> {
    let over = |carrier, start: Duration, patience| {
        let spread = addresses.iter().zip(0_u32..);
        spread.map(move |(address, place)| Attempt { after: start + ADDRESS_GAP * place, carrier, address: *address, patience })
    };
    let mut attempts: Vec<_> = match transport {
        Transport::Quic => over(Carrier::Quic, Duration::ZERO, ANSWER_PATIENCE).collect(),
        Transport::Tls => over(Carrier::Tls, Duration::ZERO, ANSWER_PATIENCE).collect(),
        Transport::Auto => {
            let quic = over(Carrier::Quic, Duration::ZERO, QUIC_BESIDE_TLS_PATIENCE);
            quic.chain(over(Carrier::Tls, QUIC_PATIENCE, ANSWER_PATIENCE)).collect()
        }
    };
    attempts.sort_by_key(|attempt| attempt.after);
    attempts.into()
}

/// Starts each attempt at its time, or at once when one before it has failed. Attempts that lost are dropped, and so closed.
async fn race(caller: &Arc<Caller>, mut waiting: VecDeque<Attempt>) -> Result<Link, DialError> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    let mut failure: Option<DialError> = None;
    loop {
        let due = waiting.front().map(|attempt| started + attempt.after);
        let start_next = tokio::select! {
            Some(outcome) = running.join_next() => match outcome {
                Ok(Ok(link)) => return Ok(link),
                Ok(Err(error)) if is_final(&error) => return Err(error),
                Ok(Err(error)) => {
                    failure = Some(more_telling(failure, error));
                    waiting.pop_front()
                }
                Err(panicked) => resume_unwind(panicked.into_panic()),
            },
            () = sleep_until(due.unwrap_or(started)), if due.is_some() => waiting.pop_front(),
            else => return Err(failure.expect("at least one attempt was made, and each that ends without a link leaves an error")),
        };
        if let Some(attempt) = start_next {
            let caller = Arc::clone(caller);
            running.spawn(async move { caller.call(&attempt).await });
        }
    }
}

/// The gateway was reached, and this is its answer or what became of it.
fn is_final(error: &DialError) -> bool {
    !matches!(error, DialError::NothingListens { .. } | DialError::NoAnswer { .. } | DialError::Network { .. })
}

fn more_telling(first: Option<DialError>, second: DialError) -> DialError {
    let rank = |error: &DialError| match error {
        DialError::NoAnswer { .. } => 0,
        DialError::Network { .. } => 1,
        _ => 2,
    };
    match (first, second) {
        (Some(DialError::NoAnswer { over, gateway }), DialError::NoAnswer { over: also, .. }) if over != also => {
            DialError::NoAnswer { gateway, over: "QUIC and TLS" }
        }
        (Some(first), second) if rank(&first) >= rank(&second) => first,
        (_, second) => second,
    }
}

struct Caller {
    gateway: String,
    server_name: ServerName<'static>,
    tcp: TlsConnector,
    quic: quinn::ClientConfig,
}

impl Caller {
    async fn call(&self, attempt: &Attempt) -> Result<Link, DialError> {
        let handshake = async {
            match attempt.carrier {
                Carrier::Quic => self.over_quic(attempt.address).await,
                Carrier::Tls => self.over_tcp(attempt.address).await,
            }
        };
        let no_answer = || DialError::NoAnswer { gateway: self.gateway.clone(), over: attempt.carrier.name() };
        timeout(attempt.patience, handshake).await.unwrap_or_else(|_| Err(no_answer()))
    }

    async fn over_quic(&self, address: SocketAddr) -> Result<Link, DialError> {
        let any: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let endpoint = Endpoint::client(any).map_err(|error| self.failed(error))?;
        let connecting = endpoint.connect_with(self.quic.clone(), address, &self.server_name.to_str());
        let connecting = connecting.map_err(|error| self.failed(io::Error::other(error)))?;
        let connection = connecting.await.map_err(|error| self.failed(error))?;
        let (writer, reader) = connection.open_bi().await.map_err(|error| self.failed(error))?;
        Ok(Link::new(Carrier::Quic, Box::new(reader), Box::new(writer), Farewell::Quic(endpoint, connection)))
    }

    async fn over_tcp(&self, address: SocketAddr) -> Result<Link, DialError> {
        let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => DialError::NothingListens { gateway: self.gateway.clone() },
            io::ErrorKind::TimedOut => DialError::NoAnswer { gateway: self.gateway.clone(), over: Carrier::Tls.name() },
            _ => self.failed(error),
        })?;
        tls::keep_alive(&stream).map_err(|error| self.failed(error))?;
        let stream = self.tcp.connect(self.server_name.clone(), stream).await.map_err(|error| self.failed(error))?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(DialError::NotAGateway { gateway: self.gateway.clone() });
        }
        let (reader, writer) = tokio::io::split(stream);
        Ok(Link::new(Carrier::Tls, Box::new(reader), Box::new(writer), Farewell::Tls))
    }

    fn failed(&self, error: impl Into<Ending>) -> DialError {
        error.into().before_answer(&self.gateway)
    }
}
