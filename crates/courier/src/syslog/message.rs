//! An entry as a syslog message: RFC 5424 with the entry's number and hash as structured data, framed by RFC 5425's octet count.
//!
//! ```text
//! <LENGTH> <PRI>1 TIME HOST sulku - CODE [entry@PEN origin="…" index="…" hash="…" code="…"] OCSF
//! ```
//!
//! The text is OCSF JSON without a byte order mark. Where it would be longer than the receiver takes, OCSF's `unmapped` is left out
//! and `metadata.is_truncated` says so; number and hash are always there, so the whole is found in the log. Nothing is ever cut in
//! the middle.

use sulku_audit::ocsf::Severity;

use crate::config::SyslogSettings;
use crate::sink::Record;

/// RFC 5424's longest HOSTNAME.
const HOST_BYTES_MAX: usize = 255;

/// Appends the frame of one entry.
pub(super) fn push_frame(frames: &mut Vec<u8>, record: &Record, origin: &str, settings: &SyslogSettings) {
    let head = head(record, origin, settings);
    let text = record.text_within(settings.message_bytes_max.saturating_sub(head.len()));
    frames.extend_from_slice(format!("{} {head}{text}", head.len() + text.len()).as_bytes());
}

fn head(record: &Record, origin: &str, settings: &SyslogSettings) -> String {
    // RFC 5424, 6.2.1.
    let severity = match record.severity {
        Severity::Informational => 6,
        Severity::Unknown => 5,
        Severity::Medium => 4,
        Severity::High => 3,
    };
    let time = jiff::Timestamp::from_millisecond(record.time_ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let host = printable(&settings.hostname, HOST_BYTES_MAX);
    format!(
        "<{}>1 {} {host} sulku - {} [entry@{} origin=\"{}\" index=\"{}\" hash=\"{}\" code=\"{}\"] ",
        u32::from(settings.facility) * 8 + severity,
        time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
        record.code,
        settings.enterprise_number,
        escaped(origin),
        record.index,
        record.leaf,
        escaped(&record.code),
    )
}

/// As a header field wants it: printable ASCII without spaces.
fn printable(text: &str, bytes_max: usize) -> String {
    let text: String = text.chars().filter(char::is_ascii_graphic).take(bytes_max).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

/// As a parameter's value wants it (RFC 5424, 6.3.3).
fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '"' | '\\' | ']').then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(bytes_max: usize) -> SyslogSettings {
        SyslogSettings { message_bytes_max: bytes_max, hostname: "spe 1.example".to_owned(), ..SyslogSettings::example() }
    }

    fn frame(bytes_max: usize, entry: &[u8]) -> String {
        let mut frames = Vec::new();
        push_frame(&mut frames, &sulku_audit::ocsf::export("a \"log\"]", 7, entry), "a \"log\"]", &settings(bytes_max));
        String::from_utf8(frames).expect("frames are text")
    }

    #[test]
    fn a_frame_has_its_count_its_header_and_its_data() {
        let frame = frame(8192, b"{}");
        let (count, message) = frame.split_once(' ').expect("a count");
        assert_eq!(count.parse(), Ok(message.len()));
        let expected = "<109>1 1970-01-01T00:00:00.000Z spe1.example sulku - unknown [entry@32473 origin=\"a \\\"log\\\"\\]\" index=\"7\" hash=\"";
        assert!(message.starts_with(expected), "{message}");
        let (_, text) = message.split_once("] {").expect("a text");
        assert!(serde_json::from_str::<serde_json::Value>(&format!("{{{text}")).is_ok(), "{text}");
    }

    #[test]
    fn a_long_entry_is_sent_in_its_short_form_whole() {
        let long = format!(r#"{{"event":"{}"}}"#, "x".repeat(4000));
        let frame = frame(2048, long.as_bytes());
        let (count, message) = frame.split_once(' ').expect("a count");
        assert_eq!(count.parse(), Ok(message.len()));
        assert!(message.len() <= 2048, "{}", message.len());
        let text = &message[message.find("] {").expect("a text") + 2..];
        let event: serde_json::Value = serde_json::from_str(text).expect("whole JSON");
        assert_eq!(event["metadata"]["sequence"], 7);
    }
}
