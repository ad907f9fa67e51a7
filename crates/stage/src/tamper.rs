//! What a dishonest keeper of a ledger could do: change one bit of one entry, in a copy.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::StageError;

/// Entries in a full bundle (C2SP tlog-tiles).
const BUNDLE_ENTRIES: u64 = 256;

/// Copies a folder and everything in it. Links and sockets are left out: a ledger has none.
///
/// # Errors
/// A file can't be read or written.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), StageError> {
    fs::create_dir_all(to).map_err(StageError::file("making a folder", to))?;
    for entry in fs::read_dir(from).map_err(StageError::file("reading a folder", from))? {
        let entry = entry.map_err(StageError::file("reading a folder", from))?;
        let kind = entry.file_type().map_err(StageError::file("looking at", entry.path()))?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).map_err(StageError::file("copying", entry.path()))?;
        }
    }
    Ok(())
}

/// Flips one bit in the middle of entry `index`, in every bundle of the copied log that holds it. Returns how many that were.
///
/// # Errors
/// No bundle holds it, or a file can't be read or written.
pub fn flip_in_entry(log: &Path, index: u64) -> Result<usize, StageError> {
    let mut flipped = 0;
    for bundle in bundles(log, index / BUNDLE_ENTRIES)? {
        let mut bytes = fs::read(&bundle).map_err(StageError::file("reading", &bundle))?;
        let place = entry_at(&bytes, index % BUNDLE_ENTRIES).and_then(|(start, length)| bytes.get_mut(start + length / 2));
        if let Some(byte) = place {
            *byte ^= 0x01;
            fs::write(&bundle, bytes).map_err(StageError::file("writing", &bundle))?;
            flipped += 1;
        }
    }
    if flipped == 0 { Err(StageError::Unexpected { what: format!("no entry bundle in {} holds entry {index}", log.display()) }) } else { Ok(flipped) }
}

/// The full bundle of that number, if there is one, and every partial one.
fn bundles(log: &Path, number: u64) -> Result<Vec<PathBuf>, StageError> {
    let thousands = format!("{:03}", number % 1_000);
    let name = if number < 1_000 { thousands } else { format!("x{:03}/{thousands}", number / 1_000) };
    let full = log.join("tile/entries").join(&name);
    let partial = log.join("tile/entries").join(format!("{name}.p"));
    let mut found: Vec<PathBuf> = full.is_file().then_some(full).into_iter().collect();
    if partial.is_dir() {
        for entry in fs::read_dir(&partial).map_err(StageError::file("reading a folder", &partial))? {
            found.push(entry.map_err(StageError::file("reading a folder", &partial))?.path());
        }
    }
    Ok(found)
}

/// Where an entry begins in its bundle, and how long it is: each entry follows its length in two bytes, big endian.
fn entry_at(bundle: &[u8], number: u64) -> Option<(usize, usize)> {
    let mut at = 0;
    for _ in 0..number {
        at += 2 + usize::from(u16::from_be_bytes([*bundle.get(at)?, *bundle.get(at + 1)?]));
    }
    let length = usize::from(u16::from_be_bytes([*bundle.get(at)?, *bundle.get(at + 1)?]));
    bundle.get(at + 2..at + 2 + length)?;
    Some((at + 2, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_found_by_its_number() {
        let bundle = [0, 3, b'a', b'b', b'c', 0, 1, b'd'];
        assert_eq!(entry_at(&bundle, 0), Some((2, 3)));
        assert_eq!(entry_at(&bundle, 1), Some((7, 1)));
        assert_eq!(entry_at(&bundle, 2), None);
        assert_eq!(entry_at(&bundle[..7], 1), None, "a torn bundle");
    }
}
