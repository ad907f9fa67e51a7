//! `sulku audit list`: entries that pass a filter, as a table or as JSON lines, a page at a time or all.
//!
//! Each entry is proven against the signed checkpoint before it is shown; the rest of the log is not walked. Names and addresses are
//! shown where their keys are at hand, pseudonyms where not. That none is left out shows in the counters, where a filter is for all
//! of a permit or a session: they are checked. An index would only say faster where to look ([`super::search`]).

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use sulku_audit::personal::Sight;
use sulku_audit::reading::Pages;
use sulku_audit::{Checkpoint, Draft, Entry, Keyring, Source};

use super::filter::{Counter, Filter, Sieve};
use super::search::{Candidates, Direction, Everything, within_times};
use super::words;
use crate::print::{answer, table};

/// The longest page, and the longest table: more than anybody reads at once. All of a longer log comes as JSON lines.
const PAGE_ENTRIES_MAX: u64 = 50_000;
const PAGE_ENTRIES: u64 = 100;

/// Which of them.
#[derive(Args, Default)]
pub(super) struct Page {
    /// The last so many [default: 100 as a table, all with --json and --ocsf]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PAGE_ENTRIES_MAX), conflicts_with_all = ["from", "all"])]
    last: Option<u64>,
    /// The last before this entry, which is how to go on backwards
    #[arg(long, value_name = "ENTRY", conflicts_with_all = ["from", "all"])]
    before: Option<u64>,
    /// From this entry on
    #[arg(long, value_name = "ENTRY")]
    from: Option<u64>,
    /// With --from: so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PAGE_ENTRIES_MAX), requires = "from")]
    count: Option<u64>,
    /// All, from the first on
    #[arg(long, conflicts_with = "from")]
    all: bool,
}

/// How entries are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For other systems: OCSF 1.8.0 events, which show nothing private.
    Ocsf,
}

/// A page, with what was not told filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Last { count: u64, before: u64 },
    From { first: u64, count: u64 },
}

/// As the reading is announced in the log.
impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { last, before, from, count, all } = self;
        for (name, value) in [("last", last), ("before", before), ("from", from), ("count", count)] {
            value.map_or(Ok(()), |value| write!(f, " --{name} {value}"))?;
        }
        if *all { f.write_str(" --all") } else { Ok(()) }
    }
}

impl Page {
    fn extent(&self, form: Form) -> Extent {
        match (self.from, form) {
            (Some(first), Form::Table) => Extent::From { first, count: self.count.unwrap_or(PAGE_ENTRIES) },
            (Some(first), Form::Json | Form::Ocsf) => Extent::From { first, count: self.count.unwrap_or(u64::MAX) },
            (None, _) if self.all => Extent::From { first: 0, count: u64::MAX },
            (None, Form::Json | Form::Ocsf) if self.last.is_none() && self.before.is_none() => Extent::From { first: 0, count: u64::MAX },
            (None, _) => Extent::Last { count: self.last.unwrap_or(PAGE_ENTRIES), before: self.before.unwrap_or(u64::MAX) },
        }
    }
}

/// An entry that passes, proven.
struct Found {
    index: u64,
    entry: Entry,
    bytes: Vec<u8>,
}

