//! What `/proc` says of a process that the kernel has named: its id in the cell, and the programme that it runs.
//!
//! A process may be gone, or its number another's by now: then it says nothing of it.

use std::fs;
use std::io::{self, Read as _};
use std::time::Duration;

use sulku_audit::Process;

/// The longest path that an entry has of a programme or a file, in bytes.
pub const PATH_BYTES_MAX: usize = 1_024;
/// As much as most of what is read of `/proc` takes.
const USUAL_BYTES: usize = 8 << 10;
/// Process start times are counted in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A process and what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doer {
    /// Which process.
    pub process: Process,
    /// The programme, as the cell names it; `None` where the process was gone.
    pub program: Option<String>,
}

/// What is known of a process that did something then, in the process namespace of which `inside` is another one.
#[must_use]
pub fn look(pid: u32, at: Duration, inside: i32) -> Doer {
    let unknown = Doer { process: Process { pid, in_cell: None }, program: None };
    let known = || {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok();
        let in_cell = innermost(&status(pid)?)?;
        // Asked last: if it is the one that was meant now, it was when the rest was read.
        (started(pid)? <= at + TICK && namespace(pid)? == namespace(inside.cast_unsigned())?).then_some((in_cell, program))
    };
    match known() {
        Some((in_cell, program)) => {
            Doer { process: Process { pid, in_cell: Some(in_cell) }, program: program.map(|path| cut(&path.to_string_lossy())) }
        }
        None => unknown,
    }
}

/// What is known of a thread's process, while the thread waits for the warden and so can't be gone.
#[must_use]
pub fn waiting(thread: u32) -> Doer {
    let status = status(thread).unwrap_or_default();
    let pid = field(&status, "Tgid:").and_then(|text| text.parse().ok()).unwrap_or(thread);
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| cut(&path.to_string_lossy()));
    Doer { process: Process { pid, in_cell: innermost(&status) }, program }
}

/// Its number in the innermost process namespace that it is in.
fn innermost(status: &str) -> Option<u32> {
    field(status, "NStgid:")?.split_whitespace().next_back()?.parse().ok()
}

fn status(pid: u32) -> Option<String> {
    text_of(&format!("/proc/{pid}/status")).ok()
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// A file of `/proc`, read at once where it is of a usual length: the kernel makes its text anew for each read, and does not know its length before.
pub(super) fn text_of(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(USUAL_BYTES);
    fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

fn namespace(pid: u32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

/// When it began, since boot: field 22 of proc_pid_stat(5).
fn started(pid: u32) -> Option<Duration> {
    let stat = text_of(&format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let ticks: u64 = after_name.split(' ').nth(19)?.parse().ok()?;
    Some(Duration::from_millis(ticks.saturating_mul(10)))
}

/// The text, or as much of it as an entry takes.
#[must_use]
pub fn cut(text: &str) -> String {
    if text.len() <= PATH_BYTES_MAX {
        return text.to_owned();
    }
    let end = (0..=PATH_BYTES_MAX - '…'.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
