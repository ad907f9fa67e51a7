//! Everything that is worth an entry, as a closed set with stable names and codes.
//!
//! A [`Draft`] is what a process asks the ledger to keep; the ledger adds number, time, counters and salt and makes it an entry.
//! A name or a field never changes its meaning; new ones are added. What names or quotes a person is [`Private`]: a draft has it, a
//! leaf has it only sealed ([`crate::personal`]).

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sulku_permit::{HolderId, PermitId, Protocol, RefusalCode, SessionId};

use crate::ending::CloseReason;
use crate::observed::{DriftOutcome, Observed, Process, ProgramEnd, WhyDenied};
use crate::personal::Private;

/// Whether a part of a recording is the first, as nearly all are: then it is not written.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_first(part: &u32) -> bool {
    *part == 0
}

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

impl Writer {
    /// Its name, as entries write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Gateway => "gateway",
            Self::Warden => "warden",
        }
    }
}

/// Whether an event has something private, and whether that stands open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// It has nothing private.
    Nothing,
    /// All that is private is sealed.
    Sealed,
    /// Something private stands open.
    Open,
}

/// A permit and those who hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldPermit {
    /// The permit.
    pub permit: PermitId,
    /// Its holders.
    pub holders: Vec<HolderId>,
}

/// What a list of holders is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Of all permits: who is not listed holds none.
    Whole,
    /// Of those permits that changed.
    Changes,
}

/// Writes a private field's value as JSON; `None` if it is not known.
type WriteField<'f> = &'f dyn Fn(&mut Vec<u8>) -> Option<()>;

