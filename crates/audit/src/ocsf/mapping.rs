//! What each event is in OCSF's terms: class, activity, outcome, and the fields that the class has a place for.
//!
//! The match names every event, so that a new one does not compile before somebody has thought about how it is exported. Fields of
//! events that are private are not read here.

use serde_json::{Map, Value, json};

use super::class::Class;
use crate::event::Event;
use crate::observed::DriftOutcome;

/// Whom and what the entry is about, as the entry's envelope says.
pub(super) struct Subject<'a> {
    pub(super) origin: &'a str,
    pub(super) by: &'a str,
    pub(super) person: Option<&'a str>,
    pub(super) session: Option<&'a str>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
}

/// An event in OCSF's terms, without what all events have.
pub(super) struct Mapped {
    pub(super) class: Class,
    pub(super) activity: u8,
    pub(super) outcome: Option<Outcome>,
    pub(super) message: String,
    pub(super) fields: Map<String, Value>,
}

/// An activity that the class has no number for.
const OTHER: u8 = 99;
/// Kinds of OCSF's objects.
const USER: u8 = 1;
const ADMIN: u8 = 2;
const SYSTEM: u8 = 3;
const SERVER: u8 = 1;
const REGULAR_FILE: u8 = 1;
const OTHER_KIND: u8 = 99;
const POLICY: u8 = 5;
const SHA_256: u8 = 3;
const OUTBOUND: u8 = 2;

impl Mapped {
    pub(super) fn new(class: Class, activity: u8, message: impl Into<String>) -> Self {
        Self { class, activity, outcome: None, message: message.into(), fields: Map::new() }
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }

    fn success(self) -> Self {
        Self { outcome: Some(Outcome::Success), ..self }
    }

    fn failure(self) -> Self {
        Self { outcome: Some(Outcome::Failure), ..self }
    }
}

impl Subject<'_> {
    /// The person by her pseudonym; one that nobody knows, where the class demands one.
    fn user(&self, kind: u8) -> Value {
        self.person.map_or_else(|| json!({ "name": "unknown", "type_id": 0 }), |person| json!({ "uid": person, "type_id": kind }))
    }

    /// The person where there is one, else the process that wrote the entry; in its session.
    fn actor(&self, kind: u8) -> Value {
        let mut actor = match self.person {
            Some(_) => json!({ "user": self.user(kind) }),
            None => json!({ "app_name": format!("sulku {}", self.by) }),
        };
        if let Some(session) = self.session {
            actor["session"] = json!({ "uid": session });
        }
        actor
    }

    /// The host, of which an entry tells no more than its log's name.
    fn device(&self) -> Value {
        json!({ "name": self.origin, "type_id": SERVER })
    }

    /// The end of a connection that is the cell, with its holder.
    fn cell(&self) -> Value {
        let mut cell = json!({ "svc_name": "sulku cell" });
        if let Some(session) = self.session {
            cell["uid"] = session.into();
        }
        if self.person.is_some() {
            cell["owner"] = self.user(USER);
        }
        cell
    }

    fn log(&self, activity: u8, message: impl Into<String>) -> Mapped {
        Mapped::new(Class::EventLog, activity, message)
            .with("log_name", self.origin.into())
            .with("log_provider", "sulku ledger".into())
            .with("log_type_id", 2.into())
            .with("actor", json!({ "app_name": format!("sulku {}", self.by) }))
            .with("device", self.device())
    }

    fn recording(&self, activity: u8, message: &str) -> Mapped {
        Mapped::new(Class::FileActivity, activity, message).success().with("actor", self.actor(USER)).with("device", self.device())
    }

    fn recording_file(&self, part: u32) -> Value {
        let part = if part == 0 { String::new() } else { format!(".{part}") };
        json!({ "name": format!("{}{part}.rec", self.session.unwrap_or("unknown")), "type_id": REGULAR_FILE, "is_encrypted": true })
    }
}

