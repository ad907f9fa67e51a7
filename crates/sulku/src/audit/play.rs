//! `sulku audit play`: what a session's terminal showed, at the speed it was shown, each chunk checked before it is.
//!
//! Recordings are asciicast v3: a header line, then `[seconds since the line before, kind, text]`. Output goes to the terminal as it
//! was; what could harm one was taken out when it was recorded. Shows no input: none is recorded.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use sulku_audit::counters::{Chunk, Counters};
use sulku_audit::verify::{ChunkRead, read_chunk};
use sulku_audit::{Recordings, Source, Trust};
use sulku_permit::SessionId;

/// A line holds at most one chunk's output; each byte of it may be written as six characters.
const LINE_BYTES_MAX: usize = 8 << 20;
/// Leaves colours, modes and the second screen, whatever the recording ended in.
const PUT_RIGHT: &[u8] = b"\x1b[?1049l\x1b[!p\x1b[0m\r\n";

/// How fast, and from where.
#[derive(Args)]
pub(super) struct Pace {
    /// Times faster than it happened
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    speed: f64,
    /// Begin this many seconds into the session; what was before is drawn at once
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = not_negative)]
    from: f64,
    /// Wait no longer than this between two outputs
    #[arg(long, value_name = "SECONDS", value_parser = not_negative)]
    idle_limit: Option<f64>,
    /// Do not wait at all
    #[arg(long)]
    no_wait: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    not_negative(text).and_then(|value| if value > 0.0 { Ok(value) } else { Err("write a number above 0".to_owned()) })
}

fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("write a number of 0 or more".to_owned()),
    }
}

impl Pace {
    /// How long to wait before an output that came `interval` seconds after the one before and `clock` seconds into the session.
    fn wait(&self, interval: f64, clock: f64) -> Duration {
        if self.no_wait {
            return Duration::ZERO;
        }
        // Of an interval that reaches over the beginning, only the part behind it.
        let seconds = interval.min(clock - self.from).min(self.idle_limit.unwrap_or(f64::INFINITY)) / self.speed;
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::ZERO)
    }
}

pub(super) fn run(source: &mut dyn Source, trust: &Trust, session: SessionId, pace: &Pace) -> anyhow::Result<ExitCode> {
    let mut chunks: Vec<(u64, Chunk)> = Vec::new();
    let mut counters = Counters::default();
    let mut known = false;
    let verified = sulku_audit::verify::verify(source, trust, Recordings::Skip, |index, entry, _| {
        if entry.session == Some(session) {
            known = true;
            // The verification has checked it already; here it is taken apart again.
            if let Ok(Some(chunk)) = counters.count(entry, entry.stamp.time) {
                chunks.push((index, chunk));
            }
        }
    })?;
    anyhow::ensure!(known, "none of the {} entries is of session {session}; see sulku audit list --event session.opened", verified.entries());
    anyhow::ensure!(!chunks.is_empty(), "nothing is recorded of session {session}: its terminal showed nothing yet");
    let mut player = Player { line: Vec::new(), line_number: 0, clock: 0.0, pace, out: io::stdout().lock() };
    let outcome = play(source, &mut player, &chunks);
    if player.out.is_terminal() {
        // A terminal that is gone can't be put right.
        let _gone = player.out.write_all(PUT_RIGHT).and_then(|()| player.out.flush());
    }
    match outcome {
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => Ok(ExitCode::SUCCESS),
        outcome => outcome.map(|()| ExitCode::SUCCESS),
    }
}

fn play(source: &mut dyn Source, player: &mut Player<'_>, chunks: &[(u64, Chunk)]) -> anyhow::Result<()> {
    for (index, chunk) in chunks {
        match read_chunk(source, chunk)? {
            ChunkRead::Whole(bytes) => player.feed(&bytes)?,
            ChunkRead::Missing => anyhow::bail!("entry {index}: the recording is missing"),
            ChunkRead::Short => anyhow::bail!("entry {index}: the recording ends before the chunk does; it was cut"),
            ChunkRead::Changed => anyhow::bail!("entry {index}: the recording was changed; it is not shown further"),
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

struct Player<'p> {
    line: Vec<u8>,
    line_number: u64,
    /// Seconds into the session.
    clock: f64,
    pace: &'p Pace,
    out: io::StdoutLock<'static>,
}

impl Player<'_> {
    /// Plays the lines that these bytes complete.
    fn feed(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            anyhow::ensure!(self.line.len() <= LINE_BYTES_MAX, "line {} of the recording is too long", self.line_number + 1);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.line_number += 1;
                self.play_line(&line)?;
            }
        }
        Ok(())
    }

    fn play_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let malformed = |error| anyhow::anyhow!("line {} of the recording is not asciicast: {error}", self.line_number);
        if self.line_number == 1 {
            let Header { version } = serde_json::from_slice(line).map_err(malformed)?;
            anyhow::ensure!(version == 3, "the recording is asciicast version {version}; this program plays version 3");
            return Ok(());
        }
        if line.starts_with(b"#") || line.trim_ascii().is_empty() {
            return Ok(());
        }
        let (interval, kind, text): (f64, String, String) = serde_json::from_slice(line).map_err(malformed)?;
        self.clock += interval;
        let wait = self.pace.wait(interval, self.clock);
        if !wait.is_zero() {
            self.out.flush()?;
            std::thread::sleep(wait);
        }
        if kind == "o" {
            self.out.write_all(text.as_bytes())?;
            self.out.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(speed: f64, from: f64, idle_limit: Option<f64>) -> Pace {
        Pace { speed, from, idle_limit, no_wait: false }
    }

    #[test]
    fn waits_follow_speed_beginning_and_idle_limit() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(pace(1.0, 0.0, None).wait(3.0, 10.0), seconds(3.0));
        assert_eq!(pace(2.0, 0.0, None).wait(3.0, 10.0), seconds(1.5));
        assert_eq!(pace(1.0, 9.0, None).wait(3.0, 10.0), seconds(1.0), "an interval that reaches over the beginning");
        assert_eq!(pace(1.0, 11.0, None).wait(3.0, 10.0), seconds(0.0), "before the beginning");
        assert_eq!(pace(1.0, 0.0, Some(2.0)).wait(3600.0, 4000.0), seconds(2.0));
        assert_eq!(Pace { no_wait: true, ..pace(1.0, 0.0, None) }.wait(3.0, 10.0), seconds(0.0));
    }

    #[test]
    fn a_speed_of_nothing_is_refused() {
        assert!(positive("0").is_err() && positive("-1").is_err() && positive("nan").is_err() && positive("2.5").is_ok());
    }
}
