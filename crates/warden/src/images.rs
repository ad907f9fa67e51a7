//! Systems of workspaces that are not the host's: files with a read-only file system, each held to the digest that a signed policy names.
//!
//! A file is read whole before anything of it is mounted, and again when it is not the one that was read. The kernel's file systems parse no image that no
//! permit's policy names ([0045](../../../docs/decisions/0045-an-image-is-a-file-held-to-its-digest.md)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, stat};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sulku_permit::{ImageDigest, SharedName};
use sulku_plan::filesystem::SystemImage;

use crate::config::ImageFile;
use crate::errand::{Errand, Readiness};
use crate::loopback::{self, Loop};
use crate::sys::LoopAccess;

/// So much of a file is read at once.
const READ_BYTES: usize = 1 << 20;
/// Where the file systems that images have write what they are.
const MAGIC: [(&str, u64, [u8; 4]); 2] = [("squashfs", 0, *b"hsqs"), ("erofs", 1024, 0xe0f5_e1e2_u32.to_le_bytes())];

/// The images that are configured.
#[derive(Debug)]
pub struct Images(BTreeMap<SharedName, Entry>);

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    state: State,
    mounted: Option<Mounted>,
    /// Why it could not be read; told once.
    failed: Option<String>,
}

#[derive(Debug)]
enum State {
    Unread,
    Reading(Errand, Whom),
    Read(Reading, OwnedFd),
}

/// For whom a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whom {
    /// Nobody yet.
    Ahead,
    /// Somebody who waits, and is told why it can't be.
    Waiting,
}

/// What a file was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reading {
    stamp: Stamp,
    sha256: [u8; 32],
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// An image in use: as long as this is there, the device is.
#[derive(Debug)]
struct Mounted {
    reading: Reading,
    kind: &'static str,
    device: String,
    _mount: OwnedFd,
}

impl From<Stat> for Stamp {
    fn from(found: Stat) -> Self {
        let nanoseconds = |of: u64| i64::try_from(of).unwrap_or_default();
        Self {
            device: found.st_dev,
            inode: found.st_ino,
            size: found.st_size,
            modified: (found.st_mtime, nanoseconds(found.st_mtime_nsec)),
            changed: (found.st_ctime, nanoseconds(found.st_ctime_nsec)),
        }
    }
}

impl Images {
    /// The configured ones, which begin to be read.
    #[must_use]
    pub fn new(files: Vec<ImageFile>) -> Self {
        let entry = |path: PathBuf| {
            let state = begin(&path).map_or(State::Unread, |errand| State::Reading(errand, Whom::Ahead));
            Entry { path, state, mounted: None, failed: None }
        };
        Self(files.into_iter().map(|ImageFile { name, path }| (name, entry(path))).collect())
    }

    /// Sees to it that an image is there as a plan names it.
    pub fn want(&mut self, image: &SystemImage) -> Readiness {
        let SystemImage { name, digest } = image;
        let Some(entry) = self.0.get_mut(name) else {
            return Readiness::Failed("this host has none of that name; write its [[image]] into warden.toml and restart the warden".to_owned());
        };
        if let Some(words) = entry.failed.take() {
            return Readiness::Failed(words);
        }
        let is_as_read = |stamp: &Stamp| stat(&entry.path).is_ok_and(|found| Stamp::from(found) == *stamp);
        match &mut entry.state {
            State::Reading(_, whom) => {
                *whom = Whom::Waiting;
                Readiness::Underway
            }
            State::Read(reading, file) if is_as_read(&reading.stamp) => {
                let own = ImageDigest::new(reading.sha256);
                if own != *digest {
                    let path = entry.path.display();
                    return Readiness::Failed(format!(
                        "{path} is {own}, the policy names {digest}; put the image that was signed there, or sign a policy with what is there"
                    ));
                }
                if entry.mounted.as_ref().is_some_and(|mounted| mounted.reading == *reading) {
                    return Readiness::Ready;
                }
                match mount(reading.clone(), file, name) {
                    Ok(mounted) => {
                        entry.mounted = Some(mounted);
                        Readiness::Ready
                    }
                    Err(error) => Readiness::Failed(format!("{} could not be mounted: {error}", entry.path.display())),
                }
            }
            State::Unread | State::Read(..) => match begin(&entry.path) {
                Ok(errand) => {
                    entry.state = State::Reading(errand, Whom::Waiting);
                    Readiness::Underway
                }
                Err(error) => Readiness::Failed(error.to_string()),
            },
        }
    }

