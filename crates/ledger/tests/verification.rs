//! Verification on several threads says what verification on one says, of whole logs and of damaged ones.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use sulku_audit::source::read_checkpoint;
use sulku_audit::{Fault, Recordings, Verified};
use sulku_ledger::folder::Folder;
use sulku_ledger::verification;

#[path = "../examples/make_log.rs"]
#[expect(dead_code, reason = "its `main` is the example's")]
mod make_log;

fn verify(folder: &Path, threads: usize) -> Result<Verified, Fault> {
    let mut source = Folder::new(folder.to_owned());
    let (_, checkpoint) = read_checkpoint(&mut source, &make_log::signer().own_keys().into()).map_err(Fault::from)?;
    let mut seen = 0;
    let verified = verification::verify(&mut source, checkpoint, Recordings::Check, NonZeroUsize::new(threads).unwrap(), |index, _, _| {
        assert_eq!(index, seen, "entries are shown in order");
        seen += 1;
    })?;
    assert_eq!(seen, verified.entries());
    Ok(verified)
}

#[test]
fn a_whole_log_is_whole_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    make_log::make(&log, 6_000).unwrap();
    let one = verify(&log, 1).unwrap();
    assert_eq!((one.entries(), one.permits(), one.sessions()), (6_000, 40, 60));
    for threads in [2, 3, 16, 100] {
        assert_eq!(verify(&log, threads).unwrap(), one);
    }
}

#[test]
fn the_first_thing_wrong_is_the_same_on_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    make_log::make(&log, 6_000).unwrap();
    let flip = |path: &str, at: usize| {
        let path = log.join(path);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 4;
        fs::write(path, bytes).unwrap();
    };
    // From the end to the beginning: each new damage is the first, whatever thread meets which one first.
    let damages: [(&dyn Fn(), &str); 6] = [
        (&|| flip("tile/1/000.p/23", 40), "entry 0: tile/1/000.p/23 does not follow from the entries; the tree was changed"),
        (&|| fs::remove_file(log.join("tile/entries/021")).unwrap(), "entry 5376"),
        (&|| flip("tile/0/018", 32), "entry 4609: its bytes are not those that the tree was built from; it was changed"),
        (&|| flip("tile/entries/015", 60), "entry 3840: its bytes are not those that the tree was built from; it was changed"),
        (
            &|| fs::write(log.join("tile/entries/010"), b"\0\x05short").unwrap(),
            "entry 2560: its bytes are not those that the tree was built from; it was changed",
        ),
        (&|| fs::write(log.join("tile/0/002"), b"short").unwrap(), "entry 512"),
    ];
    for (damage, expected) in damages {
        damage();
        for threads in [1, 2, 3, 8] {
            assert_eq!(verify(&log, threads).unwrap_err().to_string(), expected, "{threads} threads");
        }
    }
}
