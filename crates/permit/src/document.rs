//! The way from a permit's text to a [`Permit`].
//!
//! The shape of the file is taken apart field by field, so that a new field that nobody handles does not compile.

use std::net::IpAddr;
use std::ops::Range;
use std::path::{Component, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use toml::Spanned;
use toml::value::Datetime;

use crate::measure;
use crate::model::{
    Dataset, Destination, Durability, Holder, Identity, Permit, Place, Port, Problem, Recording, Resources, SessionLimits, TerminalRecording,
    Validity, Workspace,
};
use crate::shape::{CertificateTable, DatasetTable, Document, EgressTable, HolderTable, PermitTable, RecordingTable, ResourcesTable, SessionTable};

/// The largest permit file that is looked at; the longest real ones are a few KiB.
pub const PERMIT_BYTES_MAX: usize = 256 * 1024;
/// More entries than any real permit lists, few enough that a session's rules stay cheap.
const LIST_ENTRIES_MAX: usize = 256;
/// A cell needs room for a shell.
const MEMORY_BYTES_MIN: u64 = 16 << 20;
/// A year: what a supervisor's yearly look finds must still be there.
const RETENTION_DAYS_MIN: u32 = 365;
/// A century: more is a slip of the keyboard.
const RETENTION_DAYS_MAX: u32 = 100 * 366;
/// Without a word of the permit: what an investigation that starts late still needs.
const RETENTION_DAYS_DEFAULT: u32 = 5 * 366;

/// Turns the text of a permit's file into a permit.
///
/// `file` is only used to say where a problem is.
///
/// # Errors
/// Every problem found, in the order of the file; a text that is not TOML of the right shape gives one.
pub fn parse(file: &str, text: &str) -> Result<Permit, Vec<Problem>> {
    let mut reader = Reader { file: file.into(), text, problems: Vec::new() };
    if text.len() > PERMIT_BYTES_MAX {
        reader.problem(0..0, format!("the file has {} bytes", text.len()), format!("a permit has at most {PERMIT_BYTES_MAX}"));
        return Err(reader.problems);
    }
    let document: Document = match toml::from_str(text) {
        Ok(document) => document,
        Err(error) => {
            let help = "see policies/README.md for what a permit contains";
            reader.problem(error.span().unwrap_or(0..0), error.message().trim().replace('\n', ", "), help);
            return Err(reader.problems);
        }
    };
    let permit = reader.permit(document);
    reader.problems.sort_by_key(|problem| (problem.at.line, problem.column));
    match permit {
        Some(permit) if reader.problems.is_empty() => Ok(permit),
        _ => Err(reader.problems),
    }
}

/// Collects problems while it reads; `None` from a method means that it has noted at least one.
struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn place(&self, span: &Range<usize>) -> (Place, u32) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
        (Place { file: Arc::clone(&self.file), line: bounded(line) }, bounded(column))
    }

    fn at(&self, span: &Range<usize>) -> Place {
        self.place(span).0
    }

    fn problem(&mut self, span: Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        let (at, column) = self.place(&span);
        self.problems.push(Problem { at, column, what: what.into(), help: help.into() });
    }

    fn checked<T>(&mut self, span: Range<usize>, result: Result<T, impl std::fmt::Display>, what: &str) -> Option<T> {
        result.map_err(|help| self.problem(span, what, help.to_string())).ok()
    }

    /// A text for people: not empty, of one line, without control characters that could act on a terminal.
    fn text(&mut self, value: Spanned<String>) -> Option<String> {
        let span = value.span();
        let text = value.into_inner();
        if text.trim().is_empty() || text.len() > 400 || text.chars().any(char::is_control) {
            self.problem(span, "this text is empty, too long or has control characters", "write one line of 1 to 400 bytes");
            return None;
        }
        Some(text)
    }

    fn id<T: std::str::FromStr<Err = crate::ids::IdError>>(&mut self, value: &Spanned<String>) -> Option<T> {
        let parsed = value.get_ref().parse();
        self.checked(value.span(), parsed, "this is no id")
    }

    fn permit(&mut self, document: Document) -> Option<Permit> {
        let Document { schema, permit, holder, workspace, dataset, egress, session, resources, recording } = document;
        if *schema.get_ref() != 1 {
            self.problem(schema.span(), format!("schema {} is unknown", schema.get_ref()), "write schema = 1");
        }
        let PermitTable { id, title, purpose, issuer, valid_from, valid_until, time_zone } = permit;
        let at = self.at(&id.span());
        let id = self.id(&id);
        let title = self.text(title);
        let purpose = self.text(purpose);
        let issuer = self.text(issuer);
        let zone = TimeZone::get(time_zone.get_ref());
        let zone = self.checked(time_zone.span(), zone.map_err(|_| "write an IANA name, as in \"Europe/Helsinki\""), "this time zone is unknown");
        let validity = zone.as_ref().and_then(|zone| self.validity(&valid_from, &valid_until, zone));
        let holders = self.holders(holder, zone.as_ref(), validity.as_ref());
        let workspace = self.id(&workspace.name).map(|name| Workspace { name, at: self.at(&workspace.name.span()) });
        let datasets = self.each(dataset, Self::dataset);
        self.distinct(datasets.iter().map(|dataset| (dataset.mounted_at.display().to_string(), &dataset.at)), "is a mount point already");
        let egress = self.each(egress, Self::destination);
        let session = self.session(session, &at);
        let resources = self.resources(resources);
        let recording = self.recording(recording);
        Some(Permit {
            id: id?,
            title: title?,
            purpose: purpose?,
            issuer: issuer?,
            validity: validity?,
            holders,
            workspace: workspace?,
            datasets,
            egress,
            session: session?,
            resources: resources?,
            recording: recording?,
            at,
        })
    }

    fn each<D, T>(&mut self, tables: Vec<D>, one: fn(&mut Self, D) -> Option<T>) -> Vec<T> {
        if tables.len() > LIST_ENTRIES_MAX {
            self.problem(0..0, format!("a list has {} entries", tables.len()), format!("write at most {LIST_ENTRIES_MAX}"));
        }
        tables.into_iter().take(LIST_ENTRIES_MAX).filter_map(|table| one(self, table)).collect()
    }

    fn distinct<'p>(&mut self, keys: impl Iterator<Item = (String, &'p Place)>, what: &str) {
        let mut seen = std::collections::BTreeMap::new();
        for (key, at) in keys {
            if let Some(first) = seen.insert(key.clone(), at) {
                let help = format!("it stands at line {} too; write each once", first.line);
                self.problems.push(Problem { at: at.clone(), column: 1, what: format!("{key} {what}"), help });
            }
        }
    }

    fn validity(&mut self, from: &Spanned<Datetime>, until: &Spanned<Datetime>, zone: &TimeZone) -> Option<Validity> {
        let starts = self.instant(from, zone, DayEdge::First);
        let ends = self.instant(until, zone, DayEdge::Last);
        let (starts, ends) = (starts?, ends?);
        if ends <= starts {
            self.problem(until.span(), "the permit ends before it begins", "swap the two dates, or correct the year");
            return None;
        }
        Some(Validity { from: starts, until: ends, from_at: self.at(&from.span()), until_at: self.at(&until.span()) })
    }

    /// A civil date means the whole day in the permit's time zone; a date and time means that instant.
    fn instant(&mut self, value: &Spanned<Datetime>, zone: &TimeZone, edge: DayEdge) -> Option<Timestamp> {
        let help = "write a date as in 2026-12-31, or a date and time as in 2026-12-31T16:00:00+02:00";
        let instant = instant_of(value.get_ref(), zone, edge).ok_or(help);
        self.checked(value.span(), instant, "this is no date")
    }

    fn holders(&mut self, tables: Spanned<Vec<HolderTable>>, zone: Option<&TimeZone>, validity: Option<&Validity>) -> Vec<Holder> {
        let span = tables.span();
        let tables = tables.into_inner();
        if tables.is_empty() || tables.len() > LIST_ENTRIES_MAX {
            self.problem(span, format!("the permit lists {} persons", tables.len()), format!("write 1 to {LIST_ENTRIES_MAX} [[holder]] tables"));
        }
        let mut holders = Vec::new();
        for HolderTable { id, name, certificate, valid_until } in tables.into_iter().take(LIST_ENTRIES_MAX) {
            let at = self.at(&id.span());
            let id = self.id(&id);
            let name = self.text(name);
            let identity = self.identity(certificate);
            let until = match (&valid_until, zone) {
                (Some(date), Some(zone)) => match self.instant(date, zone, DayEdge::Last) {
                    Some(until) => {
                        if validity.is_some_and(|validity| until > validity.until || until <= validity.from) {
                            self.problem(date.span(), "this date is outside the permit's period", "write a date inside it, or leave it out");
                        }
                        Some(until)
                    }
                    None => None,
                },
                _ => None,
            };
            if let (Some(id), Some(name), Some(identity)) = (id, name, identity) {
                holders.push(Holder { id, name, identity, until, at });
            }
        }
        self.distinct(holders.iter().map(|holder| (holder.id.to_string(), &holder.at)), "is listed already");
        holders
    }

    fn identity(&mut self, table: Spanned<CertificateTable>) -> Option<Identity> {
        let span = table.span();
        let CertificateTable { uri, issuer, subject_serial_number, key_sha256 } = table.into_inner();
        let identity = Identity::of_document(uri, issuer, subject_serial_number, key_sha256);
        self.checked(span, identity, "this does not identify one person")
    }

    fn dataset(&mut self, table: DatasetTable) -> Option<Dataset> {
        let DatasetTable { name, path, mounted_at } = table;
        let at = self.at(&name.span());
        let name = self.text(name);
        let source = plain_absolute(path.get_ref()).ok_or("write an absolute path without . and ..");
        let source = self.checked(path.span(), source, "this is no folder on the host");
        let target = plain_absolute(mounted_at.get_ref())
            .filter(|target| target.starts_with("/data") && target.components().count() == 3)
            .ok_or("write a path of one name below /data, as in \"/data/hilmo\"");
        let target = self.checked(mounted_at.span(), target, "data cannot be mounted here");
        Some(Dataset { name: name?, path: source?, mounted_at: target?, at })
    }

    fn destination(&mut self, table: EgressTable) -> Option<Destination> {
        let EgressTable { name, to, ports, reason } = table;
        let at = self.at(&name.span());
        let name = self.text(name);
        let reason = self.text(reason);
        let network = self.checked(to.span(), network(to.get_ref()), "this is no destination");
        if let Some(network) = network
            && let Some(kind) = never_a_destination(&network)
        {
            self.problem(to.span(), format!("{network} covers {kind}"), "name the host or the network that the workspace needs");
        }
        let ports_span = ports.span();
        let mut list: Vec<Port> = Vec::new();
        for port in ports.into_inner().into_iter().take(LIST_ENTRIES_MAX) {
            if let Some(port) = self.checked(port.span(), measure::port(port.get_ref()), "this is no port") {
                list.push(port);
            }
        }
        if list.is_empty() {
            self.problem(ports_span, "no port is open", "write at least one, as in [\"443/tcp\"]");
        }
        list.sort_unstable();
        list.dedup();
        Some(Destination { name: name?, to: network?, ports: list, reason: reason?, at })
    }

    fn session(&mut self, table: SessionTable, permit_at: &Place) -> Option<SessionLimits> {
        const HOUR: Duration = Duration::from_secs(3_600);
        let SessionTable { max_per_person, max_length, idle_disconnect, from_networks } = table;
        let from_networks_at = from_networks.as_ref().map_or_else(|| permit_at.clone(), |list| self.at(&list.span()));
        let max_per_person = match max_per_person {
            None => 1,
            Some(number) if (1..=64).contains(number.get_ref()) => *number.get_ref(),
            Some(number) => {
                self.problem(number.span(), "this is no number of sessions", "write 1 to 64");
                return None;
            }
        };
        let max_length = self.duration_or(max_length, 12 * HOUR, 24 * 7 * HOUR);
        let idle_disconnect = self.duration_or(idle_disconnect, HOUR / 2, 24 * HOUR);
        let from_networks = match from_networks {
            None => vec![IpNet::V4(ipnet::Ipv4Net::default()), IpNet::V6(ipnet::Ipv6Net::default())],
            Some(list) => {
                let span = list.span();
                let mut networks = Vec::new();
                for item in list.into_inner().into_iter().take(LIST_ENTRIES_MAX) {
                    networks.extend(self.checked(item.span(), network(item.get_ref()), "this is no network"));
                }
                if networks.is_empty() {
                    self.problem(span, "nobody may connect from anywhere", "name at least one network, or leave from_networks out");
                }
                networks
            }
        };
        Some(SessionLimits { max_per_person, max_length: max_length?, idle_disconnect: idle_disconnect?, from_networks, from_networks_at })
    }

    fn duration_or(&mut self, value: Option<Spanned<String>>, default: Duration, most: Duration) -> Option<Duration> {
        let Some(value) = value else { return Some(default) };
        let length = self.checked(value.span(), measure::duration(value.get_ref()), "this is no length of time")?;
        if length > most {
            self.problem(value.span(), "this is too long", format!("write at most {} h", most.as_secs() / 3_600));
            return None;
        }
        Some(length)
    }

    fn resources(&mut self, table: ResourcesTable) -> Option<Resources> {
        let ResourcesTable { memory, processes, cpus } = table;
        let memory_bytes = match memory {
            None => Some(2 << 30),
            Some(value) => {
                let bytes = measure::bytes(value.get_ref());
                let bytes = self.checked(value.span(), bytes, "this is no amount of memory");
                if bytes.is_some_and(|bytes| !(MEMORY_BYTES_MIN..=1 << 44).contains(&bytes)) {
                    self.problem(value.span(), "a session can't have this much memory", "write 16 MiB to 16 TiB");
                }
                bytes
            }
        };
        let processes = match processes {
            None => Some(512),
            Some(number) if (8..=65_536).contains(number.get_ref()) => Some(*number.get_ref()),
            Some(number) => {
                self.problem(number.span(), "a session can't have this many processes", "write 8 to 65536");
                None
            }
        };
        let cpu_percent = match cpus {
            None => Some(100),
            Some(number) if (0.1..=1024.0).contains(number.get_ref()) => {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 10 and 102400 by the guard")]
                let percent = (number.get_ref() * 100.0).round() as u32;
                Some(percent)
            }
            Some(number) => {
                self.problem(number.span(), "a session can't have this many processors", "write 0.1 to 1024.0");
                None
            }
        };
        Some(Resources { memory_bytes: memory_bytes?, processes: processes?, cpu_percent: cpu_percent? })
    }

    fn recording(&mut self, table: RecordingTable) -> Option<Recording> {
        let RecordingTable { terminal, durability, retention } = table;
        let terminal = self.one_of(
            terminal,
            TerminalRecording::OutputAndInputTiming,
            &[TerminalRecording::OutputAndInputTiming, TerminalRecording::OutputAndInput].map(|kind| (kind.name(), kind)),
            "is no kind of recording",
            "; a terminal is always recorded",
        );
        let durability = self.one_of(
            durability,
            Durability::Strict,
            &[Durability::Strict, Durability::Windowed].map(|durability| (durability.name(), durability)),
            "is no durability of a recording",
            "",
        );
        let retention_days = self.retention(retention);
        Some(Recording { terminal: terminal?, durability: durability?, retention_days: retention_days? })
    }

    fn retention(&mut self, value: Option<Spanned<String>>) -> Option<u32> {
        let Some(value) = value else { return Some(RETENTION_DAYS_DEFAULT) };
        let days = self.checked(value.span(), measure::days(value.get_ref()), "this is no time to keep a recording")?;
        if (RETENTION_DAYS_MIN..=RETENTION_DAYS_MAX).contains(&days) {
            return Some(days);
        }
        let help = "write \"1 y\" (or \"365 d\") to \"100 y\"; recordings are kept for a year at least";
        self.problem(value.span(), format!("{:?} is no time to keep a recording", value.get_ref()), help);
        None
    }

    /// One of a few words, or the default where none is written.
    fn one_of<T: Copy>(&mut self, value: Option<Spanned<String>>, default: T, known: &[(&str, T)], what: &str, remark: &str) -> Option<T> {
        let Some(value) = value else { return Some(default) };
        let found = known.iter().find(|(name, _)| name == value.get_ref());
        if found.is_none() {
            let names = known.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
            self.problem(value.span(), format!("{:?} {what}", value.get_ref()), format!("write {names}{remark}"));
        }
        found.map(|(_, value)| *value)
    }
}

