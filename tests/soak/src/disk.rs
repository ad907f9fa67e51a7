//! The ledger's disk: filled and freed, or made slow.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use sulku_stage::Disk;

/// Control groups of version 1 have a tree for what is read and written.
const TREE: &str = "/sys/fs/cgroup/blkio";
/// What fills the rest, in pieces that fit into what `fallocate` leaves.
const PIECE: [u8; 4096] = [0; 4096];

/// What takes the disk's room, until it is dropped.
pub struct Filled(PathBuf);

impl Filled {
    /// Takes all of it.
    ///
    /// # Errors
    /// The disk can't be written for another reason than want of room.
    pub fn to_the_brim(disk: &Disk) -> anyhow::Result<Self> {
        let filled = Self(disk.folder().join("filler"));
        let mut file = File::create(&filled.0)?;
        let room = fstatvfs(&file)?;
        // The kernel may have kept less for its own than it said; what is left then, the pieces take.
        let _less = fallocate(&file, FallocateFlags::empty(), 0, room.f_bavail.saturating_sub(64) * room.f_frsize);
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))?;
        while file.write_all(&PIECE).is_ok() {}
        let _full = file.sync_all();
        Ok(filled)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.0);
    }
}

/// What holds a process back from its disk, until it is dropped.
pub struct Slowed(PathBuf);

impl Slowed {
    /// Lets the process write so often in a second.
    ///
    /// # Errors
    /// The host has no control groups of version 1 for disks.
    pub fn down(instance: &str, pid: u32, disk: &Disk, writes_a_second: u32) -> anyhow::Result<Self> {
        let group = PathBuf::from(TREE).join(format!("sulku-{instance}-disk"));
        fs::create_dir_all(&group).with_context(|| format!("{}: no control groups of version 1 for disks", group.display()))?;
        let slowed = Self(group);
        let rule = format!("{} {writes_a_second}", disk.device());
        fs::write(slowed.0.join("blkio.throttle.write_iops_device"), rule)?;
        fs::write(slowed.0.join("cgroup.procs"), pid.to_string())?;
        Ok(slowed)
    }
}

impl Drop for Slowed {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ended = fs::write(PathBuf::from(TREE).join("cgroup.procs"), pid);
        }
        // The look for leftovers reports it, should it stay.
        let _stays = fs::remove_dir(&self.0);
    }
}
