//! `sulku audit list`: the entries that pass a filter, as a table or as JSON lines. The whole log is verified on the way.
//!
//! Nothing is printed before all is verified. Names and addresses are shown where their keys are at hand, pseudonyms where not.

use std::fmt;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;
use sulku_audit::personal::Sight;
use sulku_audit::{Draft, Entry, Keyring, Recordings, Source, Trust};
use sulku_permit::{HolderId, PermitId, SessionId};

use super::words;
use crate::print::{answer, table};

/// More rows than anybody reads as a table.
const TABLE_ROWS_MAX: usize = 50_000;

/// Which entries.
#[derive(Args, Default)]
pub(super) struct Filter {
    /// Of this permit
    #[arg(long)]
    permit: Option<PermitId>,
    /// Of this person
    #[arg(long)]
    person: Option<HolderId>,
    /// Of this session
    #[arg(long)]
    session: Option<SessionId>,
    /// From this time on, such as 2026-11-23 or 2026-11-23T08:00:00Z; a date begins at midnight UTC
    #[arg(long, value_parser = time)]
    since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_parser = time)]
    until: Option<Timestamp>,
    /// Of this event, such as session.opened
    #[arg(long, value_parser = event)]
    event: Option<String>,
    /// What was refused or held back
    #[arg(long)]
    denied: bool,
}

/// How entries are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    text.parse().ok().or_else(day).ok_or_else(|| "write a date as 2026-11-23 or a time as 2026-11-23T08:00:00Z".to_owned())
}

fn event(text: &str) -> Result<String, String> {
    let known = || sulku_audit::Event::TABLE.iter().map(|(name, ..)| *name);
    if known().any(|name| name == text) { Ok(text.to_owned()) } else { Err(format!("the events are {}", known().collect::<Vec<_>>().join(", "))) }
}

/// As the reading is announced in the log, options and values.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { permit, person, session, since, until, event, denied } = self;
        let option = |f: &mut fmt::Formatter<'_>, name, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, " --{name} {value}"),
            None => Ok(()),
        };
        option(f, "permit", permit.as_ref().map(|value| value as _))?;
        option(f, "person", person.as_ref().map(|value| value as _))?;
        option(f, "session", session.as_ref().map(|value| value as _))?;
        option(f, "since", since.as_ref().map(|value| value as _))?;
        option(f, "until", until.as_ref().map(|value| value as _))?;
        option(f, "event", event.as_ref().map(|value| value as _))?;
        if *denied { f.write_str(" --denied") } else { Ok(()) }
    }
}

impl Filter {
    /// Whether an entry passes, but for the person, whose name takes the key.
    fn passes(&self, entry: &Entry) -> bool {
        let Self { permit, person: _, session, since, until, event, denied } = self;
        let time = entry.stamp.time;
        permit.as_ref().is_none_or(|permit| entry.permit.as_ref() == Some(permit))
            && session.as_ref().is_none_or(|session| entry.session.as_ref() == Some(session))
            && since.is_none_or(|since| time >= since)
            && until.is_none_or(|until| time < until)
            && event.as_ref().is_none_or(|event| entry.event.name() == event)
            && (!denied || words::is_denial(&entry.event))
    }

    fn passes_person(&self, draft: &Draft) -> bool {
        self.person.as_ref().is_none_or(|person| draft.person.as_ref() == Some(person))
    }
}

pub(super) fn run(source: &mut dyn Source, trust: &Trust, filter: &Filter, form: Form) -> anyhow::Result<ExitCode> {
    let header = ["TIME (UTC)", "ENTRY", "EVENT", "PERSON", "PERMIT", "SESSION", "WHAT"];
    let mut found = Vec::new();
    let verified = sulku_audit::verify::verify(source, trust, Recordings::Skip, |index, entry, bytes| {
        if filter.passes(entry) {
            found.push((index, entry.clone(), bytes.to_vec()));
        }
    })?;
    let (mut keyring, mut rows, mut lines) = (Keyring::default(), vec![header.map(str::to_owned).to_vec()], String::new());
    for (index, entry, bytes) in found {
        let sight = keyring.open(source, &entry)?;
        let draft = match &sight {
            Sight::Open(draft) => Some(&**draft),
            Sight::Destroyed | Sight::NoKey | Sight::Damaged => None,
        };
        if filter.person.is_some() && !draft.is_some_and(|draft| filter.passes_person(draft)) {
            continue;
        }
        match form {
            Form::Json => {
                let entry = String::from_utf8_lossy(&bytes);
                let line = match draft {
                    Some(draft) => format!("{{\"index\":{index},\"entry\":{entry},\"opened\":{}}}", opened(draft)?),
                    None => format!("{{\"index\":{index},\"entry\":{entry}}}"),
                };
                lines.push_str(&words::safe_json(&line));
                lines.push('\n');
            }
            Form::Table => rows.push(row(index, &entry, draft)),
        }
    }
    match form {
        Form::Json => answer(&lines)?,
        Form::Table => {
            let listed = rows.len() - 1;
            anyhow::ensure!(
                listed <= TABLE_ROWS_MAX,
                "{listed} entries are too many for a table; narrow them with --since and --until, or add --json"
            );
            if listed > 0 {
                answer(&table(&rows))?;
            }
            eprintln!("{listed} of {} entries, all verified", verified.entries());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the entry's box and pseudonym stand for: `{"person":…,"data":{…}}`, the data whole.
fn opened(draft: &Draft) -> anyhow::Result<Value> {
    let data = serde_json::to_value(&draft.event)?["data"].take();
    Ok(serde_json::json!({ "person": draft.person, "data": data }))
}

fn row(index: u64, entry: &Entry, draft: Option<&Draft>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let person = match draft {
        Some(draft) => draft.person.as_ref().map(ToString::to_string),
        None => entry.person.as_ref().map(ToString::to_string),
    };
    let event = draft.map_or(&entry.event, |draft| &draft.event);
    vec![
        words::time(entry.stamp.time),
        index.to_string(),
        event.name().to_owned(),
        text(person),
        text(entry.permit.as_ref().map(ToString::to_string)),
        text(entry.session.as_ref().map(ToString::to_string)),
        words::gist(event),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_begins_at_midnight_in_utc() {
        assert_eq!(time("2026-11-23"), time("2026-11-23T00:00:00Z"));
        assert!(time("yesterday").is_err() && time("2026-13-01").is_err());
    }

    #[test]
    fn what_is_announced_names_every_filter() {
        let filter = Filter {
            permit: "THL/1/2026".parse().ok(),
            person: "maija".parse().ok(),
            session: "0123456789abcdef".parse().ok(),
            since: time("2026-11-23").ok(),
            until: time("2026-11-24").ok(),
            event: event("session.opened").ok(),
            denied: true,
        };
        let expected = " --permit THL/1/2026 --person maija --session 0123456789abcdef --since 2026-11-23T00:00:00Z --until 2026-11-24T00:00:00Z \
                        --event session.opened --denied";
        assert_eq!(filter.to_string(), expected);
        assert_eq!(Filter::default().to_string(), "");
    }

    #[test]
    fn an_event_that_does_not_exist_is_refused_rather_than_never_found() {
        assert!(event("session.open").is_err_and(|help| help.contains("session.opened")));
    }
}
