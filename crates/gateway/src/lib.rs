//! Listeners, handshake, identity and relay.
