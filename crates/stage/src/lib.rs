//! A whole environment, raised on this machine from throw-away parts: an authority that lives twelve hours, persons, a
//! synthetic register, permits, a mirror and a stranger's host in network namespaces of their own, and the three daemons, each
//! its own process as in production. An ordinary user gets all of it in namespaces of her own, on the rung `rootless`.
//!
//! `sulku demo` shows it and the acceptance tests try it. It takes part in nothing that it shows: it never speaks the
//! protocol, reads no secret but those it made, and relaxes no check. What it judges, it judges from outside: exit codes, output,
//! the ledger, and what arrived at a host. When it is dropped, nothing of it is left on the machine.

mod authority;
mod command;
mod daemon;
mod disk;
mod entry;
mod error;
mod ground;
mod host;
mod instance;
mod leftover;
mod names;
mod permits;
mod register;
mod stage;
mod tamper;

pub use authority::{Authority, Person};
pub use command::{Finished, Interrupt, Running, find_in, poll};
pub use daemon::Daemon;
pub use disk::Disk;
pub use entry::Entry;
pub use error::StageError;
pub use ground::Ground;
pub use host::{Arrival, Host};
pub use leftover::Leftover;
pub use permits::{ASTHMA, PermitFile, STATINS};
pub use register::REGISTER_ROWS;
pub use stage::{MIRROR_NAME, Options, Stage};
pub use tamper::{copy_folder, flip_in_entry};
