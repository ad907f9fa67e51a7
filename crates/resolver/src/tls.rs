//! TLS connections that the router turned here: each must say for whom it is, and be bound for where that name's address is.
//!
//! Nothing is decrypted. A connection is dialled to the very address that it was bound for; nothing is resolved again.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sulku_permit::HostName;
use sulku_plan::naming::{ConnectionDenied, Denied, Finding};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::dns::accept;
use crate::hello::{self, Hello, Hides};
use crate::judge::{self, TLS_DESTINATION_PORT};
use crate::relay::{self, Relayed};
use crate::sessions::{Session, Sessions};
use crate::warden::Warden;
use crate::wire::shown;

/// How long a connection may take to say for whom it is.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long the destination may take to answer.
pub const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// A hello cut into records, and what is held back behind it.
const BEGINNING_BYTES_MAX: usize = hello::HELLO_BYTES_MAX + 4 * 1024;

/// A connection that resets both ends when it is left before its end was agreed on.
#[derive(Debug)]
pub struct Held {
    stream: TcpStream,
    left: Left,
}

#[derive(Debug, PartialEq, Eq)]
enum Left {
    Early,
    Done,
}

impl Held {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, left: Left::Early })
    }

    /// The connection.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    fn done(mut self) {
        self.left = Left::Done;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.left == Left::Early
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "a connection could not be reset");
        }
    }
}

/// A connection that goes no further.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It is not allowed.
    #[error("the connection is denied")]
    Denied {
        /// The name that it gave.
        name: Option<String>,
        /// Why.
        why: ConnectionDenied,
    },
    /// It broke.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
}

impl Ended {
    /// A denial of a connection that gave this name.
    #[must_use]
    pub fn denied(hello: &Hello, why: ConnectionDenied) -> Self {
        Self::Denied { name: hello.name.as_deref().map(shown), why }
    }
}

/// Takes connections for ever.
pub async fn serve(listener: TcpListener, sessions: Arc<Sessions>, warden: Arc<Warden>, room: Arc<Semaphore>) -> Infallible {
    loop {
        let (stream, from) = accept(&listener).await;
        let Ok(cell) = Held::new(stream) else { continue };
        let Some(session) = sessions.behind_by_now(from.ip()).await else { continue };
        let Some(to) = bound_for(&cell.stream) else { continue };
        let slots = session.connections.clone().try_acquire_owned().and_then(|slot| Ok((slot, room.clone().try_acquire_owned()?)));
        let Ok(slots) = slots else {
            deny(&session, &warden, to, None, ConnectionDenied::TooMany);
            continue;
        };
        let warden = warden.clone();
        tokio::spawn(async move {
            tokio::select! {
                ended = take(cell, from, to, &session, &warden) => match ended {
                    Ok(Relayed { sent, received }) => tracing::debug!(sent, received, "a connection has ended"),
                    Err(Ended::Denied { name, why }) => deny(&session, &warden, to, name, why),
                    Err(Ended::Broken(error)) => tracing::debug!(%error, "a connection broke"),
                },
                () = session.closed.cancelled() => {}
            }
            drop(slots);
        });
    }
}

/// Where the router had it from: the address that the cell meant.
fn bound_for(stream: &TcpStream) -> Option<SocketAddr> {
    match rustix::net::sockopt::ip_original_dst(stream) {
        Ok(to) => Some(to.into()),
        Err(error) => {
            tracing::warn!(%error, "a connection came without its destination");
            None
        }
    }
}

fn deny(session: &Session, warden: &Warden, to: SocketAddr, name: Option<String>, why: ConnectionDenied) {
    session.deny(Denied::Connection { to, name, why }, warden, Instant::now());
}

/// One connection, from its first byte to its last.
async fn take(mut cell: Held, from: SocketAddr, to: SocketAddr, session: &Session, warden: &Warden) -> Result<Relayed, Ended> {
    let mut bytes = Vec::new();
    let (hello, length) = tokio::time::timeout(HELLO_WITHIN, beginning(cell.stream(), &mut bytes))
        .await
        .unwrap_or(Err(Ended::Denied { name: None, why: ConnectionDenied::Silent }))?;
    let name = judge(session, &hello, to).map_err(|why| Ended::denied(&hello, why))?;
    let dialled = tokio::time::timeout(DIAL_WITHIN, TcpStream::connect(to)).await;
    let host = dialled.ok().and_then(Result::ok).ok_or_else(|| Ended::denied(&hello, ConnectionDenied::Unreachable))?;
    let mut host = Held::new(host)?;
    // Waits for room: the entry is on its way before the first byte is.
    let passed = Finding::Passed { session: session.id, port: from.port(), to, name };
    warden.tell_patiently(passed).await.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
    host.stream().write_all(&bytes[..length]).await?;
    let held_back = bytes.split_off(length);
    let relayed = relay::relay(cell.stream(), host.stream(), &hello, held_back).await?;
    cell.done();
    host.done();
    Ok(relayed)
}

/// Reads a hello. What came behind it stays in the bytes.
async fn beginning(cell: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(Hello, usize), Ended> {
    let denied = |why| Ended::Denied { name: None, why };
    loop {
        if bytes.len() >= BEGINNING_BYTES_MAX {
            return Err(denied(ConnectionDenied::NotTls));
        }
        bytes.reserve(4096);
        if cell.read_buf(bytes).await? == 0 {
            return Err(denied(ConnectionDenied::Silent));
        }
        if let Some(hello) = hello::read(bytes).map_err(|_| denied(ConnectionDenied::NotTls))? {
            return Ok(hello);
        }
    }
}

/// The name under which it may pass.
fn judge(session: &Session, hello: &Hello, to: SocketAddr) -> Result<HostName, ConnectionDenied> {
    let not_listed = match hello.hides {
        Hides::Nothing => ConnectionDenied::NotListed,
        Hides::Perhaps => ConnectionDenied::Hidden,
    };
    let Some(given) = hello.name.as_deref() else {
        return Err(if hello.hides == Hides::Perhaps { ConnectionDenied::Hidden } else { ConnectionDenied::NoName });
    };
    // A root's dot is none of this extension (RFC 6066 section 3), and servers disagree about it.
    let name: Option<HostName> = std::str::from_utf8(given).ok().filter(|name| !name.ends_with('.')).and_then(|name| name.parse().ok());
    let name = name.filter(|name| judge::is_connectable(&session.listed, name)).ok_or(not_listed)?;
    let address: IpAddr = to.ip();
    if to.port() == TLS_DESTINATION_PORT && session.holds(&name, address, Instant::now()) { Ok(name) } else { Err(ConnectionDenied::OtherAddress) }
}
