//! What a thread that waits inside `execve` is about to run its programme with, read from its memory.
//!
//! The kernel copies the arguments a moment later: another thread of the same process could change them in between. The file is
//! never in doubt, what it is called with is as sure as that.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::processes::text_of;

/// Arguments that an entry has.
const ARGUMENTS_MAX: usize = 64;
/// Their bytes, together.
const BYTES_MAX: usize = 8 * 1024;
/// Arguments that are counted beyond those; the kernel itself takes 2 MiB of them.
const COUNTED_MAX: usize = 4_096;
const WORD_BYTES: usize = 8;
/// How often a thread that is on its way into its wait is asked again.
const TRIES: usize = 200;

/// The arguments, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// Those that there was room for.
    pub words: Vec<String>,
    /// How many there was none for.
    pub left_out: u64,
}

/// The arguments of the `execve` in which this thread waits; `None` if it can't be read.
#[must_use]
pub fn of(thread: u32) -> Option<Arguments> {
    let list = list_of(thread)?;
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut arguments = Arguments { words: Vec::new(), left_out: 0 };
    let mut room = BYTES_MAX;
    for place in 0..COUNTED_MAX {
        let mut word = [0; WORD_BYTES];
        memory.read_exact_at(&mut word, list.checked_add((place * WORD_BYTES) as u64)?).ok()?;
        let at = u64::from_ne_bytes(word);
        if at == 0 {
            return Some(arguments);
        }
        if arguments.words.len() >= ARGUMENTS_MAX || room == 0 {
            arguments.left_out += 1;
            continue;
        }
        let text = text_at(&memory, at, room)?;
        room = room.saturating_sub(text.len().max(1));
        arguments.words.push(text);
    }
    Some(arguments)
}

/// Where its list of arguments begins, by the registers with which it entered the kernel: proc_pid_syscall(5).
fn list_of(thread: u32) -> Option<u64> {
    for _ in 0..TRIES {
        let text = text_of(&format!("/proc/{thread}/syscall")).ok()?;
        let mut fields = text.split_whitespace();
        let place = match fields.next()?.parse() {
            Ok(libc::SYS_execve) => 1,
            Ok(libc::SYS_execveat) => 2,
            // It has queued its question and is about to wait.
            Err(_) => {
                std::thread::yield_now();
                continue;
            }
            Ok(_) => return None,
        };
        return u64::from_str_radix(fields.nth(place)?.strip_prefix("0x")?, 16).ok().filter(|list| *list != 0);
    }
    None
}

/// The string there, at most so long.
fn text_at(memory: &File, at: u64, bytes_max: usize) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < bytes_max {
        let mut piece = [0; 256];
        // Not beyond a page's end: what follows may not be there.
        let from = at.checked_add(bytes.len() as u64)?;
        let to_page_end = 4_096 - usize::try_from(from % 4_096).ok()?;
        let wanted = piece.len().min(to_page_end);
        let length = memory.read_at(&mut piece[..wanted], from).ok().filter(|length| *length > 0)?;
        match piece[..length].iter().position(|byte| *byte == 0) {
            Some(end) => {
                bytes.extend_from_slice(&piece[..end]);
                break;
            }
            None => bytes.extend_from_slice(&piece[..length]),
        }
    }
    bytes.truncate(bytes_max);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
