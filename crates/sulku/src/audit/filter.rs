//! Which entries: by permit, person, session, time, event. Looks at an entry's bytes first, since most entries of a long log fail there.

use std::collections::HashMap;
use std::fmt;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use memchr::memmem::Finder;
use sulku_audit::personal::Scope;
use sulku_audit::{Entry, Keyring, Source};
use sulku_permit::{HolderId, PermitId, Pseudonym, SessionId};

use super::words;

/// Which entries.
#[derive(Args, Default)]
pub(super) struct Filter {
    /// Of this permit
    #[arg(long)]
    permit: Option<PermitId>,
    /// Of this person, by name; takes the key of each permit
    #[arg(long)]
    person: Option<HolderId>,
    /// Of this person, as entries call her
    #[arg(long)]
    pseudonym: Option<Pseudonym>,
    /// Of this session
    #[arg(long)]
    session: Option<SessionId>,
    /// From this time on, such as 2026-11-23 or 2026-11-23T08:00:00Z; a date begins at midnight UTC
    #[arg(long, value_parser = time)]
    pub(super) since: Option<Timestamp>,
    /// Before this time
    #[arg(long, value_parser = time)]
    pub(super) until: Option<Timestamp>,
    /// Of this event, such as session.opened
    #[arg(long, value_parser = event)]
    event: Option<String>,
    /// What was refused or held back
    #[arg(long)]
    denied: bool,
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
        let Self { permit, person, pseudonym, session, since, until, event, denied } = self;
        let option = |f: &mut fmt::Formatter<'_>, name, value: Option<&dyn fmt::Display>| match value {
            Some(value) => write!(f, " --{name} {value}"),
            None => Ok(()),
        };
        option(f, "permit", permit.as_ref().map(|value| value as _))?;
        option(f, "person", person.as_ref().map(|value| value as _))?;
        option(f, "pseudonym", pseudonym.as_ref().map(|value| value as _))?;
        option(f, "session", session.as_ref().map(|value| value as _))?;
        option(f, "since", since.as_ref().map(|value| value as _))?;
        option(f, "until", until.as_ref().map(|value| value as _))?;
        option(f, "event", event.as_ref().map(|value| value as _))?;
        if *denied { f.write_str(" --denied") } else { Ok(()) }
    }
}

/// Something that is numbered without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    /// `permit_seq`.
    Permit,
    /// `session_seq`.
    Session,
}

impl Filter {
    /// The filter of everything about a permit.
    pub(super) fn of_permit(permit: PermitId) -> Self {
        Self { permit: Some(permit), ..Self::default() }
    }

    /// The filter of everything of a session.
    pub(super) fn of_session(session: SessionId) -> Self {
        Self { session: Some(session), ..Self::default() }
    }

    /// What numbers the entries that pass, if these are all of a permit or of a session.
    pub(super) fn counter(&self) -> Option<Counter> {
        let Self { permit, person, pseudonym, session, since: _, until: _, event, denied } = self;
        let all = person.is_none() && pseudonym.is_none() && event.is_none() && !denied;
        match (permit, session) {
            (Some(_), None) if all => Some(Counter::Permit),
            (None, Some(_)) if all => Some(Counter::Session),
            _ => None,
        }
    }
}

/// A filter at work.
pub(super) struct Sieve<'f> {
    filter: &'f Filter,
    /// Texts that an entry which passes holds, unless it writes them with escapes.
    texts: Vec<Finder<'static>>,
    /// What entries of each scope call the person, once it was asked for; `None` where the key is gone.
    pseudonyms: HashMap<Scope, Option<Pseudonym>>,
    /// Entries that name somebody under a key that is gone, so that nobody can tell whether it is the person.
    undecided: u64,
}

impl<'f> Sieve<'f> {
    pub(super) fn new(filter: &'f Filter) -> Self {
        let Filter { permit, person, pseudonym, session, since: _, until: _, event, denied: _ } = filter;
        let texts = [
            permit.as_ref().map(|permit| format!("\"{permit}\"")),
            session.as_ref().map(|session| format!("\"{session}\"")),
            pseudonym.as_ref().map(|pseudonym| format!("\"{pseudonym}\"")),
            event.as_ref().map(|event| format!("\"{event}\"")),
            person.as_ref().map(|_| "\"person\"".to_owned()),
        ];
        let texts = texts.into_iter().flatten().map(|text| Finder::new(text.as_bytes()).into_owned()).collect();
        Self { filter, texts, pseudonyms: HashMap::new(), undecided: 0 }
    }

    /// The entry, if it passes.
    pub(super) fn pass(&mut self, source: &mut dyn Source, keyring: &mut Keyring, bytes: &[u8]) -> anyhow::Result<Option<Entry>> {
        // JSON can write a text in one way without escapes. With one, only the parser knows.
        if self.texts.iter().any(|text| text.find(bytes).is_none()) && memchr::memchr(b'\\', bytes).is_none() {
            return Ok(None);
        }
        let entry = Entry::parse(bytes)?;
        Ok(if self.passes(&entry) && self.is_about(source, keyring, &entry)? { Some(entry) } else { None })
    }

    fn passes(&self, entry: &Entry) -> bool {
        let Filter { permit, person: _, pseudonym, session, since, until, event, denied } = self.filter;
        let time = entry.stamp.time;
        permit.as_ref().is_none_or(|permit| entry.permit.as_ref() == Some(permit))
            && pseudonym.as_ref().is_none_or(|pseudonym| entry.person.as_ref() == Some(pseudonym))
            && session.as_ref().is_none_or(|session| entry.session.as_ref() == Some(session))
            && since.is_none_or(|since| time >= since)
            && until.is_none_or(|until| time < until)
            && event.as_ref().is_none_or(|event| entry.event.name() == event)
            && (!denied || words::is_denial(&entry.event))
    }

