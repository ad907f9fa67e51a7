//! A policy of 10 000 files: what one changed file costs. The bound is that of the promise, and it holds without optimisation, too.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use sulku_policy::store::{Store, read};
use sulku_policy::{Digest, Draft, FileLine, Operator, Operators, Revision, Signed, SigningKey, narrows};

const FILES: usize = 10_000;
/// A key on P-256 that is used nowhere else.
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MDECAQEEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBoAoGCCqGSM49
AwEH
-----END EC PRIVATE KEY-----
";

#[derive(Default)]
struct Memory {
    revisions: BTreeMap<u64, Vec<u8>>,
    objects: BTreeMap<Digest, Vec<u8>>,
}

impl Store for Memory {
    fn revisions(&self) -> io::Result<Vec<u64>> {
        Ok(self.revisions.keys().copied().collect())
    }

    fn revision(&self, number: u64) -> io::Result<Vec<u8>> {
        self.revisions.get(&number).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn object(&self, sha256: Digest) -> io::Result<Vec<u8>> {
        self.objects.get(&sha256).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[test]
fn one_changed_file_of_ten_thousand_is_in_force_within_fifty_milliseconds() {
    let key = SigningKey::from_pem(KEY).expect("a key");
    let onni: sulku_permit::HolderId = "onni".parse().expect("an id");
    let operators = Operators::new(vec![Operator { id: onni.clone(), key: key.public().clone() }], 1).expect("operators");
    let mut store = Memory::default();
    let apply = |store: &mut Memory, number: u64, changed: &str| {
        let text = |file: usize| format!("{}\n{}", if file == 4_711 { changed } else { "as it was" }, "a line of a permit\n".repeat(100 + file % 7));
        let files = (0..FILES).map(|file| {
            let text = text(file);
            let sha256 = Digest::of(text.as_bytes());
            let line = FileLine { sha256, bytes: text.len() as u64, path: format!("permits/{file}.toml").parse().expect("a path") };
            store.objects.insert(sha256, text.into_bytes());
            line
        });
        let made = "2026-11-25T01:00:00Z".parse().expect("a time");
        let draft = Draft { number, previous: None, made, by: onni.clone(), reason: "more".to_owned(), files: files.collect() };
        let revision = Revision::new(draft).expect("a revision");
        let signatures = vec![revision.sign(onni.clone(), &key)];
        store.revisions.insert(number, Signed { revision, signatures }.render().into_bytes());
    };
    apply(&mut store, 1, "first");
    let mut in_force = read(&store, &operators, narrows, None).expect("in force");
    let mut took = Vec::new();
    for number in 2..9 {
        apply(&mut store, number, &number.to_string());
        let begun = Instant::now();
        in_force = read(&store, &operators, narrows, Some(&in_force)).expect("in force");
        took.push(begun.elapsed());
        assert_eq!((in_force.revision().number(), in_force.tree().len()), (number, FILES));
    }
    took.sort();
    // The quickest: others work on this machine as well.
    assert!(took[0] < Duration::from_millis(50), "{took:?}");
}
