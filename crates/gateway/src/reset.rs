//! How a client over QUIC learns at once that its gateway was started anew: by a stateless reset (RFC 9000 section 10.3).
//!
//! A gateway can send one only with the token that the one before it gave out with the connection. Tokens follow from the gateway's private
//! key, so they outlive the process, and nobody else can make them. Decides nothing of who may connect.

use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac as _};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use sha2::Sha256;

/// The bytes of a connection id.
const ID_BYTES: usize = 8;

/// What a gateway's reset tokens are made with.
#[derive(Clone)]
pub struct ResetKey(Hmac<Sha256>);

impl std::fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResetKey(..)")
    }
}

impl ResetKey {
    /// The one that goes with a private key.
    #[must_use]
    pub fn of(private_key: &[u8]) -> Self {
        Self(keyed(&keyed(private_key).chain_update(b"sulku-quic-reset/1").finalize().into_bytes()))
    }

    /// The configuration of an endpoint that has it.
    #[must_use]
    pub fn endpoint(&self) -> EndpointConfig {
        let mut config = EndpointConfig::new(Arc::new(self.clone()));
        config.cid_generator(|| Box::new(Ids));
        // All clients of the gateway before ask at the same time, and each that is not answered asks again only after twice as long. A reset is
        // smaller than what it answers (RFC 9000 section 10.3.3): it neither amplifies nor goes round in circles.
        config.min_reset_interval(Duration::ZERO);
        config
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let mac = self.0.clone().chain_update(data).finalize().into_bytes();
        signature_out.iter_mut().zip(mac).for_each(|(out, byte)| *out = byte);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.clone().chain_update(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// Connection ids at random. quinn's own are made with a key of the process, and it answers nothing about others' ids.
struct Ids;

impl ConnectionIdGenerator for Ids {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        // Without randomness no session opens either; an id that comes twice only breaks its connection.
        if let Err(error) = getrandom::fill(&mut id) {
            tracing::error!(%error, "the kernel gives no randomness");
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_that_of_the_private_key_and_of_no_other() {
        let token = |key: &[u8]| {
            let mut token = [0; 16];
            ResetKey::of(key).sign(b"an id", &mut token);
            token
        };
        assert_eq!(token(b"a key"), token(b"a key"), "also in another process");
        assert_ne!(token(b"a key"), token(b"another"));
    }

    #[tokio::test]
    async fn every_client_of_the_gateway_before_is_answered_also_when_all_ask_at_once() {
        const CLIENTS: u8 = 50;
        let bind = || std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let (socket, client) = (bind(), tokio::net::UdpSocket::from_std(nonblocking(bind())).expect("a socket"));
        let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(server).expect("a configuration for QUIC");
        let runtime = quinn::default_runtime().expect("a runtime");
        let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        let gateway = quinn::Endpoint::new(ResetKey::of(b"a key").endpoint(), Some(config), socket, runtime).expect("an endpoint");
        let to = gateway.local_addr().expect("an address");
        for number in 0..CLIENTS {
            // A short header (RFC 9000 section 17.3.1) with the id of a connection that this gateway does not have.
            let mut packet = [number; 64];
            packet[0] = 0x40;
            client.send_to(&packet, to).await.expect("sent");
        }
        for number in 0..CLIENTS {
            let answer = tokio::time::timeout(Duration::from_secs(20), client.recv(&mut [0; 64])).await;
            assert!(answer.is_ok_and(|answer| answer.is_ok_and(|bytes| bytes < 64)), "{number} of {CLIENTS} are answered");
        }
    }

    fn nonblocking(socket: std::net::UdpSocket) -> std::net::UdpSocket {
        socket.set_nonblocking(true).expect("a socket that can be waited for");
        socket
    }
}