    fn is_about(&mut self, source: &mut dyn Source, keyring: &mut Keyring, entry: &Entry) -> anyhow::Result<bool> {
        let (Some(person), Some(found)) = (&self.filter.person, &entry.person) else { return Ok(self.filter.person.is_none()) };
        let scope = Scope::of(entry.permit.as_ref(), entry.stamp.time);
        if !self.pseudonyms.contains_key(&scope) {
            let pseudonym = keyring.pseudonym(source, &scope, person)?;
            self.pseudonyms.insert(scope.clone(), pseudonym);
        }
        match self.pseudonyms.get(&scope) {
            Some(Some(pseudonym)) => Ok(pseudonym == found),
            _ => {
                self.undecided += 1;
                Ok(false)
            }
        }
    }

    /// What the filter could not decide, in words; empty when it could.
    pub(super) fn doubt(&self) -> String {
        match (self.undecided, &self.filter.person) {
            (1.., Some(person)) => {
                let count = self.undecided;
                format!(
                    "whether {count} more entries are about {person} can't be told: the keys of their permits or years are destroyed or not here\n"
                )
            }
            _ => String::new(),
        }
    }
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
            pseudonym: "0123456789abcdef".parse().ok(),
            session: "0123456789abcdef".parse().ok(),
            since: time("2026-11-23").ok(),
            until: time("2026-11-24").ok(),
            event: event("session.opened").ok(),
            denied: true,
        };
        let expected = " --permit THL/1/2026 --person maija --pseudonym 0123456789abcdef --session 0123456789abcdef --since 2026-11-23T00:00:00Z \
                        --until 2026-11-24T00:00:00Z --event session.opened --denied";
        assert_eq!(filter.to_string(), expected);
        assert_eq!(Filter::default().to_string(), "");
    }

    #[test]
    fn an_event_that_does_not_exist_is_refused_rather_than_never_found() {
        assert!(event("session.open").is_err_and(|help| help.contains("session.opened")));
    }

    struct Nowhere;

    impl Source for Nowhere {
        fn read(&mut self, _: &str) -> Result<Option<Vec<u8>>, sulku_audit::SourceError> {
            Ok(None)
        }

        fn read_at(&mut self, _: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, sulku_audit::SourceError> {
            Ok(None)
        }
    }

    const ENTRY: &str = r#"{"v":1,"t":"2026-11-23T08:00:00.000000Z","mono_ns":1,"boot":"b","by":"warden","permit":"THL/1","permit_seq":0,"session":"0123456789abcdef","session_seq":0,"person":"0123456789abcdef","code":"SLK3201W","event":"egress.denied","data":{"protocol":6,"destination":"192.0.2.1","port":443,"suppressed":0},"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}"#;

    fn passes(filter: &Filter, entry: &str) -> bool {
        Sieve::new(filter).pass(&mut Nowhere, &mut Keyring::default(), entry.as_bytes()).expect("an entry").is_some()
    }

    #[test]
    fn each_filter_lets_its_entries_through_and_no_others() {
        let with = |set: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            set(&mut filter);
            passes(&filter, ENTRY)
        };
        assert!(with(&|_| {}));
        assert!(with(&|filter| filter.permit = "THL/1".parse().ok()) && !with(&|filter| filter.permit = "THL/2".parse().ok()));
        assert!(!with(&|filter| filter.permit = "egress.denied".parse().ok()), "a text that stands elsewhere in the entry");
        assert!(
            with(&|filter| filter.session = "0123456789abcdef".parse().ok()) && !with(&|filter| filter.session = "0123456789abcdeg".parse().ok())
        );
        assert!(with(&|filter| filter.pseudonym = "0123456789abcdef".parse().ok()));
        assert!(with(&|filter| filter.event = event("egress.denied").ok()) && !with(&|filter| filter.event = event("egress.allowed").ok()));
        assert!(with(&|filter| filter.denied = true));
        assert!(
            with(&|filter| filter.since = time("2026-11-23T08:00:00Z").ok()) && !with(&|filter| filter.until = time("2026-11-23T08:00:00Z").ok())
        );
    }

    /// Nobody hides an entry from a filter by writing it in another form.
    #[test]
    fn an_entry_that_is_written_with_escapes_or_spaces_is_found_as_well() {
        let filter = Filter::of_permit("THL/1".parse().expect("an id"));
        for odd in [
            ENTRY.replace("THL/1", "TH\\u004c/1"),
            ENTRY.replace("THL/1", "THL\\/1"),
            ENTRY.replace(':', " : ").replace("T08 : 00 : 00", "T08:00:00"),
        ] {
            assert!(passes(&filter, &odd), "{odd}");
        }
    }

    #[test]
    fn whose_key_is_gone_is_told_and_not_taken_for_somebody_else() {
        let filter = Filter { person: "maija".parse().ok(), ..Filter::default() };
        let mut sieve = Sieve::new(&filter);
        assert!(sieve.pass(&mut Nowhere, &mut Keyring::default(), ENTRY.as_bytes()).expect("an entry").is_none());
        assert!(sieve.doubt().starts_with("whether 1 more entries are about maija can't be told"));
        assert_eq!(Sieve::new(&Filter::default()).doubt(), "");
    }
}
