//! The researcher's end of a session: from a profile over QUIC or TLS to an open session, and through it to its close.
//!
//! [`Profile::load`] says which gateway, whom to trust and who one is. [`connect`], [`sessions`] and [`end_session`] each dial
//! the gateway, say what they want, and wait for its answer: TLS 1.3 lets a client believe in success before the server has
//! judged its certificate, so a [`Session`] is made of nothing less than the gateway's welcome. A [`Session`] has two ends that do
//! not wait for each other: a [`Keyboard`] and a [`Screen`].
//!
//! A session that the gateway keeps when its connection is lost is taken up again over another one: [`Screen::take_up`], [`take_up`].
//!
//! This crate touches no terminal, prints nothing, resumes no TLS session and sends no early data. It trusts the one authority
//! that the profile names and never the system's. What the gateway says in words is freed of control characters here; what the
//! terminal shows is passed on as it came.

mod dial;
mod ending;
mod error;
mod files;
mod link;
mod open;
mod profile;
mod sending;
mod session;
mod tls;
mod words;

pub use dial::{Carrier, QUIC_PATIENCE, Transport};
pub use error::{DialError, GatewayFault, Refused, SessionError};
pub use open::{Terminal, connect, delete_workspace, denials, end_session, own_sessions, sessions, take_up, workspaces};
pub use profile::{Notices, PROFILE_BYTES_MAX, Profile, ProfileError};
pub use session::{By, Event, Keyboard, Over, Screen, Session, TakenUp};

#[cfg(test)]
mod tests;
