//! The terms of a session: how long, how many, from where, on what, and what is recorded of it.

use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use super::Place;
use crate::hours::Hours;

/// How long a session lasts, how many there are, from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions that one person may have open at once.
    pub max_per_person: u32,
    /// Sessions that all holders together may have open at once; none but the persons' own bound where the permit says nothing.
    pub max_at_once: Option<u32>,
    /// The longest a session lasts.
    pub max_length: Duration,
    /// A session without input for this long is closed.
    pub idle_disconnect: Duration,
    /// A session without a connection for this long is closed; `None`: it ends with its connection.
    pub max_detached: Option<Duration>,
    /// The networks a holder may connect from; never empty.
    pub from_networks: Vec<IpNet>,
    /// Where the networks are listed.
    pub from_networks_at: Place,
    /// When sessions may be open; always, where the permit says nothing.
    pub hours: Option<Hours>,
}

/// How strongly a cell is isolated, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// Landlock and seccomp, no network at all.
    NoNetwork,
    /// User namespaces, no privileged process.
    Rootless,
    /// A privileged warden with namespaces, nftables, control groups.
    Root,
}

impl Rung {
    /// All of them, the weakest first.
    pub const ALL: &[Self] = &[Self::NoNetwork, Self::Rootless, Self::Root];

    /// As permits, entries and the warden write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoNetwork => "no-network",
            Self::Rootless => "rootless",
            Self::Root => "root",
        }
    }
}

impl FromStr for Rung {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, &'static str> {
        Self::ALL.iter().copied().find(|rung| rung.name() == text).ok_or("write \"root\", \"rootless\" or \"no-network\"")
    }
}

/// Which programs run in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Programs {
    /// Those of its system, and those that a holder makes or brings.
    Anywhere,
    /// Those of its system.
    ImageOnly,
}

impl Programs {
    /// As in a permit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anywhere => "anywhere",
            Self::ImageOnly => "image-only",
        }
    }
}

/// What one session may use up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: u32,
}

/// What is recorded of a session, how surely, and for how long it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// What is recorded of its terminal.
    pub terminal: TerminalRecording,
    /// When output is shown: before or after its recording is durable.
    pub durability: Durability,
    /// Whole days, counted from the session's opening, before which the recording may not be deleted.
    pub retention_days: u32,
}

/// What is recorded of a terminal. Output always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminalRecording {
    /// All output, and when the holder typed; never what she typed.
    OutputAndInputTiming,
    /// All output, and what the holder typed, passwords included.
    OutputAndInput,
}

/// When a terminal's output is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once its recording is durable.
    Strict,
    /// At once, while little of it is not durable yet.
    Windowed,
}

impl Durability {
    /// As permits and entries write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Windowed => "windowed",
        }
    }
}

impl TerminalRecording {
    /// As permits and entries write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutputAndInputTiming => "output-and-input-timing",
            Self::OutputAndInput => "output-and-input",
        }
    }
}
