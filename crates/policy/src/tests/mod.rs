//! Tests, and what they share: keys, and a store in memory that counts what is read of it.

mod diff;
mod properties;
mod revision;
mod store;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use p256::pkcs8::{EncodePrivateKey as _, LineEnding};

use crate::store::Store;
use crate::{Digest, Draft, File, FileLine, Operator, Operators, Revision, Signed, SigningKey, Tree};

pub const PERMIT: &str = "permits/statins.toml";

/// A key on P-256, another for each number.
pub fn key(number: u8) -> SigningKey {
    let secret = p256::SecretKey::from_slice(&[number; 32]).expect("a number below the curve's order");
    SigningKey::from_pem(&secret.to_pkcs8_pem(LineEnding::LF).expect("PEM")).expect("a key that signs")
}

/// The operators of these names, with the keys of 1 and upwards.
pub fn operators(names: &[&str], needed: usize) -> Operators {
    let keys = (1..).zip(names).map(|(number, name)| Operator { id: name.parse().expect("an id"), key: key(number).public().clone() });
    Operators::new(keys.collect(), needed).expect("operators")
}

pub fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (path.parse().expect("a path"), File::new(text))).collect()
}

pub fn draft(number: u64, previous: Option<Digest>, tree: &Tree) -> Draft {
    let line = |(path, file): (&crate::TreePath, &File)| FileLine { sha256: file.sha256(), bytes: file.text().len() as u64, path: path.clone() };
    Draft {
        number,
        previous,
        made: "2026-11-25T01:00:00Z".parse().expect("a time"),
        by: "onni".parse().expect("an id"),
        reason: "Maija joins the statin study".to_owned(),
        files: tree.iter().map(line).collect(),
    }
}

#[derive(Default)]
pub struct Memory {
    pub revisions: BTreeMap<u64, Vec<u8>>,
    pub objects: BTreeMap<Digest, Vec<u8>>,
    pub objects_read: RefCell<usize>,
}

impl Memory {
    /// Puts in a revision of that tree, signed by those: names with their keys' numbers.
    pub fn apply(&mut self, number: u64, previous: Option<Digest>, tree: &Tree, by: &[(&str, u8)]) -> Digest {
        self.objects.extend(tree.iter().map(|(_, file)| (file.sha256(), file.text().as_bytes().to_vec())));
        let revision = Revision::new(draft(number, previous, tree)).expect("a revision");
        let digest = revision.digest();
        let signatures = by.iter().map(|(name, number)| revision.sign(name.parse().expect("an id"), &key(*number))).collect();
        self.revisions.insert(number, Signed { revision, signatures }.render().into_bytes());
        digest
    }
}

impl Store for Memory {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        Ok(self.revisions.keys().copied().collect())
    }

    fn revision(&self, number: u64) -> io::Result<Vec<u8>> {
        self.revisions.get(&number).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn object(&self, sha256: Digest) -> io::Result<Vec<u8>> {
        *self.objects_read.borrow_mut() += 1;
        self.objects.get(&sha256).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
