//! Entries in words for people: each event's gist on one line, and nothing in it that a terminal would obey.

use jiff::Timestamp;
use sulku_audit::{CloseReason, DriftOutcome, Event, Private, Process, ProgramEnd};

use crate::print::amount;

/// In the place of what this reader can't see.
pub(super) const SEALED: &str = "(sealed)";
/// The longest gist, in characters: what fits beside the other columns of a wide terminal.
const GIST_CHARS_MAX: usize = 160;

/// A time in UTC, to the millisecond.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S.%3f").to_string()
}

/// Whether a terminal, or a reader, could take the character for something else than a letter: control characters, and those that
/// turn the direction of writing or have no width.
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Text with unsafe characters written out.
pub(super) fn safe(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unsafe(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    })
}

/// JSON text with unsafe characters written as JSON writes them, except for its own line breaks. The value stays the same.
pub(super) fn safe_json(text: &str) -> String {
    let mut units = [0; 2];
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unsafe(c) && c != '\n' {
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
        out
    })
}

/// Whether the event is that something was refused or held back.
pub(super) fn is_denial(event: &Event) -> bool {
    event.code().ends_with('W') || matches!(event, Event::OrderRefused { .. })
}

/// An event on one line.
pub(super) fn gist(event: &Event) -> String {
    let text = safe(&describe(event));
    if text.chars().count() <= GIST_CHARS_MAX { text } else { text.chars().take(GIST_CHARS_MAX - 1).chain(['…']).collect() }
}

/// Which part of a recording, where it is not the first.
fn of_part(part: u32) -> String {
    if part == 0 { String::new() } else { format!("part {part}, ") }
}

/// A revision's number, without its digest.
fn revision(policy: &str) -> &str {
    policy.split(' ').next().unwrap_or_default()
}

