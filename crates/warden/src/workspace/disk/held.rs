//! The disks that are mounted, and those on their way there or away. What takes long is an errand; nobody waits here.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sulku_permit::WorkspaceName;

use super::{Fill, Mounted, Wanted, fill};
use crate::errand::{Errand, Readiness};
use crate::loopback;
use crate::sys::LoopAccess;

/// Workspaces' own disks.
#[derive(Debug, Default)]
pub struct Disks(BTreeMap<WorkspaceName, Entry>);

#[derive(Debug)]
struct Entry {
    state: State,
    /// Why what was wanted last did not come about; told once.
    failed: Option<String>,
}

#[derive(Debug)]
enum State {
    /// It is made, checked and mounted, to this limit.
    Coming(Errand, Option<u64>),
    /// It is mounted.
    Held(Held),
    /// It is given another limit.
    Adjusting(Errand, Held, Option<u64>),
    /// It is written out and let go.
    Going(Errand),
    /// It is not there.
    Gone,
}

#[derive(Debug)]
struct Held {
    mounted: Mounted,
    limit: Option<u64>,
    mount: OwnedFd,
}

impl Disks {
    /// Sees to it that a disk is mounted as it is wanted.
    pub fn want(&mut self, wanted: &Wanted<'_>) -> Readiness {
        let entry = self.0.entry(wanted.name.clone()).or_insert(Entry { state: State::Gone, failed: None });
        if let Some(words) = entry.failed.take() {
            return Readiness::Failed(words);
        }
        let (next, readiness) = match std::mem::replace(&mut entry.state, State::Gone) {
            State::Held(held) if wanted.bytes.is_none() || held.limit == wanted.bytes => (State::Held(held), Readiness::Ready),
            State::Held(held) => match Errand::send(&[held.mount.as_fd()], || wanted.adjust(&held.mounted, &held.mount).map(|()| ((), Vec::new()))) {
                Ok(errand) => (State::Adjusting(errand, held, wanted.bytes), Readiness::Underway),
                Err(error) => (State::Held(held), Readiness::Failed(error.to_string())),
            },
            State::Gone => match Errand::send(&[], || wanted.mount().map(|(mounted, mount)| (mounted, vec![mount]))) {
                Ok(errand) => (State::Coming(errand, wanted.bytes), Readiness::Underway),
                Err(error) => (State::Gone, Readiness::Failed(error.to_string())),
            },
            underway => (underway, Readiness::Underway),
        };
        entry.state = next;
        readiness
    }

    /// A mount of a held disk for one cell.
    ///
    /// # Errors
    /// It is not held, or the kernel mounts it no more.
    pub fn mount_of(&self, name: &WorkspaceName) -> io::Result<OwnedFd> {
        let held = self.held(name).ok_or(io::ErrorKind::NotFound)?;
        loopback::mount("ext4", &held.mounted.device, LoopAccess::Write, &[])
    }

    /// What a held disk holds.
    #[must_use]
    pub fn fill_of(&self, name: &WorkspaceName) -> Option<Fill> {
        let held = self.held(name)?;
        fill(&held.mount, held.limit.unwrap_or(held.mounted.size).min(held.mounted.size)).ok()
    }

    fn held(&self, name: &WorkspaceName) -> Option<&Held> {
        match &self.0.get(name)?.state {
            State::Held(held) | State::Adjusting(_, held, _) => Some(held),
            _ => None,
        }
    }

    /// Whether anything is known of a disk: it is mounted, or on its way there or away.
    #[must_use]
    pub fn has(&self, name: &WorkspaceName) -> bool {
        self.0.contains_key(name)
    }

    /// Has disks written out and let go that nobody uses.
    pub fn let_go(&mut self, is_used: impl Fn(&WorkspaceName) -> bool) {
        for (name, entry) in &mut self.0 {
            if !matches!(entry.state, State::Held(_)) || is_used(name) {
                continue;
            }
            if let State::Held(held) = std::mem::replace(&mut entry.state, State::Gone) {
                let Held { mount, .. } = &held;
                // The last one to close it waits until all is written; that must not be the warden.
                let sent = Errand::send(&[mount.as_fd()], || {
                    rustix::fs::openat(mount, ".", rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
                        .and_then(rustix::fs::syncfs)
                        .map(|()| ((), Vec::new()))
                        .map_err(|error| format!("could not write out the disk: {error}"))
                });
                match sent {
                    Ok(errand) => entry.state = State::Going(errand),
                    Err(error) => tracing::error!(workspace = %name, %error, "a disk could not be let go ahead; it is closed at once"),
                }
            }
        }
        self.0.retain(|name, entry| !matches!(entry.state, State::Gone) || entry.failed.is_some() && is_used(name));
    }

    /// Readable when an errand of a disk has ended.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.values().filter_map(|entry| match &entry.state {
            State::Coming(errand, _) | State::Adjusting(errand, ..) | State::Going(errand) => Some(errand.descriptor()),
            State::Held(_) | State::Gone => None,
        })
    }

    /// Takes in what errands have brought.
    pub fn take_in(&mut self) {
        for (name, entry) in &mut self.0 {
            let (state, failed) = match std::mem::replace(&mut entry.state, State::Gone) {
                State::Coming(errand, limit) => match errand.end::<Mounted>() {
                    Err(errand) => (State::Coming(errand, limit), None),
                    Ok(Ok((mounted, descriptors))) => came(mounted, limit, descriptors),
                    Ok(Err(words)) => (State::Gone, Some(words)),
                },
                State::Adjusting(errand, held, limit) => match errand.end::<()>() {
                    Err(errand) => (State::Adjusting(errand, held, limit), None),
                    Ok(Ok(_)) => (State::Held(Held { limit, ..held }), None),
                    Ok(Err(words)) => (State::Held(held), Some(words)),
                },
                State::Going(errand) => match errand.end::<()>() {
                    Err(errand) => (State::Going(errand), None),
                    Ok(Ok(_)) => (State::Gone, None),
                    Ok(Err(words)) => {
                        tracing::error!(workspace = %name, words, "a disk was let go");
                        (State::Gone, None)
                    }
                },
                at_rest => (at_rest, None),
            };
            entry.state = state;
            entry.failed = failed.or(entry.failed.take());
        }
        self.0.retain(|_, entry| !matches!(entry.state, State::Gone) || entry.failed.is_some());
    }
}

fn came(mounted: Mounted, limit: Option<u64>, descriptors: Vec<OwnedFd>) -> (State, Option<String>) {
    match descriptors.into_iter().next() {
        Some(mount) => (State::Held(Held { mounted, limit, mount }), None),
        None => (State::Gone, Some("it was mounted and not handed over".to_owned())),
    }
}
