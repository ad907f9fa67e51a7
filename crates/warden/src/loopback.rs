//! Files as block devices, and file systems mounted from them for nobody's sight: no path leads there but what a cell is given.
//!
//! The kernel lets go of all of it by itself when the last descriptor is closed and the last cell is gone, also when the warden is killed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen};

use crate::sys::{self, LoopAccess};

/// Another program may take the device that the kernel has just called free.
const TRIES: usize = 64;

/// A block device over a file, whose very description it holds, and with it a lock on that.
#[derive(Debug)]
pub struct Loop {
    /// Keeps it until something is mounted from it.
    _device: OwnedFd,
    /// Its path.
    pub path: String,
}

impl Loop {
    /// Over this file.
    ///
    /// # Errors
    /// The kernel has no such devices, or no more of them.
    pub fn over(file: BorrowedFd<'_>, name: &str, access: LoopAccess) -> io::Result<Self> {
        let control = openat(CWD, "/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        for _ in 0..TRIES {
            let path = format!("/dev/loop{}", sys::loop_free(control.as_fd())?);
            let device = openat(CWD, path.as_str(), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
            match sys::loop_configure(device.as_fd(), file, name, access) {
                Ok(()) => return Ok(Self { _device: device, path }),
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no loop device stays free"))
    }
}

/// A mount of the file system on a device, attached nowhere. Each has attributes of its own; all of one device are one file system.
///
/// # Errors
/// The kernel does not mount it.
pub fn mount(kind: &str, device: &str, access: LoopAccess, options: &[(&str, &str)]) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", device)?;
    if access == LoopAccess::Read {
        fsconfig_set_flag(context.as_fd(), "ro")?;
    }
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    let read_only = if access == LoopAccess::Read { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | read_only;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
