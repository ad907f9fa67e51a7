//! The kernel's word of what is opened in cells: files to be run as programmes, and files of datasets (`fanotify(7)`).
//!
//! Each mount of a cell is watched, and what is opened through it is that cell's: attribution is by mount, not by time or process.
//! Who opens waits until the warden has looked, so that none is missed, merged with another or gone by then; it is always let
//! through. One group serves all cells: its queue holds no more than there are processes that wait.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, open, statx};
use sulku_permit::SessionId;

use super::processes::text_of;
use crate::sys;

/// What is read at once: some 170 events.
const READ_BYTES: usize = 4_096;

/// The watched mounts of all cells.
#[derive(Debug)]
pub struct Eyes {
    group: OwnedFd,
    mounts: HashMap<u64, Watched>,
}

#[derive(Debug, Clone)]
struct Watched {
    session: SessionId,
    /// The dataset's place, if it is one.
    dataset: Option<PathBuf>,
}

/// Something was opened; whoever did waits until this is dropped.
#[derive(Debug)]
pub struct Opened {
    /// In whose cell.
    pub session: SessionId,
    /// By which thread, on the host.
    pub thread: u32,
    /// What for.
    pub purpose: Purpose,
    /// Which file, whatever its name: its file system and number.
    pub id: (u64, u64),
    answer: Answer,
}

/// What a file was opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To be run.
    Run,
    /// To be read, of this dataset.
    Data(PathBuf),
}

/// What the kernel says.
#[derive(Debug)]
pub enum Word {
    /// Something was opened.
    Opened(Opened),
    /// Something was, of which the kernel could not keep the word.
    Lost,
}

/// Lets the opener go on when dropped.
#[derive(Debug)]
struct Answer {
    group: OwnedFd,
    file: OwnedFd,
}

impl Drop for Answer {
    fn drop(&mut self) {
        let allow = [self.file.as_raw_fd().cast_unsigned(), sys::FAN_ALLOW].map(u32::to_ne_bytes).concat();
        // The opener may have been killed meanwhile.
        let _gone_already = rustix::io::write(&self.group, &allow);
    }
}

impl Opened {
    /// The file's path in the cell.
    #[must_use]
    pub fn path(&self) -> String {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", self.answer.file.as_raw_fd()));
        link.map_or_else(|_| "?".to_owned(), |path| super::processes::cut(&path.to_string_lossy()))
    }
}

impl Eyes {
    /// Opens them; they see nothing yet.
    ///
    /// # Errors
    /// The kernel has no such word, or does not wait for an answer.
    pub fn open() -> io::Result<Self> {
        Ok(Self { group: sys::fanotify()?, mounts: HashMap::new() })
    }

    /// Watches the cell of which this is the first process, before anything of its holder's runs there.
    ///
    /// # Errors
    /// The kernel refused; then nothing of the cell may run.
    pub fn watch(&mut self, session: SessionId, first: u32, datasets: &[PathBuf]) -> io::Result<()> {
        let root = open(format!("/proc/{first}/root"), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mounts = text_of(&format!("/proc/{first}/mountinfo"))?;
        for mount in mounts.lines().filter_map(Mount::parse) {
            let dataset = datasets.iter().find(|dataset| **dataset == mount.place).cloned();
            let event = match (&dataset, mount.runs) {
                (Some(_), _) => sys::FAN_OPEN_PERM,
                (None, true) => sys::FAN_OPEN_EXEC_PERM,
                (None, false) => continue,
            };
            let place = mount.place.strip_prefix("/").unwrap_or(&mount.place);
            let place = if place.as_os_str().is_empty() { ".".as_ref() } else { place };
            sys::fanotify_mount(&self.group, event, root.as_fd(), place)?;
            self.mounts.insert(mount.id, Watched { session, dataset });
        }
        Ok(())
    }

    /// The cell is gone, and its mounts with it.
    pub fn forget(&mut self, session: SessionId) {
        self.mounts.retain(|_, watched| watched.session != session);
    }

    /// Readable when somebody waits.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// What was opened since the last call: at most some, so that one cell can't keep the warden busy.
    pub fn words(&self) -> Vec<Word> {
        let mut buffer = [0; READ_BYTES];
        let Ok(length) = rustix::io::read(&self.group, &mut buffer) else { return Vec::new() };
        sys::fanotify_events(&buffer[..length]).into_iter().filter_map(|event| self.word(event)).collect()
    }

    fn word(&self, event: sys::FanotifyEvent) -> Option<Word> {
        let sys::FanotifyEvent { file, mask, thread } = event;
        let Some(file) = file else {
            return (mask & sys::FAN_Q_OVERFLOW != 0).then_some(Word::Lost);
        };
        let about = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID | StatxFlags::INO);
        let answer = Answer { group: self.group.try_clone().ok()?, file };
        let about = about.ok()?;
        let Watched { session, dataset } = self.mounts.get(&about.stx_mnt_id)?.clone();
        let purpose = dataset.map_or(Purpose::Run, Purpose::Data);
        let device = u64::from(about.stx_dev_major) << 32 | u64::from(about.stx_dev_minor);
        Some(Word::Opened(Opened { session, thread, purpose, id: (device, about.stx_ino), answer }))
    }
}

/// A line of `/proc/PID/mountinfo`, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    place: PathBuf,
    /// Whether files of it may be run.
    runs: bool,
}

impl Mount {
    /// `36 35 98:0 /mnt1 /mnt2 rw,noatime …`: proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let place = unescaped(fields.nth(3)?);
        let runs = !fields.next()?.split(',').any(|option| option == "noexec");
        Some(Self { id, place: place.into(), runs })
    }
}

/// A path without the octal escapes of space, tab, line feed and backslash.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounts_line_says_where_it_is_and_whether_it_runs_anything() {
        let line = r"103 102 254:0 /srv/data /data/with\040space ro,nosuid,nodev,noexec,relatime - ext4 /dev/vda rw";
        assert_eq!(Mount::parse(line), Some(Mount { id: 103, place: "/data/with space".into(), runs: false }));
        let line = "90 84 0:50 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=1024k";
        assert_eq!(Mount::parse(line), Some(Mount { id: 90, place: "/tmp".into(), runs: true }));
        assert_eq!(Mount::parse("not a line"), None);
    }
}
