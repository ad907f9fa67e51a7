//! A walk through a folder that nobody uses any more: counts and digests all that is in it, or removes it, a few entries at a time.
//!
//! Depth first, the names of each folder in the order of their bytes, so that two walks over the same files give the same digest. It never
//! follows a symlink, never leaves the folder or its file system, and holds a bounded number of names and one descriptor, however many
//! files there are and however deep they lie.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat, openat2, statat, unlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// So many names of one folder are held; a folder with more is read again for the next ones.
const NAMES_MAX: usize = 4_096;
/// Only so many of the deepest folders on the way keep their names; those above are read again on the way back.
const NAMED_FOLDERS_MAX: usize = 64;
/// Deeper than any person or program builds, and with what each folder on the way takes, little memory.
const DEPTH_MAX: usize = 100_000;

/// What a walk does with what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Counts it.
    Survey,
    /// Removes it.
    Remove,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Everything that is no folder.
    pub files: u64,
    /// Folders, the uppermost not counted.
    pub folders: u64,
    /// Bytes of regular files.
    pub bytes: u64,
    /// SHA-256, in hexadecimal, over one line for each entry in the order of the walk: its kind (`f`, `d`, `l` or `o`), a space, its length
    /// in bytes (0 unless a regular file), a space, its path below the folder, a zero byte.
    pub sha256: String,
}

/// A folder on the way down.
#[derive(Debug)]
struct Level {
    device: u64,
    inode: u64,
    /// The last name that was dealt with.
    after: Vec<u8>,
    /// The next ones, in order.
    names: std::collections::VecDeque<CString>,
    /// There may be more than these.
    more: bool,
    /// Bytes of the path below the uppermost folder, up to and with this one.
    path_bytes: usize,
}

/// A walk in progress.
#[derive(Debug)]
pub struct Walk {
    deed: Deed,
    here: OwnedFd,
    levels: Vec<Level>,
    path: Vec<u8>,
    files: u64,
    folders: u64,
    bytes: u64,
    digest: Sha256,
}

/// Opens a folder of that name in `parent`, if it is one, and nothing that a symlink leads to.
///
/// # Errors
/// There is none, or it can't be opened.
pub fn open_folder(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(openat2(parent, name, flags, Mode::empty(), resolve)?)
}

impl Walk {
    /// A walk that has not begun.
    ///
    /// # Errors
    /// The folder can't be looked at.
    pub fn through(folder: OwnedFd, deed: Deed) -> io::Result<Self> {
        let level = Level::of(folder.as_fd(), 0)?;
        Ok(Self { deed, here: folder, levels: vec![level], path: Vec::new(), files: 0, folders: 0, bytes: 0, digest: Sha256::new() })
    }

    /// Deals with about so many entries. What was found, once there is nothing more.
    ///
    /// # Errors
    /// Something can't be read or removed, or is not as a file system has it.
    pub fn step(&mut self, entries: usize) -> io::Result<Option<Found>> {
        for _ in 0..entries {
            let Some(level) = self.levels.last_mut() else { return Ok(Some(self.found())) };
            if level.names.is_empty() && level.more {
                level.read(self.here.as_fd())?;
            }
            match level.names.pop_front() {
                Some(name) => {
                    level.after = name.as_bytes().to_vec();
                    self.visit(&name)?;
                }
                None => self.ascend()?,
            }
        }
        Ok(None)
    }

