//! What a session was shown, held against what its recording replays, with the auditors' key.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;

use crate::auditor::Auditor;
use crate::story::{Durability, End, Story};

/// What a windowed session may have shown that is not durable when a daemon dies.
const WINDOW_BYTES: usize = 64 << 10;

/// What became of one session's recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Played {
    /// Bytes that were shown and are recorded.
    pub found: usize,
    /// Bytes that were shown within the permit's window and are not, since a daemon died.
    pub declared: usize,
}

/// Plays the session's recording back until all that was shown is in it, for so long at most.
///
/// # Errors
/// Something was shown that is not recorded.
pub fn check(auditor: &Auditor, story: &Story, patience: Duration) -> anyhow::Result<Played> {
    let session = story.session.as_deref().context("a session that opened")?;
    let began = Instant::now();
    loop {
        let recorded = replay(auditor, session).or_else(|error| if is_nothing(&error) { Ok(Vec::new()) } else { Err(error) });
        let held = recorded.and_then(|recorded| compare(story, &recorded));
        match held {
            Err(_) if began.elapsed() < patience => std::thread::sleep(Duration::from_millis(700)),
            held => return held.with_context(|| format!("session {session}, which ended {:?}", story.end)),
        }
    }
}

/// Whether a session has no recording: one that has shown nothing, or nothing yet that is durable.
fn is_nothing(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("nothing is recorded of session")
}

/// All that the session's terminal showed, over all parts of its recording.
fn replay(auditor: &Auditor, session: &str) -> anyhow::Result<Vec<u8>> {
    let export: PathBuf = auditor.folder.join(format!("{session}.cast"));
    // What an attempt before left.
    let _none = std::fs::remove_file(&export);
    let (identity, file) = (auditor.identity.display().to_string(), export.display().to_string());
    auditor.asks(&["play", session, "--identity", &identity, "--export", &file])?;
    let cast = std::fs::read_to_string(&export)?;
    std::fs::remove_file(&export)?;
    output(&cast)
}

/// The output events of an asciicast, joined.
fn output(cast: &str) -> anyhow::Result<Vec<u8>> {
    let mut shown = Vec::new();
    for line in cast.lines().filter(|line| line.starts_with('[')) {
        let (_, code, text): (f64, String, String) = serde_json::from_str(line).with_context(|| format!("an event: {line:?}"))?;
        if code == "o" {
            shown.extend(text.as_bytes());
        }
    }
    Ok(shown)
}

/// Each connection was shown a piece of what is recorded, and none goes back before where the one before it ended further than what it
/// repeats.
fn compare(story: &Story, recorded: &[u8]) -> anyhow::Result<Played> {
    let (mut reached, mut played) = (0, Played { found: 0, declared: 0 });
    let last = story.parts.len().saturating_sub(1);
    for (number, part) in story.parts.iter().enumerate().filter(|(_, part)| !part.bytes.is_empty()) {
        ensure!(part.repeated <= part.bytes.len() || number == last, "connection {number} repeats more than it was shown");
        let from = reached.min(recorded.len()).saturating_sub(part.repeated);
        let place = |length: usize| match (number, part.bytes.get(..length)?) {
            // Nothing was before the first, so it was shown the recording's beginning or nothing that is recorded.
            (0, bytes) => recorded.starts_with(bytes).then_some(0),
            (_, bytes) => memmem::find(recorded.get(from..)?, bytes).map(|at| from + at),
        };
        let whole = part.bytes.len();
        let may_miss = story.plan.durability == Durability::Windowed && !is_whole(story, number);
        let (length, begins) = match place(whole) {
            Some(begins) => (whole, begins),
            None if may_miss => {
                let (mut fits, mut fails) = (0, whole);
                while fails - fits > 1 {
                    let middle = fits + (fails - fits) / 2;
                    if place(middle).is_some() { fits = middle } else { fails = middle }
                }
                (fits, place(fits).unwrap_or(from))
            }
            None => bail!("what connection {number} of {} was shown is not what is recorded: {:?}", last + 1, differs(&part.bytes, recorded, from)),
        };
        let missing = whole - length;
        ensure!(missing <= WINDOW_BYTES, "{missing} of {whole} bytes that connection {number} was shown are not recorded, more than the window");
        // What is missing may look like what was recorded next: a command that was lost was typed again. So it does not say where the next
        // connection was.
        reached = if may_miss { begins } else { begins + length };
        played.found += length;
        played.declared += missing;
    }
    Ok(played)
}

