//! A workspace's own disk: an ext4 in a file beside the workspace's folder, which the host has set aside whole, so that neither fills the other.
//!
//! Only root writes the file: what a cell does reaches it through the kernel's ext4 alone. It is made once, checked before each time that it is
//! mounted, mounted while somebody is in the workspace, and never attached to a path
//! ([0041](../../../../../docs/decisions/0041-a-workspaces-disk-is-a-file-set-aside.md)).

pub mod held;
pub mod tool;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, ResolveFlags, fallocate, fchmod, flock, fstat, fstatvfs, fsync,
    openat, openat2, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sulku_permit::WorkspaceName;

use crate::loopback::{self, Loop};
use crate::sys::LoopAccess;

pub use self::held::Disks;

/// The file system's block.
const BLOCK_BYTES: u64 = 4096;
/// How long a disk may still be held by cells of a warden that was killed.
const HELD_MAX: Duration = Duration::from_secs(8);

/// Where a workspace's disk is, in the workspaces' folder. No workspace has a dot in its name.
fn file_of(name: &WorkspaceName) -> String {
    format!("{name}.disk")
}

/// Where it is while it is made.
fn attempt_at(name: &WorkspaceName) -> String {
    format!(".{}.new", file_of(name))
}

/// Whether the workspace has a disk.
#[must_use]
pub fn is_there(workspaces: &Path, name: &WorkspaceName) -> bool {
    statat(CWD, workspaces.join(file_of(name)), AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

/// Removes a disk that nothing holds.
///
/// # Errors
/// It can't be.
pub fn remove(parent: impl AsFd, name: &WorkspaceName) -> io::Result<()> {
    Ok(unlinkat(&parent, file_of(name), AtFlags::empty()).and_then(|()| fsync(&parent))?)
}

/// Removes what an attempt to make a disk has left, if it was interrupted and none came after it.
///
/// # Errors
/// It can't be.
pub fn remove_attempt(parent: impl AsFd, name: &WorkspaceName) -> io::Result<()> {
    match unlinkat(&parent, attempt_at(name), AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// What a disk is to be.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The workspaces' folder.
    pub workspaces: &'a Path,
    /// Whose.
    pub name: &'a WorkspaceName,
    /// The most that the workspace may hold, in bytes; as it is, if none is named.
    pub bytes: Option<u64>,
    /// The workspace's user id, if it is to be made or given to a cell.
    pub uid: Option<u32>,
}

/// A mounted disk, as a process tells another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Mounted {
    /// The device's path.
    pub device: String,
    /// The file's size, in bytes.
    pub size: u64,
    /// Blocks that nobody may use because the file system keeps them for itself.
    pub reserve: u64,
}

/// What a disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes of files and of what describes them.
    pub used_bytes: u64,
    /// The most that there may be.
    pub limit_bytes: u64,
}

/// Where a disk comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Made,
    Found,
}