fn describe(event: &Event) -> String {
    match event {
        Event::LedgerStarted { version, entries, dropped_bytes } => {
            let dropped = if *dropped_bytes > 0 { format!(", {dropped_bytes} bytes of an unfinished write dropped") } else { String::new() };
            format!("version {version}, {entries} entries found{dropped}")
        }
        Event::LedgerStopped { reason } | Event::WardenStopped { reason } => reason.clone(),
        Event::LedgerFull { what, reserve_bytes } => format!("{what}; {} of reserve left", amount(*reserve_bytes)),
        Event::LedgerHasRoom { after_ms } => format!("after {} s", after_ms / 1000),
        Event::LedgerKeyRotated { old, new, signature: _ } => format!("from {} to {}", old.join(" and "), new.join(" and ")),
        Event::LedgerUnwitnessed { age_s, effect } => format!("no witness for {age_s} s: {effect}"),
        Event::LedgerWitnessed { size } => format!("{size} entries are cosigned"),
        Event::LedgerClockJumped { by_ms } => format!("by {by_ms} ms"),
        Event::AuditRead { uid, what } => format!("user {uid}: {}", known(what)),
        Event::AuditRefused { uid, reason, what } => format!("user {uid}, {reason}: {}", known(what)),
        Event::KeyDestroyed { key, scope, uid } => format!("{scope}, key {key}, ordered by user {uid}"),
        Event::RecordingDeleted { uid, chunks, bytes } => format!("{chunks} chunks, {}, ordered by user {uid}", amount(*bytes)),
        Event::OperatorBrokeGlass { uid, reason } => format!("user {uid}: {reason}"),
        Event::GatewayStarted { version, listen, rung, confinement, policy } => {
            format!("version {version} at {listen}, rung {rung}, policy {}, {confinement}", revision(policy))
        }
        Event::GatewayStopped { reason, sessions_closed, sessions_left } => {
            format!("{reason}, {sessions_closed} sessions closed, {sessions_left} left to the next gateway")
        }
        Event::WorkspaceDeletionBegun { workspace, files, folders, bytes, sha256 } => {
            format!("{workspace}: {files} files, {folders} folders, {}, list sha256:{}", amount(*bytes), short(sha256))
        }
        Event::WorkspaceDeleted { workspace, files, folders, bytes, sha256, permit_ended } => format!(
            "{workspace}: {files} files, {folders} folders, {}, list sha256:{}, permit ended {}",
            amount(*bytes),
            short(sha256),
            time(*permit_ended)
        ),
        Event::CrlStale { file, made, age_s, effect } => format!("{file} is of {}, {} h old: {effect}", time(*made), age_s / 3600),
        Event::CrlLoaded { file, sha256 } => format!("{file} sha256:{}", short(sha256)),
        Event::PolicyActivated { number, sha256, before: _, files: _, signatures: _, approvers, reason, changes: _ } => {
            let approvers = approvers
                .known()
                .map_or_else(|| SEALED.to_owned(), |approvers| approvers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
            format!("revision {number} sha256:{}, signed by {approvers}: {}", short(sha256), known(reason))
        }
        Event::PolicyRefused { in_force, problems } | Event::WardenPolicyRefused { in_force, problems } => {
            let stays = in_force.map_or_else(|| "none is in force".to_owned(), |number| format!("revision {number} stays in force"));
            format!("{}; {stays}", problems.known().map_or_else(|| SEALED.to_owned(), |problems| problems.join("; ")))
        }
        Event::PolicyHolders { number, extent: _, part, parts, permits } => {
            let permits = permits.known().map_or_else(|| SEALED.to_owned(), |permits| format!("{} permits", permits.len()));
            format!("revision {number}: {permits}, part {part} of {parts}")
        }
        Event::WardenPolicyActivated { number, sha256 } => format!("revision {number} sha256:{}", short(sha256)),
        Event::CertificateRefused { code, reason, serial, certificate_sha256: _, from, transport } => {
            let serial = serial.known().and_then(Option::as_ref).map_or_else(String::new, |serial| format!(", serial {serial}"));
            format!("{code} from {} over {transport}: {reason}{serial}", known(from))
        }
        Event::ProtocolViolated { reason, from, transport } => format!("from {} over {transport}: {reason}", known(from)),
        Event::SessionRefused { code, reason, at, from, transport } => {
            let at = at.as_ref().map_or_else(String::new, |at| format!(", by {at}"));
            format!("{code} from {} over {transport}: {}{at}", known(from), known(reason))
        }
        Event::SessionOpened { from, transport, identity: _, at, command, ends, plan: _, rung, policy, stays_s: _, client: _, certificates: _ } => {
            let what = match command.known() {
                Some(Some(command)) => command.join(" "),
                Some(None) => "a shell".to_owned(),
                None => SEALED.to_owned(),
            };
            format!("from {} over {transport}: {what}; by {at}, until {}, rung {rung}, policy {}", known(from), time(*ends), revision(policy))
        }
        Event::SessionClosed { reason, bytes_out, bytes_in, duration_ms, exit_status, chunks, recorded_bytes: _, from_part } => {
            let exit = exit_status.map_or_else(String::new, |status| format!(", exit status {status}"));
            let (out, taken, seconds) = (amount(*bytes_out), amount(*bytes_in), duration_ms / 1000);
            let since = if *from_part == 0 { String::new() } else { format!(", since the recording's part {from_part}") };
            format!("{} after {seconds} s: {out} shown, {taken} taken, {chunks} chunks{since}{exit}", close_reason(*reason))
        }
        Event::SessionDetached { reason, until } => format!("{reason}; open without a connection until {}", time(*until)),
        Event::SessionReattached { transport, policy, detached_ms, from, client: _ } => {
            format!("from {} over {transport} after {} s, policy {}", known(from), detached_ms / 1000, revision(policy))
        }
        Event::SessionMoved { policy, from } => format!("to {}, policy {}", known(from), revision(policy)),
        Event::SessionAdopted { opening, part, policy, until } => {
            format!(
                "opened by entry {opening}, goes on with a new gateway; recording's part {part}, open without a connection until {}, policy {}",
                time(*until),
                revision(policy)
            )
        }
        Event::SequenceRemoved { kind, count, bytes } => format!("{kind}, {count} times, {}", amount(*bytes)),
        Event::RecordingBegun { part, key_sha256: _, key_length: _, recipients, durability, input, keep_until } => {
            format!("{}{durability}, input: {input}, for {} auditors' keys, kept until {}", of_part(*part), recipients.len(), time(*keep_until))
        }
        Event::RecordingChunk { part, chunk, offset, length, sha256, .. } => {
            format!("{}chunk {chunk}: {length} bytes from {offset} on, sha256:{}", of_part(*part), short(sha256))
        }
        Event::OperatorActed { action, from } => format!("{action} from {}", known(from)),
        Event::WardenStarted { version, rung, kernel, landlock_abi, ruleset } => {
            let rules = if ruleset.is_empty() { "no network".to_owned() } else { format!("rules sha256:{}", short(ruleset)) };
            format!("version {version}, rung {rung}, Linux {kernel}, Landlock ABI {landlock_abi}, {rules}")
        }
        Event::OrderRefused { order, reason } => format!("{order}: {reason}"),
        Event::GatewayLost { cells, grace_s } => format!("{cells} cells left, reaped in {grace_s} s"),
        Event::ResolverEnded { reason, again_in_ms } => format!("{reason}; the next one in {again_in_ms} ms"),
        Event::CellLaunched { pid, rung, landlock, seccomp: _, plan: _, address, ruleset: _, image } => {
            let image = image.as_ref().map_or_else(String::new, |image| format!(", image {image}"));
            format!("process {pid} at {address}, rung {rung}, {landlock}{image}")
        }
        Event::CellReaped {
            reason,
            cpu_ms,
            memory_peak_bytes,
            processes_peak,
            oom_kills,
            bytes_out,
            bytes_in,
            disk_used_bytes,
            disk_limit_bytes,
            leftovers,
        } => {
            let left = if leftovers.is_empty() { String::new() } else { format!("; LEFT BEHIND: {}", leftovers.join(", ")) };
            let processes = if *processes_peak == 0 { String::new() } else { format!(", {processes_peak} processes") };
            let killed = if *oom_kills == 0 { String::new() } else { format!(", {oom_kills} ended for want of memory") };
            let (memory, out, back) = (amount(*memory_peak_bytes), amount(*bytes_out), amount(*bytes_in));
            let disk = disk_used_bytes
                .zip(*disk_limit_bytes)
                .map_or_else(String::new, |(used, limit)| format!(", {} of {} on disk", amount(used), amount(limit)));
            format!(
                "{}: {cpu_ms} ms of processor, {memory} of memory{processes}{killed}, {out} sent, {back} received{disk}{left}",
                close_reason(*reason)
            )
        }
        Event::EgressDenied { protocol, destination, port, suppressed, source_port: _, reason, at, process, name, program } => {
            let what = match protocol {
                6 => format!("tcp to {}", place(*destination, *port)),
                17 => format!("udp to {}", place(*destination, *port)),
                1 | 58 => format!("icmp to {destination}"),
                other => format!("protocol {other} to {destination}"),
            };
            let reason = reason.map_or_else(String::new, |reason| format!(", {}", reason.as_str()));
            format!("{what}{}{reason}{}{}{}", named(name), by(program, *process), line(at), more(*suppressed, "packets"))
        }
        Event::EgressAllowed { protocol, destination, port, bytes_out, bytes_in, at, duration_ms, process, name, program } => {
            let (out, back) = (amount(*bytes_out), amount(*bytes_in));
            let lasted = duration_ms.map_or_else(String::new, |lasted| format!(" in {lasted} ms"));
            let (to, name, by) = (place(*destination, *port), named(name), by(program, *process));
            format!("{protocol} to {to}{name}: {out} out, {back} in{lasted}, by {at}{by}")
        }
        Event::NameDenied { record, reason, suppressed, at, process, name, program } => {
            format!("{} {record}: {reason}{}{}{}", known(name), by(program, *process), line(at), more(*suppressed, "questions"))
        }
        Event::ConnectionDenied { destination, port, reason, suppressed, at, process, name, program } => {
            let (to, name, by) = (place(*destination, *port), named(name), by(program, *process));
            format!("tls to {to}{name}: {reason}{by}{}{}", line(at), more(*suppressed, "connections"))
        }
        Event::ProgramRun { process, arguments_left_out, suppressed, program, arguments } => {
            let arguments = match arguments.known() {
                Some(Some(arguments)) => format!(" as {}", arguments.join(" ")),
                Some(None) => " with arguments unknown".to_owned(),
                None => String::new(),
            };
            let left_out = if *arguments_left_out > 0 { format!(" and {arguments_left_out} arguments more") } else { String::new() };
            let process = process.in_cell.unwrap_or(process.pid);
            format!("process {process}: {}{arguments}{left_out}{}", known(program), more(*suppressed, "programmes"))
        }
        Event::ProgramsEnded { ends, unknown } => {
            // What did not end well comes first: there is room for few.
            let mut ends: Vec<_> = ends.iter().collect();
            ends.sort_by_key(|end| end.status == Some(0));
            let ends = ends.into_iter().map(|ProgramEnd { process, status, signal, duration_ms }| {
                let how = match (status, signal) {
                    (_, Some(signal)) => format!("signal {signal}"),
                    (Some(status), None) => format!("status {status}"),
                    (None, None) => "no status".to_owned(),
                };
                format!("process {}: {how} after {duration_ms} ms", process.in_cell.unwrap_or(process.pid))
            });
            let unknown = (*unknown > 0).then(|| format!("{unknown} more, of which it is not known how"));
            ends.chain(unknown).collect::<Vec<_>>().join("; ")
        }
        Event::AccessDenied { rights, suppressed, path } => {
            let path = match path.known() {
                Some(Some(path)) => format!(" {path}"),
                Some(None) => String::new(),
                None => format!(" {SEALED}"),
            };
            format!("{}{path}: denied by Landlock{}", rights.join(", "), more(*suppressed, "denials"))
        }
        Event::DatasetOpened { dataset, opens, suppressed, process, file, program } => {
            let times = if *opens > 1 { format!(", {opens} times") } else { String::new() };
            format!("{dataset}: {}{times}{}{}", known(file), by(program, *process), more(*suppressed, "opens of others"))
        }
        Event::RefusalsCounted { certificates, sessions, violations, since, networks, busiest_count, busiest } => {
            let busiest = match busiest.known() {
                Some(Some(address)) => format!("; {busiest_count} from {address}"),
                Some(None) => String::new(),
                None => format!("; {busiest_count} from {SEALED}"),
            };
            format!(
                "{certificates} certificates, {sessions} sessions and {violations} breaches of the protocol since {since}, from {networks} networks{busiest}"
            )
        }
        Event::ObservationLost { what, count } => {
            let count = count.map_or_else(|| "an unknown number".to_owned(), |count| count.to_string());
            format!("{count} of {}", what.words())
        }
        Event::RulesetDrifted { changes, process, program, outcome, reason, budgets_taken } => {
            let by = match (program, process) {
                (Some(program), Some(process)) => format!(" by {program}, process {process}"),
                _ => String::new(),
            };
            let outcome = match outcome {
                DriftOutcome::Mended => "mended",
                DriftOutcome::Frozen => "NOT MENDED, all cells are frozen",
            };
            let reason = reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
            format!("{}{by}: {outcome}{reason}{}", changes.join(", "), taken(*budgets_taken))
        }
        Event::RulesetRestored { after_ms, budgets_taken } => format!("after {after_ms} ms{}", taken(*budgets_taken)),
    }
}

/// The name beside an address, if there was one.
fn named(name: &Private<Option<String>>) -> String {
    name.known().and_then(Option::as_ref).map_or_else(String::new, |name| format!(" ({name})"))
}

/// Which programme and process, as far as it is known.
fn by(program: &Private<Option<String>>, process: Option<Process>) -> String {
    let process = process.map(|process| format!("process {}", process.in_cell.unwrap_or(process.pid)));
    match (program.known().and_then(Option::as_ref), process) {
        (Some(program), Some(process)) => format!(", {program} ({process})"),
        (Some(text), None) => format!(", {text}"),
        (None, Some(text)) => format!(", {text}"),
        (None, None) => String::new(),
    }
}

fn line(at: &Option<String>) -> String {
    at.as_ref().map_or_else(String::new, |at| format!(", by {at}"))
}

fn taken(budgets: u64) -> String {
    if budgets > 0 { format!("; {budgets} budgets count as used up") } else { String::new() }
}

fn more(suppressed: u64, of: &str) -> String {
    if suppressed > 0 { format!(", and {suppressed} {of} more") } else { String::new() }
}

/// A private value, or that it is sealed.
fn known<T: std::fmt::Display>(value: &Private<T>) -> String {
    value.known().map_or_else(|| SEALED.to_owned(), ToString::to_string)
}

fn place(address: std::net::IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address, port)
}