/// Whether nothing of what this connection was shown may be missing: its gateway lived to close it.
fn is_whole(story: &Story, connection: usize) -> bool {
    connection + 1 == story.parts.len() && matches!(&story.end, End::Closed(reason) if reason == "shell-exited")
}

/// Around the first byte of what was shown that is not as it was recorded.
fn differs(shown: &[u8], recorded: &[u8], from: usize) -> String {
    let recorded = recorded.get(from..).unwrap_or_default();
    let (mut fits, mut fails) = (0, shown.len());
    while fails - fits > 1 {
        let middle = fits + (fails - fits) / 2;
        if memmem::find(recorded, &shown[..middle]).is_some() { fits = middle } else { fails = middle }
    }
    let around = |bytes: &[u8], at: usize| {
        String::from_utf8_lossy(bytes.get(at.saturating_sub(40)..(at + 60).min(bytes.len())).unwrap_or_default()).into_owned()
    };
    let at = memmem::find(recorded, &shown[..fits]).map_or(0, |begins| begins + fits);
    format!("byte {fits} of {}: shown {:?}, recorded {:?}", shown.len(), around(shown, fits), around(recorded, at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Part, Plan};

    fn story(durability: Durability, end: &str, parts: &[(usize, &str)]) -> Story {
        let parts = parts.iter().map(|(repeated, text)| Part { repeated: *repeated, bytes: text.as_bytes().to_vec() }).collect();
        let plan =
            Plan { number: 1, permit: "TEST/1", durability, commands: 0, flood_lines: 0, thinks: Duration::ZERO, reaches_out: false, losses: 0 };
        let end = End::Closed(end.to_owned());
        Story { from: Duration::ZERO, until: Duration::ZERO, plan, session: None, parts, taken_up: 0, end }
    }

    #[test]
    fn what_was_shown_and_is_not_recorded_is_found() {
        let strict = |parts: &[(usize, &str)], recorded: &str| compare(&story(Durability::Strict, "shell-exited", parts), recorded.as_bytes());
        assert_eq!(strict(&[(0, "one two")], "one two three").expect("recorded"), Played { found: 7, declared: 0 });
        assert!(strict(&[(0, "one twO")], "one two three").is_err(), "another byte");
        assert!(strict(&[(0, "one two three four")], "one two three").is_err(), "more than is recorded");
        assert!(strict(&[(0, "two")], "one two three").is_err(), "not from the beginning");
        assert!(strict(&[(0, "one two"), (3, "two three")], "one two three").is_ok(), "what is repeated");
        assert!(strict(&[(0, "one two"), (0, "two three")], "one two three").is_err(), "repeated, and not said so");
        assert!(strict(&[(0, "one"), (0, "three")], "one two three").is_ok(), "what passed while nobody looked");
    }

    #[test]
    fn only_a_window_may_miss_the_end_of_what_was_cut() {
        let windowed = |end, parts: &[(usize, &str)]| compare(&story(Durability::Windowed, end, parts), b"one two");
        assert_eq!(windowed("warden-lost", &[(0, "one two three")]).expect("within the window"), Played { found: 7, declared: 6 });
        assert!(windowed("shell-exited", &[(0, "one two three")]).is_err(), "nothing died");
        assert!(windowed("warden-lost", &[(0, &format!("one two{}", "x".repeat(WINDOW_BYTES + 1)))]).is_err(), "more than the window");
        assert_eq!(windowed("shell-exited", &[(0, "one! "), (0, "two")]).expect("the first was cut"), Played { found: 6, declared: 2 });
        let again = compare(&story(Durability::Windowed, "shell-exited", &[(0, "one $ ec"), (0, "echo")]), b"one $ echo");
        assert!(again.is_ok(), "what was cut begins like what came next: {again:?}");
        let none = compare(&story(Durability::Windowed, "shell-exited", &[(0, "echo"), (0, "one $")]), b"one $ echo");
        assert_eq!(none.expect("all of the first was cut"), Played { found: 5, declared: 4 });
    }

    #[test]
    fn an_asciicast_is_what_its_output_events_say() {
        let cast = "{\"version\":3}\n[0.1,\"o\",\"a\\r\\n\"]\n[0.2,\"r\",\"80x24\"]\n[0.1,\"o\",\"b\"]\n";
        assert_eq!(output(cast).expect("a cast"), b"a\r\nb");
        assert!(output("{}\n[1]\n").is_err());
    }
}
