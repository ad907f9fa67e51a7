//! Everything that is worth an entry, as a closed set with stable names and codes.
//!
//! A [`Draft`] is what a process asks the ledger to keep; the ledger adds number, time, counters and salt and makes it an entry.
//! A name or a field never changes its meaning; new ones are added.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sulku_permit::{HolderId, PermitId, Protocol, RefusalCode, SessionId};

/// What a process asks the ledger to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The permit it is about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<PermitId>,
    /// The session it is about, if one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// The person it is about: holder, operator or auditor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<HolderId>,
    /// What happened.
    pub event: Event,
}

impl Draft {
    /// An event that is about no permit, session or person.
    #[must_use]
    pub const fn new(event: Event) -> Self {
        Self { permit: None, session: None, person: None, event }
    }
}

/// Who may write an event. The ledger knows it by the peer's user id and refuses the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Writer {
    /// The ledger itself.
    Ledger,
    /// The gateway.
    Gateway,
    /// The warden.
    Warden,
}

/// How a session came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloseReason {
    /// The holder left, or her connection broke.
    HolderLeft,
    /// The shell or the command ended.
    ShellExited,
    /// No input for as long as the permit allows.
    Idle,
    /// The longest session that the permit allows.
    LongestSession,
    /// The permit, her part in it, or her certificate ended.
    PermitEnded,
    /// The certificate was revoked.
    Revoked,
    /// An operator ended it.
    Operator,
    /// The gateway was stopped.
    Drain,
    /// The peer broke the protocol.
    ProtocolError,
    /// The audit could not keep what had to be kept.
    AuditFailed,
    /// The cell could not be built, or broke.
    CellFailed,
    /// The gateway died; the warden closed what it left.
    GatewayLost,
    /// The warden died, and the cells with it.
    WardenLost,
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $wire:literal $code:literal $writer:ident { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {
        /// Everything that is worth an entry.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "event", content = "data", deny_unknown_fields)]
        pub enum Event {
            $($(#[$doc])* #[serde(rename = $wire)] $name { $($(#[$fdoc])* $field: $type,)* },)*
        }

        impl Event {
            /// Each event's name, code and writer, in the order of this file.
            pub const TABLE: &[(&str, &str, Writer)] = &[$(($wire, $code, Writer::$writer),)*];

            /// The stable name, such as `session.opened`.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$name { .. } => $wire,)* }
            }

            /// The stable code, such as `SLK2002I`; the last letter is I (information), W (a wall held) or E (a failure).
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$name { .. } => $code,)* }
            }

            /// The only process that may write it.
            #[must_use]
            pub const fn writer(&self) -> Writer {
                match self { $(Self::$name { .. } => Writer::$writer,)* }
            }
        }
    };
}

