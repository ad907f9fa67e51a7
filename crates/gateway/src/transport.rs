//! A connection after its handshake, whichever transport it came over: bytes in, bytes out, and who it is.

use std::net::IpAddr;
use std::time::Duration;

use rustix::net::sockopt;
use sulku_protocol::quic_code;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::busy::Counted;
use crate::identity::VerifiedIdentity;

/// How long a peer gets to take what was sent last, and to hang up.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// A peer over TCP is asked for a sign of life after so long without one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// And is gone after so long without: as soon as one over QUIC, so that the session of a holder whose network is gone is soon detached.
const SILENT_MAX: Duration = Duration::from_secs(45);

/// Has the kernel find out when a peer over TCP is gone.
///
/// # Errors
/// It is gone already.
pub fn watch_over(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    Ok(sockopt::set_tcp_user_timeout(stream, u32::try_from(SILENT_MAX.as_millis()).unwrap_or(u32::MAX))?)
}

/// A verified peer's connection.
pub struct Peer {
    /// Who it is.
    pub identity: VerifiedIdentity,
    /// Where it is.
    pub from: IpAddr,
    /// `tls` or `quic`.
    pub transport: &'static str,
    /// What it sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is sent.
    pub writer: Writer,
    /// Its place among the connections of its address.
    pub counted: Counted,
}

/// The sending half of a connection, which knows how to end it.
pub enum Writer {
    /// TLS over TCP.
    Tls(Box<dyn AsyncWrite + Send + Unpin>),
    /// A QUIC stream and its connection.
    Quic(quinn::SendStream, quinn::Connection),
}

impl Writer {
    /// Sends bytes, and sees to it that they leave.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
            Self::Quic(stream, _) => Ok(stream.write_all(bytes).await?),
        }
    }

    /// The connection, if it may go on from another address than the one that it began at.
    #[must_use]
    pub fn mobile(&self) -> Option<&quinn::Connection> {
        match self {
            Self::Tls(_) => None,
            Self::Quic(_, connection) => Some(connection),
        }
    }

    /// Where its peer is now, if that can change.
    #[must_use]
    pub fn place(&self) -> Option<IpAddr> {
        self.mobile().map(|connection| connection.remote_address().ip())
    }

    /// Ends the connection at once, whatever has arrived.
    pub fn hang_up(self, code: u32) {
        if let Self::Quic(_, connection) = self {
            connection.close(code.into(), b"refused");
        }
    }

    /// Ends the connection after all that was sent has arrived, or [`FAREWELL`] has passed.
    pub async fn end(mut self, code: u32) {
        let farewell = async {
            match &mut self {
                Self::Tls(stream) => {
                    if let Err(error) = stream.shutdown().await {
                        tracing::debug!(%error, "peer was gone before its connection was shut down");
                    }
                }
                Self::Quic(stream, _) => {
                    if stream.finish().is_ok()
                        && let Err(error) = stream.stopped().await
                    {
                        tracing::debug!(%error, "peer was gone before its stream was finished");
                    }
                }
            }
        };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("peer did not take its last bytes in time");
        }
        if let Self::Quic(_, connection) = self {
            let reason: &[u8] = match code {
                quic_code::DONE => b"done",
                quic_code::REFUSED => b"refused",
                quic_code::BUSY => b"busy",
                _ => b"protocol error",
            };
            connection.close(code.into(), reason);
        }
    }
}
