//! Which revision is in force, among those of a store.
//!
//! The highest-numbered revision that counts is in force. One counts when as many operators signed it as are needed, or when one did
//! and it only narrows what the revision before it, which itself counts, allows. A revision that still waits for signatures is passed
//! over. A damaged or forged one is not: as long as it is there nothing older comes into force in its stead, because it may be the very
//! revision that took somebody's access away.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use crate::digest::Digest;
use crate::operators::Operators;
use crate::revision::{Approved, FileLine, ParseError, REVISION_BYTES_MAX, Revision, Signed, Signers, Unapproved, enough, short};
use crate::tree::{File, OBJECT_BYTES_MAX, Tree, TreePath};

/// More revisions than a store has: the highest number is the last.
pub const REVISIONS_MAX: usize = 1_000_000;
/// So many narrowing revisions may follow each other before one needs as many signatures as any other; also how many waiting ones are passed over.
pub const SEARCH_MAX: usize = 1_000;

/// What the names of revisions' files end with.
pub const EXTENSION: &str = "revision";

/// The name of a revision's file: `000012.revision`.
#[must_use]
pub fn file_name(number: u64, extension: &str) -> String {
    format!("{number:06}.{extension}")
}

/// The numbers of the files that are named so with this extension; a file of any other name is none of them.
///
/// # Errors
/// The folder can't be listed, or has more than [`REVISIONS_MAX`].
pub fn numbers(names: impl Iterator<Item = io::Result<OsString>>, extension: &str) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for name in names {
        let name = name?;
        let number = name.to_str().and_then(|name| name.strip_suffix(extension)?.strip_suffix('.')?.parse().ok());
        numbers.extend(number.filter(|number| name.to_str() == Some(&file_name(*number, extension))));
        if numbers.len() > REVISIONS_MAX {
            return Err(io::Error::other("there are more revisions than a store has"));
        }
    }
    Ok(numbers)
}

/// What holds revisions and files. Who implements it does the reading, and reads no more than a byte over what may be there.
pub trait Store {
    /// The numbers of the revisions that are there, in any order; at most [`REVISIONS_MAX`].
    ///
    /// # Errors
    /// They can't be listed.
    fn revisions(&self) -> io::Result<Vec<u64>>;

    /// The file of that revision, of which at most [`REVISION_BYTES_MAX`] bytes and one more are read.
    ///
    /// # Errors
    /// It can't be read.
    fn revision(&self, number: u64) -> io::Result<Vec<u8>>;

    /// The contents of that SHA-256, of which at most [`OBJECT_BYTES_MAX`] bytes and one more are read.
    ///
    /// # Errors
    /// They can't be read.
    fn object(&self, sha256: Digest) -> io::Result<Vec<u8>>;
}

/// A revision in force, with its files. Made by [`read`] alone.
#[derive(Debug, PartialEq, Eq)]
pub struct InForce {
    approved: Approved,
    revision: Revision,
    tree: Tree,
}

impl InForce {
    /// Who approved it.
    pub const fn approved(&self) -> &Approved {
        &self.approved
    }

