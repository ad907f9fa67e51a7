//! The syslog sink: RFC 5424 messages over TLS as RFC 5425 has them, and the one sign of receipt that this gives.
//!
//! Syslog has no acknowledgement, and what lies in a kernel's buffer when a receiver dies is gone. So entries count as received only
//! when the receiver has closed its end of the connection in order after ours was closed: it has then read every byte before. The
//! sink closes and opens its connection for that, every [`SyslogSettings::confirm_every`] while there is something to confirm. A
//! connection that ends otherwise confirms nothing, and what it carried is sent again. What a receiver does with what it has read is
//! beyond anybody's reach here.

mod connection;
mod message;

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::config::SyslogSettings;
use crate::sink::{Record, Sink, SinkError};
use connection::Connection;

/// Sends events to a syslog receiver.
pub(crate) struct SyslogSink {
    settings: SyslogSettings,
    origin: String,
    tls: Arc<ClientConfig>,
    connection: Option<Connection>,
}

impl SyslogSink {
    pub(crate) const fn new(settings: SyslogSettings, origin: String, tls: Arc<ClientConfig>) -> Self {
        Self { settings, origin, tls, connection: None }
    }

    async fn connect(&self) -> Result<Connection, SinkError> {
        Connection::open(&self.settings, Arc::clone(&self.tls)).await
    }
}

impl Sink for SyslogSink {
    async fn open(&mut self, next: u64) -> Result<u64, SinkError> {
        self.connection = None;
        self.connection = Some(self.connect().await?);
        Ok(next)
    }

    async fn deliver(&mut self, records: &[Record]) -> Result<(), SinkError> {
        let mut frames = Vec::new();
        for record in records {
            message::push_frame(&mut frames, record, &self.origin, &self.settings);
        }
        let mut connection = match self.connection.take() {
            // A receiver may close a connection that carries nothing.
            Some(connection) if connection.is_fresh() && connection.is_gone() => self.connect().await?,
            Some(connection) => connection,
            None => return Err(SinkError::Foreign("the connection is not open".to_owned())),
        };
        connection.send(&frames).await?;
        self.connection = Some(connection);
        Ok(())
    }

    async fn confirm(&mut self) -> Result<(), SinkError> {
        let connection = self.connection.take().ok_or_else(|| SinkError::Foreign("the connection is not open".to_owned()))?;
        connection.close().await?;
        // A receiver that was killed in this moment closes its connections too; one that takes a new one lives.
        self.connection = Some(self.connect().await?);
        Ok(())
    }

    fn confirm_every(&self) -> Duration {
        self.settings.confirm_every
    }
}
