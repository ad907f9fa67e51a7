//! A file system of the ledger's own, small enough to be filled: an image in the stage's folder, over a loop device, so that what happens on it
//! is what happens on a disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{poll, tool};
use crate::error::StageError;

/// A program that has just ended may hold the file system for a moment more.
const BUSY_TIME: Duration = Duration::from_secs(10);

/// A file system that lives as long as this value.
#[derive(Debug)]
pub struct Disk {
    at: PathBuf,
    /// As the kernel numbers it, major and minor.
    device: String,
}

impl Disk {
    /// Makes the image, sparse, and mounts it.
    pub(crate) fn raise(image: &Path, at: &Path, mib: u32) -> Result<Self, StageError> {
        let file = fs::File::create_new(image).map_err(StageError::file("making a disk's image", image))?;
        file.set_len(u64::from(mib) << 20).map_err(StageError::file("making a disk's image", image))?;
        let (image, shown) = (image.display().to_string(), at.display().to_string());
        // Nothing is kept back for root, whose ledger is not root.
        tool("mkfs.ext4", "e2fsprogs", &["-q", "-m", "0", &image])?;
        tool("mount", "mount", &["-o", "loop,noatime", &image, &shown])?;
        let mut disk = Self { at: at.to_owned(), device: String::new() };
        disk.device = device_at(&shown).ok_or_else(|| StageError::Unexpected { what: format!("nothing is mounted at {shown}") })?;
        let found = at.join("lost+found");
        fs::remove_dir(&found).map_err(StageError::file("removing a folder", found))?;
        Ok(disk)
    }

    /// Its device, as the kernel numbers it: major and minor.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Where it is mounted.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.at
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let at = self.at.display().to_string();
        let gone = poll(BUSY_TIME, || tool("umount", "mount", &[&at]).ok());
        if gone.is_none() {
            // The look for leftovers reports the device, should it stay.
            let _stays = tool("umount", "mount", &["--lazy", &at]);
        }
    }
}

fn device_at(mount: &str) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let found = table.lines().map(|line| line.split(' ').collect::<Vec<_>>()).rfind(|line| line.get(4) == Some(&mount));
    found.and_then(|line| line.get(2).map(|device| (*device).to_owned()))
}

/// The loop devices whose image is in that folder.
pub(crate) fn devices(folder: &Path) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| entry.path());
    let image =
        |device: &PathBuf| fs::read_to_string(device.join("loop/backing_file")).is_ok_and(|image| Path::new(image.trim()).starts_with(folder));
    devices.filter(image).map(|device| device.display().to_string()).collect()
}