    /// What it says.
    #[must_use]
    pub const fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Its files.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// Why no revision, or not a newer one, can be put in force.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// Nothing has been applied.
    #[error("the store has no revision; make the first with `sulku policy apply`")]
    Empty,
    /// All that there are wait for signatures.
    #[error("no revision counts: {number} is the newest; have it signed with `sulku policy approve {number}`")]
    Waiting {
        /// The newest.
        number: u64,
        /// Why it does not count.
        source: Unapproved,
    },
    /// A revision is no revision.
    #[error("revision {number} is damaged")]
    Damaged {
        /// Which.
        number: u64,
        /// Where and how.
        source: ParseError,
    },
    /// The file has another number in it than in its name.
    #[error("revision {number} says that it is number {says}; put the file back under its own name")]
    Renamed {
        /// By its name.
        number: u64,
        /// By its text.
        says: u64,
    },
    /// A revision's signatures are not what they say.
    #[error("revision {number} is not approved")]
    Unapproved {
        /// Which.
        number: u64,
        /// Why.
        source: Unapproved,
    },
    /// A file is not what the revision says.
    #[error("revision {number}: {path} is not what was signed: {why}; put the store's objects back from a copy, or apply again")]
    Object {
        /// Which revision.
        number: u64,
        /// Which file.
        path: TreePath,
        /// How it differs.
        why: &'static str,
    },
    /// The store can't be read.
    #[error("the policy's store can't be read: {what}")]
    Read {
        /// What of it.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The revision in force has gone, and nothing newer has come.
    #[error("revision {number}, which is in force, is no longer in the store, or is another text now; put it back")]
    Gone {
        /// Which.
        number: u64,
    },
    /// Too many wait, or narrow one another.
    #[error("more than {SEARCH_MAX} revisions would have to be looked at; have a revision signed by as many operators as are needed")]
    Bound,
}

/// Finds the revision in force and reads its files. `before` is what is in force now: nothing older is found, its files are not read
/// again, and if it is still the one in force it is what is returned.
///
/// # Errors
/// Why none can be put in force. What is in force stays so.
pub fn read(
    store: &impl Store,
    operators: &Operators,
    narrows: impl Fn(&Tree, &Tree) -> bool,
    before: Option<&Arc<InForce>>,
) -> Result<Arc<InForce>, RevisionError> {
    Search::new(store, operators, &narrows, before)?.in_force()
}

/// Reads the files of a revision, each as the revision names it. Says nothing of who wants them in force: this is for who is about to sign.
///
/// # Errors
/// A file can't be read, or is another one.
pub fn files(store: &impl Store, revision: &Revision) -> Result<Tree, RevisionError> {
    tree(store, revision, &[])
}

/// A revision's files. Those that one of the trees at hand has are not read again.
fn tree(store: &impl Store, revision: &Revision, at_hand: &[&Tree]) -> Result<Tree, RevisionError> {
    let had = |file: &FileLine| at_hand.iter().find_map(|tree| tree.get(file.path.as_str()).filter(|known| known.sha256() == file.sha256)).cloned();
    let file = |line: &FileLine| Ok((line.path.clone(), had(line).map_or_else(|| object(store, revision.number(), line), Ok)?));
    revision.files().iter().map(file).collect()
}

fn object(store: &impl Store, number: u64, line: &FileLine) -> Result<File, RevisionError> {
    let read = |source| RevisionError::Read { what: format!("objects/{} ({})", line.sha256, line.path), source };
    let differs = |why| RevisionError::Object { number, path: line.path.clone(), why };
    let bytes = store.object(line.sha256).map_err(read)?;
    if bytes.len() as u64 != line.bytes {
        return Err(differs("it has another length"));
    }
    if Digest::of(&bytes) != line.sha256 {
        return Err(differs("it has another SHA-256"));
    }
    std::str::from_utf8(&bytes).map(File::new).map_err(|_| differs("it is no UTF-8 text"))
}

struct Search<'a, S, N> {
    store: &'a S,
    operators: &'a Operators,
    narrows: &'a N,
    before: Option<&'a Arc<InForce>>,
    /// The highest first.
    numbers: Vec<u64>,
}

/// A revision whose signatures are by whom they say, but too few.
struct Candidate {
    signed: Signed,
    signers: Signers,
}

/// What a revision's text and signatures alone say.
enum Standing {
    Counts(Signed, Approved),
    Short(Candidate),
}

impl<'a, S: Store, N: Fn(&Tree, &Tree) -> bool> Search<'a, S, N> {
    fn new(store: &'a S, operators: &'a Operators, narrows: &'a N, before: Option<&'a Arc<InForce>>) -> Result<Self, RevisionError> {
        let mut numbers = store.revisions().map_err(|source| RevisionError::Read { what: "its list of revisions".to_owned(), source })?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.dedup();
        Ok(Self { store, operators, narrows, before, numbers })
    }

    fn in_force(&self) -> Result<Arc<InForce>, RevisionError> {
        let floor = self.before.map_or(0, |before| before.revision.number());
        let mut waiting = None;
        for (place, &number) in self.numbers.iter().enumerate().take_while(|(_, number)| **number >= floor) {
            if place >= SEARCH_MAX {
                return Err(RevisionError::Bound);
            }
            let candidate = match self.standing(number)? {
                Standing::Counts(signed, approved) => return self.put(signed, approved, None),
                Standing::Short(candidate) => candidate,
            };
            match self.narrowing(candidate)? {
                Ok(found) => return Ok(found),
                Err(source @ Unapproved::Pending { .. }) => waiting = waiting.or(Some(RevisionError::Waiting { number, source })),
                Err(source) => return Err(RevisionError::Unapproved { number, source }),
            }
        }
        Err(match self.before {
            Some(before) => RevisionError::Gone { number: before.revision.number() },
            None => waiting.unwrap_or(RevisionError::Empty),
        })
    }