fn lifecycle(activity: u8, app: &str, version: Option<&str>, message: impl Into<String>) -> Mapped {
    let mut product = json!({ "name": app, "vendor_name": "Sulku" });
    if let Some(version) = version {
        product["version"] = version.into();
    }
    Mapped::new(Class::ApplicationLifecycle, activity, message).with("app", product)
}

/// Something that happens to an open session and neither opens nor closes it.
fn still_open(subject: &Subject<'_>, message: &str) -> Mapped {
    let mut session = json!({ "is_remote": true });
    if let Some(uid) = subject.session {
        session["uid"] = uid.into();
    }
    Mapped::new(Class::Authentication, OTHER, message)
        .success()
        .with("user", subject.user(USER))
        .with("service", service("sulku gateway"))
        .with("session", session)
}

fn service(name: &str) -> Value {
    json!({ "name": name })
}

fn api(operation: &str, name: &str) -> Value {
    json!({ "operation": operation, "service": service(name) })
}

fn sha256(value: &str) -> Value {
    json!([{ "algorithm_id": SHA_256, "algorithm": "SHA-256", "value": value }])
}

/// The event in OCSF's terms.
pub(super) fn map(event: &Event, subject: &Subject<'_>) -> Mapped {
    match event {
        Event::LedgerStarted { entries, .. } => subject.log(6, format!("The ledger began to accept entries; it found {entries}")).success(),
        Event::LedgerStopped { .. } => subject.log(7, "The ledger stopped in order").success(),
        Event::LedgerFull { .. } => subject.log(10, "The disk is full: no session opens and open ones end, until there is room again").failure(),
        Event::LedgerHasRoom { .. } => subject.log(9, "There is room on the disk again").success(),
        Event::LedgerKeyRotated { .. } => Mapped::new(Class::EntityManagement, 3, "The log is signed by another key from here on")
            .success()
            .with("actor", subject.actor(USER))
            .with("entity", json!({ "name": subject.origin, "type": "signing key", "type_id": OTHER_KIND })),
        Event::LedgerUnwitnessed { age_s, .. } => {
            subject.log(OTHER, format!("No witness has cosigned for {age_s} seconds")).failure().with("status_code", "unwitnessed".into())
        }
        Event::LedgerWitnessed { .. } => subject.log(OTHER, "Enough witnesses cosign again").success(),
        Event::LedgerClockJumped { by_ms } => subject.log(OTHER, format!("The wall clock jumped by {by_ms} ms")),
        Event::AuditRead { uid, .. } => reading(*uid, "Somebody read the audit").success(),
        Event::AuditRefused { uid, reason, .. } => {
            reading(*uid, "Somebody who may not read the audit tried to").failure().with("status_code", reason.clone().into())
        }
        Event::KeyDestroyed { key, scope, uid } => {
            Mapped::new(Class::EntityManagement, 4, "The key that sealed what is private in entries is gone for good")
                .success()
                .with("actor", json!({ "user": local_user(*uid) }))
                .with("entity", json!({ "uid": key, "name": scope, "type": "sealing key", "type_id": OTHER_KIND }))
        }
        Event::RecordingDeleted { uid, bytes, .. } => {
            let mut file = subject.recording_file(0);
            (file["size"], file["is_deleted"]) = ((*bytes).into(), true.into());
            subject
                .recording(4, "A recording's key is gone for good, and the recording with it")
                .with("actor", json!({ "user": local_user(*uid) }))
                .with("file", file)
        }
        Event::OperatorBrokeGlass { uid, .. } => {
            Mapped::new(Class::AuthorizeSession, 1, "An operator took the route that stays open when sessions can't be recorded")
                .success()
                .with("user", local_user(*uid))
                .with("privileges", json!(["break-glass"]))
        }

        Event::GatewayStarted { version, .. } => lifecycle(3, "sulku gateway", Some(version), "The gateway accepts connections").success(),
        Event::GatewayStopped { sessions_closed, .. } => {
            lifecycle(4, "sulku gateway", None, format!("The gateway stopped in order; it closed {sessions_closed} sessions")).success()
        }
        Event::PolicyActivated { number, sha256: digest, .. } => {
            Mapped::new(Class::EntityManagement, 10, "A revision of the policy comes into force")
                .success()
                .with("actor", json!({ "user": subject.user(ADMIN) }))
                .with("entity", revision(Some(*number), Some(digest)))
        }
        Event::PolicyRefused { in_force, .. } => {
            Mapped::new(Class::EntityManagement, 10, "What is in the policy's store was refused; what was in force stays so")
                .failure()
                .with("actor", subject.actor(USER))
                .with("entity", revision(*in_force, None))
        }
        Event::PolicyHolders { number, .. } => Mapped::new(Class::EntityManagement, 3, "Who holds which permit by a revision of the policy")
            .success()
            .with("actor", subject.actor(USER))
            .with("entity", revision(Some(*number), None)),
        Event::CrlLoaded { file, sha256: digest } => Mapped::new(Class::EntityManagement, 3, "A list of revoked certificates is in force")
            .success()
            .with("actor", subject.actor(USER))
            .with("entity", json!({ "name": file, "type": "certificate revocation list", "type_id": OTHER_KIND, "version": digest })),
        Event::CrlStale { file, effect, .. } => Mapped::new(Class::EntityManagement, OTHER, "A list of revoked certificates is too old")
            .failure()
            .with("actor", subject.actor(USER))
            .with("status_code", effect.clone().into())
            .with("entity", json!({ "name": file, "type": "certificate revocation list", "type_id": OTHER_KIND })),
        Event::CertificateRefused { code, .. } => refused(subject, "A peer's certificate was refused in the handshake", code.as_str()),
        Event::ProtocolViolated { transport, .. } => {
            Mapped::new(Class::NetworkActivity, 3, "A peer broke the protocol and its connection was closed")
                .failure()
                .with("dst_endpoint", json!({ "svc_name": "sulku gateway" }))
                .with("app_protocol_name", transport.clone().into())
        }
        Event::SessionRefused { code, .. } => refused(subject, "A session was refused", code.as_str()),
        Event::SessionOpened { ends, .. } => {
            let mut session = json!({ "expiration_time": ends.as_millisecond(), "is_remote": true });
            if let Some(uid) = subject.session {
                session["uid"] = uid.into();
            }
            Mapped::new(Class::Authentication, 1, "A session opens")
                .success()
                .with("user", subject.user(USER))
                .with("service", service("sulku gateway"))
                .with("is_remote", true.into())
                .with("session", session)
        }
        Event::SessionClosed { duration_ms, reason, .. } => {
            let reason = serde_json::to_value(reason).unwrap_or(Value::Null);
            let mut session = json!({ "is_remote": true });
            if let Some(uid) = subject.session {
                session["uid"] = uid.into();
            }
            let mapped = Mapped::new(Class::Authentication, 2, "A session is closed")
                .success()
                .with("user", subject.user(USER))
                .with("service", service("sulku gateway"))
                .with("duration", (*duration_ms).into())
                .with("session", session);
            if reason.is_string() { mapped.with("status_detail", reason) } else { mapped }
        }
        Event::SessionDetached { reason, .. } => {
            still_open(subject, "A session goes on without a connection").with("status_detail", reason.clone().into())
        }
        Event::SessionReattached { .. } => still_open(subject, "A session is taken up again by its holder"),
        Event::SessionMoved { .. } => still_open(subject, "A session goes on from another address of its holder's"),
        Event::SessionAdopted { .. } => still_open(subject, "A session goes on with another gateway than the one that was lost"),
        Event::SequenceRemoved { kind, count, .. } => Mapped::new(
            Class::FileHosting,
            2,
            "Terminal output that would write the holder's clipboard or move files was removed before it was shown",
        )
        .failure()
        .with("actor", subject.actor(USER))
        .with("src_endpoint", subject.cell())
        .with("count", (*count).into())
        .with("file", json!({ "name": kind, "type": "terminal sequence", "type_id": OTHER_KIND })),
        Event::RecordingBegun { part, .. } => subject.recording(1, "A session is recorded from here on").with("file", subject.recording_file(*part)),
        Event::RecordingChunk { part, length, sha256: digest, .. } => {
            let mut file = subject.recording_file(*part);
            file["size"] = (*length).into();
            file["hashes"] = sha256(digest);
            subject.recording(3, "A piece of a session's recording is durable").with("file", file)
        }
        Event::OperatorActed { action, .. } => {
            let activity = match action.as_str() {
                "sessions-listed" | "workspaces-listed" => 2,
                "session-ended" | "workspace-deletion-ordered" => 4,
                _ => OTHER,
            };
            Mapped::new(Class::ApiActivity, activity, "An operator did something")
                .success()
                .with("actor", json!({ "user": subject.user(ADMIN) }))
                .with("api", api(action, "sulku gateway"))
                .with("src_endpoint", json!({ "svc_name": "operator" }))
        }

        Event::WardenStarted { version, .. } => lifecycle(3, "sulku warden", Some(version), "The warden accepts orders").success(),
        Event::WardenStopped { .. } => lifecycle(4, "sulku warden", None, "The warden stopped in order").success(),
        Event::OrderRefused { order, .. } => Mapped::new(Class::ApiActivity, OTHER, "The warden refused an order of the gateway")
            .failure()
            .with("actor", json!({ "app_name": "sulku gateway" }))
            .with("api", api(order, "sulku warden"))
            .with("src_endpoint", json!({ "svc_name": "sulku gateway" })),
        Event::GatewayLost { cells, .. } => {
            lifecycle(4, "sulku gateway", None, format!("The gateway's connection to the warden broke; it left {cells} cells")).failure()
        }
        Event::ResolverEnded { again_in_ms, .. } => {
            lifecycle(4, "sulku resolver", None, format!("The resolver ended; the next one is started in {again_in_ms} ms")).failure()
        }
        Event::WardenPolicyActivated { number, sha256: digest } => {
            Mapped::new(Class::EntityManagement, 10, "A revision of the policy is what the warden goes by from here on")
                .success()
                .with("actor", subject.actor(USER))
                .with("entity", revision(Some(*number), Some(digest)))
        }
        Event::WardenPolicyRefused { in_force, .. } => {
            Mapped::new(Class::EntityManagement, 10, "What is in the policy's store was refused by the warden; what it went by stays")
                .failure()
                .with("actor", subject.actor(USER))
                .with("entity", revision(*in_force, None))
        }
        Event::CellLaunched { pid, .. } => Mapped::new(Class::ProcessActivity, 1, "A cell runs")
            .success()
            .with("actor", subject.actor(USER))
            .with("device", subject.device())
            .with("process", process(subject, Some(*pid))),
        Event::CellReaped { leftovers, .. } => {
            let mapped = Mapped::new(Class::ProcessActivity, 2, "A cell is gone")
                .with("actor", subject.actor(USER))
                .with("device", subject.device())
                .with("process", process(subject, None));
            if leftovers.is_empty() { mapped.success() } else { mapped.failure() }
        }
        Event::WorkspaceDeletionBegun { workspace, sha256: digest, .. } => {
            Mapped::new(Class::EntityManagement, OTHER, "A workspace whose permit has ended is about to be destroyed")
                .with("actor", subject.actor(USER))
                .with("entity", json!({ "name": workspace, "type": "workspace", "type_id": OTHER_KIND, "version": digest }))
        }
        Event::WorkspaceDeleted { workspace, sha256: digest, .. } => Mapped::new(Class::EntityManagement, 4, "A workspace is destroyed")
            .success()
            .with("actor", subject.actor(USER))
            .with("entity", json!({ "name": workspace, "type": "workspace", "type_id": OTHER_KIND, "version": digest })),
        Event::EgressDenied { protocol, destination, port, suppressed, source_port, reason, .. } => {
            let mut cell = subject.cell();
            if let Some(port) = source_port {
                cell["port"] = (*port).into();
            }
            let mapped = Mapped::new(Class::NetworkActivity, 5, "A cell tried to reach what its permit does not list")
                .failure()
                .with("src_endpoint", cell)
                .with("dst_endpoint", json!({ "ip": destination.to_string(), "port": port }))
                .with("connection_info", json!({ "protocol_num": protocol, "direction_id": OUTBOUND, "direction": "Outbound" }))
                .with("count", suppressed.saturating_add(1).into());
            match reason {
                Some(reason) => mapped.with("status_code", reason.as_str().into()),
                None => mapped,
            }
        }
        Event::EgressAllowed { protocol, destination, port, bytes_out, bytes_in, duration_ms, .. } => {
            let name = serde_json::to_value(protocol).unwrap_or(Value::Null);
            let mut connection = json!({ "direction_id": OUTBOUND, "direction": "Outbound" });
            if name.is_string() {
                connection["protocol_name"] = name;
            }
            let mapped = Mapped::new(Class::NetworkActivity, 2, "A flow to a listed destination has ended")
                .success()
                .with("src_endpoint", subject.cell())
                .with("dst_endpoint", json!({ "ip": destination.to_string(), "port": port }))
                .with("connection_info", connection)
                .with("traffic", json!({ "bytes_out": bytes_out, "bytes_in": bytes_in, "bytes": bytes_out.saturating_add(*bytes_in) }));
            match duration_ms {
                Some(duration_ms) => mapped.with("duration", (*duration_ms).into()),
                None => mapped,
            }
        }
        // The name is what the holder's programmes chose, and not exported.
        Event::NameDenied { reason, suppressed, .. } => Mapped::new(Class::DnsActivity, 1, "A cell asked for a name and got no answer")
            .failure()
            .with("src_endpoint", subject.cell())
            .with("dst_endpoint", json!({ "svc_name": "sulku resolver" }))
            .with("status_code", reason.clone().into())
            .with("count", suppressed.saturating_add(1).into()),
        Event::ConnectionDenied { destination, port, reason, suppressed, .. } => {
            Mapped::new(Class::NetworkActivity, 5, "A cell's connection was ended for what it said first")
                .failure()
                .with("src_endpoint", subject.cell())
                .with("dst_endpoint", json!({ "ip": destination.to_string(), "port": port }))
                .with("connection_info", json!({ "protocol_name": "tcp", "direction_id": OUTBOUND, "direction": "Outbound" }))
                .with("status_code", reason.clone().into())
                .with("count", suppressed.saturating_add(1).into())
        }
        Event::ProgramRun { process, suppressed, .. } => Mapped::new(Class::ProcessActivity, 1, "A programme was run in a cell")
            .success()
            .with("actor", subject.actor(USER))
            .with("device", subject.device())
            .with("count", suppressed.saturating_add(1).into())
            .with("process", json!({ "name": "programme in a sulku cell", "pid": process.pid })),
        Event::ProgramsEnded { ends, unknown } => Mapped::new(Class::ProcessActivity, 2, "Programmes ended in a cell")
            .success()
            .with("actor", subject.actor(USER))
            .with("device", subject.device())
            .with("count", (ends.len() as u64).saturating_add(*unknown).into())
            .with(
                "process",
                ends.last().map_or_else(
                    || json!({ "name": "programmes in a sulku cell", "uid": "unknown" }),
                    |end| json!({ "name": "programmes in a sulku cell", "pid": end.process.pid }),
                ),
            ),
        Event::AccessDenied { rights, suppressed, .. } => {
            Mapped::new(Class::FileActivity, OTHER, "A cell was denied what its workspace's walls do not allow")
                .failure()
                .with("actor", subject.actor(USER))
                .with("device", subject.device())
                .with("status_code", rights.join(",").into())
                .with("count", suppressed.saturating_add(1).into())
                .with("file", json!({ "name": "denied by Landlock", "type": "outside of the plan", "type_id": OTHER_KIND }))
        }
        Event::DatasetOpened { dataset, opens, suppressed, .. } => Mapped::new(Class::FileActivity, 14, "A file of a dataset was opened in a cell")
            .success()
            .with("actor", subject.actor(USER))
            .with("device", subject.device())
            .with("count", opens.saturating_add(*suppressed).into())
            .with("file", json!({ "name": dataset, "type": "file of a dataset", "type_id": OTHER_KIND })),
        Event::RefusalsCounted { certificates, sessions, violations, .. } => subject
            .log(OTHER, "More peers were refused than get an entry each")
            .failure()
            .with("count", certificates.saturating_add(*sessions).saturating_add(*violations).into()),
        Event::ObservationLost { what, .. } => {
            subject.log(OTHER, format!("The kernel lost sight of {}: they are in no entry", what.words())).failure()
        }
        Event::RulesetDrifted { process, program, outcome, .. } => {
            let message = match outcome {
                DriftOutcome::Mended => "Somebody else than the warden changed the router's rules; they are as before",
                DriftOutcome::Frozen => "Somebody else than the warden changed the router's rules; all cells are frozen",
            };
            let mut doer = json!({ "name": program.as_deref().unwrap_or("unknown") });
            if let Some(process) = process {
                doer["pid"] = (*process).into();
            }
            Mapped::new(Class::EntityManagement, 3, message)
                .failure()
                .with("actor", json!({ "process": doer }))
                .with("entity", json!({ "name": "ruleset", "type": "rules of the router", "type_id": POLICY }))
        }
        Event::RulesetRestored { .. } => Mapped::new(Class::EntityManagement, 3, "The router's rules are as they must be again; cells go on")
            .success()
            .with("actor", json!({ "app_name": "sulku warden" }))
            .with("entity", json!({ "name": "ruleset", "type": "rules of the router", "type_id": POLICY })),
    }
}

