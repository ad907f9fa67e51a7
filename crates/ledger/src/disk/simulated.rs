//! A disk in memory that keeps only what was synced: for tests of what a crash, a failing call or a full disk leaves.
//!
//! Every call is a step. At the step of a planned crash the call is half done and the machine stops; [`SimulatedDisk::after_crash`]
//! then gives what the platters hold: of each file what was synced, and of the writes since, each sector of 512 bytes kept, lost or
//! torn by itself and in any order; of each folder the first so many changes of names since its last sync. A failed sync loses what it
//! should have made durable and reports success the next time, as Linux does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Aligned, BLOCK_BYTES, Disk, DiskFile, LogFile, Open, WriteMode};

const SECTOR_BYTES: usize = 512;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Nothing.
    Nothing,
    /// The machine stops at this step.
    CrashAt(u64),
    /// This step fails with EIO, once.
    FailAt(u64),
    /// From this step on there is no room, until [`SimulatedDisk::make_room`].
    FullFrom(u64),
}

/// The disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    plan: Plan,
    random: u64,
    steps: u64,
    crashed: bool,
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    durable_folders: BTreeSet<PathBuf>,
    changes: Vec<(PathBuf, Change)>,
}

/// A file's bytes: as they are read, as they are on the platters, and what is in between.
#[derive(Debug, Default, Clone)]
struct Contents {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Change {
    Name(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Folder(PathBuf),
    RemoveFolder(PathBuf),
}

/// xorshift64*: all that a repeatable test needs.
fn next(random: &mut u64) -> u64 {
    *random ^= *random >> 12;
    *random ^= *random << 25;
    *random ^= *random >> 27;
    random.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

impl SimulatedDisk {
    /// An empty disk with the folder `/`.
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let folders = BTreeSet::from([PathBuf::from("/")]);
        Self(Arc::new(Mutex::new(State {
            plan,
            // Not zero, which the generator would stay at; well mixed, so that neighbouring seeds differ.
            random: (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1,
            steps: 0,
            crashed: false,
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            durable_folders: folders.clone(),
            folders,
            changes: Vec::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps taken.
    pub(crate) fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Whether the machine has stopped.
    pub(crate) fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    /// From now on this goes wrong.
    pub(crate) fn plan(&self, plan: Plan) {
        self.state().plan = plan;
    }

    /// There is room again.
    pub(crate) fn make_room(&self) {
        self.plan(Plan::Nothing);
    }

    /// What the platters hold after the machine stopped, with another plan for what follows.
    pub(crate) fn after_crash(&self, seed: u64, plan: Plan) -> Self {
        let mut state = self.state();
        let mut random = (seed.wrapping_mul(0xD134_2543_DE82_EF95)) | 1;
        let after = Self::new(seed, plan);
        let mut new = after.state();
        // Of each folder the first so many changes are kept.
        let folders: BTreeSet<PathBuf> = state.changes.iter().map(|(folder, _)| folder.clone()).collect();
        for folder in folders {
            let count = state.changes.iter().filter(|(of, _)| *of == folder).count() as u64;
            let kept = next(&mut random) % (count + 1);
            state.apply(&folder, kept as usize);
        }
        new.folders = state.durable_folders.clone();
        let parent_is_there = |path: &Path| path.parent().is_none_or(|parent| state.durable_folders.contains(parent));
        for (path, number) in state.durable_names.iter().filter(|(path, _)| parent_is_there(path)) {
            let bytes = state.files[*number].survive(&mut random);
            new.files.push(Contents { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() });
            let number = new.files.len() - 1;
            new.names.insert(path.clone(), number);
        }
        new.durable_names = new.names.clone();
        new.durable_folders = new.folders.clone();
        drop(new);
        after
    }

    /// The same disk as another process finds it, when only the process died.
    pub(crate) fn after_kill(&self, plan: Plan) -> Self {
        let mut state = self.state();
        (state.plan, state.steps, state.crashed) = (plan, 0, false);
        drop(state);
        self.clone()
    }

    /// The bytes of a file, to look at.
    pub(crate) fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.files[*state.names.get(path)?].seen.clone())
    }

    /// Puts bytes in a file's place, durably, as somebody would who changes the log.
    pub(crate) fn poke(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        state.files.push(Contents { seen: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new() });
        let number = state.files.len() - 1;
        state.names.insert(path.to_owned(), number);
        state.durable_names.insert(path.to_owned(), number);
    }

    /// Takes a file away, durably.
    pub(crate) fn take_away(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// The names of all files.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    /// An independent copy.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        let copy = Self::new(state.random, Plan::Nothing);
        let mut new = copy.state();
        (new.files, new.names, new.durable_names) = (state.files.clone(), state.names.clone(), state.durable_names.clone());
        (new.folders, new.durable_folders, new.changes) = (state.folders.clone(), state.durable_folders.clone(), state.changes.clone());
        drop(new);
        copy
    }
}

/// What a step does to the disk.
enum Outcome {
    Done,
    /// Half done: whatever was begun is not synced, and the machine stops.
    Crashed,
    Failed(io::Error),
}

impl State {
    /// Counts a step. `needs_room`: whether it takes up more of the disk.
    fn step(&mut self, needs_room: bool) -> Outcome {
        let errno = |code: rustix::io::Errno| Outcome::Failed(code.into());
        if self.crashed {
            return errno(rustix::io::Errno::IO);
        }
        self.steps += 1;
        match self.plan {
            Plan::CrashAt(step) if step == self.steps => {
                self.crashed = true;
                Outcome::Crashed
            }
            Plan::FailAt(step) if step == self.steps => errno(rustix::io::Errno::IO),
            Plan::FullFrom(step) if self.steps >= step && needs_room => errno(rustix::io::Errno::NOSPC),
            _ => Outcome::Done,
        }
    }

    /// A step that changes names: when the machine stops in it, the change may be on the disk or not.
    fn change(&mut self, needs_room: bool, path: &Path, change: Change, now: impl FnOnce(&mut Self)) -> io::Result<()> {
        let outcome = self.step(needs_room);
        if matches!(outcome, Outcome::Done | Outcome::Crashed) {
            self.changes.push((path.parent().unwrap_or(path).to_owned(), change));
            now(self);
        }
        outcome.into()
    }

    /// Makes the first so many changes of a folder durable.
    fn apply(&mut self, folder: &Path, count: usize) {
        let mut left = count;
        let mut later = Vec::new();
        for (of, change) in std::mem::take(&mut self.changes) {
            if of != folder || left == 0 {
                later.push((of, change));
                continue;
            }
            left -= 1;
            match change {
                Change::Name(path, number) => {
                    self.durable_names.insert(path, number);
                }
                Change::Rename(from, to) => {
                    if let Some(number) = self.durable_names.remove(&from) {
                        self.durable_names.insert(to, number);
                    }
                }
                Change::Remove(path) => {
                    self.durable_names.remove(&path);
                }
                Change::Folder(path) => {
                    self.durable_folders.insert(path);
                }
                Change::RemoveFolder(path) => {
                    self.durable_folders.retain(|folder| !folder.starts_with(&path));
                    self.durable_names.retain(|name, _| !name.starts_with(&path));
                }
            }
        }
        self.changes = later;
    }

    fn write(&mut self, number: usize, bytes: &[u8], offset: usize) -> io::Result<()> {
        let grows = offset + bytes.len() > self.files[number].seen.len();
        match self.step(grows) {
            Outcome::Failed(error) => {
                // Part of it may be there.
                let part = next(&mut self.random) as usize % (bytes.len() + 1);
                if !grows {
                    self.files[number].write(&bytes[..part], offset);
                }
                Err(error)
            }
            outcome => {
                self.files[number].write(bytes, offset);
                outcome.into()
            }
        }
    }

    fn sync(&mut self, number: usize) -> io::Result<()> {
        match self.step(false) {
            Outcome::Done => {
                self.files[number].sync();
                Ok(())
            }
            Outcome::Failed(error) => {
                // Some of it may be there; the rest is marked as written, and never will be: the next sync has nothing to do.
                let file = &mut self.files[number];
                file.durable = file.survive(&mut self.random);
                file.unsynced.clear();
                Err(error)
            }
            Outcome::Crashed => Outcome::Crashed.into(),
        }
    }
}

impl From<Outcome> for io::Result<()> {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Crashed => Err(rustix::io::Errno::IO.into()),
            Outcome::Failed(error) => Err(error),
        }
    }
}

impl Contents {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        put(&mut self.seen, bytes, offset);
        self.unsynced.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        for (offset, bytes) in std::mem::take(&mut self.unsynced) {
            put(&mut self.durable, &bytes, offset);
        }
        self.durable.resize(self.seen.len(), 0);
    }

    /// What is left of it.
    fn survive(&self, random: &mut u64) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let mut sectors: Vec<(usize, &[u8])> = Vec::new();
        for (offset, written) in &self.unsynced {
            let mut at = 0;
            while at < written.len() {
                let length = (SECTOR_BYTES - (offset + at) % SECTOR_BYTES).min(written.len() - at);
                sectors.push((offset + at, &written[at..at + length]));
                at += length;
            }
        }
        // Sometimes nothing or all of it, for these are what happens most.
        let fate = next(random) % 4;
        while !sectors.is_empty() {
            let (offset, sector) = if fate == 1 { sectors.remove(0) } else { sectors.swap_remove(next(random) as usize % sectors.len()) };
            match (fate, next(random) % 8) {
                (0, _) | (2.., 0..4) => {}
                (2.., 4) => put(&mut bytes, &sector[..next(random) as usize % (sector.len() + 1)], offset),
                _ => put(&mut bytes, sector, offset),
            }
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, written: &[u8], offset: usize) {
    if bytes.len() < offset + written.len() {
        bytes.resize(offset + written.len(), 0);
    }
    bytes[offset..offset + written.len()].copy_from_slice(written);
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

#[derive(Debug)]
struct SimulatedFile(SimulatedDisk, usize);

impl DiskFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.state().write(self.1, bytes, offset as usize)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.state().sync(self.1)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.state().files[self.1].seen.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let number = self.1;
        let grows = length as usize > state.files[number].seen.len();
        let outcome = state.step(grows);
        if matches!(outcome, Outcome::Done | Outcome::Crashed) {
            // A file system's journal keeps a length apart from the bytes; here a cut is durable at once, which is the harder case for
            // those who cut.
            let file = &mut state.files[number];
            file.seen.resize(length as usize, 0);
            if !grows {
                file.durable.truncate(length as usize);
                file.unsynced.retain(|(offset, bytes)| offset + bytes.len() <= length as usize);
            }
        }
        outcome.into()
    }
}

impl LogFile for SimulatedFile {
    fn write_durably(&self, blocks: &Aligned, offset: u64) -> io::Result<()> {
        assert!((offset as usize).is_multiple_of(BLOCK_BYTES) && blocks.bytes().len().is_multiple_of(BLOCK_BYTES), "a direct write of whole blocks");
        let mut guard = self.0.state();
        let state = &mut *guard;
        let done = state.write(self.1, blocks.bytes(), offset as usize).and_then(|()| state.sync(self.1));
        if done.is_err() && !state.crashed {
            // Nothing is kept in memory of a direct write: what is read next is what the platters hold.
            let file = &mut state.files[self.1];
            let bytes = file.survive(&mut state.random);
            *file = Contents { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() };
        }
        done
    }

    fn mode(&self) -> WriteMode {
        WriteMode::Direct
    }
}

impl Disk for SimulatedDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.peek(path).ok_or_else(missing)
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        let number = match state.names.get(path).copied() {
            Some(number) => {
                if how == Open::Empty {
                    Result::from(state.step(false))?;
                    state.files[number] = Contents::default();
                }
                number
            }
            None if how == Open::Existing => return Err(missing()),
            None if !path.parent().is_some_and(|parent| state.folders.contains(parent)) => return Err(missing()),
            None => {
                let number = state.files.len();
                state.files.push(Contents::default());
                state.change(true, path, Change::Name(path.to_owned(), number), |state| {
                    state.names.insert(path.to_owned(), number);
                })?;
                number
            }
        };
        Ok(Box::new(SimulatedFile(self.clone(), number)))
    }

