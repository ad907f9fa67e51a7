//! The warden's side of building a cell: the folder, and what its process is told. What the process then says is answered by [`super::Cell`].

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, fchown, fstat, mkdirat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Gid, Uid};
use sulku_permit::WorkspaceName;
use sulku_plan::Plan;
use sulku_plan::filesystem::Programmes;

use super::blueprint::Blueprint;
use super::channel::tell_blueprint;
use super::seat::Process;
use super::{Site, Step};
use crate::config::{CELL_UIDS, Users};
use crate::layers::Layer;
use crate::sys::{self, Extent};

/// The folder of a workspace, and the user id on the host that it alone has.
#[derive(Debug)]
pub struct Folder {
    /// A mount of the folder, attached nowhere.
    pub mount: OwnedFd,
    /// Its owner.
    pub uid: u32,
    /// The user namespace that knows the owner alone; only root may show a mount's owners so.
    pub owners: Option<OwnedFd>,
}

/// Opens the workspace's folder, making it if this is its first session. Its owner is a user id that no other workspace has, where the
/// warden has more than its own.
fn place(workspaces: &Path, users: Users, name: &WorkspaceName) -> Result<(OwnedFd, u32), Step> {
    let parent = Step::at("open the workspaces' folder", open(workspaces, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()))?;
    let made = match mkdirat(&parent, name.as_str(), Mode::from_raw_mode(0o700)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(Step::new("make the workspace's folder", error.into())),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let folder = Step::at("open the workspace's folder", openat2(&parent, name.as_str(), flags, Mode::empty(), resolve))?;
    let uids = match users {
        Users::Each(base) => base..base + CELL_UIDS,
        Users::Own => 0..1,
    };
    let mut uid = Step::at("look at the workspace's folder", fstat(&folder))?.st_uid;
    // A folder of root's is one whose making was interrupted.
    if users != Users::Own && (made || uid == 0) {
        let taken = Step::at("look at the workspaces", ids_taken(workspaces))?;
        uid = uids.clone().find(|uid| !taken.contains(uid)).ok_or_else(|| Step::new("find a free user id", io::ErrorKind::StorageFull.into()))?;
        Step::at("give the folder to its workspace", fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))))?;
    }
    if !uids.contains(&uid) {
        let error = io::Error::other(format!("its owner {uid} is none of this warden's user ids; move the folder away"));
        return Err(Step::new("open the workspace's folder", error));
    }
    Ok((folder, uid))
}

/// The user id of a workspace, whose folder is made if it is not there.
///
/// # Errors
/// A step that failed.
pub fn workspace_uid(workspaces: &Path, users: Users, name: &WorkspaceName) -> Result<u32, Step> {
    place(workspaces, users, name).map(|(_, uid)| uid)
}

/// What a cell is given of its workspace: its disk if it has one, else its folder.
pub fn folder(site: &mut Site<'_>, plan: &Plan) -> Result<Folder, Step> {
    let (users, programmes) = (site.users, plan.programmes());
    let (folder, uid) = place(site.workspaces, users, plan.workspace())?;
    let mount = match site.disk.take() {
        Some(disk) => disk,
        None => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
            Step::at("hold the workspace's folder", open_tree(&folder, "", flags))?
        }
    };
    let owners = match users {
        Users::Each(_) => Some(site.owners.only(uid).and_then(|only| only.try_clone_to_owned())),
        Users::Own => None,
    };
    let owners = Step::at("make a user namespace of the workspace's owner", owners.transpose())?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | if programmes == Programmes::Refused { libc::MOUNT_ATTR_NOEXEC } else { 0 };
    // A file system that can't do it would let a cell write what the host's services left in its folder.
    let step = "keep the workspace to its owner's files (its file system must have id-mapped mounts: ext4, XFS, Btrfs, tmpfs)";
    Step::at(
        step,
        sys::mount_setattr(
            mount.as_fd(),
            Extent::Alone,
            attributes,
            owners.as_ref().filter(|_| site.ground.layers.has(Layer::Owners)).map(AsFd::as_fd),
        ),
    )?;
    Ok(Folder { mount, uid, owners })
}

fn ids_taken(workspaces: &Path) -> io::Result<Vec<u32>> {
    fs::read_dir(workspaces)?.map(|entry| Ok(fs::symlink_metadata(entry?.path())?.uid())).collect()
}

impl Process {
    /// Has a waiting process become the cell.
    pub fn become_cell(&self, blueprint: Blueprint, folder: &Folder, image: Option<&OwnedFd>, network: &OwnedFd) -> io::Result<()> {
        let descriptors: Vec<_> = [&folder.mount, network].into_iter().chain(image).chain(&folder.owners).map(AsFd::as_fd).collect();
        tell_blueprint(&self.channel, blueprint, &descriptors)
    }
}
