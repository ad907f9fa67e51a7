//! The gateway's own walls: it becomes a user without rights, then gives up what it will not need, for ever.
//!
//! Called before the first thread starts, so that every thread is inside. The gateway faces the network: whoever takes it over
//! finds a process that can start no programme, open no file but those in the folders of authorities and lists, and connect by TCP
//! to nobody. Landlock ABI 6 knows no UDP, which QUIC needs: the host's firewall has to say where datagrams may go.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

use crate::config::RunAs;

/// Confinement that could not be put in force. The gateway does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Started as root without a user to become.
    #[error("started as root without run_as; give run_as = {{ uid = …, gid = … }} in the configuration, or start it as an ordinary user")]
    Root,
    /// The user could not be changed.
    #[error("can't become user {uid} and group {gid}")]
    User {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Why.
        source: rustix::io::Errno,
    },
    /// A capability was left.
    #[error("still has capabilities after becoming an ordinary user; start the gateway without ambient capabilities")]
    Capabilities,
    /// A thread or process attribute could not be set.
    #[error("the kernel does not let the gateway give up its privileges")]
    Attribute(#[from] rustix::io::Errno),
    /// Landlock could not be enforced.
    #[error("Landlock ABI 6 is not to be had; use a kernel of 6.12 or later with Landlock on")]
    Landlock(#[from] RulesetError),
    /// Landlock was enforced in part.
    #[error("Landlock is enforced in part only; use a kernel of 6.12 or later with Landlock on")]
    LandlockPartial,
    /// A path for Landlock can't be opened.
    #[error("{0} can't be opened for the gateway's own sandbox")]
    Path(PathBuf, #[source] landlock::PathFdError),
    /// The system call filter could not be put in force.
    #[error("the system call filter can't be put in force")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Becomes the configured user. Files and sockets that need root are opened before.
///
/// # Errors
/// The gateway would keep a right that it must not have.
pub fn drop_privileges(run_as: Option<RunAs>) -> Result<(), ConfineError> {
    if rustix::process::geteuid().is_root() {
        let RunAs { uid, gid } = run_as.filter(|run_as| run_as.uid != 0 && run_as.gid != 0).ok_or(ConfineError::Root)?;
        let failed = |source| ConfineError::User { uid, gid, source };
        let (user, group) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        rustix::thread::set_thread_groups(&[]).map_err(failed)?;
        rustix::thread::set_thread_res_gid(group, group, group).map_err(failed)?;
        rustix::thread::set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    let left = rustix::thread::capabilities(None)?;
    if left.effective != CapabilitySet::empty() || left.permitted != CapabilitySet::empty() {
        return Err(ConfineError::Capabilities);
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Puts Landlock and seccomp on this thread and all that it will start. `readable` stays readable; all else is closed. Says what is in
/// force, in words.
///
/// # Errors
/// Something of it is not to be had here.
pub fn confine(readable: &[&Path]) -> Result<String, ConfineError> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    for path in readable {
        let fd = PathFd::new(path).map_err(|source| ConfineError::Path((*path).to_owned(), source))?;
        let access = if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
    }
    let status = ruleset.restrict_self()?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return Err(ConfineError::LandlockPartial);
    }
    let programme = seccomp().map_err(|error| ConfineError::Seccomp(Box::new(error)))?;
    seccompiler::apply_filter(&programme).map_err(|error| ConfineError::Seccomp(Box::new(error)))?;
    Ok(format!("Landlock ABI 6 fully enforced, seccomp of {} instructions, no capabilities, no new privileges", programme.len()))
}

/// What a gateway never calls. Anything that starts a programme ends the process; the rest is refused.
fn seccomp() -> Result<BpfProgram, seccompiler::BackendError> {
    const NEVER: &[i64] = &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_mount_setattr,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_setns,
        libc::SYS_unshare,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_reboot,
        libc::SYS_swapon,
        libc::SYS_open_by_handle_at,
        libc::SYS_setuid,
        libc::SYS_setgid,
        libc::SYS_setresuid,
        libc::SYS_setresgid,
        libc::SYS_personality,
        libc::SYS_fork,
        libc::SYS_vfork,
        libc::SYS_execve,
        libc::SYS_execveat,
    ];
    let socket_families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    let no_listed_family = socket_families.iter().map(|family| {
        let family = u64::try_from(*family).unwrap_or(u64::MAX);
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    });
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(no_listed_family.collect::<Result<_, _>>()?)?]);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM.unsigned_abs()), arch)?.try_into()
}
