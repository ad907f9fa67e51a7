//! An entry of the ledger as `sulku audit list --json` prints it: read by name, not by the program's own types, as any auditor's
//! script would.

use serde_json::Value;

use crate::error::StageError;

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry(Value);

impl Entry {
    pub(crate) fn parse(line: &str) -> Result<Self, StageError> {
        serde_json::from_str(line).map(Self).map_err(|error| StageError::Unexpected { what: format!("no entry: {error}: {line}") })
    }

    /// Its number in the log.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.0["index"].as_u64().unwrap_or(u64::MAX)
    }

    /// A field of the entry itself, such as `event` or `session`, the person by her name; empty when it has none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.0["opened"][name].as_str().or(self.entry()[name].as_str()).unwrap_or_default()
    }

    /// A field of what happened, also a private one.
    #[must_use]
    pub fn data(&self, name: &str) -> &Value {
        let opened = &self.0["opened"]["data"][name];
        if opened.is_null() { &self.entry()["data"][name] } else { opened }
    }

    fn entry(&self) -> &Value {
        &self.0["entry"]
    }
}
