//! User namespaces that know one user: a cell's own, and those that show whose files a mount has.
//!
//! One is made before anybody knows whom it will know, and held by descriptors alone: no process is left in it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys;

/// A user namespace that knows nobody yet.
#[derive(Debug)]
pub(super) struct Unmapped {
    namespace: OwnedFd,
    users: File,
    groups: File,
}

/// A user namespace that knows one user and one group.
#[derive(Debug)]
pub(super) struct Mapped(OwnedFd);

impl Unmapped {
    /// Makes one. A namespace lives while a process is in it or a descriptor means it: a process makes it, and goes when the descriptors are there.
    ///
    /// # Errors
    /// The kernel makes no more user namespaces, or `/proc` does not show this process's children.
    pub(super) fn make() -> io::Result<Self> {
        let (wait, hold) = pipe_with(PipeFlags::CLOEXEC)?;
        let pidfd = match sys::clone_into_namespaces(libc::CLONE_NEWUSER)? {
            sys::Side::Child => {
                drop(hold);
                // Ends with the other end of the pipe, also if its maker dies.
                let _nothing = rustix::io::read(&wait, &mut [0]);
                sys::exit_now(0)
            }
            sys::Side::Parent { pidfd, .. } => pidfd,
        };
        let made = Self::of(&pidfd);
        drop(hold);
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
        made
    }

    fn of(process: &OwnedFd) -> io::Result<Self> {
        let folder = format!("/proc/{}", id_in_proc(process)?);
        let to_write = |file| fs::OpenOptions::new().write(true).open(format!("{folder}/{file}"));
        // Leaving a group can be a way past what is denied to it; and it can't be given up once a group is mapped.
        to_write("setgroups")?.write_all(b"deny")?;
        Ok(Self { namespace: File::open(format!("{folder}/ns/user"))?.into(), users: to_write("uid_map")?, groups: to_write("gid_map")? })
    }

    /// Has it know one user and group, which are these outside, and nobody else ever.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn map(mut self, inside: u32, outside: u32) -> io::Result<Mapped> {
        let only = format!("{inside} {outside} 1\n");
        self.users.write_all(only.as_bytes())?;
        self.groups.write_all(only.as_bytes())?;
        Ok(Mapped(self.namespace))
    }
}

impl Mapped {
    /// Leaves this process's user namespace for it, for good. Who the process is must be said next.
    ///
    /// # Errors
    /// The kernel refused.
    pub(super) fn enter(self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::User))?)
    }
}

impl From<Mapped> for OwnedFd {
    fn from(mapped: Mapped) -> Self {
        mapped.0
    }
}

/// A process's id as `/proc` counts, which may be that of another process namespace than this process's own.
fn id_in_proc(process: &OwnedFd) -> io::Result<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd()))?;
    let id = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    id.filter(|id| *id > 0).ok_or_else(|| io::Error::other("/proc does not show this process's children"))
}
