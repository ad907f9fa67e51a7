//! The walls that a cell's processes carry with them: Landlock and seccomp, from the plan's data to what the kernel takes.
//!
//! Landlock is all or nothing: a host whose kernel can't enforce every rule runs no cell. It does not restrict TCP: its rules can't
//! tell a cell's loopback from the world, and they are no egress boundary anyway; the router is.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use sulku_audit::merkle::sha256;
use sulku_permit::Rung;
use sulku_plan::filesystem::{Access, LandlockRule, Programmes, Sockets};
use sulku_plan::syscalls::{DENIED, DENIED_WITHOUT_NETWORK, Denied};

use super::filter::{self, Instruction};
use crate::sys;

/// The Landlock interface that every cell is held by; the first with both kinds of scope.
pub const LANDLOCK_ABI_MIN: u32 = 6;

/// The seccomp programme, compiled once.
#[derive(Debug)]
pub struct Filter {
    programme: Vec<Instruction>,
    digest: String,
}

/// Why a wall does not stand.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The plan names a call that this crate has no number for.
    #[error("the plan denies the system call {0}, which has no number here")]
    UnknownCall(&'static str),
    /// The filter could not be loaded.
    #[error("the seccomp filter can't be loaded")]
    Load(#[source] io::Error),
    /// Landlock refused.
    #[error("Landlock refused a rule")]
    Landlock(#[from] landlock::RulesetError),
    /// Landlock is enforced in part.
    #[error("Landlock is not fully enforced")]
    Partial,
    /// This processor is not one that the filter is written for.
    #[error("cells need an x86_64 or aarch64 processor")]
    Processor,
}

impl From<WallError> for io::Error {
    fn from(error: WallError) -> Self {
        Self::other(crate::chain(&error))
    }
}

impl Filter {
    /// Compiles what the plan denies, and what the rung does.
    ///
    /// # Errors
    /// See [`WallError`].
    pub fn compile(rung: Rung) -> Result<Self, WallError> {
        let architecture = filter::OWN_ARCHITECTURE.ok_or(WallError::Processor)?;
        let programme = filter::programme(&numbered(rung)?, architecture);
        let text: String = programme.iter().map(|line| format!("{:x} {:x} {:x} {:x}\n", line.code, line.jt, line.jf, line.k)).collect();
        Ok(Self { programme, digest: sha256(&[text.as_bytes()]).to_string() })
    }

    /// SHA-256 of the programme, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Holds this process and all that it starts, for ever.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn load(&self) -> Result<(), WallError> {
        sys::filter_calls(&self.programme).map_err(WallError::Load)
    }
}

/// The plan's denied calls, and the rung's, by the numbers that they have on this processor.
pub(super) fn numbered(rung: Rung) -> Result<Vec<(u32, &'static Denied)>, WallError> {
    let mut numbered = Vec::new();
    let without_network = if rung == Rung::NoNetwork { DENIED_WITHOUT_NETWORK } else { &[] };
    for denied in DENIED.iter().chain(without_network) {
        for call in denied.calls {
            match number(call).map(|number| number.map(u32::try_from)) {
                Some(Some(Ok(number))) => numbered.push((number, denied)),
                Some(None) => {}
                _ => return Err(WallError::UnknownCall(call)),
            }
        }
    }
    Ok(numbered)
}

/// The first Landlock interface that can keep a cell from connecting to unix sockets in files that it did not make.
const RESOLVE_UNIX_ABI: u32 = 9;

/// The first that tells the kernel's audit what it denied.
const LOG_ABI: u32 = 7;

/// What Landlock decides on: all of the lowest interface that is accepted, and sockets in files where the kernel knows them.
fn handled() -> BitFlags<AccessFs> {
    let all = AccessFs::from_all(ABI::V6);
    if sys::landlock_abi() >= RESOLVE_UNIX_ABI { all | AccessFs::ResolveUnix } else { all }
}

/// What Landlock leaves open, in the making.
pub struct Rules {
    ruleset: RulesetCreated,
    /// For what was not there yet.
    absent: Vec<LandlockRule>,
}

impl Rules {
    /// None yet: nothing is left open.
    ///
    /// # Errors
    /// The kernel can't enforce all that is asked of it.
    pub fn begin() -> Result<Self, WallError> {
        let level = CompatLevel::HardRequirement;
        let ruleset = Ruleset::default().set_compatibility(level).handle_access(handled())?.scope(Scope::from_all(ABI::V6))?.create()?;
        Ok(Self { ruleset: ruleset.set_compatibility(level), absent: Vec::new() })
    }

    /// Leaves these open as well, and what was to be left open before and was not there.
    ///
    /// # Errors
    /// The kernel refused a rule.
    pub fn leave_open<'a>(self, rules: impl IntoIterator<Item = &'a LandlockRule>) -> Result<Self, WallError> {
        let Self { mut ruleset, absent: earlier } = self;
        let mut absent = Vec::new();
        for rule in earlier.into_iter().chain(rules.into_iter().cloned()) {
            let path = Path::new(rule.path.as_ref());
            // What the host lacks the cell lacks, and nothing needs to be left open for it.
            let Ok(beneath) = PathFd::new(path) else {
                absent.push(rule);
                continue;
            };
            let rights = rights(rule.access) & handled();
            let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(ABI::V9) };
            ruleset = ruleset.add_rule(PathBeneath::new(beneath, rights))?;
        }
        Ok(Self { ruleset, absent })
    }

    /// Holds this process and all that it starts to them, for ever; says in words how.
    ///
    /// # Errors
    /// They can't all be enforced; the process may then be held by none.
    pub fn raise(self) -> Result<String, WallError> {
        let mut ruleset = self.ruleset;
        if sys::landlock_abi() >= LOG_ABI {
            // The holder's programmes are run by this process: what they are denied is told where the host's audit is on.
            ruleset = ruleset.log_new_exec(true)?;
        }
        match ruleset.restrict_self()?.ruleset {
            RulesetStatus::FullyEnforced => Ok(format!("ABI {}, fully enforced", sys::landlock_abi())),
            _ => Err(WallError::Partial),
        }
    }
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let list = BitFlags::from(AccessFs::ReadDir);
    let read = list | AccessFs::ReadFile;
    match access {
        Access::List => list,
        Access::Read => read,
        Access::Run => read | AccessFs::Execute,
        Access::Write { programmes, sockets } => {
            let mut refused = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
            if programmes == Programmes::Refused {
                refused |= AccessFs::Execute;
            }
            if sockets == Sockets::Refused {
                refused |= AccessFs::MakeSock | AccessFs::ResolveUnix;
            }
            AccessFs::from_all(ABI::V9) & !refused
        }
        Access::Device => read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev,
    }
}