/// Whoever reads the log through the ledger's socket.
fn reading(uid: u32, message: &str) -> Mapped {
    Mapped::new(Class::ApiActivity, 2, message)
        .with("actor", json!({ "user": local_user(uid) }))
        .with("api", api("audit.read", "sulku ledger"))
        .with("src_endpoint", json!({ "svc_name": "local socket" }))
}

/// A user of the ledger's host, by number.
fn local_user(uid: u32) -> Value {
    json!({ "uid": uid.to_string(), "type_id": if uid == 0 { SYSTEM } else { USER } })
}

/// A revision of the policy, as far as it is known.
fn revision(number: Option<u64>, digest: Option<&String>) -> Value {
    let mut entity = json!({ "name": "policy", "type": "revision of the policy", "type_id": POLICY });
    if let Some(number) = number {
        entity["uid"] = number.to_string().into();
    }
    if let Some(digest) = digest {
        entity["version"] = digest.as_str().into();
    }
    entity
}

/// Somebody who was not let in.
fn refused(subject: &Subject<'_>, message: &str, code: &str) -> Mapped {
    Mapped::new(Class::Authentication, 1, message)
        .failure()
        .with("user", subject.user(USER))
        .with("service", service("sulku gateway"))
        .with("is_remote", true.into())
        .with("status_code", code.into())
}

/// A cell's first process. Its id is the session's: a process id of the host alone says little, and is used again.
fn process(subject: &Subject<'_>, pid: Option<u32>) -> Value {
    let mut process = json!({ "name": "sulku cell", "uid": subject.session.unwrap_or("unknown") });
    if let Some(pid) = pid {
        process["pid"] = pid.into();
    }
    process
}