/// Which end of a civil day a date without a time stands for.
#[derive(Clone, Copy)]
enum DayEdge {
    /// Its first instant.
    First,
    /// The first instant of the next day: the day is inside the period.
    Last,
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

fn plain_absolute(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let exact = path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
    (path.is_absolute() && plain && exact && path.components().count() > 1 && !text.chars().any(char::is_control)).then_some(path)
}

/// An address, or a network whose host bits are zero: `10.0.0.1/8` would say something other than it means.
fn network(text: &str) -> Result<IpNet, &'static str> {
    const HELP: &str = "write an address as in \"10.20.30.40\" or a network as in \"10.20.0.0/16\", its host bits zero";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| HELP)?;
    if network == network.trunc() { Ok(network) } else { Err(HELP) }
}

/// What no workspace may be pointed at: the cell itself, its neighbours on the link, and cloud metadata services.
fn never_a_destination(network: &IpNet) -> Option<&'static str> {
    let overlaps = |other: &str| other.parse::<IpNet>().is_ok_and(|other| other.contains(network) || network.contains(&other));
    if network.prefix_len() < 8 {
        Some("more than any workspace needs")
    } else if overlaps("127.0.0.0/8") || overlaps("::1/128") {
        Some("loopback addresses")
    } else if overlaps("169.254.0.0/16") || overlaps("fe80::/10") {
        Some("link-local addresses and metadata services")
    } else if overlaps("224.0.0.0/3") || overlaps("ff00::/8") || overlaps("0.0.0.0/8") {
        Some("multicast or reserved addresses")
    } else {
        None
    }
}

fn bounded(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
