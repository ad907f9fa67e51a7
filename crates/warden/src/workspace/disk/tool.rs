//! The programs of e2fsprogs that make, mend and enlarge a disk's file system. They run without a capability, with the one file open.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use crate::sys;

/// Makes a file system.
pub const MAKE: &str = "/usr/sbin/mkfs.ext4";
/// Looks whether one is whole, and mends it.
pub const CHECK: &str = "/usr/sbin/e2fsck";
/// Has one take up all of its file.
pub const ENLARGE: &str = "/usr/sbin/resize2fs";
/// All of them.
pub const ALL: [&str; 3] = [MAKE, CHECK, ENLARGE];
/// How all name their file, which is their standard input.
pub const ITS_FILE: &str = "/proc/self/fd/0";
/// So much of what one says is kept.
const WORDS_BYTES_MAX: u64 = 2_000;
/// The status of a program that could not be run.
const NOT_RUN: i32 = 127;

/// Runs one of them on a file, to its end: its exit status, and the last of what it said.
///
/// # Errors
/// It could not be run.
pub fn run(program: &str, arguments: &[&str], file: BorrowedFd<'_>) -> io::Result<(i32, String)> {
    let (words, speak) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let texts = |texts: &[&str]| texts.iter().map(|text| CString::new(*text)).collect::<Result<Vec<_>, _>>().map_err(io::Error::other);
    let (path, arguments) = (CString::new(program)?, texts(&[&[program], arguments].concat())?);
    let environment = texts(&["LANG=C", "PATH=/nonexistent"])?;
    let Some(pid) = sys::fork()? else {
        let powerless = || -> io::Result<()> {
            sys::duplicate_as(file, 0)?;
            [1, 2].into_iter().try_for_each(|number| sys::duplicate_as(speak.as_fd(), number))?;
            sys::empty_bounding_set()?;
            let none = CapabilitySet::empty();
            set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
            Ok(set_no_new_privs(true)?)
        };
        let error = powerless().err().unwrap_or_else(|| sys::execute(&path, &arguments, &environment));
        let _unheard = rustix::io::write(&speak, format!("{program}: {error}").as_bytes());
        sys::exit_now(NOT_RUN)
    };
    drop(speak);
    let (mut said, mut words) = (Vec::new(), std::fs::File::from(words));
    (&mut words).take(WORDS_BYTES_MAX).read_to_end(&mut said)?;
    // What it says beyond that it says to nobody; it must not wait for a reader.
    io::copy(&mut words, &mut io::sink())?;
    let status = waitpid(Some(pid), WaitOptions::empty())?.and_then(|(_, status)| status.exit_status()).unwrap_or(NOT_RUN);
    let said = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
    if status == NOT_RUN { Err(io::Error::other(format!("{said}; install the package e2fsprogs"))) } else { Ok((status, said)) }
}
