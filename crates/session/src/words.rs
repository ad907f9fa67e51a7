//! What the holder reads: what is recorded of her, that her session is about to end, and why it is over. Decides nothing.

use std::time::Duration;

use sulku_audit::CloseReason;
use sulku_audit::wire::Cause;
use sulku_permit::{Durability, Permit, Recording, RefusalCode, TerminalRecording};
use sulku_plan::Denied;

use crate::denials::Telling;

use crate::detached::Why;

/// Where a recording's later part begins.
pub(crate) const ADOPTED: &str = "another gateway goes on from here; what was on its way to the recording when the one before ended is missing";

/// What is recorded, for how long, and who can see it.
pub(crate) fn recorded(recording: Recording) -> String {
    let Recording { terminal, durability, retention_days } = recording;
    let what = match terminal {
        TerminalRecording::OutputAndInputTiming => "all that your terminal shows, and when you type, not what",
        TerminalRecording::OutputAndInput => "all that your terminal shows and all that you type, passwords too",
    };
    let when = match durability {
        Durability::Strict => "nothing is shown before it is recorded",
        Durability::Windowed => "recorded within a quarter of a second",
    };
    let kept = match retention_days {
        days if days.is_multiple_of(366) && days == 366 => "a year".to_owned(),
        days if days.is_multiple_of(366) => format!("{} years", days / 366),
        days => format!("{days} days"),
    };
    format!("{what}; {when}; auditors alone can see it, and it is kept for {kept} at least")
}

/// What a holder can do whose session the ledger does not let open.
pub(crate) fn advice(cause: Cause) -> String {
    match cause {
        Cause::Full => "the environment's records have no room left, so no session opens; call its operator".to_owned(),
        Cause::Unwitnessed => {
            "nobody outside witnesses the environment's records just now, so no session opens; try again in a few minutes".to_owned()
        }
        Cause::NotAllowed | Cause::Malformed | Cause::Broken => RefusalCode::AuditUnavailable.advice().to_owned(),
    }
}

/// That a session ends in so long, and why. Counted from now, not by a clock: hers may be in another zone.
pub(crate) fn ending(left: Duration, reason: CloseReason) -> String {
    let when = match (left.as_secs() + 30) / 60 {
        0 => "in less than a minute".to_owned(),
        1 => "in a minute".to_owned(),
        minutes => format!("in {minutes} minutes"),
    };
    let why = match reason {
        CloseReason::LongestSession => "it is then as long as the permit allows, and you can connect again",
        CloseReason::OutsideHours => "the hours that the permit allows end then",
        CloseReason::CertificateEnded => "your certificate ends then; renew it with the body that issued it",
        _ => "the permit ends then, or your part in it",
    };
    format!("this session ends {when}, with all that runs in it: {why}")
}

/// What was denied, why, and whom to ask.
pub(crate) fn denied(denied: &Denied, permit: &Permit) -> String {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let Denied { name, to, port, protocol, reason, more: _ } = denied;
    let host = name.clone().or_else(|| to.map(|to| to.to_string())).unwrap_or_default();
    let place = match (*protocol, *port) {
        (TCP, port) => format!("{host}:{port}"),
        (_, 0) if to.is_none() => host,
        (UDP, port) => format!("{host}:{port} (udp)"),
        (other, _) => format!("{host} (protocol {other})"),
    };
    let what = match reason.as_str() {
        "egress-not-listed" | "name-not-listed" | "connection-not-listed" => "is not on this permit's list",
        "egress-spoofed" => "was sent under an address that is not this session's",
        "egress-over-quota" => "has had as many bytes as this permit allows",
        "egress-too-fast" => "was tried more often than this permit allows",
        "name-closed" => "is on this permit's list, but closed",
        _ => "was denied",
    };
    let ask = permit.controller.contacts.first().map_or_else(|| "the permit's contact person".to_owned(), Clone::clone);
    format!("{place} {what} ({reason}); ask {ask}")
}

/// A denial as it is told in the terminal.
pub(crate) fn telling(text: &str, telling: &Telling) -> String {
    let more = match telling.more {
        0 => String::new(),
        1 => "; one more was denied".to_owned(),
        more => format!("; {more} more were denied"),
    };
    let why = if telling.first || telling.more > 0 { "; sulku why, on your own computer, shows the last ones" } else { "" };
    format!("{text}{more}{why}")
}

/// What the holder reads whose session goes on without this connection.
pub(crate) const fn detached(why: Why) -> &'static str {
    match why {
        Why::TakenOver => "your session was taken up from elsewhere, and goes on there",
        Why::Asked | Why::Lost => "your session goes on without you, and what it shows is recorded; sulku connect takes it up again",
    }
}

/// The reason for the holder: what happened, and what she can do.
pub(crate) const fn closed(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::HolderLeft => "you left; what ran in the session was ended",
        CloseReason::ShellExited => "the session is over",
        CloseReason::Idle => "nothing was typed for as long as the permit allows; connect again to go on",
        CloseReason::Abandoned => "nobody took the session up again for as long as the permit allows; connect again to go on",
        CloseReason::LongestSession => "the longest session that the permit allows is over; connect again to go on",
        CloseReason::PermitEnded => "the permit has ended, or your part in it",
        CloseReason::CertificateEnded => "your certificate has ended; renew it with the body that issued it",
        CloseReason::OutsideHours => "the hours that the permit allows are over; connect again when they begin",
        CloseReason::Revoked => "your certificate was withdrawn; ask the environment's operator",
        CloseReason::RevocationUnknown => "the environment can't tell any more whether your certificate was withdrawn; call its operator",
        CloseReason::PermitRevoked => "the permit was revoked; ask its contact person",
        CloseReason::Suspended => "the permit is suspended; ask its contact person",
        CloseReason::HolderRevoked => "your part in the permit was taken back; ask its contact person",
        CloseReason::Halted => "the environment was halted; call its operator",
        CloseReason::NoLongerAdmitted => "what the permit asks for has changed, and this session is not within it; ask its contact person",
        CloseReason::Operator => "an operator ended the session; ask the environment's operator why",
        CloseReason::Drain => "the environment is being restarted; connect again in a minute",
        CloseReason::ProtocolError => "your client said something that the gateway does not understand; update it",
        CloseReason::AuditFailed => "the environment can't keep its records just now, so nothing may go on; call its operator",
        CloseReason::AuditFull => "the environment's records have no room left, so nothing more may be shown; call its operator",
        CloseReason::CellFailed => "your workspace could not be built; call the environment's operator",
        CloseReason::GatewayLost | CloseReason::WardenLost => "your workspace broke; connect again, and call the operator if it happens twice",
    }
}
