//! What the acceptance tests share: one environment for all that do not break it, and the peers that others wrote.
//!
//! A test here meets the product as its users do: through `sulku`, through sockets, through the ledger's entries. It uses no
//! inner function of any daemon, and it never passes without having run: what is missing is a failure with its reason.

mod peers;
mod shared;

pub use peers::{Answer, openssl, quic};
pub use shared::{SEVERAL, STAMPED, close_shared, shared};
