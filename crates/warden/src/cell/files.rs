//! A cell's file system, made in the cell's own mount namespace, seen by nobody else.
//!
//! Sources are opened before anything is hidden and carried over as descriptors; no path inside a workspace is ever followed.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};
use rustix::thread::UnshareFlags;
use sulku_plan::filesystem::{Mount, Programmes, WORKSPACE};

use super::Step;
use super::ahead::{Ahead, Identity};
use super::blueprint::Blueprint;
use super::walls::Rules;
use crate::layers::{Layer, Layers};
use crate::sys::{self, Extent};

/// Where the new root hangs until it is the root; any folder that every host has.
const STAGE: &str = "/tmp";
/// Files and folders that a cell's memory file systems may hold: each takes kernel memory beside its bytes.
const INODES_MAX: &str = "1048576";

/// Where a cell's devices come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Devices {
    /// They are made, which the host's root alone may.
    Made,
    /// The host's own are shown.
    OfTheHost,
}

/// Something of the host that the cell shows.
pub(super) enum Source {
    /// A mount of its own, not attached anywhere yet.
    Tree(OwnedFd, FileType),
    /// A symlink's target.
    Link(CString),
    /// The host does not have it.
    Absent,
}

/// How what every cell has is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    /// Where devices come from.
    pub devices: Devices,
    /// The layers that hold the cell.
    pub layers: Layers,
}

/// What a cell's file system is made from.
pub(super) struct Build<'a> {
    /// What it is to be, and for whom.
    pub blueprint: &'a Blueprint,
    /// A detached mount of the workspace's folder.
    pub workspace: &'a OwnedFd,
    /// A detached mount of its system, where that is an image.
    pub image: Option<&'a OwnedFd>,
    /// The user namespace that knows the workspace's owner alone, where the rung can make mounts show owners so.
    pub owners: Option<&'a OwnedFd>,
    /// How what every cell has is made.
    pub means: Means,
}

/// A root in the making.
pub(super) struct Root {
    folder: OwnedFd,
    /// What is to be read-only once all is in place.
    later_read_only: Vec<OwnedFd>,
}

impl Root {
    /// An empty one, staged in a mount namespace that is this process's own already.
    pub(super) fn begin(first: Option<&Mount>) -> Result<Self, Step> {
        let Some(Mount::Memory { path, bytes, .. }) = first.filter(|mount| matches!(mount, Mount::Memory { path, .. } if path == "/")) else {
            return Err(Step::new("begin with a root", io::ErrorKind::InvalidInput.into()));
        };
        let folder = Step::at(format!("make {path}"), memory(*bytes, MountAttrFlags::MOUNT_ATTR_NOSUID))?;
        Step::at("stage the root", move_mount(&folder, "", CWD, STAGE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))?;
        let later_read_only = vec![Step::at("hold the root", folder.try_clone())?];
        Ok(Self { folder, later_read_only })
    }

    /// Puts a mount in its place that is not of one permit or workspace alone.
    pub(super) fn place(&mut self, means: Means, mount: &Mount, source: Source) -> Result<(), Step> {
        self.later_read_only.extend(Step::at(name(mount), means.place(self.folder.as_fd(), mount, source))?);
        Ok(())
    }

    /// Makes it this process's root, and lets the host's files go.
    pub(super) fn enter(&self) -> Result<(), Step> {
        Step::at("enter the root", fchdir(&self.folder))?;
        Step::at("change the root", pivot_root(".", "."))?;
        Step::at("let the host's files go", unmount(".", UnmountFlags::DETACH))?;
        Step::at("stand at the root", rustix::process::chdir("/"))
    }

    /// All is in place.
    fn finish(self) -> Result<(), Step> {
        self.later_read_only.into_iter().try_for_each(|mount| {
            Step::at("make the root read-only", sys::mount_setattr(mount.as_fd(), Extent::Alone, libc::MOUNT_ATTR_RDONLY, None))
        })
    }
}