    /// The signatures of a revision, without a look at its files.
    fn standing(&self, number: u64) -> Result<Standing, RevisionError> {
        let bytes = self.store.revision(number).map_err(|source| RevisionError::Read { what: format!("revision {number}"), source })?;
        let signed = Signed::parse(&bytes).map_err(|source| RevisionError::Damaged { number, source })?;
        if signed.revision.number() != number {
            return Err(RevisionError::Renamed { number, says: signed.revision.number() });
        }
        let signers = Signers::of(&signed, self.operators).map_err(|source| RevisionError::Unapproved { number, source })?;
        Ok(match enough(signers, &signed, self.operators) {
            Ok(approved) => Standing::Counts(signed, approved),
            Err(signers) => Standing::Short(Candidate { signed, signers }),
        })
    }

    /// Whether one signature is enough, because the revision and each before it down to one that counts by its signatures, or that is in
    /// force, only narrows.
    fn narrowing(&self, top: Candidate) -> Result<Result<Arc<InForce>, Unapproved>, RevisionError> {
        let refused = short(top.signers.clone(), self.operators);
        if top.signers.known.is_empty() {
            return Ok(Err(refused));
        }
        let mut chain = vec![top];
        let mut tree = loop {
            let Some(Candidate { signed: Signed { revision, .. }, .. }) = chain.last() else { return Ok(Err(refused)) };
            match self.before {
                Some(before) if Some(before.revision.digest()) == revision.previous() => break before.tree.clone(),
                _ => {}
            }
            if chain.len() >= SEARCH_MAX {
                return Err(RevisionError::Bound);
            }
            match self.previous(revision)? {
                None => return Ok(Err(refused)),
                Some(Standing::Counts(signed, _)) => break self.tree(&signed.revision, None)?,
                Some(Standing::Short(candidate)) if candidate.signers.known.is_empty() => return Ok(Err(refused)),
                Some(Standing::Short(candidate)) => chain.push(candidate),
            }
        };
        while let Some(Candidate { signed, signers }) = chain.pop() {
            let next = self.tree(&signed.revision, Some(&tree))?;
            if !(self.narrows)(&tree, &next) {
                return Ok(Err(refused));
            }
            if chain.is_empty() {
                let approved = signers.approve(&signed);
                return self.put(signed, approved, Some(&next)).map(Ok);
            }
            tree = next;
        }
        Ok(Err(refused))
    }

    /// The revision before, found by its digest among those of lower numbers.
    fn previous(&self, revision: &Revision) -> Result<Option<Standing>, RevisionError> {
        let Some(digest) = revision.previous() else { return Ok(None) };
        for &number in self.numbers.iter().filter(|number| **number < revision.number()).take(SEARCH_MAX) {
            let standing = self.standing(number)?;
            let (Standing::Counts(signed, _) | Standing::Short(Candidate { signed, .. })) = &standing;
            if signed.revision.digest() == digest {
                return Ok(Some(standing));
            }
        }
        Ok(None)
    }

    fn put(&self, signed: Signed, approved: Approved, near: Option<&Tree>) -> Result<Arc<InForce>, RevisionError> {
        let Signed { revision, signatures: _ } = signed;
        match self.before {
            Some(before) if before.revision.digest() == revision.digest() => Ok(Arc::clone(before)),
            Some(before) if before.revision.number() >= revision.number() => Err(RevisionError::Gone { number: before.revision.number() }),
            _ => self.tree(&revision, near).map(|tree| Arc::new(InForce { approved, revision, tree })),
        }
    }

    fn tree(&self, revision: &Revision, near: Option<&Tree>) -> Result<Tree, RevisionError> {
        let at_hand: Vec<_> = near.into_iter().chain(self.before.map(|before| &before.tree)).collect();
        tree(self.store, revision, &at_hand)
    }
}

const _: () = assert!(OBJECT_BYTES_MAX < REVISION_BYTES_MAX as u64, "a reader with one bound for both reads every object");
