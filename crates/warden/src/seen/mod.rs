//! What the kernel tells of who did something in a cell: which process sent a packet, and what it ran.
//!
//! It observes, and never decides: whatever it can't tell is unknown in an entry, and no packet passes or stops for it.

mod denials;
mod instructions;
mod losses;
mod processes;
mod senders;

pub use denials::Denials;
pub use losses::Losses;
pub use processes::{Doer, look};
pub use senders::{Groups, Packet, Senders};
