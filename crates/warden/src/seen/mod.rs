//! What the kernel tells of what is done in a cell: which process sent a packet, what is run, how it ends, which files of datasets are
//! opened, what Landlock denied.
//!
//! It observes, and never decides: whatever it can't tell is unknown in an entry, and nothing passes or stops for it.

mod arguments;
mod audit;
mod denials;
mod ended;
mod ends;
mod eyes;
mod forbidden;
mod instructions;
mod losses;
mod opens;
mod processes;
mod runs;
mod senders;

pub use arguments::of as arguments_of;
pub use audit::{Audit, Heard};
pub use denials::Denials;
pub use ended::Endings;
pub use ends::{Ends, Told, is_told};
pub use eyes::{Eyes, Opened, Purpose, Word};
pub use forbidden::Forbiddens;
pub use losses::Losses;
pub use opens::Opens;
pub use processes::{Doer, look, waiting};
pub use runs::{Run, Runs};
pub use senders::{Groups, Packet, Senders};
