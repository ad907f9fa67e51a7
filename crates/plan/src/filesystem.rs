//! A cell's file system: what is mounted where, and what Landlock leaves open of it.
//!
//! The cell's root is empty memory. Of the host, or of the permit's image instead, it shows `/usr` and a few harmless entries of `/etc`, all read-only; the permit's
//! datasets, read-only; the workspace's folder; nothing else. Nothing here is host-specific: what the host lacks is left out by the
//! warden, and the plan stays the same text.

use std::borrow::Cow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sulku_permit::{HolderId, Image, ImageDigest, Permit, Programs, SharedName};

use crate::naming;

/// The user id that a cell's only user has inside.
pub const CELL_UID: u32 = 1000;
/// Where the workspace's folder is inside; also the holder's home.
pub const WORKSPACE: &str = "/workspace";
/// Where a cell looks for programmes.
pub const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Where an image has what did not come with its distribution.
const OPT: &str = "/opt";
/// Room for the files that the plan makes.
const ROOT_BYTES: u64 = 4 << 20;
/// Stands for the holder's id in a made file.
const PERSON: &str = "{person}";

/// A system that is not the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemImage {
    /// Its name.
    pub name: SharedName,
    /// What its file must be.
    pub digest: ImageDigest,
}

/// One step in making the file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// Empty memory.
    Memory {
        /// Where.
        path: Cow<'static, str>,
        /// Its most bytes; they count as the cell's memory.
        bytes: u64,
        /// Whether what is written there may be run.
        programmes: Programmes,
    },
    /// As the host has it, read-only: a symlink is copied, a folder or file is bound, what is absent is left out.
    Host {
        /// Where, on the host and in the cell.
        path: Cow<'static, str>,
    },
    /// As the image has it, read-only: a symlink is copied, a folder or file is bound, what is absent is left out.
    Image {
        /// Where, in the image and in the cell.
        path: Cow<'static, str>,
    },
    /// A read-only file made for the cell.
    Made {
        /// Where.
        path: Cow<'static, str>,
        /// What stands in it, with `{person}` for the holder's id.
        text: String,
    },
    /// The permit's data, read-only, no programmes.
    Dataset {
        /// The folder on the host.
        source: PathBuf,
        /// Where the cell sees it.
        path: PathBuf,
    },
    /// The workspace's own folder, which outlives the cell. What somebody else owns there can be read and not changed.
    Workspace {
        /// Whether what is kept there may be run.
        programmes: Programmes,
    },
    /// The cell's own processes; no other's are visible, and nothing of the kernel's.
    Processes,
    /// The cell's own terminals.
    Terminals,
    /// A character device that is harmless in anybody's hands.
    Device {
        /// Where.
        path: Cow<'static, str>,
        /// Its major and minor number.
        number: (u32, u32),
    },
    /// A symlink.
    Link {
        /// Where.
        path: Cow<'static, str>,
        /// To where.
        target: Cow<'static, str>,
    },
}

/// Whether unix sockets may be made in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sockets {
    /// They may: nobody but the cell sees the folder.
    Made,
    /// They may not: other cells see the folder, and would reach this one's processes.
    Refused,
}

/// Whether files may be run as programmes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Programmes {
    /// They may: package builds run what they have just made.
    Run,
    /// They may not.
    Refused,
}

/// What Landlock leaves open below a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRule {
    /// The path inside the cell.
    pub path: Cow<'static, str>,
    /// What may be done there.
    pub access: Access,
}

/// What may be done below a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Access {
    /// List folders.
    List,
    /// List folders, read files.
    Read,
    /// List folders, read files, run them.
    Run,
    /// All but making devices and controlling them.
    Write {
        /// Whether what is written there may be run.
        programmes: Programmes,
        /// Whether unix sockets may be made there.
        sockets: Sockets,
    },
    /// Read, write and control devices.
    Device,
}

impl Mount {
    /// The text of a made file for this person.
    #[must_use]
    pub fn text_for(text: &str, person: &HolderId) -> String {
        text.replace(PERSON, person.as_str())
    }
}

/// Where a system has its programmes and libraries.
const SYSTEM: &[&str] = &["/usr", "/bin", "/lib", "/lib64", "/sbin"];

/// Harmless entries of `/etc` that programmes expect: how to find libraries, the time zone, certificates of public authorities,
/// settings of languages.
const ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/bash_completion.d",
    "/etc/fonts",
    "/etc/inputrc",
    "/etc/java-17-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/protocols",
    "/etc/python3",
    "/etc/R",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/terminfo",
    "/etc/timezone",
];

/// Devices that are harmless in anybody's hands.
const DEVICES: &[(&str, (u32, u32))] =
    &[("/dev/null", (1, 3)), ("/dev/zero", (1, 5)), ("/dev/full", (1, 7)), ("/dev/random", (1, 8)), ("/dev/urandom", (1, 9)), ("/dev/tty", (5, 0))];

/// Names of devices that programmes know.
const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

