//! What every cell has, made before anybody knows whose cell it will be: half of what a cell is built of.
//!
//! The waiting process has left the host's mounts, so that it holds none of them, and goes back among them for a moment to open what its permit names: a dataset is
//! what the host has there then ([0055](../../../../docs/decisions/0055-half-of-a-root-waits-with-its-process.md)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, open, statat};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sulku_plan::filesystem::Mount;

use super::Step;
use super::blueprint::COMMON;
use super::files::{Means, Root, leave_others_mounts};
use super::walls::Rules;
use crate::layers::Layer;

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

/// A root with what every cell has that leaves the host's system, and what Landlock leaves open of it.
pub(super) struct Ahead {
    root: Root,
    /// Which of the host's files it shows, and which they were.
    shown: Vec<(&'static str, Option<Identity>)>,
    rules: Option<Rules>,
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
        let sources = COMMON.mounts.iter().map(|mount| means.source(mount)).collect::<Result<Vec<_>, _>>()?;
        let mut root = Root::begin(COMMON.mounts.first())?;
        let mut shown = Vec::new();
        for (mount, (source, identity)) in COMMON.mounts.iter().zip(sources).skip(1) {
            root.place(means, mount, source)?;
            if let Mount::Host { path } = mount {
                shown.push((path.as_ref(), identity));
            }
        }
        root.enter()?;
        let rules = means.layers.has(Layer::Landlock).then(|| Rules::begin()?.leave_open(&COMMON.landlock));
        let rules = Step::at("prepare Landlock", rules.transpose())?;
        Ok(Self { root, shown, rules, own, host, host_root })
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

    /// Whether the host still has all of it as it was. The host must be in sight.
    pub(super) fn is_as_the_host(&self) -> bool {
        self.shown.iter().all(|(path, identity)| Identity::at(path) == *identity)
    }

    /// Leaves the host's mounts again, for good.
    pub(super) fn enter(self) -> Result<(Root, Option<Rules>), Step> {
        join(&self.own)?;
        Ok((self.root, self.rules))
    }
}

fn join(mounts: &OwnedFd) -> Result<(), Step> {
    Step::at("enter the mounts", move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount)))
}

fn root_now() -> Result<(u64, u64), Step> {
    Step::at("look at the root", statat(CWD, "/", AtFlags::empty())).map(|found| Identity::of(&found).file)
}
