//! The courier's own walls: a user of its own, no new privileges, and Landlock around what it needs.
//!
//! It reads what names are looked up with and its certificates, writes in its folder and those of its file sinks, and connects by TCP
//! to the ports of its receivers and witnesses alone. UDP, which Landlock does not know, is left: names are looked up with it.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};

use crate::config::Settings;

/// What the C library reads to find a host by its name.
const NAME_LOOK_UP: &[&str] = &[
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/lib",
    "/usr/lib",
];
/// DNS over TCP, for answers that do not fit a datagram.
const DNS_PORT: u16 = 53;

/// Confinement that could not be put in force. The courier does not start without it.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// Landlock could not be enforced.
    #[error("Landlock ABI 6 is not to be had; use a kernel of 6.12 or later with Landlock on")]
    Landlock(#[from] RulesetError),
    /// Landlock was enforced in part.
    #[error("Landlock is enforced in part only; use a kernel of 6.12 or later with Landlock on")]
    Partial,
    /// A folder that has to be written is not there.
    #[error("{0} can't be opened for the courier's own sandbox; make the folder first, for the courier's user")]
    Path(PathBuf, #[source] landlock::PathFdError),
}

/// Puts Landlock on this thread and all that it will start.
pub(crate) fn confine(settings: &Settings) -> Result<(), ConfineError> {
    let abi = ABI::V6;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = reading | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate | AccessFs::Refer;
    for path in NAME_LOOK_UP.iter().map(Path::new).filter(|path| path.exists()) {
        ruleset = ruleset.add_rule(beneath(path, reading)?)?;
    }
    for folder in std::iter::once(settings.state.as_path()).chain(settings.files.iter().filter_map(|sink| sink.path.parent())) {
        ruleset = ruleset.add_rule(beneath(folder, writing)?)?;
    }
    let ports = settings.syslogs.iter().filter_map(|sink| sink.address.rsplit_once(':')?.1.parse().ok());
    // An address is written with its port always.
    let of_witness = |address: &str| address.split_once("://")?.1.split('/').next()?.rsplit_once(':')?.1.parse().ok();
    let ports = ports.chain(settings.witnesses.iter().filter_map(|witness| of_witness(&witness.url.to_string())));
    for port in ports.chain([DNS_PORT]) {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    if ruleset.restrict_self()?.ruleset == RulesetStatus::FullyEnforced { Ok(()) } else { Err(ConfineError::Partial) }
}

fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, ConfineError> {
    let fd = PathFd::new(path).map_err(|source| ConfineError::Path(path.to_owned(), source))?;
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(ABI::V6) };
    Ok(PathBeneath::new(fd, access))
}