const PASSWD: &str = "{person}:x:1000:1000::/workspace:/bin/bash\nnobody:x:65534:65534:outside the cell:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "{person}:x:1000:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nprotocols: files\nservices: files\n";
const NO_RESOLVER: &str = "# This cell has no resolver: reach destinations by the addresses that the permit lists.\n";
const PROFILE: &str = "\
# Made for this cell. ~/.bash_profile and ~/.bashrc are yours.
if [ \"${PS1-}\" ] && [ \"${BASH-}\" ]; then
  PS1='\\u@\\h:\\w\\$ '
  [ -r ~/.bashrc ] && [ ! -e ~/.bash_profile ] && . ~/.bashrc
fi
umask 027
";

/// Whether a cell of the permit runs what is written in it.
pub(crate) const fn programmes(permit: &Permit) -> Programmes {
    match permit.workspace.programs {
        Programs::Anywhere => Programmes::Run,
        Programs::ImageOnly => Programmes::Refused,
    }
}

/// The image that the permit's cells have as their system, instead of the host's programmes.
pub(crate) fn image(permit: &Permit) -> Option<SystemImage> {
    let Image { name, digest } = permit.workspace.image.as_ref()?;
    Some(SystemImage { name: name.clone(), digest: (*digest)? })
}

const fn memory(path: &'static str, bytes: u64, programmes: Programmes) -> Mount {
    Mount::Memory { path: Cow::Borrowed(path), bytes, programmes }
}

const fn root() -> Mount {
    memory("/", ROOT_BYTES, Programmes::Run)
}

/// The folders of a system, the host's or an image's.
fn system(of: fn(&'static str) -> Mount, more: Option<&'static str>) -> impl Iterator<Item = Mount> {
    SYSTEM.iter().copied().chain(more).chain(ETC.iter().copied()).map(of)
}

fn of_host(path: &'static str) -> Mount {
    Mount::Host { path: path.into() }
}

fn of_image(path: &'static str) -> Mount {
    Mount::Image { path: path.into() }
}

fn devices() -> impl Iterator<Item = Mount> {
    let device = |(path, number): (&'static str, _)| Mount::Device { path: path.into(), number };
    let link = |(path, target): (&'static str, &'static str)| Mount::Link { path: path.into(), target: target.into() };
    [memory("/dev", 64 << 10, Programmes::Refused)].into_iter().chain(DEVICES.iter().copied().map(device)).chain(LINKS.iter().copied().map(link))
}

/// What no permit changes, if it leaves the host's system: it can be made before anybody knows whose cell it will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// What the file system has, the root first.
    pub mounts: Vec<Mount>,
    /// What Landlock leaves open of that.
    pub landlock: Vec<LandlockRule>,
}

impl Common {
    /// Of every such plan.
    #[must_use]
    pub fn of_plans() -> Self {
        let mounts = [root()].into_iter().chain(system(of_host, None)).chain(devices()).chain([Mount::Processes]).collect();
        let landlock = SYSTEM_RULES.iter().chain(DEVICE_RULES).copied().map(rule).collect();
        Self { mounts, landlock }
    }
}

/// What Landlock leaves open of the system.
const SYSTEM_RULES: &[(&str, Access)] = &[
    ("/", Access::List),
    ("/usr", Access::Run),
    ("/bin", Access::Run),
    ("/lib", Access::Run),
    ("/lib64", Access::Run),
    ("/sbin", Access::Run),
    ("/etc", Access::Read),
    ("/proc", Access::Read),
];

/// What Landlock leaves open of the devices.
const DEVICE_RULES: &[(&str, Access)] = &[
    ("/dev/null", Access::Device),
    ("/dev/zero", Access::Device),
    ("/dev/full", Access::Device),
    ("/dev/random", Access::Device),
    ("/dev/urandom", Access::Device),
    ("/dev/tty", Access::Device),
];

fn rule((path, access): (&'static str, Access)) -> LandlockRule {
    LandlockRule { path: path.into(), access }
}

pub(crate) fn mounts(permit: &Permit) -> Vec<Mount> {
    let programmes = programmes(permit);
    let workspace = &permit.workspace.name;
    // Half of the cell's memory may be files, so that a full /tmp alone can't end the cell's processes.
    let half_bytes = permit.resources.memory_bytes / 2;
    let made = |path: &'static str, text: String| Mount::Made { path: path.into(), text };
    let mut mounts = vec![root()];
    match image(permit) {
        // The host's /opt may hold anything; an image's is part of the system that was signed.
        Some(_) => mounts.extend(system(of_image, Some(OPT))),
        None => mounts.extend(system(of_host, None)),
    }
    mounts.extend([
        made("/etc/passwd", PASSWD.to_owned()),
        made("/etc/group", GROUP.to_owned()),
        made("/etc/hosts", format!("127.0.0.1 localhost {workspace}\n")),
        made("/etc/hostname", format!("{workspace}\n")),
        made("/etc/nsswitch.conf", NSSWITCH.to_owned()),
        made("/etc/resolv.conf", if permit.lists_names() { format!("nameserver {}\n", naming::RESOLVER) } else { NO_RESOLVER.to_owned() }),
        made("/etc/profile", PROFILE.to_owned()),
    ]);
    mounts.extend(devices());
    mounts.extend([Mount::Terminals, memory("/dev/shm", half_bytes, Programmes::Refused), memory("/tmp", half_bytes, programmes), Mount::Processes]);
    mounts.extend(permit.datasets.iter().map(|data| Mount::Dataset { source: data.path.clone(), path: data.mounted_at.clone() }));
    mounts.push(Mount::Workspace { programmes });
    mounts
}

pub(crate) fn landlock(permit: &Permit) -> Vec<LandlockRule> {
    use Access::{Device, Read, Run, Write};
    let programmes = programmes(permit);
    let own = |programmes| Write { programmes, sockets: Sockets::Made };
    let rules = [
        ("/data", Read),
        (WORKSPACE, Write { programmes, sockets: Sockets::Refused }),
        ("/tmp", own(programmes)),
        ("/dev/shm", own(Programmes::Refused)),
        ("/dev/pts", Device),
    ];
    let image_only = image(permit).map(|_| (OPT, Run));
    SYSTEM_RULES.iter().copied().chain(image_only).chain(rules).chain(DEVICE_RULES.iter().copied()).map(rule).collect()
}
