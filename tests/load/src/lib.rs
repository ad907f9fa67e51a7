//! What many sessions at once need besides the product itself.

pub mod played;