    fn visit(&mut self, name: &CString) -> io::Result<()> {
        let seen = match statat(&self.here, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            seen => seen?,
        };
        let kind = FileType::from_raw_mode(seen.st_mode);
        let device = self.levels.last().map(|level| level.device);
        if device != Some(seen.st_dev) {
            return Err(io::Error::other("another file system is mounted inside the folder"));
        }
        self.path.truncate(self.levels.last().map_or(0, |level| level.path_bytes));
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name.as_bytes());
        let length = if kind.is_file() { u64::try_from(seen.st_size).unwrap_or_default() } else { 0 };
        let letter = match kind {
            FileType::RegularFile => 'f',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            _ => 'o',
        };
        if self.deed == Deed::Survey {
            self.digest.update(format!("{letter} {length} "));
            self.digest.update(&self.path);
            self.digest.update([0]);
        }
        if kind.is_dir() {
            self.folders += 1;
            return self.descend(name);
        }
        (self.files, self.bytes) = (self.files + 1, self.bytes.saturating_add(length));
        if self.deed == Deed::Remove {
            unlinkat(&self.here, name.as_c_str(), AtFlags::empty())?;
        }
        Ok(())
    }

    fn descend(&mut self, name: &CString) -> io::Result<()> {
        if self.levels.len() >= DEPTH_MAX {
            return Err(io::Error::other(format!("folders lie deeper than {DEPTH_MAX} in each other")));
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let below = openat(&self.here, name.as_c_str(), flags, Mode::empty())?;
        let level = Level::of(below.as_fd(), self.path.len())?;
        if let Some(above) = self.levels.len().checked_sub(NAMED_FOLDERS_MAX).and_then(|index| self.levels.get_mut(index)) {
            (above.names, above.more) = (std::collections::VecDeque::new(), true);
        }
        self.levels.push(level);
        self.here = below;
        Ok(())
    }

    /// Back to the folder above, which must be the one that the walk came from.
    fn ascend(&mut self) -> io::Result<()> {
        self.levels.pop();
        let Some(above) = self.levels.last() else { return Ok(()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let parent = openat(&self.here, "..", flags, Mode::empty())?;
        let seen = rustix::fs::fstat(&parent)?;
        if (seen.st_dev, seen.st_ino) != (above.device, above.inode) {
            return Err(io::Error::other("a folder was moved while it was walked through"));
        }
        self.here = parent;
        if self.deed == Deed::Remove {
            let name = CString::new(above.after.clone()).map_err(io::Error::other)?;
            unlinkat(&self.here, name.as_c_str(), AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    fn found(&mut self) -> Found {
        let digest = std::mem::take(&mut self.digest).finalize();
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Found { files: self.files, folders: self.folders, bytes: self.bytes, sha256 }
    }
}

impl Level {
    fn of(folder: BorrowedFd<'_>, path_bytes: usize) -> io::Result<Self> {
        let seen = rustix::fs::fstat(folder)?;
        Ok(Self { device: seen.st_dev, inode: seen.st_ino, after: Vec::new(), names: std::collections::VecDeque::new(), more: true, path_bytes })
    }

    /// Reads the next names in order, as many as may be held.
    fn read(&mut self, folder: BorrowedFd<'_>) -> io::Result<()> {
        let mut next = std::collections::BTreeSet::new();
        self.more = false;
        for entry in Dir::read_from(folder)? {
            let name = entry?.file_name().to_owned();
            let bytes = name.as_bytes();
            if bytes == b"." || bytes == b".." || bytes <= self.after.as_slice() {
                continue;
            }
            next.insert(name);
            if next.len() > NAMES_MAX {
                next.pop_last();
                self.more = true;
            }
        }
        self.names = next.into_iter().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rustix::fs::CWD;

    use super::*;

    fn walk(folder: &Path, deed: Deed) -> io::Result<Found> {
        let mut walk =
            Walk::through(open_folder(openat(CWD, folder.parent().expect("a parent"), OFlags::PATH, Mode::empty())?.as_fd(), "tree")?, deed)?;
        loop {
            if let Some(found) = walk.step(7)? {
                return Ok(found);
            }
        }
    }

    #[test]
    fn a_tree_is_counted_digested_and_removed_and_nothing_that_its_symlinks_point_at() {
        let home = tempfile::tempdir().expect("a folder");
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("b/c")).expect("made");
        fs::create_dir(home.path().join("outside")).expect("made");
        fs::write(home.path().join("outside/kept"), "kept").expect("written");
        fs::write(tree.join("a.txt"), "four").expect("written");
        fs::write(tree.join("b/c/deep"), "12345678").expect("written");
        symlink(home.path().join("outside"), tree.join("way-out")).expect("linked");
        symlink("../../..", tree.join("b/up")).expect("linked");
        let found = walk(&tree, Deed::Survey).expect("walked");
        let mut expected = Sha256::new();
        expected.update(b"f 4 a.txt\0d 0 b\0d 0 b/c\0f 8 b/c/deep\0l 0 b/up\0l 0 way-out\0");
        let sha256: String = expected.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, Found { files: 4, folders: 2, bytes: 12, sha256 });
        assert_eq!(walk(&tree, Deed::Survey).expect("walked"), found, "the same again");
        let removed = walk(&tree, Deed::Remove).expect("removed");
        assert_eq!((removed.files, removed.folders, removed.bytes), (4, 2, 12));
        assert_eq!(fs::read_dir(&tree).expect("there").count(), 0);
        assert_eq!(fs::read_to_string(home.path().join("outside/kept")).expect("there"), "kept");
    }

    #[test]
    fn a_wide_folder_and_a_deep_one_take_bounded_memory_and_lose_nothing() {
        let home = tempfile::tempdir().expect("a folder");
        let tree = home.path().join("tree");
        fs::create_dir(&tree).expect("made");
        for number in 0..NAMES_MAX + 100 {
            fs::write(tree.join(format!("file-{number:05}")), "x").expect("written");
        }
        let mut deep = tree.join("deep");
        for _ in 0..NAMED_FOLDERS_MAX * 2 {
            fs::create_dir(&deep).expect("made");
            fs::write(deep.join("zz"), "y").expect("written");
            deep.push("d");
        }
        let found = walk(&tree, Deed::Survey).expect("walked");
        let deep = NAMED_FOLDERS_MAX as u64 * 2;
        assert_eq!((found.files, found.folders), (NAMES_MAX as u64 + 100 + deep, deep));
        walk(&tree, Deed::Remove).expect("removed");
        assert_eq!(fs::read_dir(&tree).expect("there").count(), 0);
    }

    #[test]
    fn a_symlink_in_a_workspaces_place_is_no_folder() {
        let home = tempfile::tempdir().expect("a folder");
        fs::create_dir(home.path().join("outside")).expect("made");
        symlink("outside", home.path().join("tree")).expect("linked");
        assert!(walk(&home.path().join("tree"), Deed::Remove).is_err());
        fs::remove_file(home.path().join("tree")).expect("removed");
        fs::create_dir(home.path().join("tree")).expect("made");
        assert!(walk(&home.path().join("tree"), Deed::Remove).is_ok(), "control: a folder is one");
    }
}
