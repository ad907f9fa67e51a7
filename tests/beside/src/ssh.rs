//! A client of OpenSSH's server inside this process, so that both sides are asked by the same kind of client and no program has to start.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use russh::client::{Config, Handle, Handler, Msg, connect};
use russh::keys::{Certificate, PrivateKey, PublicKeyOrCertificate, load_openssh_certificate, load_secret_key};
use russh::{Channel, ChannelMsg, Disconnect, Preferred, cipher, kex};

use crate::sshd::{ACCOUNT, Keys, Sshd};

/// What is ended by Ctrl-C has by then.
const LAST_WORDS: Duration = Duration::from_millis(500);
const FAREWELL: Duration = Duration::from_secs(20);

/// Whoever holds the account's key.
#[derive(Clone)]
pub struct Account {
    port: u16,
    key: Arc<PrivateKey>,
    certificate: Certificate,
    config: Arc<Config>,
}

impl Account {
    /// That of this server.
    ///
    /// # Errors
    /// Its key or certificate can't be read.
    pub fn of(sshd: &Sshd) -> anyhow::Result<Self> {
        let algorithm = match sshd.keys {
            Keys::Ed25519 => russh::keys::Algorithm::Ed25519,
            Keys::Ecdsa => russh::keys::Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 },
        };
        let preferred = Preferred {
            kex: Cow::Borrowed(&[kex::CURVE25519]),
            key: Cow::Owned(vec![algorithm]),
            // The fastest of both sides.
            cipher: Cow::Borrowed(&[cipher::AES_128_GCM]),
            ..Preferred::DEFAULT
        };
        let config = Arc::new(Config { preferred, nodelay: true, ..Config::default() });
        let certificate = load_openssh_certificate(sshd.certificate())?;
        Ok(Self { port: sshd.port, key: Arc::new(load_secret_key(sshd.key(), None)?), certificate, config })
    }

    /// A session with a terminal: the account's login shell, or this script.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn open(&self, script: Option<&str>) -> anyhow::Result<Session> {
        let mut handle = connect(Arc::clone(&self.config), ("127.0.0.1", self.port), AnyHost).await?;
        let admitted = handle.authenticate_openssh_cert(ACCOUNT, Arc::clone(&self.key), self.certificate.clone()).await?;
        ensure!(admitted.success(), "sshd refuses the certificate");
        let channel = handle.channel_open_session().await?;
        channel.request_pty(false, "xterm", 80, 24, 0, 0, &[]).await?;
        match script {
            None => channel.request_shell(false).await?,
            Some(script) => channel.exec(false, script).await?,
        }
        Ok(Session { handle, channel })
    }
}

/// The host is this one.
struct AnyHost;

impl Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// A session that is open.
pub struct Session {
    handle: Handle<AnyHost>,
    channel: Channel<Msg>,
}

impl Session {
    /// What its terminal shows next; nothing when it is over.
    pub async fn output(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.channel.wait().await? {
                ChannelMsg::Data { data } => return Some(data.to_vec()),
                ChannelMsg::Close => return None,
                _ => {}
            }
        }
    }

    /// Types.
    ///
    /// # Errors
    /// It is over.
    pub async fn types(&self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.channel.data_bytes(bytes.to_vec()).await?)
    }

    /// Ends what runs in it, as far as that hears Ctrl-C: `script` goes on when its terminal is gone.
    pub async fn interrupt(&mut self) {
        const CTRL_C: &[u8] = &[3];
        // What has ended already hears nothing more.
        let _over = self.types(CTRL_C).await;
        let _rest = tokio::time::timeout(LAST_WORDS, async { while self.output().await.is_some() {} }).await;
    }

    /// Leaves it, without waiting for what runs in it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn close(self) -> anyhow::Result<()> {
        let Self { handle, channel } = self;
        // Output that nobody reads would stand before the farewell.
        drop(channel);
        handle.disconnect(Disconnect::ByApplication, "", "").await.context("leaving sshd")?;
        // However it ends, it has ended.
        let _ended = tokio::time::timeout(FAREWELL, handle).await.context("sshd does not hang up")?;
        Ok(())
    }
}