fn write_fields(fields: &mut [(&'static str, WriteField<'_>)], text: &mut Vec<u8>) -> Result<(), &'static str> {
    if fields.is_empty() {
        return Ok(());
    }
    fields.sort_unstable_by_key(|(name, _)| *name);
    let mut before: &[u8] = b"{\"";
    for (name, write) in fields {
        text.extend_from_slice(before);
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"\":");
        write(text).ok_or(*name)?;
        before = b",\"";
    }
    text.push(b'}');
    Ok(())
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident $wire:literal $code:literal $writer:ident
        { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* }
        $(+ private { $($(#[$pdoc:meta])* $private:ident: $private_type:ty,)* })?
    )*) => {
        /// Everything that is worth an entry.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "event", content = "data", deny_unknown_fields)]
        pub enum Event {
            $($(#[$doc])* #[serde(rename = $wire)] $name {
                $($(#[$fdoc])* $field: $type,)*
                $($($(#[$pdoc])* #[serde(default, skip_serializing_if = "Private::is_sealed")] $private: Private<$private_type>,)*)?
            },)*
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

            /// Writes its private fields as one JSON object, in the order of their names; nothing if it has none.
            ///
            /// # Errors
            /// The field that is sealed, or can't be written.
            pub(crate) fn write_private(&self, text: &mut Vec<u8>) -> Result<(), &'static str> {
                match self {
                    $(Self::$name { $($($private,)*)? .. } => {
                        let fields: &mut [(&'static str, WriteField<'_>)] =
                            &mut [$($((stringify!($private), &|text: &mut Vec<u8>| serde_json::to_writer(text, $private.known()?).ok()),)*)?];
                        write_fields(fields, text)
                    })*
                }
            }

            /// Whether its entries had nothing private once; those have no box.
            pub(crate) const fn gained_private(&self) -> bool {
                matches!(self, Self::EgressDenied { .. } | Self::EgressAllowed { .. })
            }

            /// What of it is private, and whether that is sealed.
            pub(crate) fn privacy(&self) -> Privacy {
                let sealed: &[bool] = match self {
                    $(Self::$name { $($($private,)*)? .. } => &[$($($private.is_sealed(),)*)?],)*
                };
                match (sealed.is_empty(), sealed.iter().all(|sealed| *sealed)) {
                    (true, _) => Privacy::Nothing,
                    (false, true) => Privacy::Sealed,
                    (false, false) => Privacy::Open,
                }
            }

            /// The event as a leaf has it.
            pub(crate) fn without_private(&self) -> Self {
                let mut event = self.clone();
                match &mut event {
                    $(Self::$name { $($($private,)*)? .. } => { $($(*$private = Private::sealed();)*)? })*
                }
                event
            }

            /// Puts the private fields back; `None` unless these are exactly they. One that may be `null` may be absent: programs before it
            /// was added did not write it.
            #[allow(unused_mut, unused_variables, reason = "an event without private fields takes none")]
            pub(crate) fn with_private(&self, mut fields: Map<String, Value>) -> Option<Self> {
                let mut event = self.clone();
                match &mut event {
                    $(Self::$name { $($($private,)*)? .. } => {
                        $($(*$private = serde_json::from_value(fields.remove(stringify!($private)).unwrap_or_default()).map(|value: $private_type| value.into()).ok()?;)*)?
                    })*
                }
                fields.is_empty().then_some(event)
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
    /// The disk is full: no session opens, open ones end, until there is room again.
    LedgerFull "ledger.full" "SLK1003E" Ledger {
        /// What could not be written.
        what: String,
        /// Bytes of the reserve that closing entries still find.
        reserve_bytes: u64,
    }
    /// There is room on the disk again.
    LedgerHasRoom "ledger.has-room" "SLK1004I" Ledger {
        /// How long there was none, in milliseconds.
        after_ms: u64,
    }
    /// The log is signed by another key from here on.
    LedgerKeyRotated "ledger.key-rotated" "SLK1005I" Ledger {
        /// The public keys that signed until now, as texts.
        old: Vec<String>,
        /// The public keys that sign from now on, as texts.
        new: Vec<String>,
        /// The old keys' signatures over the change ([`crate::rotation`]), in base 64.
        signature: String,
    }
    /// No witness has cosigned for too long.
    LedgerUnwitnessed "ledger.unwitnessed" "SLK1006W" Ledger {
        /// Seconds since the last checkpoint with enough cosignatures.
        age_s: u64,
        /// What follows: `no-new-sessions` or `frozen`.
        effect: String,
    }
    /// Enough witnesses cosign again.
    LedgerWitnessed "ledger.witnessed" "SLK1007I" Ledger {
        /// Entries that the cosigned checkpoint covers.
        size: u64,
    }
    /// The wall clock went another way than the monotonic one.
    LedgerClockJumped "ledger.clock-jumped" "SLK1008W" Ledger {
        /// By how much, in milliseconds; negative when it went back.
        by_ms: i64,
    }
    /// An auditor or operator read entries or a recording. Written before the answer is given.
    AuditRead "audit.read" "SLK1101I" Ledger {
        /// The reader's user id on the ledger's host.
        uid: u32,
    } + private {
        /// What was asked for, in words.
        what: String,
    }
    /// Somebody who may not read the log tried to.
    AuditRefused "audit.refused" "SLK1102W" Ledger {
        /// The reader's user id on the ledger's host.
        uid: u32,
        /// Why: `holder` or `not-an-auditor`.
        reason: String,
    } + private {
        /// What was asked for, in words.
        what: String,
    }
    /// The key that sealed what is private in entries about a permit, or of a year without one, is gone for good.
    KeyDestroyed "key.destroyed" "SLK1201I" Ledger {
        /// The key's id.
        key: String,
        /// What it sealed: a permit's id, or `year:` and a year.
        scope: String,
        /// On whose order: the user id on the ledger's host.
        uid: u32,
    }
    /// A recording's key is gone for good, and the recording with it.
    RecordingDeleted "recording.deleted" "SLK1202I" Ledger {
        /// On whose order: the user id on the ledger's host.
        uid: u32,
        /// Chunks that it had.
        chunks: u64,
        /// Bytes that it had.
        bytes: u64,
    }
    /// An operator took the route that stays open when the ledger can't keep sessions' records.
    OperatorBrokeGlass "operator.broke-glass" "SLK1301W" Ledger {
        /// The operator's user id on the ledger's host.
        uid: u32,
        /// Why, in the operator's words.
        reason: String,
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
        /// The policy's revision in force, as in `session.opened`; `none` where none is.
        policy: String,
    }
    /// The gateway stopped in order.
    GatewayStopped "gateway.stopped" "SLK2002I" Gateway {
        /// Why.
        reason: String,
        /// Sessions that were closed for it.
        sessions_closed: u64,
        /// Sessions that were left to the next gateway.
        #[serde(default)]
        sessions_left: u64,
    }
    /// A revision of the policy comes into force; nothing is admitted by it before this entry is durable. About the operator who made it.
    PolicyActivated "policy.activated" "SLK2111I" Gateway {
        /// Its number.
        number: u64,
        /// SHA-256 of its signed text, in hexadecimal.
        sha256: String,
        /// The number of the revision that was in force until then, if one was since the gateway's start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u64>,
        /// Files that it has.
        files: u64,
        /// Operators who signed it.
        signatures: u64,
    } + private {
        /// Those operators.
        approvers: Vec<HolderId>,
        /// Why it was made, in its maker's words.
        reason: String,
        /// What changes, in words; as many lines as there is room for.
        changes: Vec<String>,
    }
    /// What is in the policy's store was refused. What was in force stays so.
    PolicyRefused "policy.refused" "SLK2112E" Gateway {
        /// The number of the revision in force, if one is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_force: Option<u64>,
    } + private {
        /// Why, each problem with its place; as many as there is room for.
        problems: Vec<String>,
    }
    /// Who holds which permit by a revision, so that no holder audits. Follows its activation.
    PolicyHolders "policy.holders" "SLK2113I" Gateway {
        /// The revision's number.
        number: u64,
        /// What is listed.
        extent: Extent,
        /// Which part of the list this is, from 1.
        part: u32,
        /// How many parts there are.
        parts: u32,
    } + private {
        /// Permits with their holders; a permit without any is gone.
        permits: Vec<HeldPermit>,
    }
    /// A list of revoked certificates is in force.
    CrlLoaded "crl.loaded" "SLK2103I" Gateway {
        /// Its file.
        file: String,
        /// SHA-256 of the file, in hexadecimal.
        sha256: String,
    }
    /// A list of revoked certificates is old. Written when it becomes so, and each time that one is loaded which is.
    CrlStale "crl.stale" "SLK2104W" Gateway {
        /// Its file.
        file: String,
        /// When it was made: its `thisUpdate`.
        made: Timestamp,
        /// How old it is, in seconds.
        age_s: u64,
        /// What follows: `alarm`, or `refused` when certificates of its authority are believed no more.
        effect: String,
    }
    /// A peer's certificate was refused during the handshake.
    CertificateRefused "certificate.refused" "SLK2201W" Gateway {
        /// What the peer is told.
        code: RefusalCode,
        /// Why, in words.
        reason: String,
        /// `tls` or `quic`.
        transport: String,
    } + private {
        /// The certificate's serial number in hexadecimal, if it could be read.
        serial: Option<String>,
        /// SHA-256 of the certificate in hexadecimal, if one came.
        certificate_sha256: Option<String>,
        /// Where the peer is.
        from: IpAddr,
    }
    /// A peer broke the protocol, and its connection was closed.
    ProtocolViolated "protocol.violated" "SLK2202W" Gateway {
        /// What it did.
        reason: String,
        /// `tls` or `quic`.
        transport: String,
    } + private {
        /// Where it is.
        from: IpAddr,
    }
    /// A session was refused.
    SessionRefused "session.refused" "SLK2203W" Gateway {
        /// What the peer was told.
        code: RefusalCode,
        /// The permit's line that decided, as `file:line`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// `tls` or `quic`.
        transport: String,
    } + private {
        /// Why, in words.
        reason: String,
        /// Where the peer is.
        from: IpAddr,
    }
    /// Peers were refused that have no entries of their own, since more came than get them.
    RefusalsCounted "refusals.counted" "SLK2204W" Gateway {
        /// Certificates that were refused.
        certificates: u64,
        /// Sessions that were refused.
        sessions: u64,
        /// Peers that broke the protocol.
        violations: u64,
        /// When the first of them came.
        since: Timestamp,
        /// From how many networks they came; those beyond the 4,096 that the gateway tells apart are not counted.
        networks: u64,
        /// How many came from the network that most came from.
        busiest_count: u64,
    } + private {
        /// The address of that network: of IPv6 its first 64 bits.
        busiest: Option<IpAddr>,
    }
    /// A session is about to open. Nothing of it exists before this entry is durable.
    SessionOpened "session.opened" "SLK2301I" Gateway {
        /// `tls` or `quic`.
        transport: String,
        /// The permit's line that admits her, as `file:line`.
        at: String,
        /// When the session ends at the latest.
        ends: Timestamp,
        /// SHA-256 of the plan that the cell must follow, in hexadecimal.
        plan: String,
        /// Isolation rung.
        rung: String,
        /// The policy's revision that admits her: its number and its SHA-256 in hexadecimal.
        policy: String,
        /// For how long it stays open without a connection at a time, in seconds; absent where it ends with its connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stays_s: Option<u64>,
    } + private {
        /// Where the holder is.
        from: IpAddr,
        /// The identity that matched, as the permit writes it.
        identity: String,
        /// The command, if she asked for one instead of a shell.
        command: Option<Vec<String>>,
        /// The client's version, as it says.
        client: String,
        /// The certificate that she proved herself with and those that came with it, each DER in base 64; `null` where they are too long
        /// to be kept, and in entries of programs that did not say.
        certificates: Option<Vec<String>>,
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
        /// Bytes of its recording.
        recorded_bytes: u64,
        /// The part of the recording from whose beginning on bytes and chunks are counted: those of the parts before were another gateway's,
        /// which did not live to count them. 0, and not written, where they are those of the whole session.
        #[serde(default, skip_serializing_if = "is_first")]
        from_part: u32,
    }
    /// A session goes on without a connection: nobody sees it, and it ends unless its holder takes it up again in time.
    SessionDetached "session.detached" "SLK2303I" Gateway {
        /// `connection-lost`, `holder-detached`, `taken-over` by another connection of hers, `gateway-stopped`, or `source-not-allowed`.
        reason: String,
        /// When it ends at the latest if nobody takes it up.
        until: Timestamp,
    }
    /// Its holder takes a session up again. She is shown nothing before this entry is durable.
    SessionReattached "session.reattached" "SLK2304I" Gateway {
        /// `tls` or `quic`.
        transport: String,
        /// The policy's revision that admits her: its number and its SHA-256 in hexadecimal.
        policy: String,
        /// For how long nobody saw it, in milliseconds.
        detached_ms: u64,
    } + private {
        /// Where the holder is.
        from: IpAddr,
        /// The client's version, as it says.
        client: String,
    }
    /// The holder's connection goes on from another address, which admits her as well (QUIC's migration). Nothing is shown there, and nothing taken
    /// from there, before this entry is durable.
    SessionMoved "session.moved" "SLK2306I" Gateway {
        /// The policy's revision that admits her there: its number and its SHA-256 in hexadecimal.
        policy: String,
    } + private {
        /// Where the holder is.
        from: IpAddr,
    }
    /// A session whose gateway was lost is the next one's, which has judged it anew: it is open, and nobody is connected. Its cell stands
    /// still until this entry is durable.
    SessionAdopted "session.adopted" "SLK2305I" Gateway {
        /// The number of the session's opening entry.
        opening: u64,
        /// The part of its recording that begins now.
        part: u32,
        /// The policy's revision that admits it: its number and its SHA-256 in hexadecimal.
        policy: String,
        /// When it ends at the latest if nobody takes it up.
        until: Timestamp,
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
    /// A session is recorded from here on; the recording's key comes with the entry, wrapped for the auditors.
    RecordingBegun "recording.begun" "SLK2403I" Gateway {
        /// Which part of the session's recording begins: 0, and not written, is the first. Each gateway that has the session makes one, with a
        /// key of its own; numbers rise, and may leave some out.
        #[serde(default, skip_serializing_if = "is_first")]
        part: u32,
        /// SHA-256 of the wrapped key's file, in hexadecimal.
        key_sha256: String,
        /// Its length in bytes.
        key_length: u64,
        /// The public keys that can open it.
        recipients: Vec<String>,
        /// `strict` or `windowed`.
        durability: String,
        /// What is kept of the input: `timing` or `content`.
        input: String,
        /// The recording is kept at least until then.
        keep_until: Timestamp,
    }
    /// A piece of a session's recording, durable before it is shown.
    RecordingChunk "recording.chunk" "SLK2402I" Gateway {
        /// The part of the recording that it is of; 0 is not written.
        #[serde(default, skip_serializing_if = "is_first")]
        part: u32,
        /// Its number in the part, from 0.
        chunk: u64,
        /// Where it begins in the part's file.
        offset: u64,
        /// Its length in bytes.
        length: u64,
        /// SHA-256 of the chunk, in hexadecimal.
        sha256: String,
        /// When its first line was written, in milliseconds since the part began.
        began_ms: u64,
        /// When its last line was written, likewise.
        ended_ms: u64,
        /// Lines in it.
        lines: u64,
    }
    /// An operator did something.
    OperatorActed "operator.acted" "SLK2501I" Gateway {
        /// What: `sessions-listed`, `session-ended`, `workspaces-listed` or `workspace-deletion-ordered`.
        action: String,
    } + private {
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
        /// SHA-256 of the nftables ruleset as rendered, in hexadecimal; empty on a rung without a network.
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
    /// A revision of the policy is what the warden goes by from here on.
    WardenPolicyActivated "warden.policy-activated" "SLK3005I" Warden {
        /// Its number.
        number: u64,
        /// SHA-256 of its signed text, in hexadecimal.
        sha256: String,
    }
    /// What is in the policy's store was refused by the warden. What it went by stays.
    WardenPolicyRefused "warden.policy-refused" "SLK3006E" Warden {
        /// The number of the revision that it goes by, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        in_force: Option<u64>,
    } + private {
        /// Why; as many problems as there is room for.
        problems: Vec<String>,
    }
    /// The resolver has ended, or was ended because it made no sense. Until the next one serves, no name has an answer.
    ResolverEnded "resolver.ended" "SLK3007E" Warden {
        /// Why.
        reason: String,
        /// In how many milliseconds the next one is started.
        again_in_ms: u64,
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
        /// SHA-256 of the nftables ruleset that its packets meet, in hexadecimal; absent in entries of wardens that did not write it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ruleset: Option<String>,
        /// The image that is its system, as its name and the digest that its file was found to have; absent where the host's own programmes are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<String>,
    }
    /// A cell is gone.
    CellReaped "cell.reaped" "SLK3102I" Warden {
        /// Why.
        reason: CloseReason,
        /// What it used: processor time in milliseconds.
        cpu_ms: u64,
        /// What it used: most memory at once, in bytes; 0 where the kernel does not tell.
        memory_peak_bytes: u64,
        /// What it used: most processes and threads at once; 0 where the kernel does not tell.
        #[serde(default)]
        processes_peak: u64,
        /// Processes of it that the kernel ended because the cell had no memory left.
        #[serde(default)]
        oom_kills: u64,
        /// Bytes that it sent to its destinations: those of all its `egress.allowed` entries.
        #[serde(default)]
        bytes_out: u64,
        /// Bytes that its destinations sent to it, counted likewise.
        #[serde(default)]
        bytes_in: u64,
        /// Bytes that its workspace's disk holds, of all sessions; absent where the workspace has no disk of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk_used_bytes: Option<u64>,
        /// The most bytes that its workspace's disk may hold; absent likewise.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disk_limit_bytes: Option<u64>,
        /// What could not be removed; empty when all is gone.
        leftovers: Vec<String>,
    }
    /// A workspace whose permit has ended is about to be destroyed, by an operator's order. Nothing of it is, before this entry is durable.
    WorkspaceDeletionBegun "workspace.deletion-begun" "SLK3301I" Warden {
        /// Its name.
        workspace: String,
        /// Files in it, and all else that is no folder.
        files: u64,
        /// Folders in it.
        folders: u64,
        /// Bytes of its regular files.
        bytes: u64,
        /// SHA-256 over the list of all that is in it, in hexadecimal: for each entry, depth first and by the bytes of names, its kind
        /// (`f`, `d`, `l`, `o`), a space, its length (0 unless a regular file), a space, its path, a zero byte.
        sha256: String,
    }
    /// A workspace is destroyed: the certificate of it, written when nothing was left in its folder.
    WorkspaceDeleted "workspace.deleted" "SLK3302I" Warden {
        /// Its name.
        workspace: String,
        /// Files in it, as the entry of its beginning counted them.
        files: u64,
        /// Folders in it.
        folders: u64,
        /// Bytes of its regular files.
        bytes: u64,
        /// SHA-256 over the list of all that was in it, as there.
        sha256: String,
        /// When its permit ended.
        permit_ended: Timestamp,
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
        /// The port it came from, for protocols that have one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source_port: Option<u16>,
        /// Why; absent in entries of programs that did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<WhyDenied>,
        /// The permit's line that decided, as `file:line`, where one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// The process that sent it, if the kernel told; absent means unknown, never nobody.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
    } + private {
        /// The name whose address that is, as the cell asked for it; `null` where it asked for none.
        name: Option<String>,
        /// The programme that the process ran; `null` where the kernel did not tell.
        program: Option<String>,
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
        /// How long it lasted, in milliseconds, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
        /// The process that began it, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
    } + private {
        /// The name whose address that is, as the cell asked for it; `null` where it asked for none.
        name: Option<String>,
        /// The programme that began it; `null` where the kernel did not tell.
        program: Option<String>,
    }
    /// A cell asked for a name and got no answer.
    NameDenied "name.denied" "SLK3203W" Warden {
        /// The record's type, as `A`, `TXT` or `TYPE65`.
        record: String,
        /// Why, as `not-listed`.
        reason: String,
        /// Denied questions since the last such entry that were counted but have no entry of their own.
        suppressed: u64,
        /// The permit's line that decided, as `file:line`, where one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// The process that asked, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
    } + private {
        /// The name as it was asked for, unusual bytes as `\\ddd`.
        name: String,
        /// The programme that the process ran; `null` where the kernel did not tell.
        program: Option<String>,
    }
    /// A cell's connection was ended before a byte of it went out, for what it said first.
    ConnectionDenied "connection.denied" "SLK3204W" Warden {
        /// Where it was bound for.
        destination: IpAddr,
        /// The port there.
        port: u16,
        /// Why, as `no-name`.
        reason: String,
        /// Denied connections since the last such entry that were counted but have no entry of their own.
        suppressed: u64,
        /// The permit's line that decided, as `file:line`, where one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<String>,
        /// The process that began it, if the kernel told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
    } + private {
        /// The name that it gave, unusual bytes as `\\ddd`; `null` where none was read.
        name: Option<String>,
        /// The programme that the process ran; `null` where the kernel did not tell.
        program: Option<String>,
    }
    /// A programme was run in a cell. Written when the kernel has opened it to be run.
    ProgramRun "program.run" "SLK3401I" Warden {
        /// Who ran it; the process becomes the programme, if nothing else stops it.
        process: Process,
        /// Arguments that had no room in the entry.
        arguments_left_out: u64,
        /// Programmes run in this session since the last such entry that were counted but have no entry of their own.
        suppressed: u64,
    } + private {
        /// Its path in the cell.
        program: String,
        /// What it was called as and with, as far as there was room; `null` where the kernel did not tell.
        arguments: Option<Vec<String>>,
    }
    /// Programmes that were run in a cell have ended: those that have a `program.run` of their own, each when its process ended. A process that ran
    /// several one after the other ends once, with the last.
    ProgramsEnded "program.ended" "SLK3403I" Warden {
        /// How each ended, in that order.
        ends: Vec<ProgramEnd>,
        /// Ends in this session since the last such entry of which it is not known how.
        unknown: u64,
    }
    /// Landlock denied something in a cell. Written where the host's audit is on, and the kernel tells.
    AccessDenied "access.denied" "SLK3404W" Warden {
        /// The rights that were missing, as the kernel names them: `fs.read_file`, `scope.signal`.
        rights: Vec<String>,
        /// Denials since the last such entry that were counted but have no entry of their own.
        suppressed: u64,
    } + private {
        /// The file, as the kernel names it; `null` where it is about none.
        path: Option<String>,
    }
    /// A file of a dataset was opened in a cell.
    DatasetOpened "dataset.opened" "SLK3402I" Warden {
        /// The dataset, by where the permit has it in the cell.
        dataset: String,
        /// How many times the file was opened: 1 the first time, then as often as in the seconds since the last such entry.
        opens: u64,
        /// Opens of other files since the last such entry that were counted but have no entry of their own.
        suppressed: u64,
        /// Who opened it, the first time that this entry is of; absent where the kernel did not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<Process>,
    } + private {
        /// Its path in the cell.
        file: String,
        /// The programme that the process ran; `null` where the kernel did not tell.
        program: Option<String>,
    }
    /// Something that is otherwise in entries happened and is in none: the kernel could not keep it until it was read.
    ObservationLost "observation.lost" "SLK3501E" Warden {
        /// What.
        what: Observed,
        /// How many, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
    }
    /// Somebody else than the warden changed the rules of the router's nftables: root on the host, or somebody with as much.
    RulesetDrifted "ruleset.drifted" "SLK3601E" Warden {
        /// What was changed, each kind of change in words and with how often: made or deleted tables, chains, rules, sets, elements, objects.
        changes: Vec<String>,
        /// The process that did it, on the host; absent where the kernel did not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<u32>,
        /// What that process calls itself; absent where the kernel did not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<String>,
        /// What came of it.
        outcome: DriftOutcome,
        /// Why the rules are not as they must be, where they are not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Budgets of open sessions that count as used up from here on, because nobody knows any more what was left of them.
        budgets_taken: u64,
    }
    /// The rules of the router's nftables are as they must be again; cells go on.
    RulesetRestored "ruleset.restored" "SLK3602I" Warden {
        /// For how long they were not, in milliseconds.
        after_ms: u64,
        /// Budgets of open sessions that count as used up from here on, because nobody knows any more what was left of them.
        budgets_taken: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program wrote that knew of fewer private fields is read as if those that may be `null` were.
    #[test]
    fn a_private_field_that_may_be_null_may_be_missing_and_no_other() {
        let event = Event::SessionOpened {
            transport: "quic".to_owned(),
            at: "thl-1.toml:7".to_owned(),
            ends: Timestamp::UNIX_EPOCH,
            plan: "0".repeat(64),
            rung: "root".to_owned(),
            policy: "1 0".to_owned(),
            stays_s: None,
            from: IpAddr::from([192, 0, 2, 7]).into(),
            identity: "spiffe://example/maija".to_owned().into(),
            command: None.into(),
            client: "sulku".to_owned().into(),
            certificates: None.into(),
        };
        let read = |without: &str| {
            let mut text = Vec::new();
            event.write_private(&mut text).expect("all are known");
            let mut fields: Map<String, Value> = serde_json::from_slice(&text).expect("JSON");
            assert!(fields.keys().map(String::as_str).is_sorted());
            fields.remove(without);
            event.without_private().with_private(fields)
        };
        assert_eq!(read("nothing").as_ref(), Some(&event), "the control");
        assert_eq!(read("certificates").as_ref(), Some(&event), "none was said");
        assert_eq!((read("identity"), read("from")), (None, None));
    }
}
