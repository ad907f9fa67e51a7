//! What all readers of files stand on: places, problems, and the values that every file has.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::de::DeserializeOwned;
use toml::value::Datetime;

use crate::hours::{Hours, Rule};
use crate::ids::{IdError, SharedName};
use crate::model::{Place, Problem};
use crate::shape::{Moment, Spanned};

/// The largest file that is looked at; the longest real ones are a few KiB.
pub const PERMIT_BYTES_MAX: usize = 256 * 1024;
/// More entries than any real permit lists, few enough that a session's rules stay cheap.
pub(super) const LIST_ENTRIES_MAX: usize = 256;
/// Of one file's unknown keys, so many are told at once.
const UNKNOWN_KEYS_TOLD: usize = 20;

/// Collects problems while it reads; `None` from a method means that it has noted at least one.
pub(super) struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    pub(super) problems: Vec<Problem>,
}

/// Which end of a civil day a date without a time stands for.
#[derive(Clone, Copy)]
pub(super) enum DayEdge {
    /// Its first instant.
    First,
    /// The first instant of the next day: the day is inside the period.
    Last,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &str, text: &'a str) -> Self {
        let lines = std::iter::once(0).chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1)).collect();
        Self { file: file.into(), text, lines, problems: Vec::new() }
    }

    /// The file's shape. An unknown key does not hide what else is wrong.
    pub(super) fn shape<T: DeserializeOwned>(&mut self) -> Option<T> {
        if self.text.len() > PERMIT_BYTES_MAX {
            self.problem(0..0, format!("the file has {} bytes", self.text.len()), format!("a file has at most {PERMIT_BYTES_MAX}"));
            return None;
        }
        let mut text = std::borrow::Cow::Borrowed(self.text);
        for _ in 0..UNKNOWN_KEYS_TOLD {
            let error = match toml::from_str(&text) {
                Ok(shape) => return Some(shape),
                Err(error) => error,
            };
            let span = error.span().unwrap_or(0..0);
            let what = error.message().trim().replace('\n', ", ");
            let key = text.get(span.clone()).filter(|key| what.starts_with("unknown field") && !key.contains('\n')).map(str::to_owned);
            let meant = key.as_deref().and_then(|key| meant(key, &what).map(str::to_owned));
            let help = meant.as_ref().map_or_else(|| help(&what).to_owned(), |meant| format!("did you mean {meant}?"));
            self.problem(span.clone(), what, help);
            key?;
            // The same with the key that was meant, or without it, to see what else there is; where that is no TOML, this was all.
            let mut rest = text.into_owned();
            let blanks = rest[span.end..].bytes().take_while(|byte| *byte == b' ').count();
            match meant.filter(|meant| meant.len() <= span.len() + blanks) {
                Some(meant) => {
                    let end = span.end.max(span.start + meant.len());
                    rest.replace_range(span.start..end, &format!("{meant:width$}", width = end - span.start));
                }
                None => {
                    let end = rest[span.start..].find('\n').map_or(rest.len(), |length| span.start + length);
                    rest.replace_range(span.start..end, &" ".repeat(end - span.start));
                }
            }
            if toml::from_str::<toml::Table>(&rest).is_err() {
                return None;
            }
            text = rest.into();
        }
        None
    }

    /// All problems in the order of the file, or the value if there is none.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Problem>> {
        self.problems.sort_by_key(|problem| (problem.at.line, problem.at.column));
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(self.problems),
        }
    }

    pub(super) fn at(&self, span: &Range<usize>) -> Place {
        let line = self.lines.partition_point(|start| *start <= span.start);
        let start = self.lines[line.saturating_sub(1)];
        let column = self.text.get(start..span.start).map_or(1, |before| before.chars().count() + 1);
        Place { file: Arc::clone(&self.file), line: bounded(line), column: bounded(column), span: bounded(span.start)..bounded(span.end) }
    }

    pub(super) fn problem(&mut self, span: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        self.problems.push(Problem::new(self.at(&span), what, help));
    }

    pub(super) fn checked<T>(&mut self, span: Range<usize>, result: Result<T, impl std::fmt::Display>, what: &str) -> Option<T> {
        result.map_err(|help| self.problem(span, what, help.to_string())).ok()
    }

    pub(super) fn schema(&mut self, schema: &Spanned<u32>) {
        if *schema.get() != 1 {
            self.problem(schema.span(), format!("schema {} is unknown", schema.get()), "write schema = 1");
        }
    }

    /// A text for people: not empty, of one line, without control characters that could act on a terminal.
    pub(super) fn text(&mut self, value: Spanned<String>) -> Option<String> {
        let span = value.span();
        let text = value.into_inner();
        if text.trim().is_empty() || text.len() > 400 || text.chars().any(char::is_control) {
            self.problem(span, "this text is empty, too long or has control characters", "write one line of 1 to 400 bytes");
            return None;
        }
        Some(text)
    }

    /// A list of texts for people, at least one.
    pub(super) fn texts(&mut self, list: Spanned<Vec<Spanned<String>>>, help: &str) -> Vec<String> {
        let span = list.span();
        let texts: Vec<_> = self.bounded(list.into_inner()).into_iter().filter_map(|text| self.text(text)).collect();
        if texts.is_empty() {
            self.problem(span, "this list is empty", help);
        }
        texts
    }

    pub(super) fn id<T: std::str::FromStr<Err = IdError>>(&mut self, value: &Spanned<String>) -> Option<T> {
        let parsed = value.get().parse();
        self.checked(value.span(), parsed, "this is no id")
    }

    pub(super) fn zone(&mut self, name: &Spanned<String>) -> Option<TimeZone> {
        let zone = TimeZone::get(name.get()).map_err(|_| "write an IANA name, as in \"Europe/Helsinki\"");
        self.checked(name.span(), zone, "this time zone is unknown")
    }

    /// A list that is not too long.
    pub(super) fn bounded<T>(&mut self, mut list: Vec<T>) -> Vec<T> {
        if list.len() > LIST_ENTRIES_MAX {
            self.problem(0..0, format!("a list has {} entries", list.len()), format!("write at most {LIST_ENTRIES_MAX}"));
            list.truncate(LIST_ENTRIES_MAX);
        }
        list
    }

    pub(super) fn distinct<'p>(&mut self, keys: impl Iterator<Item = (String, &'p Place)>, what: &str) {
        let mut seen = BTreeMap::new();
        for (key, at) in keys {
            if let Some(first) = seen.insert(key.clone(), at) {
                let help = format!("it stands at line {} too; write each once", first.line);
                self.problems.push(Problem::new(at.clone(), format!("{key} {what}"), help).with(first, "first here"));
            }
        }
    }

    /// A civil date means the whole day in the time zone; a date and time means that instant.
    pub(super) fn instant(&mut self, value: &Spanned<Moment>, zone: &TimeZone, edge: DayEdge) -> Option<Timestamp> {
        let help = "write a date as in 2026-12-31, or a date and time as in 2026-12-31T16:00:00+02:00";
        let instant = instant_of(&value.get().0, zone, edge).ok_or(help);
        self.checked(value.span(), instant, "this is no date")
    }

    pub(super) fn date(&mut self, value: &Spanned<Moment>) -> Option<Date> {
        let moment = &value.get().0;
        let date = if moment.time.is_none() { moment.to_string().parse().ok() } else { None };
        self.checked(value.span(), date.ok_or("write a date as in 2026-12-06"), "this is no day")
    }

    /// A period: its first instant, and the first one after it.
    pub(super) fn period(&mut self, from: &Spanned<Moment>, until: &Spanned<Moment>, zone: &TimeZone, of: &str) -> Option<(Timestamp, Timestamp)> {
        let starts = self.instant(from, zone, DayEdge::First);
        let ends = self.instant(until, zone, DayEdge::Last);
        let (starts, ends) = (starts?, ends?);
        if ends <= starts {
            let what = format!("{of} ends before it begins");
            let problem =
                Problem::new(self.at(&until.span()), what, "swap the two dates, or correct the year").with(&self.at(&from.span()), "it begins here");
            self.problems.push(problem);
            return None;
        }
        Some((starts, ends))
    }

    pub(super) fn hours(&mut self, list: Spanned<Vec<Spanned<String>>>, closed: &[Spanned<Moment>], zone: &TimeZone) -> Option<Hours> {
        let span = list.span();
        let (mut rules, mut words) = (Vec::new(), Vec::new());
        let list = self.bounded(list.into_inner());
        if list.is_empty() {
            self.problem(span.clone(), "no hour is open", "write at least one, as in [\"Mon-Fri 06:00-22:00\"]");
        }
        for rule in list {
            if let Some(parsed) = self.checked(rule.span(), Rule::parse(rule.get()), "these are no hours") {
                rules.push(parsed);
                words.push(rule.into_inner());
            }
        }
        let closed = closed.iter().filter_map(|day| self.date(day)).collect();
        Some(Hours::new(zone.clone(), &rules, words, closed, self.at(&span)))
    }

    pub(super) fn network(&mut self, value: &Spanned<String>, what: &str) -> Option<IpNet> {
        self.checked(value.span(), network(value.get()), what)
    }

    /// The shared file of that name.
    pub(super) fn shared<'s, T>(&mut self, name: &Spanned<String>, known: &'s BTreeMap<SharedName, T>, folder: &str) -> Option<&'s T> {
        let id: SharedName = self.id(name)?;
        let found = known.get(&id);
        if found.is_none() {
            let near =
                known.keys().min_by_key(|known| distance(known.as_str(), id.as_str())).filter(|near| distance(near.as_str(), id.as_str()) <= 3);
            let help = match near {
                Some(near) => format!("did you mean {near:?}? it must be the name in a file of {folder}/", near = near.as_str()),
                None => format!("write {folder}/{id}.toml, or the name in one of its files"),
            };
            self.problem(name.span(), format!("there is no {id} in {folder}/"), help);
        }
        found
    }

    /// One of a few words, or the default where none is written.
    pub(super) fn one_of<T: Copy>(&mut self, value: Option<Spanned<String>>, default: T, known: &[(&str, T)], what: &str) -> Option<T> {
        let Some(value) = value else { return Some(default) };
        let found = known.iter().find(|(name, _)| name == value.get());
        if found.is_none() {
            let names = known.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
            self.problem(value.span(), format!("{:?} {what}", value.get()), format!("write {names}"));
        }
        found.map(|(_, value)| *value)
    }

    /// What parses and is not built: the permit must not be in force as if it were.
    pub(super) fn unbuilt(&mut self, span: Range<usize>, what: &str, help: &str) {
        self.problem(span, format!("this version has no {what}"), help);
    }
}