/// A digest's beginning, as people compare it.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}

fn close_reason(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::HolderLeft => "the holder left",
        CloseReason::ShellExited => "the shell ended",
        CloseReason::Idle => "idle",
        CloseReason::Abandoned => "not taken up again",
        CloseReason::LongestSession => "the longest session reached",
        CloseReason::PermitEnded => "the permit ended",
        CloseReason::CertificateEnded => "the certificate ended",
        CloseReason::OutsideHours => "the hours over",
        CloseReason::Revoked => "the certificate revoked",
        CloseReason::RevocationUnknown => "the list of revoked certificates too old",
        CloseReason::PermitRevoked => "the permit revoked",
        CloseReason::Suspended => "the permit suspended",
        CloseReason::HolderRevoked => "the holder's part taken back",
        CloseReason::Halted => "halted",
        CloseReason::NoLongerAdmitted => "admitted no longer",
        CloseReason::Operator => "ended by an operator",
        CloseReason::Drain => "the gateway stopped",
        CloseReason::ProtocolError => "the protocol broken",
        CloseReason::AuditFailed => "the audit failed",
        CloseReason::AuditFull => "the audit's disk full",
        CloseReason::CellFailed => "the cell failed",
        CloseReason::GatewayLost => "the gateway lost",
        CloseReason::WardenLost => "the warden lost",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let wicked = "a\u{1b}]52;c;eA==\u{7}b\u{9b}2Jc\u{202e}d\r\ne";
        assert_eq!(safe(wicked), "a\\u{1b}]52;c;eA==\\u{7}b\\u{9b}2Jc\\u{202e}d\\u{d}\\u{a}e");
        let event = Event::SessionRefused {
            code: sulku_permit::RefusalCode::CertificateExpired,
            reason: wicked.to_owned().into(),
            at: None,
            from: std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST).into(),
            transport: "tls".to_owned(),
        };
        assert!(!gist(&event).chars().any(is_unsafe));
    }

    #[test]
    fn safe_json_means_the_same() {
        let value = serde_json::json!({"text": "\u{9b}2J \u{202e} ä \u{feff}", "more": ["\u{1b}[31m"]});
        let text = safe_json(&value.to_string());
        assert!(!text.chars().any(is_unsafe));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).ok(), Some(value));
    }

    #[test]
    fn a_long_gist_is_cut_and_says_so() {
        let event = Event::LedgerStopped { reason: "ä".repeat(500) };
        assert_eq!(gist(&event).chars().count(), GIST_CHARS_MAX);
        assert!(gist(&event).ends_with('…'));
    }
}
