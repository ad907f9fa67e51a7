//! Who holds which permit by the policy in force, as the gateway said last: whoever holds one does not audit.
//!
//! Kept beside the keys, so that it is known before the gateway comes back. A list of all permits replaces what was known once its
//! last part has come; a list of changes is merged. Says nothing of who held a permit once: the keys' files name them.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sulku_audit::Event;
use sulku_audit::event::{Extent, HeldPermit};
use sulku_permit::{HolderId, PermitId};

use crate::disk::RealDisk;
use crate::files::{FileError, NO_LINK, at, replace};

/// More permits than a policy has files.
const PERMITS_MAX: usize = 20_000;
/// More holders than any environment has, of all permits together; so many lines of the file are 32 MB at the most.
const HOLDERS_MAX: usize = 200_000;
const FILE_BYTES_MAX: u64 = 64 << 20;
const HEADER: &str = "sulku-holders/1\n";

type Permits = BTreeMap<PermitId, Vec<HolderId>>;

/// A list that is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldersError {
    /// It is longer than any real one.
    #[error("the policy lists more than {PERMITS_MAX} permits or {HOLDERS_MAX} holders")]
    TooMany,
    /// It can't be kept.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Who holds which permit.
#[derive(Debug)]
pub(crate) struct Holders {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    permits: Permits,
    /// The last list of all permits, as far as it has come.
    coming: Permits,
    is_written: bool,
}

impl Holders {
    /// What was known when the ledger stopped.
    pub(crate) fn open(path: PathBuf) -> Result<Self, FileError> {
        let mut text = String::new();
        match OpenOptions::new().read(true).custom_flags(NO_LINK).open(&path) {
            Ok(file) => drop(file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(at(&path))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => text.push_str(HEADER),
            Err(error) => return Err(FileError::Io(path, error)),
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "this is no list of holders; take it away, and the gateway tells it anew");
        let permits = parse(&text).ok_or_else(malformed).map_err(at(&path))?;
        Ok(Self { path, known: Mutex::new(Known { permits, coming: Permits::new(), is_written: true }) })
    }

    /// Takes in what the event says of holders, if it says anything. A list that a full disk has no room for is kept all the same, and
    /// written with the next.
    pub(crate) fn learn(&self, event: &Event) -> Result<(), HoldersError> {
        let Event::PolicyHolders { number: _, extent, part, parts, permits: listed } = event else { return Ok(()) };
        let mut known = self.known();
        let known = &mut *known;
        if *extent == Extent::Whole && *part == 1 {
            known.coming.clear();
        }
        let permits = if *extent == Extent::Whole { &mut known.coming } else { &mut known.permits };
        for HeldPermit { permit, holders } in listed.known().into_iter().flatten() {
            let changed = if holders.is_empty() {
                permits.remove(permit).is_some()
            } else {
                permits.insert(permit.clone(), holders.clone()).as_ref() != Some(holders)
            };
            known.is_written &= !changed || *extent == Extent::Whole;
        }
        if permits.len() > PERMITS_MAX || permits.values().map(Vec::len).sum::<usize>() > HOLDERS_MAX {
            return Err(HoldersError::TooMany);
        }
        if part < parts {
            return Ok(());
        }
        if *extent == Extent::Whole {
            known.is_written &= known.permits == known.coming;
            // It stays, since an entry is prepared twice when the year ends in between.
            known.permits.clone_from(&known.coming);
        }
        if !known.is_written {
            match replace(&RealDisk, &self.path, render(&known.permits).as_bytes()) {
                Ok(()) => known.is_written = true,
                Err(error) if error.is_full() => tracing::warn!(%error, "the list of holders waits for room on the disk"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A permit that the person holds, if there is one.
    pub(crate) fn permit_of(&self, person: &HolderId) -> Option<PermitId> {
        self.known().permits.iter().find(|(_, holders)| holders.contains(person)).map(|(permit, _)| permit.clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn render(permits: &Permits) -> String {
    let mut text = HEADER.to_owned();
    for (permit, holders) in permits {
        holders.iter().for_each(|holder| text.push_str(&format!("{permit} {holder}\n")));
    }
    text
}

fn parse(text: &str) -> Option<Permits> {
    let mut permits = Permits::new();
    for line in text.strip_prefix(HEADER)?.lines() {
        let (permit, holder) = line.split_once(' ')?;
        permits.entry(permit.parse().ok()?).or_default().push(holder.parse().ok()?);
    }
    Some(permits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(extent: Extent, (part, parts): (u32, u32), permits: &[(&str, &[&str])]) -> Event {
        let held = |(permit, holders): &(&str, &[&str])| HeldPermit {
            permit: permit.parse().expect("an id"),
            holders: holders.iter().map(|holder| holder.parse().expect("an id")).collect(),
        };
        Event::PolicyHolders { number: 1, extent, part, parts, permits: permits.iter().map(held).collect::<Vec<_>>().into() }
    }

    fn held(holders: &Holders, person: &str) -> Option<String> {
        holders.permit_of(&person.parse().expect("an id")).map(|permit| permit.to_string())
    }

    #[test]
    fn a_whole_list_counts_when_its_last_part_has_come_and_is_known_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("holders");
        let holders = Holders::open(path.clone()).expect("none yet");
        holders.learn(&list(Extent::Whole, (1, 1), &[("THL/1", &["maija"]), ("THL/2", &["bo", "maija"])])).expect("taken");
        holders.learn(&list(Extent::Whole, (1, 2), &[("THL/3", &["tiina"])])).expect("taken");
        assert_eq!((held(&holders, "bo"), held(&holders, "tiina")), (Some("THL/2".to_owned()), None), "half a list changes nothing");
        holders.learn(&list(Extent::Whole, (2, 2), &[("THL/4", &["matti"])])).expect("taken");
        for holders in [holders, Holders::open(path).expect("read back")] {
            assert_eq!(["maija", "bo", "tiina", "matti"].map(|person| held(&holders, person).is_some()), [false, false, true, true]);
        }
    }

    #[test]
    fn changes_are_merged_and_a_permit_without_holders_is_gone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("holders");
        let holders = Holders::open(path.clone()).expect("none yet");
        holders.learn(&list(Extent::Whole, (1, 1), &[("THL/1", &["maija"]), ("THL/2", &["bo"])])).expect("taken");
        holders.learn(&list(Extent::Changes, (1, 1), &[("THL/2", &[]), ("THL/3", &["tiina"])])).expect("taken");
        for holders in [holders, Holders::open(path.clone()).expect("read back")] {
            assert_eq!(["maija", "bo", "tiina"].map(|person| held(&holders, person).is_some()), [true, false, true]);
        }
        std::fs::write(&path, "sulku-holders/1\nTHL/1\n").expect("written");
        assert!(Holders::open(path).is_err(), "half a line is no list");
    }

    #[test]
    fn there_is_a_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let holders = Holders::open(folder.path().join("holders")).expect("none yet");
        let permits: Vec<_> = (0..=PERMITS_MAX).map(|number| format!("THL/{number}")).collect();
        let all: Vec<_> = permits.iter().map(|permit| (permit.as_str(), &["maija"][..])).collect();
        assert!(matches!(holders.learn(&list(Extent::Whole, (1, 1), &all)), Err(HoldersError::TooMany)));
        assert_eq!(held(&holders, "maija"), None);
        holders.learn(&list(Extent::Whole, (1, 1), &all[1..])).expect("the control: one fewer");
    }
}
