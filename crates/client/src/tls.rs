//! TLS as the client speaks it: 1.3 only, the hybrid post-quantum key exchange first, one authority, no resumption, no early data.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use sulku_protocol::{ALPN, OUTPUT_CREDIT_BYTES};

use crate::profile::Profile;

/// Shorter than the time for which any usual address translator remembers a flow.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A connection without a sign of life for this long is lost.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(60);
/// Output is bounded by the credit already; twice that leaves room for frames beside it.
const RECEIVE_WINDOW_BYTES: u32 = 2 * OUTPUT_CREDIT_BYTES;
/// Typing and pasting wait in the sender's own channels rather than here, where a signal would wait behind them.
const SEND_WINDOW_BYTES: u64 = 64 * 1024;

/// TLS over TCP.
pub(crate) fn over_tcp(profile: &Profile) -> rustls::ClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites for TLS 1.3");
    let mut config = builder.with_root_certificates(Arc::clone(profile.authority())).with_client_cert_resolver(Arc::clone(profile.credential()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// The same inside QUIC.
pub(crate) fn over_quic(profile: &Profile) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(over_tcp(profile)).expect("the provider has TLS13_AES_128_GCM_SHA256, which QUIC begins with");
    let mut transport = quinn::TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE_MAX.try_into().expect("a minute is less than 2^62 ms")))
        .stream_receive_window(RECEIVE_WINDOW_BYTES.into())
        .receive_window(RECEIVE_WINDOW_BYTES.into())
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_bidi_streams(0_u8.into())
        .max_concurrent_uni_streams(0_u8.into())
        .datagram_receive_buffer_size(None);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    config
}

/// The same signs of life for TCP as QUIC has of its own.
pub(crate) fn keep_alive(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(IDLE_MAX.as_millis()).expect("a minute is less than 2^32 ms"))?;
    Ok(())
}
