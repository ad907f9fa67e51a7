//! `sulku audit keys`: which keys sign a log, and the way from the keys that an auditor holds to them.
//!
//! Believes the old key's word about the new one (`ledger.key-rotated`), and then checks the whole log against where that leads. Trusts
//! no key that it finds any other way.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use sulku_audit::note::Note;
use sulku_audit::rotation::{self, Rotation};
use sulku_audit::source::{CHECKPOINT, read_bundle};
use sulku_audit::tile::{TILE_WIDTH, Tile, TileKind, split_entry};
use sulku_audit::{Checkpoint, Entry, Event, LogKeys, Recordings, Source, Trust};

use super::words;
use crate::print::answer;

/// How the entry's document names the event: entries without it need not be parsed.
const EVENT: &[u8] = b"\"ledger.key-rotated\"";

/// Follows the log's keys from those that the auditor holds, checks the log with where they lead, and says so.
///
/// # Errors
/// A change is forged, or the log does not verify with the keys that they lead to.
pub(super) fn run(source: &mut dyn Source, held: LogKeys, out: Option<&Path>) -> anyhow::Result<ExitCode> {
    let note = source.read(CHECKPOINT)?.context("there is no checkpoint")?;
    let parsed = Note::parse(&note)?;
    let unverified = Checkpoint::of_note(&parsed)?;
    let rotations = rotations(source, unverified.size)?;
    let followed = match rotation::follow(held.clone(), &rotations) {
        Ok(followed) => followed,
        Err((index, error)) => bail!("entry {index} claims to change the log's keys, and is not to be believed: {error}"),
    };
    // The log as it is may still be signed by the old keys as well; what counts is that the last ones verify it whole.
    let trust = Trust::from(followed.keys.clone());
    let verified = sulku_audit::verify::verify(source, &trust, Recordings::Skip, |_, _, _| {})?;
    let mut text = format!("{}: {} entries, whole with the last of these keys\n", words::safe(followed.keys.origin()), verified.entries());
    let names =
        |keys: &LogKeys| keys.keys().iter().map(|key| format!("  {} {}\n", words::safe(&key.short()), key.algorithm().name())).collect::<String>();
    text += &format!("the keys that you hold\n{}", names(&held));
    for (index, keys) in &followed.changes {
        text += &format!("since entry {index}, as the keys before say in it\n{}", names(keys));
    }
    let signs = |keys: &LogKeys| Trust::from(keys.clone()).open(&note).is_ok();
    text += match (followed.changes.is_empty(), signs(&held)) {
        (true, _) => "they have not been changed\n",
        (false, true) => "the last checkpoint is still signed by the keys that you hold, too\n",
        (false, false) => "the last checkpoint is signed by the new keys alone; compare their hashes with what the operator publishes\n",
    };
    if let Some(out) = out {
        let mut file = std::fs::File::create_new(out).with_context(|| format!("{} can't be written", out.display()))?;
        std::io::Write::write_all(&mut file, followed.keys.to_string().as_bytes())?;
        text += &format!("written to {}\n", out.display());
    }
    answer(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The entries that say that keys change, of a log that nobody has verified yet.
fn rotations(source: &mut dyn Source, size: u64) -> anyhow::Result<Vec<(u64, Rotation)>> {
    let mut found = Vec::new();
    for number in 0..size.div_ceil(TILE_WIDTH) {
        let Some(tile) = Tile::in_tree(TileKind::Entries, number, size) else { break };
        let bundle = read_bundle(source, tile)?;
        let mut rest = bundle.as_slice();
        for index in number * TILE_WIDTH..number * TILE_WIDTH + u64::from(tile.width) {
            let (bytes, after) = split_entry(rest).with_context(|| format!("the bundle of entry {index} ends too soon"))?;
            rest = after;
            if !bytes.windows(EVENT.len()).any(|window| window == EVENT) {
                continue;
            }
            if let Event::LedgerKeyRotated { old, new, signature } = *Entry::parse(bytes)?.event {
                found.push((index, Rotation { old, new, signature }));
            }
        }
    }
    Ok(found)
}
