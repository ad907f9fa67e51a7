//! How an ordinary user's process becomes root in namespaces of its own, and nowhere else.
//!
//! The warden is then what it is on the rung `root`, seen from inside: root, in a mount and a network namespace that belong to its user
//! namespace. Cells get user namespaces of their own below it, last, so that their namespaces too belong to one that they have no power in.

use std::io;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::sys;

/// A step into the namespaces that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("could not {step}")]
pub struct EnterError {
    step: &'static str,
    source: io::Error,
}

fn at<T>(step: &'static str, result: Result<T, impl Into<io::Error>>) -> Result<T, EnterError> {
    result.map_err(|source| EnterError { step, source: source.into() })
}

/// Makes this process root of a user namespace in which its user is the only one, in a mount and a network namespace of its own.
///
/// # Errors
/// The kernel refused a step.
pub fn user_namespace() -> Result<(), EnterError> {
    // Asked before: afterwards they are nobody's until they are mapped.
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    at("make a user namespace", sys::unshare(UnshareFlags::NEWUSER))?;
    // Without this the kernel lets nobody but root map groups: leaving a group can be a way past what is denied to it.
    at("give up changing groups", std::fs::write("/proc/self/setgroups", "deny"))?;
    at("map the user", std::fs::write("/proc/self/uid_map", format!("0 {} 1\n", user.as_raw())))?;
    at("map the group", std::fs::write("/proc/self/gid_map", format!("0 {} 1\n", group.as_raw())))?;
    at("make a mount namespace", sys::unshare(UnshareFlags::NEWNS))?;
    at("make mounts private", mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))?;
    at("make a network namespace", sys::unshare(UnshareFlags::NEWNET))
}
