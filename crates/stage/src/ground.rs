//! What a stage stands on: this machine, as root; or namespaces of an ordinary user's own, where she is root and the machine is out of reach.
//!
//! There the stage keeps its powers to itself. The programs that it starts have none, as on any machine that is not theirs, and
//! stand where the stage's hosts can be reached.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, configure_capability_in_ambient_set, set_capabilities};

use crate::command::tool;
use crate::error::StageError;

/// What the programs of the stage that arrange the network need, and the controls of what is refused inside.
const POWERS: [CapabilitySet; 3] = [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW, CapabilitySet::SYS_ADMIN];
/// Whom the stage's hosts see: the far end of everything.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 1);
/// A process leaves for its own namespaces once.
static LEFT: AtomicBool = AtomicBool::new(false);

/// What a stage stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The machine: each daemon has a user of its own, the warden is root.
    Machine,
    /// Namespaces of this user's own: all daemons are this user.
    Own {
        /// The user.
        uid: u32,
        /// The user's group.
        gid: u32,
    },
}

impl Ground {
    /// What this user has. Who is not root leaves for namespaces of her own, for which this process must have one thread.
    ///
    /// # Errors
    /// They are not to be had.
    pub(crate) fn take() -> Result<Self, StageError> {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if uid.is_root() {
            return Ok(Self::Machine);
        }
        let own = Self::Own { uid: uid.as_raw(), gid: gid.as_raw() };
        if LEFT.swap(true, Ordering::Relaxed) {
            return Ok(own);
        }
        leave(UnshareFlags::NEWUSER)?;
        let map = |name: &str, text: &str| fs::write(format!("/proc/self/{name}"), text).map_err(StageError::NoNamespaces);
        map("setgroups", "deny")?;
        map("uid_map", &format!("{0} {0} 1\n", uid.as_raw()))?;
        map("gid_map", &format!("{0} {0} 1\n", gid.as_raw()))?;
        leave(UnshareFlags::NEWNET)?;
        own.with_powers(|| {
            tool("ip", "iproute2", &["link", "set", "lo", "up"])?;
            tool("ip", "iproute2", &["address", "add", &format!("{NEAR}/32"), "dev", "lo"])
        })?;
        Ok(own)
    }

    /// Lets an address be one of this ground's own, whose visitors come from elsewhere.
    pub(crate) fn host(self, address: Ipv4Addr) -> Result<(), StageError> {
        let route = ["route", "add", "local", &format!("{address}/32"), "dev", "lo", "src", &NEAR.to_string(), "table", "local"].map(str::to_owned);
        self.with_powers(|| tool("ip", "iproute2", &route.each_ref().map(String::as_str))).map(drop)
    }

    /// Lets the programs that are started meanwhile have the stage's powers over its own namespaces. Root's have theirs anyway.
    pub(crate) fn with_powers<T>(self, run: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
        if self == Self::Machine {
            return run();
        }
        let refused = |source: rustix::io::Errno| StageError::System { what: "handing powers on", source: source.into() };
        let held = capabilities(None).map_err(refused)?;
        let inheritable = POWERS.into_iter().collect();
        set_capabilities(None, rustix::thread::CapabilitySets { inheritable, ..held }).map_err(refused)?;
        let set = |given| POWERS.iter().try_for_each(|power| configure_capability_in_ambient_set(*power, given)).map_err(refused);
        set(true)?;
        let result = run();
        set(false)?;
        set_capabilities(None, held).map_err(refused)?;
        result
    }

    /// Whether this is the machine itself.
    #[must_use]
    pub fn is_machine(self) -> bool {
        self == Self::Machine
    }
}

fn leave(flags: UnshareFlags) -> Result<(), StageError> {
    #[expect(deprecated, reason = "the safe form is enough: it never splits the descriptors of threads")]
    rustix::thread::unshare(flags).map_err(|source| StageError::NoNamespaces(source.into()))
}
