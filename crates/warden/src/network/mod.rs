//! Everything of the network: the router between cells and the world, its rules, and what it sees.
//!
//! The router is a network namespace without a name. It exists as long as the warden holds its descriptor: a warden that dies
//! leaves no rule and no interface. Cells have no way out but through it. IPv6 is off, there and in cells.

mod batch;
mod budgets;
mod changes;
mod contents;
mod drift;
mod elements;
mod grant;
mod named;
pub mod netlink;
mod pool;
mod repair;
mod router;
mod routes;
mod rules;
mod watch;

pub use changes::Foreign;
pub use drift::Drift;
pub use elements::{Admitted, Passage};
pub use grant::Grant;
pub use named::{Look, Way};
pub use pool::{CellNetwork, Pool};
pub use repair::{Mending, Wanted};
pub use router::{CellLink, NetworkError, Router, overlap};
pub use rules::NFT;
pub use watch::{Denial, Flow, Sighting, Watch};
