//! One TLS connection to a syslog receiver: opened, written to, and closed so that its end tells something, each within a bound.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::SyslogSettings;
use crate::sink::SinkError;

/// Name, connection and handshake together.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// A receiver that takes nothing for this long has stalled.
const SEND_WITHIN: Duration = Duration::from_secs(30);
/// A receiver reads what was sent and closes; one that is busy needs a while.
const CLOSE_WITHIN: Duration = Duration::from_secs(30);
/// How much is written under one deadline.
const PIECE_BYTES: usize = 64 * 1024;

/// A connection, and whoever listens for its end.
pub(super) struct Connection {
    writer: WriteHalf<TlsStream<TcpStream>>,
    ending: JoinHandle<io::Result<()>>,
    fresh: bool,
}

impl Connection {
    pub(super) async fn open(settings: &SyslogSettings, tls: Arc<ClientConfig>) -> Result<Self, SinkError> {
        let failed = |what: &str| SinkError::io(format!("{}: {what}", settings.address));
        let name = ServerName::try_from(settings.server_name.clone()).map_err(|error| failed("its name is none")(io::Error::other(error)))?;
        let connecting = async {
            let stream = TcpStream::connect(&settings.address).await.map_err(failed("no connection"))?;
            stream.set_nodelay(true).map_err(failed("no connection"))?;
            TlsConnector::from(tls).connect(name, stream).await.map_err(failed("no TLS"))
        };
        let stream = timeout(CONNECT_WITHIN, connecting)
            .await
            .map_err(|_| SinkError::TooSlow { what: "connecting to the syslog receiver", within: CONNECT_WITHIN })??;
        let (reader, writer) = split(stream);
        Ok(Self { writer, ending: tokio::spawn(until_end(reader)), fresh: true })
    }

    /// Whether nothing was sent yet.
    pub(super) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether the receiver has ended it.
    pub(super) fn is_gone(&self) -> bool {
        self.ending.is_finished()
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.fresh = false;
        for piece in bytes.chunks(PIECE_BYTES) {
            if self.is_gone() {
                let gone = io::Error::from(io::ErrorKind::ConnectionReset);
                return Err(SinkError::io("the syslog receiver ended the connection")(gone));
            }
            let sending = async {
                self.writer.write_all(piece).await?;
                self.writer.flush().await
            };
            timeout(SEND_WITHIN, sending)
                .await
                .map_err(|_| SinkError::TooSlow { what: "sending to the syslog receiver", within: SEND_WITHIN })?
                .map_err(SinkError::io("the syslog receiver took no more"))?;
        }
        Ok(())
    }

    /// Closes our end, and waits for the receiver to close its own: it then has read all that was sent.
    pub(super) async fn close(mut self) -> Result<(), SinkError> {
        if self.is_gone() {
            let gone = io::Error::from(io::ErrorKind::ConnectionReset);
            return Err(SinkError::io("the syslog receiver ended the connection before all was confirmed")(gone));
        }
        let closing = async {
            self.writer.shutdown().await?;
            (&mut self.ending).await.map_err(io::Error::other)?
        };
        timeout(CLOSE_WITHIN, closing)
            .await
            .map_err(|_| SinkError::TooSlow { what: "the syslog receiver's close", within: CLOSE_WITHIN })?
            .map_err(SinkError::io("the syslog receiver did not end the connection in order"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ending.abort();
    }
}

/// Reads until the receiver ends the connection. `Ok`: in order. A receiver has nothing to say, so what it says is thrown away.
async fn until_end(mut reader: ReadHalf<TlsStream<TcpStream>>) -> io::Result<()> {
    let mut ignored = [0; 512];
    loop {
        match reader.read(&mut ignored).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Many receivers close without TLS's own farewell. The kernel still tells a close in order, which comes only when all
            // was read, from a broken one, which is a reset.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
