//! What a session was shown, held against what its recording replays.

use anyhow::{Context as _, ensure};
use sulku_permit::SessionId;
use sulku_stage::Stage;

use crate::course::Seen;

/// All that the session's terminal showed, as an auditor replays it.
///
/// # Errors
/// It can't be exported, or is no asciicast.
pub fn replay(stage: &Stage, session: &SessionId) -> anyhow::Result<String> {
    let export = stage.folder().join(format!("{session}.cast"));
    let shown = |path: std::path::PathBuf| path.display().to_string();
    let exported = stage.run(&[
        "audit",
        "play",
        &session.to_string(),
        "--identity",
        &shown(stage.auditor_identity()),
        "--export",
        &shown(export.clone()),
        "--ledger",
        &shown(stage.ledger_socket()),
        "--key",
        &shown(stage.ledger_key()),
    ])?;
    ensure!(exported.status.success(), "{exported:?}");
    let cast = std::fs::read_to_string(&export)?;
    std::fs::remove_file(&export)?;
    output(&cast)
}

/// The output events of an asciicast, joined.
fn output(cast: &str) -> anyhow::Result<String> {
    let mut shown = String::new();
    // The first line is the header.
    for line in cast.lines().skip(1).filter(|line| line.starts_with('[')) {
        let (_, code, text): (f64, String, String) = serde_json::from_str(line).with_context(|| format!("an event: {line:?}"))?;
        if code == "o" {
            shown.push_str(&text);
        }
    }
    Ok(shown)
}

/// Each connection was shown a piece of what is recorded: the first from its beginning, the last to its end, and each from no later than where
/// the one before it ended, as far as what is repeated reaches back.
///
/// # Errors
/// Something was shown that is not recorded, or recorded after the end of what was shown.
pub fn check(seen: &Seen, recorded: &str) -> anyhow::Result<()> {
    let session = seen.session;
    let all = recorded.as_bytes();
    let last = seen.parts.len().saturating_sub(1);
    let mut reached = 0;
    for (number, part) in seen.parts.iter().enumerate() {
        let text = std::str::from_utf8(&part.bytes).with_context(|| format!("{session}: connection {number} was cut inside a character"))?;
        let begins = match number {
            0 => Some(0).filter(|_| recorded.starts_with(text)),
            _ if number == last => Some(all.len() - text.len().min(all.len())).filter(|_| recorded.ends_with(text)),
            _ => recorded.find(text),
        };
        let begins = begins.with_context(|| format!("{session}: what connection {number} was shown is not what is recorded"))?;
        ensure!(part.repeated <= text.len(), "{session}: connection {number} repeats more than it was shown");
        // What it is shown for the first time begins after what it repeats; nothing of before that may have been new.
        ensure!(begins + part.repeated >= reached, "{session}: connection {number} goes back to {begins}, before {reached}");
        reached = begins + text.len();
    }
    ensure!(reached == all.len(), "{session}: {} bytes are recorded, and what was shown ends at {reached}", all.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::course::Part;

    fn seen(parts: &[(usize, &str)]) -> Seen {
        let parts = parts.iter().map(|(repeated, text)| Part { repeated: *repeated, bytes: text.as_bytes().to_vec() }).collect();
        Seen { session: "9addp7zz0mzwavdq".parse().expect("an id"), parts }
    }

    #[test]
    fn what_differs_from_the_recording_is_found() {
        assert!(check(&seen(&[(0, "one two three")]), "one two three").is_ok());
        assert!(check(&seen(&[(0, "one two threw")]), "one two three").is_err(), "another byte");
        assert!(check(&seen(&[(0, "one two")]), "one two three").is_err(), "recorded and not shown");
        assert!(check(&seen(&[(0, "one two three four")]), "one two three").is_err(), "shown and not recorded");
    }

    #[test]
    fn a_connection_goes_on_where_the_one_before_it_was_lost() {
        assert!(check(&seen(&[(0, "one two"), (3, "two three")]), "one two three").is_ok());
        assert!(check(&seen(&[(0, "one"), (3, "two three")]), "one two three").is_ok(), "what was shown meanwhile is repeated");
        assert!(check(&seen(&[(0, "one two"), (0, "two three")]), "one two three").is_err(), "shown again as if it were new");
        assert!(check(&seen(&[(0, "one two"), (3, "two")]), "one two three").is_err());
        assert!(check(&seen(&[(0, "one"), (3, "two three"), (5, "three")]), "one two three").is_ok());
        assert!(check(&seen(&[(0, "one"), (0, "four"), (5, "three")]), "one two three").is_err());
    }

    #[test]
    fn an_asciicast_is_what_its_output_events_say() {
        let cast = "{\"version\":3}\n[0.1,\"o\",\"a\\r\\n\"]\n# a comment\n[0.2,\"r\",\"80x24\"]\n[0.1,\"o\",\"ä\"]\n";
        assert_eq!(output(cast).expect("a cast"), "a\r\nä");
        assert!(output("{}\n[1]\n").is_err());
    }
}
