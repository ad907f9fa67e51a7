//! Whose files a cell can change: its workspace's, and nobody else's.
//!
//! A mount can show the owners of files as a user namespace maps them (`mount_setattr(2)`, id-mapped mounts). Here that namespace knows one
//! user id, the workspace's. Whatever somebody else left in the folder (a socket of a host's service, a pipe, a script of root's) can then be read where its
//! mode allows it, and not written, connected to or removed, whatever its mode allows. It decides nothing about the cell's own files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::sys;

/// So many namespaces are kept for the next cells of their workspaces; each is a descriptor.
const KEPT_MAX: usize = 64;

/// User namespaces that know one user id each.
#[derive(Debug, Default)]
pub struct Owners(BTreeMap<u32, OwnedFd>);

impl Owners {
    /// The namespace that knows this user and group id alone, as itself.
    ///
    /// # Errors
    /// The kernel makes no more user namespaces.
    pub fn only(&mut self, id: u32) -> io::Result<BorrowedFd<'_>> {
        if !self.0.contains_key(&id) && self.0.len() >= KEPT_MAX {
            self.0.clear();
        }
        let kept: &OwnedFd = match self.0.entry(id) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => place.insert(namespace(id)?),
        };
        Ok(kept.as_fd())
    }
}

/// A namespace lives while a process is in it or a descriptor means it: a process makes it, and goes when the descriptor is there.
fn namespace(id: u32) -> io::Result<OwnedFd> {
    let (wait, hold) = pipe_with(PipeFlags::CLOEXEC)?;
    let (pid, pidfd) = match sys::clone_into_namespaces(libc::CLONE_NEWUSER)? {
        sys::Side::Child => {
            drop(hold);
            // Ends with the warden's end of the pipe, also if the warden dies.
            let _nothing = rustix::io::read(&wait, &mut [0]);
            sys::exit_now(0)
        }
        sys::Side::Parent { pid, pidfd } => (pid.as_raw_nonzero(), pidfd),
    };
    let only = format!("{id} {id} 1\n");
    let made = fs::write(format!("/proc/{pid}/uid_map"), &only)
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), &only))
        .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")));
    drop(hold);
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
    Ok(made?.into())
}