impl Wanted<'_> {
    /// Makes the disk if there is none, has it checked, mounts it, and gives it the size that is wanted. Takes as long as it takes.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn mount(&self) -> Result<(Mounted, OwnedFd), String> {
        let at = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("could not {what}: {error}")
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(CWD, self.workspaces, flags, Mode::empty()).map_err(|error| at("open the workspaces' folder")(error.into()))?;
        let (file, origin) = match self.open(&parent, &file_of(self.name)) {
            Err(Errno::NOENT) => (self.make(&parent)?, Origin::Made),
            Err(error) => return Err(format!("could not open its file: {error}")),
            Ok(file) => {
                await_lock(&file)?;
                check(&file, self.name, Thoroughness::AsNeeded)?;
                (file, Origin::Found)
            }
        };
        let found = fstat(&file).map_err(|error| at("look at its file")(error.into()))?;
        if !FileType::from_raw_mode(found.st_mode).is_file() || found.st_uid != 0 || found.st_mode & 0o077 != 0 {
            return Err(format!("{} is not a file that root alone can read and write", self.workspaces.join(file_of(self.name)).display()));
        }
        let size = self.enlarge(&file, found.st_size.cast_unsigned())?;
        let device = Loop::over(file.as_fd(), &file_of(self.name), LoopAccess::Write).map_err(at("make a block device of its file"))?;
        let mount = loopback::mount("ext4", &device.path, LoopAccess::Write, &[("errors", "remount-ro")]).map_err(at("mount it"))?;
        let root = openat(&mount, ".", flags, Mode::empty()).map_err(|error| at("open it")(error.into()))?;
        let owner = fstat(&root).map_err(|error| at("look at it")(error.into()))?.st_uid;
        if self.uid.is_some_and(|uid| uid != owner) {
            return Err(format!(
                "it belongs to user {owner}, the workspace's folder to another; chown {owner}:{owner} the folder if it is this workspace's"
            ));
        }
        if origin == Origin::Made {
            fchmod(&root, Mode::from_raw_mode(0o700)).map_err(|error| at("close it to others")(error.into()))?;
        }
        // The program that checks makes it again where it needs it; in somebody's home it is only in the way.
        let _there_is_something_in_it = unlinkat(&root, "lost+found", AtFlags::REMOVEDIR);
        let reserve = read_number(&reserve_of(&device.path)).map_err(at("ask what its file system keeps for itself"))?;
        let mounted = Mounted { device: device.path, size, reserve };
        self.hold_to_limit(&mounted, &root)?;
        Ok((mounted, mount))
    }

    /// Gives a disk that is mounted another limit. It grows only where nobody is in it: then it holds what it holds now.
    ///
    /// # Errors
    /// In words for the operator; the disk is as it was.
    pub fn adjust(&self, mounted: &Mounted, mount: &OwnedFd) -> Result<(), String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(mount, ".", flags, Mode::empty()).map_err(|error| format!("could not open it: {error}"))?;
        self.hold_to_limit(mounted, &root)
    }

    fn open(&self, parent: &OwnedFd, file: &str) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(parent, file, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// The file appears under its name once it is whole.
    fn make(&self, parent: &OwnedFd) -> Result<OwnedFd, String> {
        let (Some(bytes), Some(uid)) = (self.bytes, self.uid) else { return Err("there is none".to_owned()) };
        let folder = self.workspaces.join(self.name.as_str());
        let entries = openat(parent, self.name.as_str(), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .and_then(Dir::new)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec())).collect::<Result<Vec<_>, _>>())
            .map_err(|error| format!("could not look into {}: {error}", folder.display()))?;
        if entries.iter().any(|name| name != b"." && name != b"..") {
            return Err(format!(
                "the workspace has files in {} from before its permit gave it a disk; move them away, or take `disk` out of the permit",
                folder.display()
            ));
        }
        let new = attempt_at(self.name);
        remove_attempt(parent, self.name).map_err(|error| format!("could not remove what is left of an attempt: {error}"))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(parent, &new, flags, Mode::from_raw_mode(0o600)).map_err(|error| format!("could not make its file: {error}"))?;
        let made = await_lock(&file).and_then(|()| set_aside(&file, 0, bytes)).and_then(|()| {
            let owner = format!("nodiscard,root_owner={uid}:{uid}");
            let block = BLOCK_BYTES.to_string();
            match tool::run(tool::MAKE, &["-q", "-F", "-b", &block, "-m", "0", "-E", &owner, tool::ITS_FILE], file.as_fd()) {
                Ok((0, _)) => Ok(()),
                Ok((status, said)) => Err(format!("{} ended with status {status}: {said}", tool::MAKE)),
                Err(error) => Err(error.to_string()),
            }
        });
        let named = made.and_then(|()| {
            let done = fsync(&file).and_then(|()| renameat(parent, &new, parent, file_of(self.name))).and_then(|()| fsync(parent));
            done.map_err(|error| format!("could not keep its file: {error}"))
        });
        match named {
            Ok(()) => Ok(file),
            Err(words) => {
                let _gone_already = unlinkat(parent, &new, AtFlags::empty());
                Err(words)
            }
        }
    }

    /// Sees to it that file and file system have at least the size that is wanted; what was interrupted is finished. The file's size then.
    fn enlarge(&self, file: &OwnedFd, size: u64) -> Result<u64, String> {
        let wanted = self.bytes.unwrap_or(size).max(size);
        if wanted > size {
            set_aside(file, size, wanted)?;
        }
        let blocks = blocks_of(file).map_err(|error| format!("could not read how large its file system is: {error}"))?;
        if blocks < wanted / BLOCK_BYTES {
            check(file, self.name, Thoroughness::Whole)?;
            match tool::run(tool::ENLARGE, &[tool::ITS_FILE], file.as_fd()) {
                Ok((0, _)) => {}
                Ok((status, said)) => return Err(format!("{} ended with status {status}: {said}", tool::ENLARGE)),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(wanted)
    }

    /// A file system is never made smaller: what the permit does not give is kept from everybody's use.
    fn hold_to_limit(&self, mounted: &Mounted, root: &OwnedFd) -> Result<(), String> {
        let limit = self.bytes.map_or(mounted.size, |bytes| bytes.min(mounted.size));
        let Fill { used_bytes, .. } = fill(root, limit).map_err(|error| format!("could not ask what it holds: {error}"))?;
        if used_bytes > limit {
            return Err(format!("it holds {used_bytes} bytes, more than the {limit} that the permit gives; write a larger `disk`"));
        }
        let kept = mounted.reserve + (mounted.size - limit) / BLOCK_BYTES;
        std::fs::write(reserve_of(&mounted.device), kept.to_string()).map_err(|error| format!("could not hold it to {limit} bytes: {error}"))
    }
}

/// What the disk at a mount holds.
///
/// # Errors
/// The kernel does not say.
pub fn fill(mount: &OwnedFd, limit_bytes: u64) -> io::Result<Fill> {
    let found = fstatvfs(mount)?;
    Ok(Fill { used_bytes: found.f_blocks.saturating_sub(found.f_bfree).saturating_mul(found.f_frsize), limit_bytes })
}

/// Blocks that nobody may use, of the ext4 on that device.
fn reserve_of(device: &str) -> String {
    format!("/sys/fs/ext4/{}/reserved_clusters", device.trim_start_matches("/dev/"))
}

fn read_number(file: &str) -> io::Result<u64> {
    std::fs::read_to_string(file)?.trim().parse().map_err(io::Error::other)
}

/// Has the host set bytes aside for a file, from its present size on.
fn set_aside(file: &OwnedFd, from: u64, to: u64) -> Result<(), String> {
    fallocate(file, FallocateFlags::empty(), from, to - from).map_err(|error| match error {
        Errno::NOSPC | Errno::FBIG => format!("the host has no room to set {} bytes aside for it; make room, or write a smaller `disk`", to - from),
        Errno::OPNOTSUPP => "the host's file system sets no room aside for a file; keep workspaces on ext4, XFS or Btrfs".to_owned(),
        error => format!("could not set {} bytes aside for it: {error}", to - from),
    })
}

/// The lock goes with the file's description, which the block device holds as long as anything is mounted from it: no disk is mounted twice.
fn await_lock(file: &OwnedFd) -> Result<(), String> {
    let until = Instant::now() + HELD_MAX;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(format!("something else holds it: {error}")),
        }
    }
}

