//! What the host must have for a rung of isolation, looked at one by one, each with what to install or enable.
//!
//! It changes nothing and needs no configuration.

use std::path::Path;

use serde::Serialize;
use sulku_permit::Rung;

use crate::cell::{Filter, LANDLOCK_ABI_MIN};
use crate::cgroup::Hierarchy;
use crate::network::NFT;
use crate::workspace::disk::tool;
use crate::{rung, sys};

/// One thing looked at.
#[derive(Debug, Serialize)]
pub struct Check {
    /// What.
    pub what: &'static str,
    /// What was found, if it is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// What is missing and what to do about it, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What is missing of what some permits ask for: those alone open no session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacking: Option<String>,
}

impl Check {
    fn new(what: &'static str, result: Result<String, String>) -> Self {
        let (found, missing) = match result {
            Ok(found) => (Some(found), None),
            Err(missing) => (None, Some(missing)),
        };
        Self { what, found, missing, lacking: None }
    }

    /// Of something that only some permits ask for.
    fn of_some(what: &'static str, result: Result<String, String>) -> Self {
        let Self { what, found, missing, lacking: _ } = Self::new(what, result);
        Self { what, found, missing: None, lacking: missing }
    }
}

/// The kernel's release.
#[must_use]
pub fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Looks at the rung that a warden of this user would stand on. This process, which has one thread, is in the rung's namespaces afterwards.
#[must_use]
pub fn of_this_user() -> (Rung, Vec<Check>) {
    if rustix::process::geteuid().is_root() {
        return (Rung::Root, examine(Rung::Root));
    }
    match rung::user_namespace() {
        Ok(()) => below_root(),
        Err(error) => (Rung::Rootless, vec![Check::new("user namespace", Err(rung::why_not(&error)))]),
    }
}

/// Looks, from within its namespaces, which rung below root this is: one that lacks nothing but a network is `no-network`.
#[must_use]
pub fn below_root() -> (Rung, Vec<Check>) {
    let is_missing = |checks: &[Check]| checks.iter().any(|check| check.missing.is_some());
    let checks = examine(Rung::Rootless);
    if !is_missing(&checks) {
        return (Rung::Rootless, checks);
    }
    let without = examine(Rung::NoNetwork);
    if is_missing(&without) { (Rung::Rootless, checks) } else { (Rung::NoNetwork, without) }
}

/// Looks at everything that a rung takes, from where the warden stands on it: as root, or in the rung's namespaces.
#[must_use]
pub fn examine(rung: Rung) -> Vec<Check> {
    let root = match rung {
        Rung::Root => Check::new("root", root()),
        Rung::Rootless | Rung::NoNetwork => Check::new("user namespace", root().map(|_| "in which this user is root".to_owned())),
    };
    let mut checks = vec![
        root,
        Check::new("kernel", version()),
        Check::new("landlock", landlock()),
        Check::new("seccomp", seccomp(rung)),
        Check::new("namespaces", namespaces()),
        Check::new(
            "control groups",
            Hierarchy::of(rung)
                .map(|found| found.describe())
                .map_err(|missing| format!("no control group has {}; boot with cgroup v2, or mount the v1 controllers", missing.join(", "))),
        ),
        Check::new("terminals", filesystem("devpts", "enable CONFIG_UNIX98_PTYS in the kernel")),
        Check::new("memory file systems", filesystem("tmpfs", "enable CONFIG_TMPFS in the kernel")),
    ];
    let needs_network = if rung == Rung::NoNetwork { Check::of_some } else { Check::new };
    checks.extend([needs_network("nft", nft()), needs_network("packet log", packet_log())]);
    if rung == Rung::Root {
        checks.push(Check::new("file events", file_events()));
        checks.push(Check::new("ends of programmes", Ok(ends_of_programmes())));
        checks.push(Check::of_some("workspaces' disks", disks()));
        checks.push(Check::of_some("images", images()));
        checks.push(Check::new("denials by Landlock", Ok(denials_by_landlock())));
    }
    checks
}

fn root() -> Result<String, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("the warden builds namespaces; run it as root".to_owned());
    }
    let held = rustix::thread::capabilities(None).map_err(|error| error.to_string())?.effective;
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SYS_ADMIN
        | CapabilitySet::NET_ADMIN
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::MKNOD
        | CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::KILL
        | CapabilitySet::SETPCAP;
    if held.contains(needed) {
        Ok("with the capabilities it needs".to_owned())
    } else {
        Err(format!("capabilities are missing: {:?}", needed - held))
    }
}

fn version() -> Result<String, String> {
    let release = kernel();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found >= (6, 12) { Ok(release) } else { Err(format!("kernel {release} is too old; install Linux 6.12 or newer")) }
}

