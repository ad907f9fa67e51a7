//! `sulku audit play`: what a session's terminal showed, at the speed it was shown, each chunk checked before it is.
//!
//! Output goes to the terminal as it was; what could harm one was taken out when it was recorded. What was before `--from` is drawn at once, as
//! the screen that it left. Shows no input, also where the permit has it recorded: `--export` has all.

use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use avt::Terminal;
use clap::Args;
use sulku_audit::{Source, Trust};
use sulku_permit::SessionId;
use sulku_recording::Line;

use super::identity::IdentityArg;
use super::recording::{End, Recording};

/// Leaves colours, modes and the second screen, whatever the recording ended in.
const PUT_RIGHT: &[u8] = b"\x1b[?1049l\x1b[!p\x1b[0m\r\n";

/// The gateway lets no terminal have a longer side.
const TERMINAL_SIDE_MAX: usize = 1000;

/// How fast, from where, and for whom.
#[derive(Args)]
pub(super) struct PlayArgs {
    #[command(flatten)]
    identity: IdentityArg,
    #[command(flatten)]
    pace: Pace,
    /// Write the recording as asciicast v3 to a new file instead, for other players
    #[arg(long, value_name = "FILE", conflicts_with_all = ["speed", "from", "idle_limit", "no_wait"])]
    export: Option<PathBuf>,
}

/// How fast, and from where.
#[derive(Args)]
struct Pace {
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

pub(super) fn run(source: &mut dyn Source, trust: &Trust, session: SessionId, args: &PlayArgs) -> anyhow::Result<ExitCode> {
    let PlayArgs { identity, pace, export } = args;
    let identities = identity.load()?;
    let recording = Recording::find(source, trust, session)?;
    let unlocked = recording.unlock(source, &identities)?;
    if let Some(path) = export {
        let mut file = new_file(path)?;
        recording.each(source, &unlocked, |lines| file.write_all(lines).with_context(|| format!("{} can't be written", path.display())))?;
        file.sync_all()?;
    } else {
        anyhow::ensure!(pace.from <= recording.seconds(), "the recording is {:.1} s long; --from is beyond its end", recording.seconds());
        let out = io::stdout().lock();
        let at_terminal = out.is_terminal();
        let mut player = Player { clock: 0.0, lines: 0, pace, screen: Screen::Drawn, out };
        let outcome = recording.each(source, &unlocked, |lines| player.play(lines)).and_then(|()| player.draw());
        if at_terminal {
            // A terminal that is gone can't be put right.
            let _gone = player.out.write_all(PUT_RIGHT).and_then(|()| player.out.flush());
        }
        match outcome {
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => {}
            outcome => outcome?,
        }
    }
    if recording.parts() > 1 {
        let (parts, missing) = (recording.parts(), recording.may_be_missing());
        eprintln!("sulku: this recording has {parts} parts: its gateway was started anew in between; where a part ends, {missing}");
    }
    if recording.end() == End::Open {
        let missing = recording.may_be_missing();
        eprintln!("sulku: this recording has no end: the session is still open, or the gateway or the ledger died; {missing}");
    }
    Ok(ExitCode::SUCCESS)
}

fn new_file(path: &Path) -> anyhow::Result<std::fs::File> {
    let options = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    options.with_context(|| format!("{} can't be made; name a new file", path.display()))
}

/// What is before the beginning.
enum Screen {
    /// Nothing, or it is on the terminal.
    Drawn,
    /// A screen that nobody has seen yet.
    Hidden(Box<Terminal>),
}

struct Player<'p, W> {
    /// Seconds into the session.
    clock: f64,
    lines: u64,
    pace: &'p Pace,
    screen: Screen,
    out: W,
}