    fn open_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let number = self.state().names.get(path).copied().ok_or_else(missing)?;
        Ok(Box::new(SimulatedFile(self.clone(), number)))
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.state();
        Ok(state.names.contains_key(path) || state.folders.contains(path))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !state.folders.contains(folder) {
            return Err(missing());
        }
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(state.names.keys().filter(|path| path.parent() == Some(folder)).filter_map(name).collect())
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !path.parent().is_some_and(|parent| state.folders.contains(parent)) {
            return Err(missing());
        }
        state.change(true, path, Change::Folder(path.to_owned()), |state| {
            state.folders.insert(path.to_owned());
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "names change within a folder");
        let mut state = self.state();
        let number = state.names.get(from).copied().ok_or_else(missing)?;
        state.change(false, to, Change::Rename(from.to_owned(), to.to_owned()), |state| {
            state.names.remove(from);
            state.names.insert(to.to_owned(), number);
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(missing());
        }
        state.change(false, path, Change::Remove(path.to_owned()), |state| {
            state.names.remove(path);
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.folders.contains(path) {
            return Err(missing());
        }
        state.change(false, path, Change::RemoveFolder(path.to_owned()), |state| {
            state.folders.retain(|folder| !folder.starts_with(path));
            state.names.retain(|name, _| !name.starts_with(path));
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        Result::from(state.step(false))?;
        state.apply(path, usize::MAX);
        Ok(())
    }

    fn sync_all(&self, _folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        Result::from(state.step(false))?;
        state.files.iter_mut().for_each(Contents::sync);
        let folders: BTreeSet<PathBuf> = state.changes.iter().map(|(folder, _)| folder.clone()).collect();
        folders.iter().for_each(|folder| state.apply(folder, usize::MAX));
        Ok(())
    }
}
