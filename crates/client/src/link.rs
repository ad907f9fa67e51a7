//! One stream to a gateway, over whichever transport, and the frames that come out of it. Believes nothing: a link is a
//! handshake that the gateway may still refuse.

use std::io;
use std::time::Duration;

use quinn::{Connection, Endpoint};
use sulku_protocol::{Ask, Decoder, FrameError, Tell, encode, quic_code};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::dial::Carrier;
use crate::ending::Ending;
use crate::words::made_plain;

/// What is read at once: one TLS record.
const READ_BYTES: usize = 16 * 1024;
/// Time for the last QUIC packet of either side; a lost one of ours costs the gateway an idle time-out and us nothing.
const FAREWELL: Duration = Duration::from_millis(200);

pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A stream to a gateway.
pub(crate) struct Link {
    pub(crate) carrier: Carrier,
    pub(crate) incoming: Incoming,
    pub(crate) outgoing: Outgoing,
    pub(crate) farewell: Farewell,
}

impl Link {
    pub(crate) fn new(carrier: Carrier, reader: Reader, writer: Writer, farewell: Farewell) -> Self {
        let connection = match &farewell {
            Farewell::Tls => None,
            Farewell::Quic(_, connection) => Some(connection.clone()),
        };
        let incoming = Incoming { reader, decoder: Decoder::default(), chunk: vec![0; READ_BYTES].into_boxed_slice(), connection };
        Self { carrier, incoming, outgoing: Outgoing { writer, bytes: Vec::new() }, farewell }
    }
}

/// What is left to do when a link is no longer needed.
pub(crate) enum Farewell {
    /// TCP's own end says it all.
    Tls,
    /// A QUIC connection must be closed, or the gateway waits for its idle time-out.
    Quic(Endpoint, Connection),
}

impl Farewell {
    pub(crate) async fn say(self) {
        if let Self::Quic(endpoint, connection) = self {
            connection.close(quic_code::DONE.into(), b"");
            let _ = tokio::time::timeout(FAREWELL, endpoint.wait_idle()).await;
        }
    }
}

/// Frames from the gateway. Holds one frame and one read beyond it, never more.
pub(crate) struct Incoming {
    reader: Reader,
    decoder: Decoder<Tell>,
    chunk: Box<[u8]>,
    connection: Option<Connection>,
}

impl Incoming {
    /// Nothing more: what there was is let go of.
    pub(crate) fn let_go(&mut self) {
        (self.reader, self.connection) = (Box::new(tokio::io::empty()), None);
    }

    /// The next frame, its words made safe. Nothing is lost when this is dropped before it is ready.
    pub(crate) async fn next(&mut self) -> Result<Tell, Ending> {
        loop {
            if let Some(tell) = self.decoder.next().map_err(Ending::Frame)? {
                return Ok(made_plain(tell));
            }
            let length = self.reader.read(&mut self.chunk).await?;
            let bytes = self.chunk.get(..length).unwrap_or_default();
            if bytes.is_empty() {
                self.decoder.finish().map_err(Ending::Frame)?;
                return Err(self.reason_of_end().await);
            }
            self.decoder.feed(bytes);
        }
    }

    /// A QUIC stream ends before its connection, and the connection's code says why.
    async fn reason_of_end(&self) -> Ending {
        let closed = async {
            match &self.connection {
                Some(connection) => Some(connection.closed().await),
                None => None,
            }
        };
        match tokio::time::timeout(FAREWELL, closed).await {
            Ok(Some(reason)) => reason.into(),
            Ok(None) | Err(_) => Ending::silent(),
        }
    }
}

/// Frames to the gateway.
pub(crate) struct Outgoing {
    writer: Writer,
    bytes: Vec<u8>,
}

impl Outgoing {
    /// Sends a frame. Not to be dropped half-way: the rest of the frame would be missing.
    pub(crate) async fn send(&mut self, ask: &Ask) -> Result<(), SendError> {
        self.bytes.clear();
        encode(ask, &mut self.bytes)?;
        self.writer.write_all(&self.bytes).await?;
        self.writer.flush().await?;
        Ok(())
    }
}

/// Why a frame was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the frame is too long")]
    Frame(#[from] FrameError),
    #[error("the connection is gone")]
    Gone(#[from] io::Error),
}