/// Leaves the mounts of others: from now on nobody's changes show here, nor this process's there.
pub(super) fn leave_others_mounts() -> Result<(), Step> {
    Step::at("make a mount namespace", sys::unshare(UnshareFlags::NEWNS))?;
    Step::at("make mounts private", mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
}

impl Build<'_> {
    /// Makes the plan's file system and makes it this process's root; what was made ahead is used if it is what the plan says, and then what Landlock
    /// leaves open of it is returned.
    pub(super) fn run(&self, ahead: Option<Ahead>) -> Result<Option<Rules>, Step> {
        match ahead.filter(|ahead| self.blueprint.has_common() && ahead.is_as_the_host()) {
            Some(ahead) => {
                let mounts = self.blueprint.own_mounts();
                let sources = mounts.iter().map(|mount| self.source(mount)).collect::<Result<Vec<_>, _>>()?;
                let (mut root, rules) = ahead.enter()?;
                mounts.iter().zip(sources).try_for_each(|(mount, source)| self.place(&mut root, mount, source))?;
                root.finish()?;
                Ok(rules)
            }
            None => self.run_anew().map(|()| None),
        }
    }

    fn run_anew(&self) -> Result<(), Step> {
        leave_others_mounts()?;
        let mounts = self.blueprint.all_mounts();
        let mut sources = mounts.iter().map(|mount| self.source(mount)).collect::<Result<Vec<_>, _>>()?;
        self.add_image(&mounts, &mut sources)?;
        let bare = if self.means.layers.has(Layer::Files) { None } else { Some(Step::at("show the host's files", whole_host())?) };
        let mut root = Root::begin(mounts.first().copied())?;
        mounts.into_iter().zip(sources).skip(1).try_for_each(|(mount, source)| self.place(&mut root, mount, source))?;
        if let Some(host) = bare {
            Step::at("show the host's files", attach(root.folder.as_fd(), "/host".as_ref(), &host, FileType::Directory))?;
            root.later_read_only.clear();
        }
        root.enter()?;
        root.finish()
    }

    /// What of the host the cell shows there, before the host is out of sight.
    fn source(&self, mount: &Mount) -> Result<Source, Step> {
        let Mount::Dataset { source: path, .. } = mount else { return self.means.source(mount).map(|(source, _)| source) };
        // The one folder that the permit names, without what is mounted below it.
        let tree = Step::at(name(mount), open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC))?;
        let layers = self.means.layers;
        let read_only = if layers.has(Layer::Files) { libc::MOUNT_ATTR_RDONLY } else { 0 };
        let attributes = read_only | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        let owners = self.owners.filter(|_| layers.has(Layer::Owners));
        let set = match sys::mount_setattr(tree.as_fd(), Extent::Alone, attributes, owners.map(AsFd::as_fd)) {
            // Data may lie on a network's file system, which knows no id-mapped mounts.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sys::mount_setattr(tree.as_fd(), Extent::Alone, attributes, None),
            set => set,
        };
        Step::at(name(mount), set)?;
        Ok(Source::Tree(tree, FileType::Directory))
    }

    /// What the image has. Only what is attached can be cloned, so it hangs where the root will hide it, and goes with the host's files: after all that
    /// is the host's has been opened, which it may hide, too.
    fn add_image(&self, mounts: &[&Mount], sources: &mut [Source]) -> Result<(), Step> {
        let Some(image) = self.image else { return Ok(()) };
        Step::at("hold the image", move_mount(image, "", CWD, STAGE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH))?;
        for (mount, source) in mounts.iter().zip(sources) {
            if let Mount::Image { path } = mount {
                *source = of_image(image, mount, Path::new(path.as_ref()))?;
            }
        }
        Ok(())
    }

    /// Puts one mount in its place.
    fn place(&self, root: &mut Root, mount: &Mount, source: Source) -> Result<(), Step> {
        let folder = root.folder.as_fd();
        let placed = match (mount, source) {
            (Mount::Dataset { path, .. }, Source::Tree(tree, kind)) => attach(folder, path, &tree, kind),
            (Mount::Made { path, text }, _) => make_file(folder, Path::new(path.as_ref()), &Mount::text_for(text, self.blueprint.person())),
            (Mount::Workspace { .. }, _) => attach(folder, WORKSPACE.as_ref(), self.workspace, FileType::Directory),
            (Mount::Terminals, _) => self.make_terminals(folder),
            (_, source) => return root.place(self.means, mount, source),
        };
        Step::at(name(mount), placed)
    }

    fn make_terminals(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        let owner = self.blueprint.uid.to_string();
        let options = [("uid", owner.as_str()), ("gid", &owner), ("mode", "0620"), ("ptmxmode", "0666")];
        let tree = filesystem("devpts", &options, MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
        attach(root, "/dev/pts".as_ref(), &tree, FileType::Directory)
    }
}

