//! How a client over QUIC learns at once that its gateway was started anew: by a stateless reset (RFC 9000 section 10.3).
//!
//! A gateway can send one only with the token that the one before it gave out with the connection. Tokens follow from the gateway's private
//! key, so they outlive the process, and nobody else can make them. Decides nothing of who may connect.

use std::sync::Arc;

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

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
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
}
