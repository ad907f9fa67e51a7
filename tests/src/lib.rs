//! What the acceptance tests share: one environment for all that do not break it, and the peers that others wrote.
//!
//! A test here meets the product as its users do: through `sulku`, through sockets, through the ledger's entries. It uses no
//! inner function of any daemon, and it never passes without having run: what is missing is a failure with its reason.

mod datagrams;
mod peers;
mod session;
mod shared;
mod terminal;

pub use datagrams::{Datagrams, SILENCE};
pub use peers::{Answer, hello, openssl, openssl_held, quic, quic_held};
pub use session::{SOON, closed, session_id, session_of};
pub use shared::{ABANDONED, AGAIN, BY_NAME, HERE_ALONE, IDLE, LIMIT_S, LONGEST, SINGLE, close_shared, shared};
pub use terminal::{AtTerminal, Wire};
