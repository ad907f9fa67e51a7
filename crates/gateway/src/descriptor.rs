//! Descriptors that tokio waits for: the one place of this crate where the compiler can't see why something is sound.
#![allow(unsafe_code)] // tokio::io::unix::AsyncFd::register is unsafe, and its safe sibling deprecated

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor that is registered with the runtime, and closed when dropped. Gives out references only.
#[derive(Debug)]
pub struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Registers the descriptor, which must be in non-blocking mode.
    ///
    /// # Errors
    /// It is of a kind that can't be waited for.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd is a valid open descriptor, names the same one as long as it lives, and is not closed before it is
        // dropped. It is moved into the AsyncFd, which is private to this type and never gives it back.
        unsafe { AsyncFd::register(fd) }.map(Self).map_err(Into::into)
    }
}

impl Deref for Descriptor {
    type Target = AsyncFd<OwnedFd>;

    fn deref(&self) -> &AsyncFd<OwnedFd> {
        &self.0
    }
}
