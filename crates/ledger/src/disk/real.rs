//! The real disk: Linux files, opened without following links.
//!
//! Tries nothing a second time and hides no error, but for one: a file system that refuses `O_DIRECT` is written through the page
//! cache and synced, and says so by its [`WriteMode`].

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::{Aligned, Disk, DiskFile, LogFile, Open, WriteMode};
use crate::files::{FILE_MODE, FOLDER_MODE, NO_LINK};

/// The file systems of this host.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RealDisk;

#[derive(Debug)]
struct Segment {
    file: File,
    mode: WriteMode,
}

impl DiskFile for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl LogFile for Segment {
    fn write_durably(&self, blocks: &Aligned, offset: u64) -> io::Result<()> {
        self.file.write_all_at(blocks.bytes(), offset)?;
        match self.mode {
            WriteMode::Direct => Ok(()),
            WriteMode::WriteThenSync => self.file.sync_data(),
        }
    }

    fn mode(&self) -> WriteMode {
        self.mode
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.write(true).create(how != Open::Existing).truncate(how == Open::Empty).mode(FILE_MODE).custom_flags(NO_LINK);
        Ok(Box::new(options.open(path)?))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let direct = NO_LINK | (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
        let (file, mode) = match OpenOptions::new().write(true).custom_flags(direct).open(path) {
            Ok(file) => (file, WriteMode::Direct),
            // What open(2) says of a file system without it.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                (OpenOptions::new().write(true).custom_flags(NO_LINK).open(path)?, WriteMode::WriteThenSync)
            }
            Err(error) => return Err(error),
        };
        Ok(Box::new(Segment { file, mode }))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(folder)?.map(|item| Ok(item?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(FOLDER_MODE).create(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, folder: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(folder)?)?)
    }
}