    /// A mount of an image that is ready, for one cell.
    ///
    /// # Errors
    /// It is not ready, or the kernel mounts it no more.
    pub fn mount_of(&self, name: &SharedName) -> io::Result<OwnedFd> {
        let mounted = self.0.get(name).and_then(|entry| entry.mounted.as_ref()).ok_or(io::ErrorKind::NotFound)?;
        loopback::mount(mounted.kind, &mounted.device, LoopAccess::Read, &[])
    }

    /// Readable when a file has been read.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().filter_map(|entry| match &entry.state {
            State::Reading(errand, _) => Some(errand.descriptor()),
            State::Unread | State::Read(..) => None,
        })
    }

    /// Takes in what was read.
    pub fn take_in(&mut self) {
        for (name, entry) in &mut self.0 {
            let State::Reading(errand, whom) = std::mem::replace(&mut entry.state, State::Unread) else { continue };
            match errand.end::<Reading>() {
                Err(errand) => entry.state = State::Reading(errand, whom),
                Ok(Ok((reading, descriptors))) => {
                    tracing::info!(image = %name, digest = %ImageDigest::new(reading.sha256), "an image was read");
                    if let Some(file) = descriptors.into_iter().next() {
                        entry.state = State::Read(reading, file);
                    }
                }
                Ok(Err(words)) => {
                    tracing::error!(image = %name, words, "an image can't be used");
                    entry.failed = Some(words).filter(|_| whom == Whom::Waiting);
                }
            }
        }
    }
}

fn begin(path: &Path) -> io::Result<Errand> {
    Errand::send(&[], || read(path).map(|(reading, file)| (reading, vec![file])).map_err(|words| format!("{}: {words}", path.display())))
}

/// Reads a file whole.
fn read(path: &Path) -> Result<(Reading, OwnedFd), String> {
    let words = |error: io::Error| error.to_string();
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| words(error.into()))?;
    let found = fstat(&file).map_err(|error| words(error.into()))?;
    if !FileType::from_raw_mode(found.st_mode).is_file() || found.st_uid != 0 || found.st_mode & 0o022 != 0 {
        return Err("it is not a file that root alone can write; chown root it, and chmod go-w it".to_owned());
    }
    let (stamp, mut sum, mut buffer) = (Stamp::from(found), Sha256::new(), vec![0; READ_BYTES]);
    let mut file = File::from(file);
    loop {
        match file.read(&mut buffer).map_err(words)? {
            0 => break,
            length => sum.update(&buffer[..length]),
        }
    }
    if fstat(&file).map(Stamp::from).ok() != Some(stamp) {
        return Err("it was changed while it was read; try again when that is over".to_owned());
    }
    Ok((Reading { stamp, sha256: sum.finalize().into() }, file.into()))
}

fn mount(reading: Reading, file: &OwnedFd, name: &SharedName) -> io::Result<Mounted> {
    let is_that = |(_, at, magic): &&(&str, u64, [u8; 4])| {
        let mut found = [0; 4];
        rustix::io::pread(file, &mut found, *at).is_ok_and(|length| length == found.len()) && found == *magic
    };
    let Some((kind, ..)) = MAGIC.iter().find(is_that) else { return Err(io::Error::other("it is neither squashfs nor erofs")) };
    let device = Loop::over(file.as_fd(), name.as_str(), LoopAccess::Read)?;
    let mount = loopback::mount(kind, &device.path, LoopAccess::Read, &[]).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => io::Error::other(format!("the kernel has no {kind}; enable it, or make the image another one")),
        _ => error,
    })?;
    Ok(Mounted { reading, kind, device: device.path, _mount: mount })
}
