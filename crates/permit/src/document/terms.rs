//! The terms of a session, and what this version refuses of them.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::measure;
use super::reader::Reader;
use super::shared::Shared;
use crate::hours::Hours;
use crate::model::{Durability, Recording, Resources, SessionLimits, TerminalRecording};
use crate::shape::{
    AirlockTable, AirlockWayTable, ClipboardTable, OutputTable, RecordingTable, ResourcesTable, RetentionTable, SessionTable, Spanned,
};

/// A cell needs room for a shell.
const MEMORY_BYTES: RangeInclusive<u64> = 16 << 20..=1 << 44;
/// A year: what a supervisor's yearly look finds must still be there.
const RETENTION_DAYS_MIN: u32 = 365;
/// A century: more is a slip of the keyboard.
const RETENTION_DAYS_MAX: u32 = 100 * 366;
/// Without a word of the permit: what an investigation that starts late still needs.
const RETENTION_DAYS_DEFAULT: u32 = 5 * 366;
/// Without a word of the permit: time to ask for an amendment or for results that were forgotten.
const WORKSPACE_DAYS_DEFAULT: u32 = 90;

impl Reader<'_> {
    pub(super) fn session(&mut self, table: SessionTable, zone: Option<&TimeZone>, shared: &Shared) -> Option<SessionLimits> {
        const HOUR: Duration = Duration::from_secs(3_600);
        let SessionTable { from_networks, max_per_person, max_at_once, max_length, idle_disconnect, max_detached, allowed_hours, calendar } = table;
        let from_networks_at = self.at(&from_networks.span());
        let span = from_networks.span();
        let mut networks = Vec::new();
        let items = self.bounded(from_networks.into_inner());
        if items.is_empty() {
            self.problem(span, "nobody may connect from anywhere", "name at least one network; \"0.0.0.0/0\" and \"::/0\" are everywhere");
        }
        for item in items {
            networks.extend(self.network(&item, "this is no network"));
        }
        let max_per_person = match max_per_person {
            None => Some(1),
            Some(number) => self.number(&number, 1..=64, "this is no number of sessions"),
        };
        let max_at_once = match max_at_once {
            None => None,
            Some(number) => Some(self.number(&number, 1..=4096, "this is no number of sessions")?),
        };
        let max_length = self.duration_or(max_length, 12 * HOUR, 24 * 7 * HOUR);
        let idle_disconnect = self.duration_or(idle_disconnect, HOUR / 2, 24 * HOUR);
        let max_detached = match max_detached {
            Some(never) if never.get() == "never" => Some(None),
            // Where the permit says nothing, as long as a session whose connection stands and whose holder has gone.
            stays => self.duration_or(stays, idle_disconnect.unwrap_or_default(), 24 * 7 * HOUR).map(Some),
        };
        let hours = self.opening_hours(allowed_hours, calendar, zone, shared)?;
        Some(SessionLimits {
            max_per_person: max_per_person?,
            max_at_once,
            max_length: max_length?,
            idle_disconnect: idle_disconnect?,
            max_detached: max_detached?,
            from_networks: networks,
            from_networks_at,
            hours,
        })
    }

    /// `Some(None)` where the permit sets none.
    fn opening_hours(
        &mut self,
        allowed: Option<Spanned<Vec<Spanned<String>>>>,
        calendar: Option<Spanned<String>>,
        zone: Option<&TimeZone>,
        shared: &Shared,
    ) -> Option<Option<Hours>> {
        match (allowed, calendar) {
            (None, None) => Some(None),
            (Some(allowed), None) => self.hours(allowed, &[], zone?).map(Some),
            (None, Some(calendar)) => self.shared(&calendar, &shared.calendars, "calendars").map(|hours| Some(hours.clone())),
            (Some(_), Some(calendar)) => {
                self.problem(calendar.span(), "the hours are set twice", "write either allowed_hours or calendar");
                None
            }
        }
    }

    fn number(&mut self, number: &Spanned<u32>, range: RangeInclusive<u32>, what: &str) -> Option<u32> {
        let fits = range.contains(number.get()).then_some(*number.get());
        self.checked(number.span(), fits.ok_or_else(|| format!("write {} to {}", range.start(), range.end())), what)
    }

    /// An amount of bytes that lies in a range, which `bounds` says in words.
    pub(super) fn amount(&mut self, value: &Spanned<String>, range: RangeInclusive<u64>, none: &str, outside: &str, bounds: &str) -> Option<u64> {
        let bytes = self.checked(value.span(), measure::bytes(value.get()), none)?;
        if range.contains(&bytes) {
            return Some(bytes);
        }
        self.problem(value.span(), outside, format!("write {bounds}"));
        None
    }

    fn duration_or(&mut self, value: Option<Spanned<String>>, default: Duration, most: Duration) -> Option<Duration> {
        let Some(value) = value else { return Some(default) };
        let length = self.checked(value.span(), measure::duration(value.get()), "this is no length of time")?;
        if length > most {
            self.problem(value.span(), "this is too long", format!("write at most {} h", most.as_secs() / 3_600));
            return None;
        }
        Some(length)
    }

    pub(super) fn resources(&mut self, table: ResourcesTable) -> Option<Resources> {
        let ResourcesTable { memory, processes, cpus } = table;
        let memory_bytes = match memory {
            None => Some(2 << 30),
            Some(value) => {
                self.amount(&value, MEMORY_BYTES, "this is no amount of memory", "a session can't have this much memory", "16 MiB to 16 TiB")
            }
        };
        let processes = match processes {
            None => Some(512),
            Some(number) => self.number(&number, 8..=65_536, "a session can't have this many processes"),
        };
        let cpu_percent = match cpus {
            None => Some(100),
            Some(number) if (0.1..=1024.0).contains(number.get()) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 10 and 102400 by the guard")]
                let percent = (number.get() * 100.0).round() as u32;
                Some(percent)
            }
            Some(number) => {
                self.problem(number.span(), "a session can't have this many processors", "write 0.1 to 1024.0");
                None
            }
        };
        Some(Resources { memory_bytes: memory_bytes?, processes: processes?, cpu_percent: cpu_percent? })
    }

    pub(super) fn recording(&mut self, table: RecordingTable) -> Option<Recording> {
        let RecordingTable { terminal, durability, retention } = table;
        let kinds = [TerminalRecording::OutputAndInputTiming, TerminalRecording::OutputAndInput].map(|kind| (kind.name(), kind));
        let terminal =
            self.one_of(terminal, TerminalRecording::OutputAndInputTiming, &kinds, "is no kind of recording; a terminal is always recorded");
        let ways = [Durability::Strict, Durability::Windowed].map(|durability| (durability.name(), durability));
        let durability = self.one_of(durability, Durability::Strict, &ways, "is no durability of a recording");
        let help = "write \"1 y\" (or \"365 d\") to \"100 y\"; recordings are kept for a year at least";
        let retention_days = self.kept(retention, RETENTION_DAYS_DEFAULT, RETENTION_DAYS_MIN, "a recording", help);
        Some(Recording { terminal: terminal?, durability: durability?, retention_days: retention_days? })
    }

    pub(super) fn workspace_retention(&mut self, table: RetentionTable) -> Option<u32> {
        let RetentionTable { workspace } = table;
        self.kept(workspace, WORKSPACE_DAYS_DEFAULT, 1, "a workspace", "write \"1 d\" to \"100 y\"")
    }

    fn kept(&mut self, value: Option<Spanned<String>>, default: u32, least: u32, what: &str, help: &str) -> Option<u32> {
        let Some(value) = value else { return Some(default) };
        let days = measure::days(value.get()).ok().filter(|days| (least..=RETENTION_DAYS_MAX).contains(days));
        self.checked(value.span(), days.ok_or(help), &format!("{:?} is no time to keep {what}", value.get()))
    }

    /// The screen, the clipboard and the airlock: closed, or not built.
    pub(super) fn ways_out(&mut self, clipboard: ClipboardTable, output: OutputTable, airlock: AirlockTable) {
        let ClipboardTable { into_workspace, out_of_workspace } = clipboard;
        for way in [into_workspace, out_of_workspace].into_iter().flatten() {
            if way.get() != "never" {
                self.unbuilt(
                    way.span(),
                    "clipboard but a closed one",
                    "write \"never\", or leave it out; what is typed or pasted into a terminal is typing",
                );
            }
        }
        let OutputTable { terminal_per_minute, terminal_per_session } = output;
        for budget in [terminal_per_minute, terminal_per_session].into_iter().flatten() {
            if self.checked(budget.span(), measure::bytes(budget.get()), "this is no amount of output").is_some() {
                self.unbuilt(budget.span(), "budget for a terminal's output", "leave it out");
            }
        }
        let AirlockTable { import, export } = airlock;
        for AirlockWayTable { allowed_types, max_size, max_files } in [import, export].into_iter().flatten() {
            let spans = [allowed_types.as_ref().map(Spanned::span), max_size.as_ref().map(Spanned::span), max_files.as_ref().map(Spanned::span)];
            if let Some(size) = &max_size {
                self.checked(size.span(), measure::bytes(size.get()), "this is no size");
            }
            let span = spans.into_iter().flatten().next().unwrap_or(0..0);
            self.unbuilt(span, "airlock", "leave the table out: nothing comes in or goes out as a file");
        }
    }
}
