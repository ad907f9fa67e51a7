//! Entries as events of OCSF 1.8.0 (Open Cybersecurity Schema Framework), for whoever reads the audit with tools that others wrote.
//!
//! An export is a view: the entry stays the truth. Each event says in `metadata` which entry it was made from (`uid` is
//! `origin#number`, `sequence` the number, `original_event_uid` the leaf hash), so that any of them can be proven with the log. What
//! OCSF has no place for is in `unmapped`, but for the entry's salt and what is sealed: nothing private goes out this way.
//!
//! Never fails: an entry that this program does not know becomes a base event, so that an older exporter loses none. Opens no seal,
//! and checks no proof: whoever hands an entry in has checked it.

mod class;
mod mapping;

use serde_json::{Map, Value, json};

use crate::entry::Entry;
use crate::merkle::{Hash, leaf_hash};
use class::Class;
use mapping::{Mapped, Outcome, Subject};

/// The version of the schema that events follow.
pub const SCHEMA_VERSION: &str = "1.8.0";
/// The longest text that is taken from an entry which this program does not know.
const UNKNOWN_TEXT_BYTES_MAX: usize = 256;

/// An entry as an OCSF event, with what a sink wants to know of it without reading the document again.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The entry's number in the log.
    pub index: u64,
    /// The entry's leaf hash.
    pub leaf: Hash,
    /// The event's code, such as `SLK2301I`; `unknown` for bytes that name none.
    pub code: String,
    /// How grave it is.
    pub severity: Severity,
    /// When, in milliseconds since 1970; 0 for bytes that name no time.
    pub time_ms: i64,
    /// The OCSF event.
    pub event: Value,
}

/// How grave an event is: the last letter of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Information.
    Informational,
    /// A wall held.
    Medium,
    /// A failure.
    High,
    /// The entry is not known here.
    Unknown,
}

impl Severity {
    fn of(code: &str) -> Self {
        match code.as_bytes().last() {
            Some(b'I') => Self::Informational,
            Some(b'W') => Self::Medium,
            Some(b'E') => Self::High,
            _ => Self::Unknown,
        }
    }

    /// OCSF's `severity_id` and `severity`.
    const fn ocsf(self) -> (u8, &'static str) {
        match self {
            Self::Unknown => (0, "Unknown"),
            Self::Informational => (1, "Informational"),
            Self::Medium => (3, "Medium"),
            Self::High => (4, "High"),
        }
    }
}

/// The OCSF event of the entry with this number and these exact bytes, in the log of this name.
#[must_use]
pub fn export(origin: &str, index: u64, entry: &[u8]) -> Exported {
    let leaf = leaf_hash(entry);
    let document: Map<String, Value> = serde_json::from_slice(entry).unwrap_or_default();
    let text = |key: &str| document.get(key).and_then(Value::as_str);
    let subject = Subject { origin, by: text("by").unwrap_or("unknown"), person: text("person"), session: text("session") };
    match Entry::parse(entry) {
        Ok(parsed) => {
            let code = parsed.event.code().to_owned();
            let time_ms = parsed.stamp.time.as_millisecond();
            let mapped = mapping::map(&parsed.event, &subject);
            let unmapped = unmapped(&document);
            assemble(&Facts { origin, index, leaf, code, time_ms, session: subject.session }, mapped, unmapped)
        }
        Err(error) => {
            let code = text("code").filter(|code| is_code(code)).unwrap_or("unknown").to_owned();
            let time_ms = text("t").and_then(|time| time.parse::<jiff::Timestamp>().ok()).map_or(0, |time| time.as_millisecond());
            let name: String = text("event").unwrap_or("unknown").chars().filter(|c| !c.is_control()).take(UNKNOWN_TEXT_BYTES_MAX).collect();
            let mapped = Mapped::new(Class::BaseEvent, 0, format!("An entry that the exporter does not know: {name}"));
            let why: String = error.to_string().chars().filter(|c| !c.is_control()).take(UNKNOWN_TEXT_BYTES_MAX).collect();
            let unmapped = json!({ "event": name, "why": why });
            assemble(&Facts { origin, index, leaf, code, time_ms, session: None }, mapped, unmapped)
        }
    }
}