impl Means {
    /// What of the host a mount that every cell has shows, and which file that is.
    pub(super) fn source(self, mount: &Mount) -> Result<(Source, Option<Identity>), Step> {
        let path = match mount {
            Mount::Host { path } => path.as_ref(),
            Mount::Device { path, number } if self.devices == Devices::OfTheHost => return Ok((device(mount, path.as_ref(), *number)?, None)),
            _ => return Ok((Source::Absent, None)),
        };
        let found = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok((Source::Absent, None)),
            found => Step::at(name(mount), found)?,
        };
        let (kind, identity) = (FileType::from_raw_mode(found.st_mode), Identity::of(&found));
        if kind.is_symlink() {
            return Ok((Source::Link(Step::at(name(mount), readlinkat(CWD, path, Vec::new()))?), Some(identity)));
        }
        // What the host has mounted below is its system, too; and below the rung root the kernel clones no mount without what hides in it.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let tree = Step::at(name(mount), open_tree(CWD, path, flags))?;
        let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        Step::at(name(mount), sys::mount_setattr(tree.as_fd(), Extent::AllBelow, attributes, None))?;
        Ok((Source::Tree(tree, kind), Some(identity)))
    }

    /// Puts a mount that every cell has in its place; returns it if it is to be read-only once all is in place.
    fn place(self, root: BorrowedFd<'_>, mount: &Mount, source: Source) -> io::Result<Option<OwnedFd>> {
        let nothing_special = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        match mount {
            Mount::Memory { path, bytes, programmes } => {
                let is_devices = path == "/dev";
                let mut attributes = if is_devices { MountAttrFlags::MOUNT_ATTR_NOSUID } else { nothing_special };
                if *programmes == Programmes::Refused {
                    attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC;
                }
                let bytes = if self.layers.has(Layer::Limits) { *bytes } else { 1 << 40 };
                let tree = memory(bytes, attributes)?;
                attach(root, Path::new(path.as_ref()), &tree, FileType::Directory)?;
                if is_devices {
                    return Ok(Some(tree));
                }
                rustix::fs::fchmod(&openat(&tree, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?, Mode::from_raw_mode(0o1777))?;
            }
            Mount::Host { path } | Mount::Image { path } => match source {
                Source::Tree(tree, kind) => attach(root, Path::new(path.as_ref()), &tree, kind)?,
                Source::Link(target) => {
                    parents(root, Path::new(path.as_ref()))?;
                    symlinkat(&*target, root, inside(Path::new(path.as_ref())))?;
                }
                Source::Absent => {}
            },
            Mount::Processes => {
                let own = [("hidepid", "invisible"), ("subset", "pid")];
                let options = if self.layers.has(Layer::Processes) { &own[..] } else { &[] };
                let tree = filesystem("proc", options, nothing_special | MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
                attach(root, "/proc".as_ref(), &tree, FileType::Directory)?;
            }
            Mount::Device { path, number: (major, minor) } => match source {
                Source::Tree(tree, kind) => attach(root, Path::new(path.as_ref()), &tree, kind)?,
                _ => {
                    let device = rustix::fs::makedev(*major, *minor);
                    mknodat(root, inside(Path::new(path.as_ref())), FileType::CharacterDevice, Mode::from_raw_mode(0o666), device)?;
                }
            },
            Mount::Link { path, target } => symlinkat(target.as_ref(), root, inside(Path::new(path.as_ref())))?,
            // A permit's own, which are placed by those who know the permit.
            Mount::Made { .. } | Mount::Dataset { .. } | Mount::Workspace { .. } | Mount::Terminals => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(None)
    }
}

/// Something of the image. What its symlinks lead to lies in it.
fn of_image(image: &OwnedFd, mount: &Mount, path: &Path) -> Result<Source, Step> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = match openat2(image, inside(path), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Source::Absent),
        found => Step::at(name(mount), found)?,
    };
    let kind = FileType::from_raw_mode(Step::at(name(mount), fstat(&found))?.st_mode);
    if kind.is_symlink() {
        return Ok(Source::Link(Step::at(name(mount), readlinkat(&found, "", Vec::new()))?));
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = Step::at(name(mount), open_tree(&found, "", flags))?;
    let attributes = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    Step::at(name(mount), sys::mount_setattr(tree.as_fd(), Extent::Alone, attributes, None))?;
    Ok(Source::Tree(tree, kind))
}

/// The host's own device, if it is the one that the plan means.
fn device(mount: &Mount, path: &str, (major, minor): (u32, u32)) -> Result<Source, Step> {
    let tree = Step::at(name(mount), open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC))?;
    let found = Step::at(name(mount), rustix::fs::fstat(&tree))?;
    let kind = FileType::from_raw_mode(found.st_mode);
    if kind != FileType::CharacterDevice || found.st_rdev != rustix::fs::makedev(major, minor) {
        return Err(Step::new(name(mount), io::Error::other("the host has something else there")));
    }
    Step::at(name(mount), sys::mount_setattr(tree.as_fd(), Extent::Alone, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, None))?;
    Ok(Source::Tree(tree, kind))
}