impl<W: Write> Player<'_, W> {
    /// Plays the lines of a chunk.
    fn play(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let first = self.lines == 0;
            self.lines += 1;
            let line = Line::parse(line, first).with_context(|| format!("line {} of the recording can't be played", self.lines))?;
            self.play_line(line)?;
        }
        Ok(())
    }

    fn play_line(&mut self, line: Line) -> anyhow::Result<()> {
        match line {
            Line::Header(header) if self.pace.from > 0.0 => self.screen = Screen::Hidden(Box::new(screen(header.term.cols, header.term.rows)?)),
            Line::Header(_) | Line::Silent => {}
            Line::Event { after, code, text } => {
                let interval = after.as_secs_f64();
                self.clock += interval;
                if self.clock < self.pace.from {
                    return self.pass(&code, &text);
                }
                self.draw()?;
                let wait = self.pace.wait(interval, self.clock);
                if !wait.is_zero() {
                    std::thread::sleep(wait);
                }
                if code == "o" {
                    self.out.write_all(text.as_bytes())?;
                    self.out.flush()?;
                }
            }
        }
        Ok(())
    }

    /// What came before the beginning changes the screen that nobody sees.
    fn pass(&mut self, code: &str, text: &str) -> anyhow::Result<()> {
        if let Screen::Hidden(screen) = &mut self.screen {
            match code {
                "o" => screen.feed([text]),
                "r" => {
                    let side = |text: &str| text.parse().ok().filter(|side| (1..=TERMINAL_SIDE_MAX).contains(side));
                    let size = text.split_once('x').and_then(|(cols, rows)| Some((side(cols)?, side(rows)?)));
                    let (cols, rows) = size.with_context(|| format!("{text:?} is no size of a terminal"))?;
                    screen.resize(cols, rows);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Draws the screen as it is at the beginning.
    fn draw(&mut self) -> anyhow::Result<()> {
        if let Screen::Hidden(screen) = std::mem::replace(&mut self.screen, Screen::Drawn) {
            self.out.write_all(screen.dump().as_bytes())?;
            self.out.flush()?;
        }
        Ok(())
    }
}

fn screen(cols: u16, rows: u16) -> anyhow::Result<Terminal> {
    Terminal::new(cols.into(), rows.into()).context("the recording's terminal has no room")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sulku_recording::{Began, Cast};

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

    /// What a player writes that begins at this second.
    fn played(lines: &str, from: f64) -> Vec<u8> {
        let pace = Pace { no_wait: true, ..pace(1.0, from, None) };
        let mut player = Player { clock: 0.0, lines: 0, pace: &pace, screen: Screen::Drawn, out: Vec::new() };
        player.play(lines.as_bytes()).and_then(|()| player.draw()).expect("it plays");
        player.out
    }

    /// The screen after these bytes, as another terminal sees it than the one that the player draws with: each cell's text and colours.
    fn others(bytes: &[u8]) -> (Vec<String>, (u16, u16), bool) {
        let (rows, cols) = (std::num::NonZeroU16::new(8).expect("8"), std::num::NonZeroU16::new(20).expect("20"));
        let mut parser = vt100::Parser::new(rows, cols, 0);
        parser.process(bytes);
        let screen = parser.screen();
        let cell = |(row, col)| {
            let cell = screen.cell(row, col).expect("within the screen");
            match cell.contents().trim() {
                // A blank that was written and one that never was look alike.
                "" => format!("{:?}", cell.bgcolor()),
                text => format!("{text} {:?} {:?} {}", cell.fgcolor(), cell.bgcolor(), cell.bold()),
            }
        };
        let cells = (0..8).flat_map(|row| (0..20).map(move |col| (row, col))).map(cell).collect();
        (cells, screen.cursor_position(), screen.hide_cursor())
    }

    /// All that a terminal is after these bytes.
    fn own(bytes: &[u8]) -> String {
        let mut terminal = screen(20, 8).expect("a terminal");
        terminal.feed([std::str::from_utf8(bytes).expect("text")]);
        terminal.dump()
    }

    fn lines(steps: &[&str]) -> String {
        let mut cast = Cast::begin(Began { size: (20, 8), term: "xterm", timestamp: 0, title: "t" }, Duration::ZERO);
        for (second, text) in (1..).zip(steps) {
            cast.push('o', text, Duration::from_secs(second));
        }
        String::from_utf8(cast.take().expect("lines").text().to_vec()).expect("JSON")
    }

    const COMMON: &[&str] =
        &["plain", "äö€", "\r\n", "\x1b[31m", "\x1b[1;44m", "\x1b[0m", "\x1b[2J", "\x1b[H", "\x1b[3;5H", "\x1b[?25l", "\x1b[?25h"];
    /// What not every terminal knows, or not alike: some are of two minds where a full line's cursor is.
    const RARE: &[&str] = &[
        "\x1b[K",
        "\x1b[A",
        "\x08",
        "\x1b[2L",
        "\x1b[P",
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[2;6r",
        "\x1b[r",
        "\x1b[?6h",
        "\x1b[?7l",
        "\x1b7",
        "\x1b8",
        "\t",
        "\x1bH",
        "\x1bc",
        "0123456789012345678901234",
        "\x1b(0",
    ];

    fn steps(rare: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        proptest::collection::vec(proptest::sample::select([COMMON, rare].concat()), 1..40)
    }

    proptest! {
        /// LG-02: beginning in the middle shows what was on the screen then, and from there on what an unbroken replay shows.
        #[test]
        fn a_screen_from_the_middle_is_that_of_a_replay_from_the_start(steps in steps(RARE), cut: prop::sample::Index) {
            let cut = cut.index(steps.len());
            let from = f64::from(u32::try_from(cut).expect("few")) + 0.5;
            prop_assert_eq!(own(&played(&lines(&steps[..cut]), 1e6)), own(steps[..cut].concat().as_bytes()), "where it begins");
            prop_assert_eq!(own(&played(&lines(&steps), from)), own(steps.concat().as_bytes()), "at the end");
        }

        #[test]
        fn another_terminal_sees_the_same_screen(steps in steps(&[]), cut: prop::sample::Index) {
            let cut = cut.index(steps.len());
            let from = f64::from(u32::try_from(cut).expect("few")) + 0.5;
            prop_assert_eq!(others(&played(&lines(&steps[..cut]), 1e6)), others(steps[..cut].concat().as_bytes()), "where it begins");
            prop_assert_eq!(others(&played(&lines(&steps), from)), others(steps.concat().as_bytes()), "at the end");
        }
    }
}
