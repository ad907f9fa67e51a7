//! The resolver's own walls: no file, no program, no socket but those that it needs, for ever.
//!
//! Called before the first thread starts and before a byte of a cell is read. Whoever takes it over finds a process that can speak
//! TCP to port 443 and the resolvers' ports, UDP as the router's rules let it, and to the warden.

use std::net::SocketAddr;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::thread::CapabilitySet;
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

use crate::judge::TLS_DESTINATION_PORT;

/// Confinement that could not be put in force. The resolver does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Started as root.
    #[error("the resolver was started as root; the warden gives it a user of its own")]
    Root,
    /// A capability was left.
    #[error("the resolver was started with capabilities")]
    Capabilities,
    /// A process attribute could not be set.
    #[error("the kernel does not let the resolver give up its privileges")]
    Attribute(#[from] rustix::io::Errno),
    /// Landlock could not be enforced.
    #[error("Landlock ABI 6 is not to be had; use a kernel of 6.12 or later with Landlock on")]
    Landlock(#[from] RulesetError),
    /// Landlock was enforced in part.
    #[error("Landlock is enforced in part only; use a kernel of 6.12 or later with Landlock on")]
    LandlockPartial,
    /// The system call filter could not be put in force.
    #[error("the system call filter can't be put in force")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Gives up everything else. Says what is in force, in words.
///
/// # Errors
/// Something of it is not to be had here, or the resolver has a right that it must not have.
pub fn confine(upstream: &[SocketAddr]) -> Result<String, ConfineError> {
    if rustix::process::geteuid().is_root() {
        return Err(ConfineError::Root);
    }
    let left = rustix::thread::capabilities(None)?;
    if left.effective != CapabilitySet::empty() || left.permitted != CapabilitySet::empty() {
        return Err(ConfineError::Capabilities);
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    landlock(upstream)?;
    let program = seccomp().map_err(|error| ConfineError::Seccomp(Box::new(error)))?;
    seccompiler::apply_filter(&program).map_err(|error| ConfineError::Seccomp(Box::new(error)))?;
    Ok(format!("Landlock ABI 6 fully enforced, seccomp of {} instructions, no capabilities, no new privileges", program.len()))
}

/// No file. TCP is bound nowhere any more, and goes to the destinations' port and the resolvers'.
fn landlock(upstream: &[SocketAddr]) -> Result<(), ConfineError> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    for port in upstream.iter().map(SocketAddr::port).chain([TLS_DESTINATION_PORT]) {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if ruleset.restrict_self()?.ruleset == RulesetStatus::FullyEnforced { Ok(()) } else { Err(ConfineError::LandlockPartial) }
}

/// What a resolver calls; anything else is refused. Sockets are of IPv4 or IPv6, TCP or UDP, and of no other protocol: MPTCP would
/// pass Landlock.
fn seccomp() -> Result<BpfProgram, BackendError> {
    const ALWAYS: &[i64] = &[
        // Sockets.
        libc::SYS_accept4,
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_getpeername,
        libc::SYS_getsockname,
        libc::SYS_getsockopt,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_setsockopt,
        libc::SYS_shutdown,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_fcntl,
        // Waiting.
        libc::SYS_epoll_ctl,
        libc::SYS_epoll_pwait,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_epoll_wait,
        libc::SYS_futex,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_sched_yield,
        libc::SYS_restart_syscall,
        // Memory and randomness.
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_madvise,
        libc::SYS_mprotect,
        libc::SYS_getrandom,
        // Ending, also by a panic.
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_tgkill,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
    ];
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    let is = |argument, mask: u64, value: i32| {
        let value = u64::try_from(value).unwrap_or(u64::MAX);
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
    };
    let mut sockets = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (kind, protocol) in [(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)] {
            for protocol in [0, protocol] {
                // The type's upper bits say only how the descriptor behaves.
                sockets.push(SeccompRule::new(vec![is(0, u64::MAX, family)?, is(1, 0xf, kind)?, is(2, u64::MAX, protocol)?])?);
            }
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Errno(libc::EPERM.unsigned_abs()), SeccompAction::Allow, arch)?.try_into()
}
