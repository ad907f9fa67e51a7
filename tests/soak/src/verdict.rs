//! What must be true at the end, and whether it is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::auditor::{Book, Life};
use crate::checked::Outcome;
use crate::fault::Fault;
use crate::schedule::Schedule;
use crate::story::End;
use crate::teller::minutes;

/// Of what is wrong, so many are told.
const TOLD_MAX: usize = 8;

/// One thing that must be true.
#[derive(Debug)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// In figures.
    pub figures: String,
    /// What speaks against it.
    pub wrong: Vec<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, figures, wrong } = self;
        write!(f, "  {} {what}", if wrong.is_empty() { "✓" } else { "✗" })?;
        for line in figures.split("; ").filter(|line| !line.is_empty()) {
            write!(f, "\n      {line}")?;
        }
        for one in wrong.iter().take(TOLD_MAX) {
            write!(f, "\n    ! {one}")?;
        }
        if wrong.len() > TOLD_MAX {
            write!(f, "\n    ! and {} more", wrong.len() - TOLD_MAX)?;
        }
        Ok(())
    }
}

/// What was done, when, and until when.
pub type Done = [(Duration, Duration, Fault)];

fn is_explained(done: &Done, moment: Duration, explains: impl Fn(Fault) -> bool) -> bool {
    done.iter().any(|(from, until, fault)| *from <= moment && moment <= *until + Fault::FELT_FOR && explains(*fault))
}

/// Every byte that was shown is in a recording.
pub fn recorded(outcomes: &[Outcome], done: &Done) -> Check {
    let (mut found, mut declared, mut wrong) = (0, 0, Vec::new());
    for outcome in outcomes {
        match &outcome.played {
            Ok(played) => {
                found += played.found;
                declared += played.declared;
                let died = |(from, until, fault): &(Duration, Duration, Fault)| {
                    *from <= outcome.until && *until + Fault::CUTS_OFF_FOR >= outcome.from && fault.may_cut_off()
                };
                if played.declared > 0 && !done.iter().any(died) {
                    let session = outcome.session.as_deref().unwrap_or("none");
                    wrong.push(format!(
                        "{} session {session}: {} bytes are in no recording, and nobody died",
                        minutes(outcome.until),
                        played.declared
                    ));
                }
            }
            Err(error) => wrong.push(format!("{} {error}", minutes(outcome.until))),
        }
    }
    let sessions = outcomes.iter().filter(|outcome| outcome.session.is_some()).count();
    if found == 0 {
        wrong.push("nothing was shown at all".to_owned());
    }
    let figures = format!("{found} bytes of {sessions} sessions, {declared} more within a window that a death cut off");
    Check { what: "every byte that was shown is in a recording", figures, wrong }
}

/// Every session's end has a reason that what was done explains, and nobody was left waiting.
pub fn explained(outcomes: &[Outcome], done: &Done) -> Check {
    let (mut ends, mut wrong) = (BTreeMap::<String, u64>::new(), Vec::new());
    for outcome in outcomes {
        let (name, is_right) = match &outcome.end {
            End::Closed(reason) if reason == "shell-exited" => ("went their way".to_owned(), true),
            End::Closed(reason) => (format!("closed: {reason}"), is_explained(done, outcome.until, |fault| fault.explains_closing(reason))),
            // Why it was gone, the log says: [`gone`].
            End::Gone(reason) => (format!("gone: {reason}"), outcome.session.is_some()),
            End::NotOpened(reason) => (format!("not opened: {reason}"), is_explained(done, outcome.until, |fault| fault.explains_refusal(reason))),
            End::Stuck(what) => (format!("stuck: {what}"), false),
        };
        if !is_right {
            let session = outcome.session.as_deref().unwrap_or("none");
            wrong.push(format!("{} session {session} of {}: {name}, and nothing that was done explains it", minutes(outcome.until), outcome.permit));
        }
        *ends.entry(if matches!(outcome.end, End::Stuck(_)) { "stuck".to_owned() } else { name }).or_default() += 1;
    }
    let figures = ends.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join("; ");
    Check { what: "every end has a reason", figures, wrong }
}

/// Once nothing is done any more, all goes well.
pub fn recovered(outcomes: &[Outcome], schedule: &Schedule) -> Check {
    let calm: Vec<_> = outcomes.iter().filter(|outcome| outcome.from >= schedule.calm_from).collect();
    let went_well = |outcome: &&&Outcome| matches!(&outcome.end, End::Closed(reason) if reason == "shell-exited");
    let mut wrong: Vec<_> =
        calm.iter().filter(|outcome| !went_well(outcome)).map(|outcome| format!("{} {:?}", minutes(outcome.until), outcome.end)).collect();
    if calm.is_empty() {
        wrong.push("no session was begun".to_owned());
    }
    let longest = calm.iter().map(|outcome| outcome.until.saturating_sub(outcome.from)).max().unwrap_or_default();
    let figures = format!("{} sessions, the longest of {:.1} s", calm.len(), longest.as_secs_f64());
    Check { what: "in the calm afterwards every session goes well", figures, wrong }
}

