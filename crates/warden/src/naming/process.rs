//! The resolver's process: started in the router's network namespace with a user of its own and nothing else, and ended with the warden. A
//! warden that is not the host's root has no other user to give: there it is in a user namespace of its own, where that user is all there is.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{Mode, OFlags};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getppid, pidfd_open, pidfd_send_signal, set_parent_process_death_signal,
    setrlimit, waitid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid, UnshareFlags, clear_ambient_capability_set, move_into_link_name_space,
    set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::config::Resolver;
use crate::{relay, sys};

/// Files that it may have open: cells' connections, two descriptors each, and its sockets.
const FILES_MAX: u64 = 16_384;
/// The same where a relay carries its connections. It keeps a thousand for what is no TLS, or half: of its places at the relay a quarter
/// is left for questions upstream.
const FILES_CARRIED_MAX: u64 = 3 * relay::RESOLVERS_CONNECTIONS_MAX as u64;
/// Threads of its user. It needs one.
const PROCESSES_MAX: u64 = 64;
/// How long a process takes at most from letting go of its descriptors to its end, in milliseconds.
const DYING_MS: i64 = 50;
/// Its exit status where it could not be started.
const FAILED: i32 = 125;

/// Which user the resolver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// One of its own.
    Own,
    /// The warden's, in a user namespace that has power over nothing.
    Wardens,
}

/// A resolver that was started.
#[derive(Debug)]
pub struct Process {
    /// The way to it.
    pub channel: OwnedFd,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts it in this network namespace.
    ///
    /// # Errors
    /// The kernel refused. What fails in the new process is its exit status.
    pub fn start(resolver: &Resolver, as_user: User, network: BorrowedFd<'_>) -> io::Result<Self> {
        let (ours, theirs) = sys::packet_pair()?;
        let warden = rustix::process::getpid();
        match sys::fork()? {
            None => {
                // Nobody hears of what fails here but by the status; standard error is the warden's log.
                let _never = become_it(resolver, as_user, network, &theirs, warden);
                sys::exit_now(FAILED)
            }
            Some(pid) => {
                let process = Self { channel: ours, pidfd: pidfd_open(pid, PidfdFlags::empty())? };
                Ok(process)
            }
        }
    }

    /// The descriptor that becomes readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Why its end of the channel is closed: its status, which comes a moment after that, or that it did so and lives on.
    pub fn last_words(&self) -> String {
        let _slow_or_alive = sys::readable_within(&self.pidfd, DYING_MS);
        self.ended().unwrap_or_else(|| "it has let go of the warden".to_owned())
    }

    /// Its status in words, if it has ended.
    pub fn ended(&self) -> Option<String> {
        let status = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok()??;
        Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(FAILED), _) => "it could not be started".to_owned(),
            (Some(code), _) => format!("it ended with status {code}"),
            (_, Some(signal)) => format!("signal {signal} ended it"),
            _ => "it ended".to_owned(),
        })
    }
}

impl Drop for Process {
    /// It is ended and waited for: it has nothing that could hold it up.
    fn drop(&mut self) {
        let _gone_already = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _reaped_already = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
}

fn become_it(resolver: &Resolver, as_user: User, network: BorrowedFd<'_>, channel: &OwnedFd, warden: Pid) -> io::Result<()> {
    sys::reset_signals();
    move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
    let null = rustix::fs::open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    sys::duplicate_as(channel.as_fd(), 0)?;
    sys::duplicate_as(null.as_fd(), 1)?;
    let (input, output, errors) = (io::stdin(), io::stdout(), io::stderr());
    sys::close_all_but(&[input.as_fd(), output.as_fd(), errors.as_fd()])?;
    rustix::process::chdir("/")?;
    let files = match as_user {
        User::Own => FILES_MAX,
        User::Wardens => FILES_CARRIED_MAX,
    };
    for (resource, most) in [(Resource::Nofile, files), (Resource::Core, 0), (Resource::Nproc, PROCESSES_MAX)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    match as_user {
        User::Own => set_thread_groups(&[])?,
        User::Wardens => into_own_namespace(resolver.uid)?,
    }
    sys::empty_bounding_set()?;
    let (user, group) = (Uid::from_raw(resolver.uid), Gid::from_raw(resolver.uid));
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    // After the user has changed, which forgets it; and then the warden may be gone already.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(warden) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let program = CString::new(resolver.program.as_os_str().as_bytes())?;
    Err(sys::execute(&program, std::slice::from_ref(&program), &[]))
}

/// Leaves for a user namespace in which the process is that user, and there is no other.
fn into_own_namespace(uid: u32) -> io::Result<()> {
    sys::unshare(UnshareFlags::NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    // The warden's user is root where it is, and so its group.
    std::fs::write("/proc/self/uid_map", format!("{uid} 0 1\n"))?;
    std::fs::write("/proc/self/gid_map", format!("{uid} 0 1\n"))
}
