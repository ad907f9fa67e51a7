//! What a cell is made of, as plain data, and the orders that ask the warden for one.
//!
//! A [`Plan`] follows from a permit alone: mounts, destinations, limits, walls. The gateway writes its digest into the session's
//! opening entry; the warden makes the same plan from its own copy of the permit and refuses to build another. This crate
//! renders and encodes; it never touches the kernel, files or the clock.

mod denied;
pub mod filesystem;
pub mod naming;
pub mod order;
mod plan;
mod render;
pub mod ruleset;
pub mod syscalls;

pub use denied::Denied;
pub use order::{Order, Report};
pub use plan::{Allowed, Limits, NamedHosts, Plan, PlanDigest};

#[cfg(test)]
mod tests;