impl Exported {
    /// The event's JSON in one line, in the longest form that has at most so many bytes: whole; without `unmapped`; or as a base event
    /// that only names the entry, which is given however little room there is. A shorter form says so in its `metadata`.
    #[must_use]
    pub fn text_within(&self, bytes_max: usize) -> String {
        let whole = self.event.to_string();
        if whole.len() <= bytes_max {
            return whole;
        }
        let truncated = |event: &mut Value| {
            event["metadata"]["is_truncated"] = true.into();
            event["metadata"]["untruncated_size"] = whole.len().into();
        };
        let mut shorter = self.event.clone();
        if let Value::Object(event) = &mut shorter {
            event.remove("unmapped");
        }
        truncated(&mut shorter);
        let text = shorter.to_string();
        if text.len() <= bytes_max {
            return text;
        }
        const NAMES_IT: &[&str] = &["metadata", "severity_id", "severity", "time"];
        let mut least: Map<String, Value> = NAMES_IT.iter().filter_map(|key| Some(((*key).to_owned(), self.event.get(*key)?.clone()))).collect();
        for (key, value) in [("class_uid", 0), ("category_uid", 0), ("activity_id", 0), ("type_uid", 0)] {
            least.insert(key.to_owned(), value.into());
        }
        let mut least = Value::Object(least);
        truncated(&mut least);
        least.to_string()
    }
}

struct Facts<'a> {
    origin: &'a str,
    index: u64,
    leaf: Hash,
    code: String,
    time_ms: i64,
    session: Option<&'a str>,
}

fn assemble(facts: &Facts<'_>, mapped: Mapped, unmapped: Value) -> Exported {
    let Mapped { class, activity, outcome, message, fields } = mapped;
    let Facts { origin, index, leaf, code, time_ms, session } = facts;
    let severity = Severity::of(code);
    let (severity_id, severity_text) = severity.ocsf();
    let mut event = fields;
    let mut put = |key: &str, value: Value| drop(event.insert(key.to_owned(), value));
    put("class_uid", class.uid().into());
    put("class_name", class.caption().into());
    put("category_uid", class.category().into());
    put("activity_id", activity.into());
    put("activity_name", class.activity(activity).into());
    put("type_uid", (u64::from(class.uid()) * 100 + u64::from(activity)).into());
    put("severity_id", severity_id.into());
    put("severity", severity_text.into());
    put("time", (*time_ms).into());
    put("message", message.into());
    if let Some(outcome) = outcome {
        let (id, text) = match outcome {
            Outcome::Success => (1, "Success"),
            Outcome::Failure => (2, "Failure"),
        };
        put("status_id", id.into());
        put("status", text.into());
    }
    let mut metadata = json!({
        "version": SCHEMA_VERSION,
        "product": { "name": "Sulku", "vendor_name": "Sulku" },
        "uid": format!("{origin}#{index}"),
        "sequence": index,
        "original_event_uid": leaf.to_string(),
        "event_code": code,
        "log_name": origin,
    });
    if let Some(session) = session {
        metadata["correlation_uid"] = (*session).into();
    }
    put("metadata", metadata);
    put("unmapped", unmapped);
    Exported { index: *index, leaf: *leaf, code: code.clone(), severity, time_ms: *time_ms, event: Value::Object(event) }
}

/// What of the entry OCSF has no place for. The salt stays behind: it is there so that a leaf can't be guessed. So does what is sealed.
fn unmapped(document: &Map<String, Value>) -> Value {
    const TAKEN: &[&str] = &["event", "by", "permit", "permit_seq", "session", "session_seq", "person", "boot", "mono_ns", "data"];
    document.iter().filter(|(key, _)| TAKEN.contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn is_code(text: &str) -> bool {
    (4..=16).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}
