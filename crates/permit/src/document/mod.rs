//! The way from the text of a file to values: a permit with its cases, and what several permits share.
//!
//! The shape of each file is taken apart field by field, so that a new field that nobody handles does not compile. What this version
//! does not do yet parses, is checked, and is refused: a permit that asks for more than is built must not be in force without it.

mod case;
mod measure;
mod people;
mod permit;
mod reach;
mod reader;
mod shared;
mod terms;

pub(crate) use case::socket;
pub use case::{Case, Expected};
pub use permit::{PermitFile, parse, parse_with};
pub use reader::PERMIT_BYTES_MAX;
pub use shared::{Shared, SharedKind, parse_halt};