/// The known key that is nearest to one that is unknown, from the parser's own list of what it knows.
fn meant<'m>(key: &str, message: &'m str) -> Option<&'m str> {
    let known = message.split_once("expected")?.1.split('`').skip(1).step_by(2);
    known.map(|known| (distance(known, key), known)).filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known)
}

fn help(message: &str) -> &'static str {
    if message.starts_with("unknown field") {
        "correct or remove the key; policies/README.md says what there is"
    } else if message.starts_with("missing field") {
        "add it; policies/README.md says what it means"
    } else {
        "see policies/README.md for what the file contains"
    }
}

fn instant_of(value: &Datetime, zone: &TimeZone, edge: DayEdge) -> Option<Timestamp> {
    let text = value.to_string();
    match (value.date, value.time, value.offset) {
        (Some(_), Some(_), Some(_)) => text.parse().ok(),
        (Some(_), Some(_), None) => zone.to_timestamp(text.parse::<DateTime>().ok()?).ok(),
        (Some(_), None, None) => {
            let date: Date = text.parse().ok()?;
            let date = match edge {
                DayEdge::First => date,
                DayEdge::Last => date.tomorrow().ok()?,
            };
            zone.to_timestamp(date.to_datetime(jiff::civil::Time::midnight())).ok()
        }
        _ => None,
    }
}

/// An address, or a network whose host bits are zero: `10.0.0.1/8` would say something other than it means.
fn network(text: &str) -> Result<IpNet, &'static str> {
    const HELP: &str = "write an address as in \"10.20.30.40\" or a network as in \"10.20.0.0/16\", its host bits zero";
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| HELP)?;
    if network == network.trunc() { Ok(network) } else { Err(HELP) }
}

/// Levenshtein's distance, for a guess at what was meant. Names are short.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

fn bounded(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