/// What a client was told is in the log.
pub fn acknowledged(outcomes: &[Outcome], book: &Book) -> Check {
    let (mut told, mut wrong) = (0, Vec::new());
    for outcome in outcomes {
        let Some(session) = &outcome.session else { continue };
        told += 1;
        let Some(life) = book.lives.get(session) else {
            wrong.push(format!("{} session {session} is in no entry", minutes(outcome.until)));
            continue;
        };
        if life.opened.is_none() {
            wrong.push(format!("session {session} has no opening entry"));
        }
        if let End::Closed(reason) = &outcome.end {
            told += 1;
            match &life.closed {
                Some((_, kept)) if kept == reason => {}
                // Without a ledger nobody can write that it is gone; the cell's end says so when there is one again. Nor can anybody tell what
                // it kept with its last breath.
                None if reason == "audit-failed" && life.reaped.is_some() => {}
                Some(_) if reason == "audit-failed" => {}
                kept => wrong.push(format!("{} session {session}: its holder was told {reason}, and the log has {kept:?}", minutes(outcome.until))),
            }
        }
    }
    Check { what: "what holders were told is in the log", figures: format!("{told} openings and closings"), wrong }
}

/// Those that an operator had to end, of which no holder knew any more: she had not heard that hers had opened, or not been able to come back.
pub fn forgotten(outcomes: &[Outcome], ended: &[String]) -> Check {
    let closed =
        |session: &&String| outcomes.iter().any(|outcome| outcome.session.as_ref() == Some(session) && matches!(outcome.end, End::Closed(_)));
    let wrong = ended.iter().filter(closed).map(|session| format!("session {session} was open, and its holder was told that it is closed")).collect();
    Check {
        what: "nothing is open that a holder was told is closed",
        figures: format!("{} that nobody knew of, ended by the operator", ended.len()),
        wrong,
    }
}

/// Whoever found her session gone was not told why; the log says it, and what was done explains it.
pub fn gone(outcomes: &[Outcome], book: &Book, done: &Done) -> Check {
    let (mut reasons, mut wrong) = (BTreeMap::<&str, u64>::new(), Vec::new());
    for outcome in outcomes.iter().filter(|outcome| matches!(outcome.end, End::Gone(_))) {
        let life = outcome.session.as_ref().and_then(|session| book.lives.get(session));
        let reason = life.and_then(|life| life.closed.as_ref().map(|(_, reason)| reason).or(life.reaped.as_ref())).map_or("none", String::as_str);
        *reasons.entry(reason).or_default() += 1;
        // A shell that was left just then is gone when she comes back.
        if reason != "shell-exited" && !is_explained(done, outcome.until, |fault| fault.explains_closing(reason)) {
            wrong.push(format!("{} session {:?} was gone, and the log's reason is {reason}", minutes(outcome.until), outcome.session));
        }
    }
    let figures = reasons.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join("; ");
    Check { what: "what was gone has its reason in the log", figures, wrong }
}

/// Every session that the log opens, it ends.
pub fn declared(book: &Book) -> Check {
    let (mut closed, mut reaped_alone, mut never_built, mut wrong) = (0, 0, 0, Vec::new());
    for (session, life) in book.lives.iter().filter(|(_, life)| life.opened.is_some()) {
        match life {
            _ if life.closed.is_some() => closed += 1,
            _ if life.reaped.is_some() => reaped_alone += 1,
            // Its gateway died with the receipt in its hand: the next one's start says so.
            Life { launched: false, opened: Some(opened), .. } if *opened < book.gateway_started => never_built += 1,
            _ => wrong.push(format!("session {session} was opened by entry {:?}, and no entry says that it ended", life.opened)),
        }
        // What a ledger kept and had no time to say so, it is asked for again, once for each time that it died.
        let starts = book.events.get("ledger.started").copied().unwrap_or(1);
        if life.reapings > starts {
            wrong.push(format!("session {session}: {} entries say that its cell was taken down, and the ledger began {starts} times", life.reapings));
        }
        if life.leftovers > 0 {
            wrong.push(format!("session {session}: its cell left {} things behind", life.leftovers));
        }
    }
    let adopted: u64 = book.lives.values().map(|life| life.adopted).sum();
    let figures = format!(
        "{closed} closed, {reaped_alone} by their cell's end alone, {never_built} whose gateway died before there was a cell; {adopted} adoptions"
    );
    Check { what: "every session that the log opens, it ends", figures, wrong }
}

#[cfg(test)]
mod tests {
    use sulku_stage::Daemon;

    use super::*;
    use crate::playback::Played;

    fn outcome(end: End) -> Outcome {
        Outcome {
            from: Duration::from_secs(90),
            until: Duration::from_secs(100),
            permit: "P",
            session: Some("s".to_owned()),
            taken_up: 0,
            bytes: 1,
            end,
            played: Ok(Played { found: 1, declared: 0 }),
        }
    }

    fn closed(reason: &str) -> End {
        End::Closed(reason.to_owned())
    }

