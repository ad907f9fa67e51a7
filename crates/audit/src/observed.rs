//! What the kernel tells of a cell, as entries write it: by which process, why not, and what it could not tell.
//!
//! Knows no kernel: these are words.

use serde::{Deserialize, Serialize};

/// A process of a cell. Numbers are used again: it is meant at the time of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    /// Its id in the cell, as the cell's own programmes show it; absent where it was gone before it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_cell: Option<u32>,
}

/// How a programme in a cell ended: with a status, or by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramEnd {
    /// The process that ran it, as in its `program.run`.
    pub process: Process,
    /// Its exit status, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u8>,
    /// The number of the signal that ended it, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// For how long it ran, in milliseconds; of a process that ran several, the last that has an entry.
    pub duration_ms: u64,
}

/// Why a packet did not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WhyDenied {
    /// The permit does not list the destination.
    #[serde(rename = "egress-not-listed")]
    NotListed,
    /// The cell wrote another sender's address than its own.
    #[serde(rename = "egress-spoofed")]
    Spoofed,
    /// The session has sent or received as much as the permit allows.
    #[serde(rename = "egress-over-quota")]
    OverQuota,
    /// The session begins connections faster than the permit allows.
    #[serde(rename = "egress-too-fast")]
    TooFast,
}

impl WhyDenied {
    /// Its stable name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotListed => "egress-not-listed",
            Self::Spoofed => "egress-spoofed",
            Self::OverQuota => "egress-over-quota",
            Self::TooFast => "egress-too-fast",
        }
    }
}

/// What came of a change of the router's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftOutcome {
    /// The rules are as they were before it.
    Mended,
    /// They are not: all cells are frozen, and none is launched.
    Frozen,
}

/// What the kernel tells of, and may fail to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed {
    /// Denied packets.
    DeniedPackets,
    /// Flows that ended.
    EndedFlows,
    /// Programmes that were run.
    Programs,
    /// Files of datasets that were opened.
    DatasetFiles,
    /// What Landlock denied.
    DeniedAccess,
}

impl Observed {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::DeniedPackets => "denied packets",
            Self::EndedFlows => "ended flows",
            Self::Programs => "programmes run",
            Self::DatasetFiles => "opened files of datasets",
            Self::DeniedAccess => "what Landlock denied",
        }
    }
}