pub(super) fn run(source: &mut dyn Source, checkpoint: Checkpoint, filter: &Filter, page: &Page, form: Form) -> anyhow::Result<ExitCode> {
    let (size, origin) = (checkpoint.size, checkpoint.origin.clone());
    let mut pages = Pages::new(source, checkpoint)?;
    let (mut sieve, mut keyring) = (Sieve::new(filter), Keyring::default());
    let mut printer = Printer::new(form, origin, filter);
    let times = within_times(&mut pages, filter)?;
    let (hint, reached) = match page.extent(form) {
        Extent::Last { count, before } => {
            let range = times.start..times.end.min(before);
            let mut found = VecDeque::new();
            walk(&mut pages, &mut Everything::new(range, Direction::Backward), Direction::Backward, &mut sieve, &mut keyring, |_, _, one| {
                found.push_front(one);
                Ok(if found.len() as u64 == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            let first = found.front().filter(|_| found.len() as u64 == count).map(|one| one.index).filter(|first| *first > 0);
            for one in found {
                if printer.take(pages.source(), &mut keyring, one)?.is_break() {
                    break;
                }
            }
            (first.map(|first| format!("; those before: --before {first}")), first.is_none() && times.start == 0)
        }
        Extent::From { first, count } => {
            let range = times.start.max(first)..times.end;
            let (mut left, mut next) = (count, None);
            walk(
                &mut pages,
                &mut Everything::new(range, Direction::Forward),
                Direction::Forward,
                &mut sieve,
                &mut keyring,
                |source, keyring, one| {
                    if left == 0 {
                        next = Some(one.index);
                        return Ok(ControlFlow::Break(()));
                    }
                    left -= 1;
                    printer.take(source, keyring, one)
                },
            )?;
            (next.map(|next| format!("; those after: --from {next}")), first == 0 && times.start == 0)
        }
    };
    printer.finish(size, &hint.unwrap_or_default(), &sieve.doubt(), reached)
}

/// Shows the entries of a log that pass, from the first on.
pub(super) fn walk_all(
    pages: &mut Pages<'_, dyn Source + '_>,
    filter: &Filter,
    mut show: impl FnMut(&mut dyn Source, u64, &Entry, &[u8]) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut everything = Everything::new(0..pages.checkpoint().size, Direction::Forward);
    walk(pages, &mut everything, Direction::Forward, &mut Sieve::new(filter), &mut Keyring::default(), |source, _, one| {
        show(source, one.index, &one.entry, &one.bytes).map(ControlFlow::Continue)
    })
}

/// Shows the entries that pass among the candidates, until it is told to stop.
fn walk(
    pages: &mut Pages<'_, dyn Source + '_>,
    candidates: &mut dyn Candidates,
    direction: Direction,
    sieve: &mut Sieve<'_>,
    keyring: &mut Keyring,
    mut show: impl FnMut(&mut dyn Source, &mut Keyring, Found) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<()> {
    while let Some(numbers) = candidates.next() {
        let bundle = pages.bundle_of(numbers.start)?;
        let mut entries = bundle.entries().filter(|(index, _)| numbers.contains(index));
        let mut next = || if direction == Direction::Forward { entries.next() } else { entries.next_back() };
        while let Some((index, bytes)) = next() {
            if let Some(entry) = sieve.pass(pages.source(), keyring, bytes)?
                && show(pages.source(), keyring, Found { index, entry, bytes: bytes.to_vec() })?.is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Prints entries in their order.
struct Printer {
    form: Form,
    origin: String,
    rows: Vec<Vec<String>>,
    out: io::BufWriter<io::StdoutLock<'static>>,
    counter: Option<Counter>,
    /// The last entry's number and the next count of what its filter is for.
    last: Option<(u64, u64)>,
    /// The first count, to see whether it is the beginning.
    first: Option<(u64, u64)>,
    listed: u64,
    destroyed: u64,
    keyless: u64,
}

impl Printer {
    fn new(form: Form, origin: String, filter: &Filter) -> Self {
        let header = ["TIME (UTC)", "ENTRY", "EVENT", "PERSON", "PERMIT", "SESSION", "WHAT"];
        let (rows, out) = (vec![header.map(str::to_owned).to_vec()], io::BufWriter::new(io::stdout().lock()));
        Self { form, origin, rows, out, counter: filter.counter(), last: None, first: None, listed: 0, destroyed: 0, keyless: 0 }
    }

    fn take(&mut self, source: &mut dyn Source, keyring: &mut Keyring, found: Found) -> anyhow::Result<ControlFlow<()>> {
        let Found { index, entry, bytes } = found;
        self.count(index, &entry)?;
        self.listed += 1;
        let sight = sight(source, keyring, &entry)?;
        match sight {
            Sight::Destroyed => self.destroyed += 1,
            Sight::NoKey => self.keyless += 1,
            Sight::Open(_) | Sight::Damaged => {}
        }
        match self.form {
            Form::Json | Form::Ocsf => match writeln!(self.out, "{}", self.line(index, &bytes, &sight)?) {
                // Whoever has read enough closes the pipe.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ControlFlow::Break(())),
                outcome => outcome?,
            },
            Form::Table => {
                anyhow::ensure!(
                    self.listed <= PAGE_ENTRIES_MAX,
                    "more than {PAGE_ENTRIES_MAX} entries are too many for a table; narrow them, use --last, or add --json"
                );
                self.rows.push(row(index, &entry, &sight));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn line(&self, index: u64, bytes: &[u8], sight: &Sight) -> anyhow::Result<String> {
        match self.form {
            Form::Ocsf => Ok(words::safe_json(&sulku_audit::ocsf::export(&self.origin, index, bytes).event.to_string())),
            Form::Table | Form::Json => json(index, bytes, sight),
        }
    }

    /// What a filter selects whole is numbered without a gap, or something was kept back.
    fn count(&mut self, index: u64, entry: &Entry) -> anyhow::Result<()> {
        let (what, found) = match self.counter {
            Some(Counter::Permit) => ("permit_seq", entry.stamp.permit_seq),
            Some(Counter::Session) => ("session_seq", entry.stamp.session_seq),
            None => return Ok(()),
        };
        let Some(found) = found else { return Ok(()) };
        if let Some((before, expected)) = self.last {
            anyhow::ensure!(
                found == expected,
                "between entries {before} and {index} some are missing: {what} is {found} where {expected} comes next"
            );
        }
        self.first = self.first.or(Some((index, found)));
        self.last = Some((index, found + 1));
        Ok(())
    }

    fn finish(mut self, size: u64, hint: &str, doubt: &str, reached: bool) -> anyhow::Result<ExitCode> {
        match self.out.flush() {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
            _ => {}
        }
        drop(self.out);
        if let (Some((index, count @ 1..)), true) = (self.first, reached) {
            anyhow::bail!("before entry {index} some are missing: the first of what was asked for is number {count}, not 0");
        }
        if self.form == Form::Table && self.listed > 0 {
            answer(&table(&self.rows))?;
        }
        let gapless = if self.counter.is_some() && self.listed > 0 { ", numbered without a gap" } else { "" };
        if self.form == Form::Table {
            eprintln!("{} of {size} entries, each proven{gapless}{hint}", self.listed);
        }
        for (count, why) in
            [(self.destroyed, "was destroyed: names in them are gone for good"), (self.keyless, "is not here: names in them are sealed")]
        {
            if count > 0 {
                eprintln!("of {count} of them the key {why}");
            }
        }
        eprint!("{doubt}");
        Ok(ExitCode::SUCCESS)
    }
}

/// What this reader can see of an entry; of one that has nothing sealed, all.
pub(super) fn sight(source: &mut dyn Source, keyring: &mut Keyring, entry: &Entry) -> anyhow::Result<Sight> {
    if entry.sealed.is_some() || entry.person.is_some() {
        return Ok(keyring.open(source, entry)?);
    }
    let draft = Draft { permit: entry.permit.clone(), session: entry.session, person: None, event: (*entry.event).clone() };
    Ok(Sight::Open(Box::new(draft)))
}

/// An entry as programs get it, and what its box and pseudonym stand for: `{"person":…,"data":{…}}`, the data whole.
fn json(index: u64, bytes: &[u8], sight: &Sight) -> anyhow::Result<String> {
    let entry = String::from_utf8_lossy(bytes);
    let line = match sight {
        Sight::Open(draft) => format!("{{\"index\":{index},\"entry\":{entry},\"opened\":{}}}", opened(draft)?),
        Sight::Destroyed | Sight::NoKey | Sight::Damaged => {
            format!("{{\"index\":{index},\"entry\":{entry},\"unopened\":\"{}\"}}", why_sealed(sight))
        }
    };
    Ok(words::safe_json(&line))
}

/// What the entry's box and pseudonym stand for.
pub(super) fn opened(draft: &Draft) -> anyhow::Result<Value> {
    let data = serde_json::to_value(&draft.event)?["data"].take();
    Ok(serde_json::json!({ "person": draft.person, "data": data }))
}

/// Why an entry stays sealed; empty when it doesn't.
pub(super) const fn why_sealed(sight: &Sight) -> &'static str {
    match sight {
        Sight::Open(_) => "",
        Sight::Destroyed => "key destroyed",
        Sight::NoKey => "key not here",
        Sight::Damaged => "not sealed by its key",
    }
}

fn row(index: u64, entry: &Entry, sight: &Sight) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let (person, what) = match sight {
        Sight::Open(draft) => (draft.person.as_ref().map(ToString::to_string), words::gist(&draft.event)),
        Sight::Destroyed | Sight::NoKey | Sight::Damaged => {
            let what = words::gist(&entry.event).replace(words::SEALED, &format!("({})", why_sealed(sight)));
            (entry.person.as_ref().map(ToString::to_string), what)
        }
    };
    vec![
        words::time(entry.stamp.time),
        index.to_string(),
        entry.event.name().to_owned(),
        text(person),
        text(entry.permit.as_ref().map(ToString::to_string)),
        text(entry.session.as_ref().map(ToString::to_string)),
        what,
    ]
}