    #[test]
    fn an_end_is_explained_by_what_was_done_then_and_by_nothing_else() {
        let done = |second, fault| [(Duration::from_secs(second), Duration::from_secs(second), fault)];
        let warden = done(99, Fault::Killed(Daemon::Warden));
        assert!(explained(&[outcome(closed("warden-lost"))], &warden).wrong.is_empty());
        assert_eq!(explained(&[outcome(closed("revoked"))], &warden).wrong.len(), 1, "something else was done");
        assert_eq!(explained(&[outcome(closed("warden-lost"))], &done(101, Fault::Killed(Daemon::Warden))).wrong.len(), 1, "later");
        assert_eq!(explained(&[outcome(closed("warden-lost"))], &done(10, Fault::Killed(Daemon::Warden))).wrong.len(), 1, "long before");
        assert_eq!(explained(&[outcome(End::Stuck("x".to_owned()))], &warden).wrong.len(), 1, "nothing explains that");
        assert!(explained(&[outcome(closed("shell-exited"))], &[]).wrong.is_empty());
    }

    #[test]
    fn what_a_holder_was_told_and_the_log_lacks_is_found() {
        let book = |life: Life| Book { lives: BTreeMap::from([("s".to_owned(), life)]), ..Book::default() };
        let whole = Life { opened: Some(1), launched: true, closed: Some((2, "shell-exited".to_owned())), ..Life::default() };
        let told = [outcome(closed("shell-exited"))];
        assert!(acknowledged(&told, &book(whole.clone())).wrong.is_empty());
        assert!(declared(&book(whole.clone())).wrong.is_empty());
        assert_eq!(acknowledged(&told, &Book::default()).wrong.len(), 1);
        assert_eq!(acknowledged(&told, &book(Life { opened: None, ..whole.clone() })).wrong.len(), 1);
        assert_eq!(acknowledged(&told, &book(Life { closed: None, ..whole.clone() })).wrong.len(), 1);
        assert_eq!(acknowledged(&[outcome(closed("revoked"))], &book(whole.clone())).wrong.len(), 1);
        let reaped = Life { closed: None, reaped: Some("gateway-lost".to_owned()), ..whole.clone() };
        assert!(acknowledged(&[outcome(closed("audit-failed"))], &book(reaped.clone())).wrong.is_empty(), "nobody could write it");
        assert_eq!(acknowledged(&told, &book(reaped)).wrong.len(), 1, "there was a ledger");
        assert!(acknowledged(&[outcome(closed("audit-failed"))], &book(whole.clone())).wrong.is_empty(), "it was kept, and nobody heard so");
        assert_eq!(declared(&book(Life { closed: None, ..whole.clone() })).wrong.len(), 1);
        assert_eq!(declared(&book(Life { reapings: 2, ..whole.clone() })).wrong.len(), 1, "written twice, and the ledger began once");
        let ended = book(Life { closed: Some((2, "abandoned".to_owned())), ..whole.clone() });
        let back = [outcome(End::Gone("no-such-session".to_owned()))];
        assert_eq!(gone(&back, &ended, &[]).wrong.len(), 1);
        assert!(gone(&back, &book(whole.clone()), &[]).wrong.is_empty());
        assert_eq!(declared(&book(Life { leftovers: 1, ..whole.clone() })).wrong.len(), 1);
        let never_built = book(Life { closed: None, launched: false, ..whole });
        assert_eq!(declared(&never_built).wrong.len(), 1, "its gateway lives");
        assert!(declared(&Book { gateway_started: 2, ..never_built }).wrong.is_empty());
    }

    #[test]
    fn what_is_open_and_was_said_to_be_closed_is_found() {
        let ended = ["s".to_owned()];
        assert_eq!(forgotten(&[outcome(closed("shell-exited"))], &ended).wrong.len(), 1);
        assert!(forgotten(&[outcome(End::Gone("no-such-session".to_owned()))], &ended).wrong.is_empty());
        assert!(forgotten(&[], &ended).wrong.is_empty(), "one of which nobody heard");
    }

    #[test]
    fn the_calm_must_be_calm_and_must_not_be_empty() {
        let schedule = Schedule::new(1, Duration::from_secs(100));
        assert!(recovered(&[outcome(closed("shell-exited"))], &schedule).wrong.is_empty());
        assert_eq!(recovered(&[outcome(closed("warden-lost"))], &schedule).wrong.len(), 1);
        assert_eq!(recovered(&[], &schedule).wrong.len(), 1);
        let lost = Outcome { played: Err("missing".to_owned()), ..outcome(closed("shell-exited")) };
        assert_eq!(recorded(&[lost], &[]).wrong.len(), 2, "and nothing else was shown");
        let cut = Outcome { played: Ok(Played { found: 1, declared: 5 }), ..outcome(closed("shell-exited")) };
        assert_eq!(recorded(std::slice::from_ref(&cut), &[]).wrong.len(), 1, "nobody died");
        let done = |second| [(Duration::from_secs(second), Duration::from_secs(second), Fault::Killed(Daemon::Gateway))];
        assert!(recorded(std::slice::from_ref(&cut), &done(95)).wrong.is_empty());
        assert_eq!(recorded(&[cut], &done(80)).wrong.len(), 1, "before it began");
    }
}