events! {
    /// The ledger began to accept entries.
    LedgerStarted "ledger.started" "SLK1001I" Ledger {
        /// Program version.
        version: String,
        /// Entries found at start.
        entries: u64,
        /// Bytes of an unfinished write that were dropped; nobody had a receipt for them.
        dropped_bytes: u64,
    }
    /// The ledger stopped in order.
    LedgerStopped "ledger.stopped" "SLK1002I" Ledger {
        /// Why.
        reason: String,
    }
    /// An auditor or operator read entries or a recording. Written before the answer is given.
    AuditRead "audit.read" "SLK1101I" Ledger {
        /// The reader's user id on the ledger's host.
        uid: u32,
        /// What was asked for, in words.
        what: String,
    }

    /// The gateway accepts connections.
    GatewayStarted "gateway.started" "SLK2001I" Gateway {
        /// Program version.
        version: String,
        /// Address and port, TCP and UDP.
        listen: SocketAddr,
        /// Isolation rung that the warden reports.
        rung: String,
        /// What holds the gateway itself: Landlock and seccomp, in words.
        confinement: String,
    }
    /// The gateway stopped in order.
    GatewayStopped "gateway.stopped" "SLK2002I" Gateway {
        /// Why.
        reason: String,
        /// Sessions that were closed for it.
        sessions_closed: u64,
    }
    /// A permit is in force.
    PermitLoaded "permit.loaded" "SLK2101I" Gateway {
        /// Its file.
        file: String,
        /// SHA-256 of the file, in hexadecimal.
        sha256: String,
    }
    /// A permit's file was refused.
    PermitRefused "permit.refused" "SLK2102E" Gateway {
        /// Its file.
        file: String,
        /// The problems, each with line and column; at most the first ten.
        problems: Vec<String>,
    }
    /// A list of revoked certificates is in force.
    CrlLoaded "crl.loaded" "SLK2103I" Gateway {
        /// Its file.
        file: String,
        /// SHA-256 of the file, in hexadecimal.
        sha256: String,
    }
    /// A peer's certificate was refused during the handshake.
    CertificateRefused "certificate.refused" "SLK2201W" Gateway {
        /// What the peer is told.
        code: RefusalCode,
        /// Why, in words.
        reason: String,
        /// The certificate's serial number in hexadecimal, if it could be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serial: Option<String>,
        /// SHA-256 of the certificate in hexadecimal, if one came.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        certificate_sha256: Option<String>,
        /// Where the peer is.
        from: IpAddr,
        /// `tls` or `quic`.
        transport: String,
    }
    /// A peer broke the protocol, and its connection was closed.
    ProtocolViolated "protocol.violated" "SLK2202W" Gateway {
        /// What it did.
        reason: String,
        /// Where it is.
        from: IpAddr,
        /// `tls` or `quic`.
        transport: String,
    }
    /// A session was refused.
    SessionRefused "session.refused" "SLK2203W" Gateway {
        /// What the peer was told.
        code: RefusalCode,
        /// Why, in words.
        reason: String,
        /// The permit's line that decided, as `file:line`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// Where the peer is.
        from: IpAddr,
        /// `tls` or `quic`.
        transport: String,
    }
    /// A session is about to open. Nothing of it exists before this entry is durable.
    SessionOpened "session.opened" "SLK2301I" Gateway {
        /// Where the holder is.
        from: IpAddr,
        /// `tls` or `quic`.
        transport: String,
        /// The identity that matched, as the permit writes it.
        identity: String,
        /// The permit's line that admits her, as `file:line`.
        at: String,
        /// The command, if she asked for one instead of a shell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<Vec<String>>,
        /// When the session ends at the latest.
        ends: Timestamp,
        /// SHA-256 of the plan that the cell must follow, in hexadecimal.
        plan: String,
        /// Isolation rung.
        rung: String,
        /// The client's version, as it says.
        client: String,
    }
    /// A session is closed: its totals.
    SessionClosed "session.closed" "SLK2302I" Gateway {
        /// Why.
        reason: CloseReason,
        /// Bytes of terminal output shown.
        bytes_out: u64,
        /// Bytes of input taken.
        bytes_in: u64,
        /// How long it was open, in milliseconds.
        duration_ms: u64,
        /// The shell's exit status, if it ended by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_status: Option<i32>,
        /// Recording chunks kept.
        chunks: u64,
    }
    /// Bytes that would write the holder's clipboard or move files were taken out of the terminal's output.
    SequenceRemoved "terminal.sequence-removed" "SLK2401W" Gateway {
        /// Which kind, such as `osc-52`.
        kind: String,
        /// How many since the last such entry of this kind.
        count: u64,
        /// How many bytes.
        bytes: u64,
    }
    /// A piece of a session's recording, durable before it is shown.
    RecordingChunk "recording.chunk" "SLK2402I" Gateway {
        /// Its number in the session, from 0.
        chunk: u64,
        /// Where it begins in the recording's file.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// SHA-256 of the chunk, in hexadecimal.
        sha256: String,
    }
    /// An operator did something.
    OperatorActed "operator.acted" "SLK2501I" Gateway {
        /// What: `sessions-listed` or `session-ended`.
        action: String,
        /// Where the operator is.
        from: IpAddr,
    }

    /// The warden accepts orders.
    WardenStarted "warden.started" "SLK3001I" Warden {
        /// Program version.
        version: String,
        /// Isolation rung.
        rung: String,
        /// The kernel's release.
        kernel: String,
        /// Landlock's ABI version.
        landlock_abi: u32,
        /// SHA-256 of the nftables ruleset as rendered, in hexadecimal.
        ruleset: String,
    }
    /// The warden stopped in order.
    WardenStopped "warden.stopped" "SLK3002I" Warden {
        /// Why.
        reason: String,
    }
    /// The warden refused an order: the gateway asked for more than a permit gives, or out of phase.
    OrderRefused "warden.order-refused" "SLK3003E" Warden {
        /// The order's name.
        order: String,
        /// Why.
        reason: String,
    }
    /// The gateway's connection to the warden broke; its cells have neither input nor egress from here on.
    GatewayLost "warden.gateway-lost" "SLK3004E" Warden {
        /// Cells that it left.
        cells: u64,
        /// After how many seconds they are reaped, unless a gateway takes them over.
        grace_s: u64,
    }
    /// A cell runs.
    CellLaunched "cell.launched" "SLK3101I" Warden {
        /// Its first process, on the host.
        pid: u32,
        /// Isolation rung.
        rung: String,
        /// Landlock's ABI version and how fully it is enforced, in words.
        landlock: String,
        /// SHA-256 of the seccomp programme, in hexadecimal.
        seccomp: String,
        /// SHA-256 of the plan, in hexadecimal.
        plan: String,
        /// The cell's address behind the router.
        address: IpAddr,
    }
    /// A cell is gone.
    CellReaped "cell.reaped" "SLK3102I" Warden {
        /// Why.
        reason: CloseReason,
        /// What it used: processor time in milliseconds.
        cpu_ms: u64,
        /// What it used: most memory at once, in bytes; 0 where the kernel does not tell.
        memory_peak_bytes: u64,
        /// What could not be removed; empty when all is gone.
        leftovers: Vec<String>,
    }
    /// A cell tried to reach what its permit does not list.
    EgressDenied "egress.denied" "SLK3201W" Warden {
        /// The IP protocol's number.
        protocol: u8,
        /// Where it wanted to.
        destination: IpAddr,
        /// The port there; 0 for protocols without.
        port: u16,
        /// Denied packets to the same destination since the last such entry that were counted but have no entry of their own.
        suppressed: u64,
    }
    /// A flow to a listed destination has ended.
    EgressAllowed "egress.allowed" "SLK3202I" Warden {
        /// TCP or UDP.
        protocol: Protocol,
        /// Where to.
        destination: IpAddr,
        /// The port there.
        port: u16,
        /// Bytes sent by the cell, IP headers included.
        bytes_out: u64,
        /// Bytes received by the cell, IP headers included.
        bytes_in: u64,
        /// The permit's line that allows it, as `file:line`.
        at: String,
    }
}
