//! The keys that seal what is private in entries: one a permit, one a year for entries about none; made when first needed, and
//! destroyed on a recorded order.
//!
//! A key is on the disk before anything is sealed with it. A destroyed key's file says so for ever, and nothing is sealed for its
//! scope again. Decides on no order to destroy: that the time has come is the writer's to check.

use std::collections::{HashMap, hash_map};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sulku_audit::Draft;
use sulku_audit::personal::{KEY_FILE_BYTES_MAX, KeyFile, KeyFileForm, KeyId, KeyState, Names, PersonalKey, Scope};
use sulku_permit::{HolderId, PermitId, Pseudonym};

use crate::disk::{Disk as _, RealDisk};
use crate::files::{FileError, NO_LINK, at, create_folder, replace};
use crate::holders::{Holders, HoldersError};

/// Names in one key's file; beyond it nobody new is written down, and pseudonyms of those stay unnamed for readers.
const PERSONS_MAX: usize = 10_000;
/// Pseudonyms of one scope that are kept in memory: a keyed hash costs a fifth of what sealing an entry does. Beyond it they are forgotten.
const PSEUDONYMS_MAX: usize = 1024;
/// The file of those who hold permits now.
const HOLDERS: &str = "holders";

/// A key that can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It was destroyed.
    #[error("the key of {0} was destroyed on order; nothing more is recorded about it")]
    Destroyed(Scope),
    /// The file holds no key.
    #[error("{0}: {1}; restore it from a copy of this folder")]
    Form(PathBuf, KeyFileForm),
    /// The disk or its file system.
    #[error(transparent)]
    File(#[from] FileError),
    /// The list of holders is too long.
    #[error("{0}")]
    Holders(HoldersError),
    /// The system gave no randomness.
    #[error("the kernel gave no randomness: {0}")]
    Randomness(getrandom::Error),
}

impl From<HoldersError> for KeyError {
    fn from(error: HoldersError) -> Self {
        match error {
            HoldersError::File(error) => Self::File(error),
            error @ HoldersError::TooMany => Self::Holders(error),
        }
    }
}

/// The folder of the keys, and those that were used since start.
#[derive(Debug)]
pub(crate) struct Keys {
    folder: PathBuf,
    holders: Holders,
    used: Mutex<HashMap<Scope, Used>>,
}

/// A key in use, and whether its file lacks persons that it names.
#[derive(Debug)]
struct Used {
    file: KeyFile,
    unwritten: Names,
    /// What the key calls persons who were named since start. At most [`PSEUDONYMS_MAX`].
    pseudonyms: HashMap<HolderId, Pseudonym>,
}

/// A scope's key, and what it calls the person whom a draft names.
pub(crate) struct Sealing {
    pub(crate) key: PersonalKey,
    pub(crate) pseudonym: Option<Pseudonym>,
}

impl Keys {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, FileError> {
        create_folder(&RealDisk, &folder)?;
        Ok(Self { holders: Holders::open(folder.join(HOLDERS))?, folder, used: Mutex::default() })
    }

    /// The scope's key, which knows every person whom the draft names. Names that a full disk has no room for are written as soon as it
    /// has: what an operator does then must be kept, and needs the key alone.
    pub(crate) fn key(&self, scope: &Scope, draft: &Draft) -> Result<Sealing, KeyError> {
        self.holders.learn(&draft.event)?;
        let mut used = self.used();
        let Used { file, unwritten, pseudonyms } = match used.entry(scope.clone()) {
            hash_map::Entry::Occupied(known) => known.into_mut(),
            hash_map::Entry::Vacant(place) => {
                let file = self.load(scope)?;
                place.insert(Used { file, unwritten: Names::Known, pseudonyms: HashMap::new() })
            }
        };
        // Who has a pseudonym is in the file, if it has room.
        let known = draft.person.as_ref().and_then(|person| pseudonyms.get(person).copied());
        if known.is_none() {
            let room = PERSONS_MAX.saturating_sub(file.persons().len());
            if file.add(draft.person.iter().take(room)) == Names::New {
                *unwritten = Names::New;
            }
        }
        if *unwritten == Names::New {
            match replace(&RealDisk, &self.path(&scope.key_id()), file.to_text().as_bytes()) {
                Ok(()) => *unwritten = Names::Known,
                Err(error) if error.is_full() => tracing::warn!(%error, "names wait for room on the disk"),
                Err(error) => return Err(error.into()),
            }
        }
        let key = file.key().clone();
        let pseudonym = draft.person.as_ref().map(|person| {
            known.unwrap_or_else(|| {
                let pseudonym = key.pseudonym(person);
                if pseudonyms.len() >= PSEUDONYMS_MAX {
                    pseudonyms.clear();
                }
                pseudonyms.insert(person.clone(), pseudonym);
                pseudonym
            })
        });
        Ok(Sealing { key, pseudonym })
    }

