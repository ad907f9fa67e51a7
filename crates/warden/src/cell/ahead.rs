//! What every cell has, made before anybody knows whose cell it will be: half of what a cell is built of.
//!
//! The waiting process has left the host's mounts, so that it holds none of them, and goes back among them for a moment to open what its permit names: a dataset is
//! what the host has there then ([0055](../../../../docs/decisions/0055-half-of-a-root-waits-with-its-process.md)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, open, statat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sulku_plan::filesystem::{Mount, common};

use super::Step;
use super::files::{Means, Root, leave_others_mounts};

/// Which file something is, and since when it is as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    file: (u64, u64),
    changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(found: &Stat) -> Self {
        #[allow(clippy::useless_conversion, reason = "the kernel's types differ between architectures")]
        Self {
            file: (found.st_dev.into(), found.st_ino.into()),
            changed: (found.st_ctime.into(), i64::try_from(found.st_ctime_nsec).unwrap_or_default()),
        }
    }

    fn at(path: &str) -> Option<Self> {
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|found| Self::of(&found))
    }
}

/// A root with what every cell has that leaves the host's system.
pub(super) struct Ahead {
    root: Root,
    /// What it has, and which of the host's files that was.
    made: Vec<(Mount, Option<Identity>)>,
    /// The mounts of which it is the root.
    own: OwnedFd,
    /// The mounts that it was made from.
    host: OwnedFd,
    /// The root of those.
    host_root: (u64, u64),
}

impl Ahead {
    /// Makes it, and makes it this process's root.
    pub(super) fn make(means: Means) -> Result<Self, Step> {
        let mounts = || Step::at("hold the mounts", open("/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()));
        let host_root = root_now()?;
        let host = mounts()?;
        leave_others_mounts()?;
        let own = mounts()?;
        let common = common();
        let sources = common.iter().map(|mount| means.source(mount)).collect::<Result<Vec<_>, _>>()?;
        let mut root = Root::begin(common.first())?;
        let mut made = Vec::with_capacity(common.len());
        for (number, (mount, (source, identity))) in common.into_iter().zip(sources).enumerate() {
            if number > 0 {
                root.place(means, &mount, source)?;
            }
            made.push((mount, identity));
        }
        root.enter()?;
        Ok(Self { root, made, own, host, host_root })
    }

    /// Goes back among the host's mounts.
    pub(super) fn look_at_host(&self) -> Result<(), Step> {
        join(&self.host)?;
        match root_now()? == self.host_root {
            true => Ok(()),
            // A warden in a changed root: its paths would mean other files from here.
            false => Err(Step::new("find the warden's root; start it without chroot", std::io::ErrorKind::NotFound.into())),
        }
    }

    /// Whether a cell of these mounts has all that was made, and the host still has it so. The host must be in sight.
    pub(super) fn fits(&self, mounts: &[Mount]) -> bool {
        self.made.iter().all(|(mount, identity)| {
            let is_as_it_was = match mount {
                Mount::Host { path } => Identity::at(path) == *identity,
                _ => true,
            };
            is_as_it_was && mounts.contains(mount)
        })
    }

    /// Whether it was made.
    pub(super) fn has(&self, mount: &Mount) -> bool {
        self.made.iter().any(|(made, _)| made == mount)
    }

    /// Leaves the host's mounts again, for good.
    pub(super) fn enter(self) -> Result<Root, Step> {
        join(&self.own)?;
        Ok(self.root)
    }
}

fn join(mounts: &OwnedFd) -> Result<(), Step> {
    Step::at("enter the mounts", move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount)))
}

fn root_now() -> Result<(u64, u64), Step> {
    Step::at("look at the root", statat(CWD, "/", AtFlags::empty())).map(|found| Identity::of(&found).file)
}
