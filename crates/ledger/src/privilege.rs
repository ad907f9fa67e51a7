//! How a ledger that was started as root becomes its own user, for good, before it touches the log or opens its socket.
//!
//! Keeps no capability: the kernel drops them all when every user id leaves 0. Changes ids of the calling thread, so it must run
//! while there is no other, and makes sure of it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, getgid, getgroups, getuid, setrlimit};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use rustix::{io::Errno, process};

use crate::config::RunAs;

/// A process that could not give up what it had.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Root, and nobody to become.
    #[error("the ledger does not run as root; name a user and a group in [run_as], or start it as one")]
    Root,
    /// Started as somebody else than `run_as` says.
    #[error("run_as asks for user {wanted} but the process runs as user {found}, which can't change; start it as root or as {wanted}")]
    WrongUser {
        /// The user in the configuration.
        wanted: u32,
        /// The user it runs as.
        found: u32,
    },
    /// There are other threads, whose ids would stay.
    #[error("a process with {0} threads can't change its user (this is a defect of the program)")]
    Threads(usize),
    /// The kernel refused.
    #[error("{0}")]
    Kernel(&'static str, #[source] Errno),
    /// It looked done but is not.
    #[error("the process kept its user, group or groups after giving them up")]
    Kept,
}

/// Becomes the user and group that the configuration names, closes the door to more privilege, and keeps the process's memory, which
/// holds the key, out of core files and away from debuggers of the same user.
///
/// # Errors
/// It would still be root, or the kernel refused a step.
pub fn drop(run_as: Option<RunAs>) -> Result<(), PrivilegeError> {
    let kernel = |what| move |errno| PrivilegeError::Kernel(what, errno);
    match (getuid().is_root(), run_as) {
        (true, None) => return Err(PrivilegeError::Root),
        (false, Some(RunAs { uid, .. })) if getuid().as_raw() != uid => {
            return Err(PrivilegeError::WrongUser { wanted: uid, found: getuid().as_raw() });
        }
        (false, _) => {}
        (true, Some(RunAs { uid, gid })) => {
            let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
            if threads != 1 {
                return Err(PrivilegeError::Threads(threads));
            }
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            set_thread_groups(&[]).map_err(kernel("the supplementary groups could not be given up"))?;
            set_thread_res_gid(gid, gid, gid).map_err(kernel("the group could not be changed"))?;
            set_thread_res_uid(uid, uid, uid).map_err(kernel("the user could not be changed"))?;
            if getuid() != uid || getgid() != gid || !getgroups().is_ok_and(|groups| groups.is_empty()) {
                return Err(PrivilegeError::Kept);
            }
        }
    }
    set_no_new_privs(true).map_err(kernel("no_new_privs could not be set"))?;
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(kernel("core files could not be turned off"))?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(kernel("the core file limit could not be set"))
}