/// How much of a file system is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thoroughness {
    /// Its journal, and all of it where it says of itself that something is wrong.
    AsNeeded,
    /// All of it.
    Whole,
}

/// What a crash of the host left is mended as far as that needs nobody's judgement.
fn check(file: &OwnedFd, name: &WorkspaceName, thoroughness: Thoroughness) -> Result<(), String> {
    let options: &[&str] = match thoroughness {
        Thoroughness::AsNeeded => &["-p", tool::ITS_FILE],
        Thoroughness::Whole => &["-p", "-f", tool::ITS_FILE],
    };
    match tool::run(tool::CHECK, options, file.as_fd()) {
        Ok((0 | 1, _)) => Ok(()),
        Ok((status, said)) => Err(format!(
            "its file system has errors that need a person: run {} -f on {} (it ended with status {status}: {said})",
            tool::CHECK,
            file_of(name)
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// Blocks of the ext4 in a file, by its superblock (kernel, Documentation/filesystems/ext4/super.rst).
fn blocks_of(file: &OwnedFd) -> io::Result<u64> {
    const SUPERBLOCK_AT: u64 = 1024;
    let mut superblock = [0; 1024];
    let length = rustix::io::pread(file, &mut superblock, SUPERBLOCK_AT)?;
    let number = |at: usize| superblock[..length].get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    match (number(0x4), number(0x150), number(0x38)) {
        (Some(low), Some(high), Some(magic)) if magic & 0xffff == 0xef53 => Ok(u64::from(high) << 32 | u64::from(low)),
        _ => Err(io::Error::other("it is no ext4")),
    }
}