    /// A permit that names the person, by the policy in force or by entries, if there is one.
    pub(crate) fn permit_of(&self, person: &HolderId) -> Result<Option<PermitId>, KeyError> {
        if let Some(permit) = self.holders.permit_of(person) {
            return Ok(Some(permit));
        }
        // Held, so that no file changes while it is read.
        let used = self.used();
        let in_use = used.iter().find_map(|(scope, used)| match scope {
            Scope::Permit(permit) if used.file.persons().contains(person) => Some(permit.clone()),
            Scope::Permit(_) | Scope::Year(_) => None,
        });
        if in_use.is_some() {
            return Ok(in_use);
        }
        for item in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = item.map_err(at(&self.folder))?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()).and_then(KeyId::parse) else { continue };
            if let Some(KeyState::Kept(file)) = self.read(&id)?
                && file.persons().contains(person)
                && let Some(Scope::Permit(permit)) = Scope::parse(file.scope())
            {
                return Ok(Some(permit));
            }
        }
        Ok(None)
    }

    /// Destroys the scope's key: its bytes are overwritten on the disk, then its file says that it is gone. Does nothing the second time.
    pub(crate) fn destroy(&self, id: &KeyId) -> Result<(), FileError> {
        let mut used = self.used();
        used.retain(|scope, _| scope.key_id() != *id);
        let path = self.path(id);
        match OpenOptions::new().write(true).custom_flags(NO_LINK).open(&path) {
            Ok(mut file) => {
                let length = usize::try_from(file.metadata().map_err(at(&path))?.len()).unwrap_or(KEY_FILE_BYTES_MAX).min(KEY_FILE_BYTES_MAX);
                file.write_all(&vec![0; length]).and_then(|()| file.sync_all()).map_err(at(&path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::Io(path, error)),
        }
        replace(&RealDisk, &path, KeyFile::destroyed_text().as_bytes())?;
        RealDisk.sync_folder(&self.folder).map_err(at(&self.folder))
    }

    fn used(&self) -> MutexGuard<'_, HashMap<Scope, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: &KeyId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn load(&self, scope: &Scope) -> Result<KeyFile, KeyError> {
        let id = scope.key_id();
        match self.read(&id)? {
            Some(KeyState::Kept(file)) => Ok(file),
            Some(KeyState::Destroyed) => Err(KeyError::Destroyed(scope.clone())),
            None => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes).map_err(KeyError::Randomness)?;
                let file = KeyFile::new(scope, PersonalKey::from_random(bytes));
                replace(&RealDisk, &self.path(&id), file.to_text().as_bytes())?;
                Ok(file)
            }
        }
    }

    fn read(&self, id: &KeyId) -> Result<Option<KeyState>, KeyError> {
        let path = self.path(id);
        let mut text = zeroize::Zeroizing::new(String::new());
        match OpenOptions::new().read(true).custom_flags(NO_LINK).open(&path) {
            Ok(file) => file.take(KEY_FILE_BYTES_MAX as u64).read_to_string(&mut text).map_err(at(&path))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(FileError::Io(path, error).into()),
        };
        KeyFile::parse(&text).map(Some).map_err(|error| KeyError::Form(path, error))
    }
}
