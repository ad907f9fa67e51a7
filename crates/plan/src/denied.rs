//! What a cell tried and did not get, as the warden tells the gateway, for the holder to read.
//!
//! The ledger has it already, and more of it: this is a courtesy, rationed, and nothing depends on it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Something that was denied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denied {
    /// The name that it was about, if one is known; what a cell wrote, made plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it was bound for, unless it was a question for a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// The port there; 0 where there is none.
    pub port: u16,
    /// The IP protocol's number.
    pub protocol: u8,
    /// The reason's stable name, as in the entry.
    pub reason: String,
    /// Others of this session before it of which nothing was told.
    pub more: u64,
}