fn landlock() -> Result<String, String> {
    match sys::landlock_abi() {
        abi if abi >= LANDLOCK_ABI_MIN => Ok(format!("ABI {abi}")),
        0 => Err("Landlock is off; enable CONFIG_SECURITY_LANDLOCK and boot with lsm=landlock,…".to_owned()),
        abi => Err(format!("Landlock has ABI {abi}, cells need {LANDLOCK_ABI_MIN}; install Linux 6.12 or newer")),
    }
}

fn seccomp(rung: Rung) -> Result<String, String> {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if !actions.contains("errno") || !actions.contains("kill_process") {
        return Err("seccomp filters are off; enable CONFIG_SECCOMP_FILTER in the kernel".to_owned());
    }
    Filter::compile(rung).map(|filter| format!("filter {}", filter.digest())).map_err(|error| crate::chain(&error))
}

fn namespaces() -> Result<String, String> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let absent: Vec<_> = kinds.into_iter().filter(|kind| !Path::new("/proc/self/ns").join(kind).exists()).collect();
    if !absent.is_empty() {
        return Err(format!("the kernel has no namespaces of kind {}; enable CONFIG_NAMESPACES and all below it", absent.join(", ")));
    }
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    if most.trim() == "0" { Err("user namespaces are off; sysctl user.max_user_namespaces=65536".to_owned()) } else { Ok(kinds.join(", ")) }
}

fn filesystem(kind: &str, advice: &str) -> Result<String, String> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.split_whitespace().last() == Some(kind)) { Ok(kind.to_owned()) } else { Err(advice.to_owned()) }
}

fn nft() -> Result<String, String> {
    let output = std::process::Command::new(NFT).arg("--version").env_clear().output();
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        _ => Err(format!("{NFT} does not run; install the package nftables")),
    }
}

fn file_events() -> Result<String, String> {
    sys::fanotify().map(|_| "fanotify, answered".to_owned()).map_err(|error| {
        format!("the kernel does not ask before files are opened ({error}); enable CONFIG_FANOTIFY_ACCESS_PERMISSIONS, or raise fs.fanotify.max_user_groups")
    })
}

/// Whatever it finds is enough: without it entries say less.
fn ends_of_programmes() -> String {
    match crate::seen::is_told() {
        Ok(()) => "the kernel tells how".to_owned(),
        Err(_) => "the kernel does not tell how; no entry says so until Linux 6.15 is installed".to_owned(),
    }
}

fn disks() -> Result<String, String> {
    let without = "; permits with `disk` open no session";
    filesystem("ext4", "enable CONFIG_EXT4_FS in the kernel").map_err(|advice| format!("{advice}{without}"))?;
    loop_devices(without)?;
    match tool::ALL.iter().find(|program| !Path::new(program).exists()) {
        Some(program) => Err(format!("{program} is absent; install the package e2fsprogs{without}")),
        None => Ok("ext4 on loop devices".to_owned()),
    }
}

/// A module may be loaded as the first image is mounted, so a file system that is not known yet is none that is missing.
fn images() -> Result<String, String> {
    loop_devices("; permits whose system is an image open no session")?;
    let known: Vec<_> = ["squashfs", "erofs"].into_iter().filter(|kind| filesystem(kind, "").is_ok()).collect();
    Ok(if known.is_empty() {
        "no file system of images is loaded; the first image loads squashfs or erofs if it is there".to_owned()
    } else {
        known.join(", ")
    })
}

fn loop_devices(without: &str) -> Result<(), String> {
    let are_there = Path::new("/dev/loop-control").exists();
    are_there.then_some(()).ok_or_else(|| format!("there are no loop devices; modprobe loop, or enable CONFIG_BLK_DEV_LOOP{without}"))
}

/// Whatever it finds is enough: without it entries say less.
fn denials_by_landlock() -> String {
    match crate::seen::Audit::open() {
        Ok(_) if sys::landlock_abi() >= 7 => "entries say which, while the host's audit is on (auditctl -e 1)".to_owned(),
        Ok(_) => "no entry says which until Linux 6.15 is installed".to_owned(),
        Err(error) => format!("no entry says which: the host's audit can't be heard ({error}); give the warden CAP_AUDIT_READ"),
    }
}

fn packet_log() -> Result<String, String> {
    let loaded = Path::new("/proc/net/netfilter/nfnetlink_log").exists();
    if loaded { Ok("NFLOG".to_owned()) } else { Err("NFLOG is absent; modprobe nfnetlink_log, or enable CONFIG_NETFILTER_NETLINK_LOG".to_owned()) }
}