/// The number of a call by its name: `None` for no known name, `Some(None)` for one that this processor does not have.
fn number(name: &str) -> Option<Option<i64>> {
    Some(Some(match name {
        "clone3" => libc::SYS_clone3,
        "clone" => libc::SYS_clone,
        "unshare" => libc::SYS_unshare,
        "setns" => libc::SYS_setns,
        "socket" => libc::SYS_socket,
        "socketpair" => libc::SYS_socketpair,
        "ioctl" => libc::SYS_ioctl,
        "personality" => libc::SYS_personality,
        "ptrace" => libc::SYS_ptrace,
        "process_vm_readv" => libc::SYS_process_vm_readv,
        "process_vm_writev" => libc::SYS_process_vm_writev,
        "process_madvise" => libc::SYS_process_madvise,
        "pidfd_getfd" => libc::SYS_pidfd_getfd,
        "kcmp" => libc::SYS_kcmp,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "io_uring_enter" => libc::SYS_io_uring_enter,
        "io_uring_register" => libc::SYS_io_uring_register,
        "userfaultfd" => libc::SYS_userfaultfd,
        "memfd_secret" => libc::SYS_memfd_secret,
        "keyctl" => libc::SYS_keyctl,
        "add_key" => libc::SYS_add_key,
        "request_key" => libc::SYS_request_key,
        "bpf" => libc::SYS_bpf,
        "perf_event_open" => libc::SYS_perf_event_open,
        "mount" => libc::SYS_mount,
        "umount2" => libc::SYS_umount2,
        "pivot_root" => libc::SYS_pivot_root,
        "chroot" => libc::SYS_chroot,
        "fsopen" => libc::SYS_fsopen,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fspick" => libc::SYS_fspick,
        "open_tree" => libc::SYS_open_tree,
        "move_mount" => libc::SYS_move_mount,
        "mount_setattr" => libc::SYS_mount_setattr,
        "name_to_handle_at" => libc::SYS_name_to_handle_at,
        "open_by_handle_at" => libc::SYS_open_by_handle_at,
        "fanotify_init" => libc::SYS_fanotify_init,
        "quotactl" => libc::SYS_quotactl,
        "quotactl_fd" => libc::SYS_quotactl_fd,
        "init_module" => libc::SYS_init_module,
        "finit_module" => libc::SYS_finit_module,
        "delete_module" => libc::SYS_delete_module,
        "kexec_load" => libc::SYS_kexec_load,
        "kexec_file_load" => libc::SYS_kexec_file_load,
        "reboot" => libc::SYS_reboot,
        "swapon" => libc::SYS_swapon,
        "swapoff" => libc::SYS_swapoff,
        "acct" => libc::SYS_acct,
        "syslog" => libc::SYS_syslog,
        "vhangup" => libc::SYS_vhangup,
        "settimeofday" => libc::SYS_settimeofday,
        "clock_settime" => libc::SYS_clock_settime,
        "clock_adjtime" => libc::SYS_clock_adjtime,
        "adjtimex" => libc::SYS_adjtimex,
        "sethostname" => libc::SYS_sethostname,
        "setdomainname" => libc::SYS_setdomainname,
        "migrate_pages" => libc::SYS_migrate_pages,
        "move_pages" => libc::SYS_move_pages,
        "lookup_dcookie" => libc::SYS_lookup_dcookie,
        "nfsservctl" => libc::SYS_nfsservctl,
        other => return number_on_x86(other),
    }))
}

#[cfg(target_arch = "x86_64")]
fn number_on_x86(name: &str) -> Option<Option<i64>> {
    Some(Some(match name {
        "iopl" => libc::SYS_iopl,
        "ioperm" => libc::SYS_ioperm,
        "modify_ldt" => libc::SYS_modify_ldt,
        "uselib" => libc::SYS_uselib,
        "ustat" => libc::SYS_ustat,
        "sysfs" => libc::SYS_sysfs,
        "_sysctl" => libc::SYS__sysctl,
        _ => return None,
    }))
}

#[cfg(not(target_arch = "x86_64"))]
fn number_on_x86(name: &str) -> Option<Option<i64>> {
    const ABSENT: &[&str] = &["iopl", "ioperm", "modify_ldt", "uselib", "ustat", "sysfs", "_sysctl"];
    ABSENT.contains(&name).then_some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_the_plan_denies_has_a_number_and_the_filter_compiles() {
        for denied in DENIED {
            for call in denied.calls {
                assert!(number(call).is_some(), "{call}");
            }
        }
        let filter = Filter::compile(Rung::Root).expect("the plan's filter compiles");
        assert_eq!(filter.digest().len(), 64);
        assert_eq!(number("read"), None, "control: a call that the plan does not name is unknown");
    }
}
