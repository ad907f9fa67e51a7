//! Whose files a cell can change: its workspace's, and nobody else's.
//!
//! A mount can show the owners of files as a user namespace maps them (`mount_setattr(2)`, id-mapped mounts). Here that namespace knows one
//! user id, the workspace's. Whatever somebody else left in the folder (a socket of a host's service, a pipe, a script of root's) can then be read where its
//! mode allows it, and not written, connected to or removed, whatever its mode allows. It decides nothing about the cell's own files.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::user::Unmapped;

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
            Entry::Vacant(place) => place.insert(Unmapped::make()?.map(id, id)?.into()),
        };
        Ok(kept.as_fd())
    }
}
