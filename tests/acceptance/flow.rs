//! Output: too much of it, too slowly read, or meant for more than the eye.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use sulku_stage::{Daemon, Person, Stage, StageError};
use sulku_tests::{SOON, session_id, shared};

pub fn ctrl_c_is_heard_in_a_flood() -> anyhow::Result<()> {
    let stage = shared()?;
    let mut session = stage.connected(Person::Maija, &["--", "sh", "-c", "trap 'echo; echo heard; exit 9' INT; yes & wait"])?;
    session.shows("y\r\ny", SOON)?;
    let pressed = Instant::now();
    // The terminal's own character, as typed; the line discipline in the cell makes it SIGINT.
    session.type_line("\u{3}")?;
    let ended = session.finish(SOON)?;
    let took = pressed.elapsed();
    ensure!(ended.code() == Some(9) && ended.out.contains("heard"), "{:?}", ended.code());
    ensure!(took < Duration::from_secs(2), "it took {} ms", took.as_millis());
    Ok(())
}

fn resident_kib(stage: &Stage) -> anyhow::Result<u64> {
    let pid = stage.pid(Daemon::Gateway).context("the gateway runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the gateway's memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Nothing is buffered without bound: who does not read, stops her own program.
pub fn a_slow_reader_slows_itself_alone() -> anyhow::Result<()> {
    const GROWTH_KIB_MAX: u64 = 8 * 1024;
    let stage = shared()?;
    stage.connect(Person::Maija, &["--", "true"])?;
    let before = resident_kib(&stage)?;
    let mut command: Command = stage.client(Person::Maija, None);
    // Nobody reads what it writes.
    let mut slow = command.args(["--", "yes"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let outcome = (|| {
        std::thread::sleep(Duration::from_secs(3));
        let grown = resident_kib(&stage)?.saturating_sub(before);
        ensure!(grown < GROWTH_KIB_MAX, "the gateway grew by {grown} KiB");
        let other = stage.connect(Person::Bo, &["--", "echo", "at ease"])?;
        ensure!(other.code() == Some(0) && other.took < Duration::from_secs(5), "the control: another session is served: {other:?}");
        Ok(())
    })();
    slow.kill()?;
    slow.wait()?;
    outcome
}

/// SE-03
pub fn what_would_write_the_clipboard_is_removed_and_audited() -> anyhow::Result<()> {
    let stage = shared()?;
    let show = |text: &str| -> Result<_, StageError> { stage.connect(Person::Maija, &["--", "printf", text]) };
    let cases = [("osc-52", "before \\033]52;c;c2VjcmV0\\007 after"), ("osc-52", "before \\033]52;c;c2VjcmV0\\033\\\\ after")];
    for (kind, text) in cases {
        let session = show(text)?;
        ensure!(session.out.contains("before") && session.out.contains("after") && !session.out.contains("c2VjcmV0"), "{:?}", session.out);
        let id = session_id(&session.err)?;
        let removed = stage.entry(&["--event", "terminal.sequence-removed", "--session", &id], SOON, |_| true)?;
        ensure!(removed.data("kind") == kind, "{removed:?}");
    }
    let colours = show("\\033[31mred\\033[0m")?;
    ensure!(colours.out.contains("\u{1b}[31mred\u{1b}[0m"), "the control: colours pass: {:?}", colours.out);
    let mut session = stage.connected(Person::Maija, &[])?;
    session.type_line("exit")?;
    session.signal(Signal::CONT);
    session.finish(SOON)?;
    Ok(())
}