fn name(mount: &Mount) -> String {
    match mount {
        Mount::Memory { path, .. }
        | Mount::Host { path }
        | Mount::Image { path }
        | Mount::Made { path, .. }
        | Mount::Device { path, .. }
        | Mount::Link { path, .. } => {
            format!("make {path}")
        }
        Mount::Dataset { source, .. } => format!("mount the dataset {}", source.display()),
        Mount::Workspace { .. } => "mount the workspace".to_owned(),
        Mount::Processes => "make /proc".to_owned(),
        Mount::Terminals => "make /dev/pts".to_owned(),
    }
}

/// The host's files as they are, for a cell that is to lack what hides them.
fn whole_host() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, "/", flags)?)
}

fn memory(bytes: u64, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    filesystem("tmpfs", &[("size", &bytes.to_string()), ("nr_inodes", INODES_MAX), ("mode", "0755")], attributes)
}

fn filesystem(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        fsconfig_set_string(context.as_fd(), *key, *value)?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn make_file(root: BorrowedFd<'_>, path: &Path, text: &str) -> io::Result<()> {
    parents(root, path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(root, inside(path), flags, Mode::from_raw_mode(0o644))?;
    io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())
}

fn attach(root: BorrowedFd<'_>, path: &Path, tree: &OwnedFd, kind: FileType) -> io::Result<()> {
    parents(root, path)?;
    if kind.is_dir() {
        make_folder(root, inside(path))?;
    } else {
        openat(root, inside(path), OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::from_raw_mode(0o444))?;
    }
    Ok(move_mount(tree, "", root, inside(path), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn parents(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let mut ancestors: Vec<_> = inside(path).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    ancestors.reverse();
    ancestors.into_iter().try_for_each(|folder| make_folder(root, folder))
}

fn make_folder(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    match mkdirat(root, path, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => Ok(()),
        other => Ok(other?),
    }
}

/// The path as seen from the new root.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}
