//! The write path on a simulated disk: a crash, a failing call or a full disk at every step, and every byte of the log torn or flipped.
//!
//! After each, the log must start again, or say why not, with every entry that was acknowledged, byte for byte. What is random is drawn
//! from a seed that the failure names; `SULKU_SEEDS` asks for more than one a step.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulku_audit::merkle::sha256;
use sulku_audit::tile::{TILE_WIDTH, Tile, TileKind, split_entry};
use sulku_audit::{Checkpoint, Draft, Event, LogSigner, Trust};
use sulku_permit::SessionId;

use crate::disk::Disk;
use crate::disk::simulated::{Plan, SimulatedDisk};
use crate::files::create_folder;
use crate::keys::Keys;
use crate::publisher::{PublishError, Publisher, SIGNED_HEAD, Written};
use crate::recover::{RecoverError, Recovered, recover};
use crate::server::Reply;
use crate::stage::{Blob, Prepared, Stage};
use crate::wal::Wal;

const LOG: &str = "/log";
/// Some frames a segment, so that a short run takes several, and lets go of some.
const SEGMENT_BYTES: usize = 48 << 10;
/// Enough entries for a full bundle and then some.
const FRAMES: u64 = 30;
const ENTRIES_A_FRAME: u64 = 16;
const PIECE: &[u8] = b"a piece of what was shown";

/// What outlives a machine: the tests' knowledge of what was promised, and keys.
struct World {
    keys: Arc<Keys>,
    signer: Arc<LogSigner>,
    /// Every entry that was acknowledged.
    acknowledged: BTreeMap<u64, Vec<u8>>,
    /// Pieces of each session's recording that were acknowledged.
    recorded: BTreeMap<SessionId, u64>,
    /// The largest checkpoint that could be seen.
    published: Option<Checkpoint>,
    runs: u8,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(folder.path().join("keys")).unwrap());
        let signer = Arc::new(crate::key::generate("test.example/audit").unwrap());
        Self { keys, signer, acknowledged: BTreeMap::new(), recorded: BTreeMap::new(), published: None, runs: 0, _folder: folder }
    }

    fn begin(&self, disk: &SimulatedDisk) -> Result<Recovered, RecoverError> {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        create_folder(&*shared, Path::new(LOG))?;
        let mut found = recover(Path::new(LOG), &shared, SEGMENT_BYTES, Arc::clone(&self.signer))?;
        // So often that a short run takes one.
        found.publisher.snapshot_every = TILE_WIDTH;
        Ok(found)
    }

    /// Starts a ledger and has it write until something goes wrong, or to the end.
    fn run(&mut self, disk: &SimulatedDisk) -> Result<(), String> {
        self.runs += 1;
        let Recovered { mut wal, counters, mut publisher, .. } = self.begin(disk).map_err(|error| format!("start: {error}"))?;
        let mut stage = Stage::new(counters, "boot".to_owned());
        let session = SessionId::from_random([self.runs; 10]);
        for frame in 0..FRAMES {
            for number in 0..ENTRIES_A_FRAME {
                let (draft, bytes) = if number == 0 { (chunk(session, frame), PIECE) } else { (acted(frame * 100 + number), &[][..]) };
                self.stage(&mut stage, draft, bytes);
            }
            self.commit(&mut wal, &mut stage, &mut publisher, session).map_err(|error| error.to_string())?;
            if frame % 5 == 4 {
                let published = publisher.publish(&mut Written::default());
                self.see(disk);
                published.map_err(|error| error.to_string())?;
                publisher.prepare().map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn stage(&self, stage: &mut Stage, draft: Draft, bytes: &[u8]) {
        let prepared = Prepared::new(&self.keys, draft, Blob::new(bytes.to_vec())).unwrap();
        assert!(stage.take(&self.keys, prepared, Reply::nobody()).is_ok(), "a draft that continues the log");
    }

    /// Commits what is staged, and takes note of what that promises.
    fn commit(&mut self, wal: &mut Wal, stage: &mut Stage, publisher: &mut Publisher, session: SessionId) -> Result<(), PublishError> {
        let mut staged = stage.take_frame().unwrap();
        let first = wal.next();
        wal.commit(&staged.frame)?;
        let mut entries = staged.frame.entries.as_slice();
        for index in first.. {
            let Some((entry, rest)) = split_entry(entries) else { break };
            assert_eq!(self.acknowledged.insert(index, entry.to_vec()), None, "no number is given twice");
            entries = rest;
        }
        staged.frame.counted = staged.waiting.into_iter().map(|waiting| (waiting.draft, waiting.time)).collect();
        *self.recorded.entry(session).or_default() += staged.frame.chunks.len() as u64;
        publisher.push_contents(staged.frame)
    }

    /// Looks at the checkpoint as a reader does.
    fn see(&mut self, disk: &SimulatedDisk) {
        let Some(note) = disk.peek(&Path::new(LOG).join("checkpoint")) else { return };
        let seen = Checkpoint::open(&note, &Trust::from(self.signer.own_keys())).unwrap();
        if let Some(before) = &self.published {
            assert!(seen.size > before.size || seen == *before, "checkpoints grow, and there is one of a size");
        }
        self.published = Some(seen);
    }

    /// The log must start, with all that was promised; gives the number of entries.
    fn check(&mut self, disk: &SimulatedDisk, what: &str) -> u64 {
        let Recovered { mut publisher, .. } = self.begin(disk).unwrap_or_else(|error| panic!("{what}: does not start: {error}"));
        let size = publisher.publish(&mut Written::default()).unwrap();
        if let Some(seen) = &self.published {
            assert!(size >= seen.size, "{what}: {size} entries, and {} were published", seen.size);
        }
        self.see(disk);
        let entries = entries(disk, size);
        for (index, entry) in &self.acknowledged {
            let found = entries.get(usize::try_from(*index).unwrap());
            assert!(found == Some(entry), "{what}: entry {index} was acknowledged and is {found:?}");
        }
        // What was written and not acknowledged may be there too, and is the log's from now on.
        self.acknowledged.extend((0..).zip(entries));
        for (session, pieces) in &self.recorded {
            let recording = disk.peek(&Path::new(LOG).join(format!("recordings/{session}.rec"))).unwrap_or_default();
            assert!(recording.len() as u64 >= pieces * PIECE.len() as u64, "{what}: a recording lost bytes");
            assert!(recording.starts_with(&PIECE.repeat(usize::try_from(*pieces).unwrap())), "{what}: a recording changed");
        }
        size
    }
}

fn acted(number: u64) -> Draft {
    let from = std::net::IpAddr::from([192, 0, 2, 9]).into();
    Draft { permit: Some("THL/1/2026".parse().unwrap()), ..Draft::new(Event::OperatorActed { action: number.to_string(), from }) }
}

fn chunk(session: SessionId, chunk: u64) -> Draft {
    let (length, sha256) = (PIECE.len() as u64, sha256(&[PIECE]).to_string());
    let event = Event::RecordingChunk { part: 0, chunk, offset: chunk * length, length, sha256, began_ms: chunk, ended_ms: chunk, lines: 1 };
    Draft { session: Some(session), ..Draft::new(event) }
}

/// The entries of a log of this size, from its bundles.
fn entries(disk: &SimulatedDisk, size: u64) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for number in 0..size.div_ceil(TILE_WIDTH) {
        let tile = Tile::in_tree(TileKind::Entries, number, size).unwrap();
        let bundle = disk.peek(&Path::new(LOG).join(tile.to_string())).unwrap();
        let mut rest = bundle.as_slice();
        while let Some((entry, after)) = split_entry(rest) {
            found.push(entry.to_vec());
            rest = after;
        }
    }
    assert_eq!(found.len() as u64, size);
    found
}

fn seeds() -> u64 {
    std::env::var("SULKU_SEEDS").map_or(1, |seeds| seeds.parse().expect("SULKU_SEEDS is a number"))
}

/// How many steps a run without faults takes.
fn steps() -> u64 {
    let disk = SimulatedDisk::new(1, Plan::Nothing);
    World::new().run(&disk).unwrap();
    disk.steps()
}

/// LG-05, LG-06
#[test]
fn a_crash_at_any_step_loses_nothing_that_was_acknowledged() {
    let (steps, mut twice) = (steps(), 0);
    assert!(steps > 300, "the control: {steps} steps");
    for step in 1..=steps {
        for seed in 0..seeds() {
            let seed = step * 1000 + seed;
            let what = format!("crash at step {step}, seed {seed}");
            let mut world = World::new();
            let disk = SimulatedDisk::new(seed, Plan::CrashAt(step));
            let outcome = world.run(&disk);
            assert!(disk.has_crashed() && outcome.is_err(), "{what}: {outcome:?}");
            // The second crash comes while the first is being recovered from, or soon after.
            let disk = disk.after_crash(seed, Plan::CrashAt(1 + seed % 60));
            let again = world.run(&disk);
            twice += u64::from(disk.has_crashed());
            assert!(disk.has_crashed() || again.is_ok(), "{what}: {again:?}");
            world.check(&disk.after_crash(seed + 1, Plan::Nothing), &what);
        }
    }
    assert!(twice > steps / 2, "the control: {twice} of {steps} crashed a second time");
}

/// The process dies, the machine goes on: nothing is lost but what it was doing.
#[test]
fn a_kill_at_any_step_loses_nothing_that_was_acknowledged() {
    for step in (1..=steps()).step_by(3) {
        let mut world = World::new();
        let disk = SimulatedDisk::new(step, Plan::CrashAt(step));
        world.run(&disk).unwrap_err();
        let what = format!("kill at step {step}");
        world.check(&disk.after_kill(Plan::Nothing), &what);
        world.run(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}

/// LG-06. No step is tried again, and none is missed: the run ends with the error, whatever call it was.
#[test]
fn a_call_that_fails_at_any_step_ends_the_run_and_loses_nothing_that_was_acknowledged() {
    for step in 1..=steps() {
        let mut world = World::new();
        let disk = SimulatedDisk::new(step, Plan::FailAt(step));
        let what = format!("EIO at step {step}");
        let error = world.run(&disk).expect_err(&what);
        assert!(error.contains("os error 5") || error.contains("could not be"), "{what}: {error}");
        assert_eq!(disk.steps(), step, "{what}: nothing is written after the error");
        // The machine is restarted, or only the process is.
        let disk = if step % 2 == 0 { disk.after_crash(step, Plan::Nothing) } else { disk.after_kill(Plan::Nothing) };
        world.check(&disk, &what);
        world.run(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
        world.check(&disk.after_crash(step + 1, Plan::Nothing), &what);
    }
}

/// LG-07. Whatever meets the full disk, what closes is kept in the reserve, and with room again all is published.
#[test]
fn a_disk_full_from_any_step_on_keeps_the_reserve_writable() {
    // Before that the ledger has not begun: it says so and ends.
    let begun = {
        let disk = SimulatedDisk::new(1, Plan::Nothing);
        let found = World::new().begin(&disk).unwrap();
        found.publisher.prepare().unwrap();
        disk.steps()
    };
    for step in begun..=steps() {
        let what = format!("full from step {step}");
        let mut world = World::new();
        world.runs = 1;
        let disk = SimulatedDisk::new(step, Plan::FullFrom(step));
        let Recovered { mut wal, counters, mut publisher, .. } = world.begin(&disk).unwrap();
        let mut stage = Stage::new(counters, "boot".to_owned());
        let session = SessionId::from_random([1; 10]);
        let (mut is_full, mut full_at, mut kept_when_full) = (false, 0, 0);
        for frame in 0..FRAMES {
            if is_full && wal.reserve_bytes().unwrap() < 2 * (8 << 10) {
                break;
            }
            for number in 0..ENTRIES_A_FRAME {
                world.stage(&mut stage, acted(frame * 100 + number), &[]);
            }
            world.commit(&mut wal, &mut stage, &mut publisher, session).unwrap_or_else(|error| panic!("{what}: the reserve failed: {error}"));
            kept_when_full += u64::from(is_full);
            let tried = if frame % 5 == 4 { publisher.publish(&mut Written::default()).map(drop) } else { Ok(()) };
            if let Err(error) = tried.and_then(|()| Ok(publisher.prepare()?)) {
                assert!(error.is_full(), "{what}: {error}");
                full_at = if is_full { full_at } else { frame };
                is_full = true;
            }
            world.see(&disk);
        }
        assert!(!is_full || full_at + 4 > FRAMES || kept_when_full >= 2, "{what}: full at frame {full_at}, {kept_when_full} were kept");
        disk.make_room();
        publisher.publish(&mut Written::default()).unwrap();
        publisher.prepare().unwrap();
        world.see(&disk);
        assert_eq!(world.published.as_ref().unwrap().size, wal.next(), "{what}: all is published");
        world.check(&disk.after_crash(step, Plan::Nothing), &what);
    }
}

/// A log of a few frames that no checkpoint covers, the path of its segment, and where its last frame begins and ends.
fn small_log(world: &mut World) -> (SimulatedDisk, PathBuf, usize, usize) {
    let disk = SimulatedDisk::new(7, Plan::Nothing);
    let Recovered { mut wal, counters, mut publisher, .. } = world.begin(&disk).unwrap();
    let mut stage = Stage::new(counters, "boot".to_owned());
    let mut last = 0;
    for frame in 0..4 {
        world.stage(&mut stage, acted(frame), &[]);
        world.stage(&mut stage, chunk(SessionId::from_random([1; 10]), frame), PIECE);
        last = SEGMENT_BYTES - wal.room_bytes();
        world.commit(&mut wal, &mut stage, &mut publisher, SessionId::from_random([1; 10])).unwrap();
    }
    let end = SEGMENT_BYTES - wal.room_bytes();
    (disk, Path::new(LOG).join("wal/00000000000000000000"), last, end)
}

/// LG-05. Every byte of the last frame: cut off, zeroed from there on, zeroed up to there, or old bytes there.
#[test]
fn a_last_frame_torn_at_any_byte_is_dropped_and_counted() {
    let mut world = World::new();
    let (disk, path, begin, end) = small_log(&mut world);
    let whole = disk.peek(&path).unwrap();
    let written = begin + whole[begin..end].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let found = |bytes: &[u8]| {
        let disk = disk.copy();
        disk.poke(&path, bytes);
        let found = world.begin(&disk).unwrap();
        assert!(disk.peek(&path).unwrap()[begin + found.dropped_bytes as usize..].iter().all(|byte| *byte == 0) || found.wal.next() == 8);
        (found.wal.next(), found.dropped_bytes)
    };
    assert_eq!(found(&whole), (8, 0), "the control: the whole frame is kept");
    for at in begin + 1..written {
        let mut torn = whole.clone();
        torn[at..end].fill(0);
        let left = torn[begin..].iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let expected = if torn == whole { (8, 0) } else { (6, left) };
        assert_eq!(found(&torn), expected, "zeroed from {at} on");
        if at % 8 == 0 {
            assert_eq!(found(&whole[..at]).0, 6, "cut off at {at}");
            let mut torn = whole.clone();
            torn[begin..at].fill(0);
            assert_eq!(found(&torn).0, 6, "zeroed up to {at}");
            // Other bytes of this log from there on. With nothing left of the frame's own it would be a repetition, which no crash makes.
            let mut torn = whole.clone();
            torn[at..end].copy_from_slice(&whole[at - (end - begin)..begin]);
            if at > begin + 24 && torn != whole {
                assert_eq!(found(&torn).0, 6, "old bytes from {at} on");
            }
        }
    }
}

/// LG-04. Every byte of the log before the last frame: the start is refused, and changes nothing. Padding and zeroes included.
#[test]
fn a_bit_flipped_at_any_byte_is_found() {
    let mut world = World::new();
    let (disk, path, last, end) = small_log(&mut world);
    let whole = disk.peek(&path).unwrap();
    for at in 0..end {
        let disk = disk.copy();
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.poke(&path, &flipped);
        match world.begin(&disk) {
            Err(RecoverError::Damaged(reason)) if at < last => {
                assert!(reason.contains("wal/"), "byte {at}: {reason}");
                assert_eq!(disk.peek(&path).unwrap(), flipped, "byte {at}: left as it is");
            }
            // Only a crash can tell a last frame that is not signed from an unfinished one.
            Ok(found) if at >= last => assert_eq!((found.wal.next(), found.dropped_bytes > 0), (6, true), "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
            Ok(_) => panic!("byte {at}: the ledger starts"),
        }
    }
    let mut after = whole;
    after[end + 4096] = 1;
    disk.poke(&path, &after);
    assert_eq!(world.begin(&disk).unwrap().dropped_bytes, 4097, "a byte after the last frame is counted");
}

/// LG-04. With a signed head, the last frame too.
#[test]
fn a_bit_flipped_in_what_is_signed_is_found() {
    let mut world = World::new();
    let (disk, path, _, end) = small_log(&mut world);
    world.check(&disk, "the control");
    let whole = disk.peek(&path).unwrap();
    for at in (0..end).step_by(3) {
        let disk = disk.copy();
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.poke(&path, &flipped);
        assert!(world.begin(&disk).is_err(), "byte {at}: the ledger starts");
    }
    for name in [SIGNED_HEAD, "checkpoint"] {
        let path = Path::new(LOG).join(name);
        let whole = disk.peek(&path).unwrap();
        for at in 0..whole.len() {
            let disk = disk.copy();
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            disk.poke(&path, &flipped);
            assert!(world.begin(&disk).is_err(), "{name}, byte {at}: the ledger starts");
        }
    }
}

fn refusal(world: &World, disk: &SimulatedDisk) -> String {
    match world.begin(disk) {
        Err(error) => error.to_string(),
        Ok(found) => panic!("the ledger starts with {} entries", found.wal.next()),
    }
}

/// LG-04
#[test]
fn a_segment_missing_swapped_renamed_or_of_an_earlier_use_is_refused() {
    let mut world = World::new();
    let disk = SimulatedDisk::new(3, Plan::Nothing);
    // Not published, so that no segment is let go.
    let Recovered { mut wal, counters, mut publisher, .. } = world.begin(&disk).unwrap();
    let mut stage = Stage::new(counters, "boot".to_owned());
    for frame in 0..30 {
        for number in 0..4 {
            world.stage(&mut stage, acted(frame * 100 + number), &[]);
        }
        world.commit(&mut wal, &mut stage, &mut publisher, SessionId::from_random([1; 10])).unwrap();
    }
    let is_segment = |path: &PathBuf| path.starts_with("/log/wal") && path.file_name().unwrap().len() == 20;
    let segments: Vec<PathBuf> = disk.paths().into_iter().filter(is_segment).collect();
    assert!(segments.len() >= 3, "the control: {} segments", segments.len());
    let bytes: Vec<Vec<u8>> = segments.iter().map(|path| disk.peek(path).unwrap()).collect();
    assert_eq!(world.begin(&disk.copy()).unwrap().wal.next(), 120, "the control: as it is, it starts");

    let missing = disk.copy();
    missing.take_away(&segments[1]);
    assert!(refusal(&world, &missing).contains("the segment before it is missing"));
    let first = disk.copy();
    first.take_away(&segments[0]);
    assert!(refusal(&world, &first).contains("what was before it is missing"));
    let swapped = disk.copy();
    swapped.poke(&segments[0], &bytes[1]);
    swapped.poke(&segments[1], &bytes[0]);
    assert!(refusal(&world, &swapped).contains("renamed"));
    // Somebody who knows the format makes the head fit: the frames within do not.
    let renamed = disk.copy();
    let mut patched = bytes[2].clone();
    patched[..4096].copy_from_slice(&bytes[1][..4096]);
    renamed.poke(&segments[1], &patched);
    assert!(refusal(&world, &renamed).contains("segment before it is missing") || refusal(&world, &renamed).contains("damaged"));
    // Frames of an earlier use of the file after those of this one: as if zeroing it had been lost.
    let replayed = disk.copy();
    let last = segments.last().unwrap();
    let mut patched = bytes.last().unwrap().clone();
    let at = SEGMENT_BYTES - wal.room_bytes();
    patched[at..].copy_from_slice(&bytes[0][at..]);
    replayed.poke(last, &patched);
    let found = world.begin(&replayed).unwrap();
    assert_eq!(found.wal.next(), 120, "they are no frames of this log");
}

/// Recovery is recovery of the same log: a start on a log that is whole writes nothing but what it says.
#[test]
fn a_start_repeats_itself() {
    let mut world = World::new();
    let (disk, ..) = small_log(&mut world);
    let size = world.check(&disk, "first");
    let paths = |disk: &SimulatedDisk| disk.paths().into_iter().map(|path| (disk.peek(&path), path)).collect::<Vec<_>>();
    let before = paths(&disk);
    assert_eq!(world.check(&disk, "second"), size);
    assert!(paths(&disk) == before, "a second start changes no byte");
}

/// A log with a snapshot, and the number of its entries.
fn log_with_snapshot(world: &mut World) -> (SimulatedDisk, u64) {
    let disk = SimulatedDisk::new(5, Plan::Nothing);
    world.run(&disk).unwrap();
    let size = world.check(&disk, "the control");
    assert!(disk.peek(Path::new("/log/snapshot")).is_some(), "the control: there is a snapshot");
    (disk, size)
}

/// The bundles that it covers are not read: they may be away. Without it, all is read.
#[test]
fn a_start_reads_the_log_from_the_snapshot_on_or_all_of_it() {
    let mut world = World::new();
    let (disk, size) = log_with_snapshot(&mut world);
    let bundle = Path::new("/log/tile/entries/000");
    assert!(disk.peek(bundle).is_some());
    let without_bundle = disk.copy();
    without_bundle.take_away(bundle);
    let found = world.begin(&without_bundle).unwrap();
    assert_eq!(found.wal.next(), size);
    let without_snapshot = disk.copy();
    without_snapshot.take_away(Path::new("/log/snapshot"));
    let rebuilt = world.begin(&without_snapshot).unwrap();
    assert_eq!(rebuilt.wal.next(), size);
    let numbers = |counters: &sulku_audit::Counters| {
        (counters.permits(), counters.sessions(), counters.next(&acted(1)), counters.next(&chunk(SessionId::from_random([1; 10]), 1)))
    };
    assert_eq!(numbers(&found.counters), numbers(&rebuilt.counters), "both give the same counters");
    assert!(found.publisher.root() == rebuilt.publisher.root(), "and the same tree");
    without_snapshot.take_away(bundle);
    assert!(world.begin(&without_snapshot).is_err(), "the control: without both the log is not whole");
}

/// The log's key is replaced while a start reads from a snapshot that the old key signed, and then the old key is gone.
#[test]
fn a_snapshot_outlives_the_key_that_signed_it() {
    let mut world = World::new();
    let (disk, size) = log_with_snapshot(&mut world);
    disk.take_away(Path::new("/log/tile/entries/000"));
    let new = || LogSigner::from_seeds("test.example/audit", &[5; 32], &[6; 32]).unwrap();
    let old = std::mem::replace(&mut world.signer, Arc::new(new()));
    assert!(world.begin(&disk.copy()).is_err(), "the control: the new key alone, before the old one has said so");
    let old = Arc::try_unwrap(old).unwrap_or_else(|_| panic!("nobody else has it"));
    world.signer = Arc::new(new().replacing(old).unwrap());
    let Recovered { mut wal, counters, mut publisher, .. } = world.begin(&disk).unwrap();
    assert_eq!(wal.next(), size, "the old key's snapshot is read, for there is no bundle that it covers");
    // One entry, so that there is a head by both keys.
    let mut stage = Stage::new(counters, "boot".to_owned());
    world.stage(&mut stage, acted(9_000), &[]);
    world.commit(&mut wal, &mut stage, &mut publisher, SessionId::from_random([9; 10])).unwrap();
    publisher.publish(&mut Written::default()).unwrap();
    drop((wal, publisher));
    world.signer = Arc::new(new());
    assert_eq!(world.begin(&disk).unwrap().wal.next(), size + 1, "the new key alone starts from it");
}

#[test]
fn a_snapshot_that_was_changed_or_is_of_another_log_is_refused() {
    let mut world = World::new();
    let (disk, _) = log_with_snapshot(&mut world);
    let path = Path::new("/log/snapshot");
    let whole = disk.peek(path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        let disk = disk.copy();
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        disk.poke(path, &flipped);
        assert!(matches!(world.begin(&disk), Err(RecoverError::Snapshot(_))), "byte {at}");
    }
    // Of another log by the same key, and so signed: its tree is not this one's.
    let other = SimulatedDisk::new(6, Plan::Nothing);
    world.runs = 0;
    (world.acknowledged, world.recorded, world.published) = Default::default();
    world.run(&other).unwrap();
    disk.poke(path, &other.peek(path).unwrap());
    assert!(matches!(world.begin(&disk), Err(RecoverError::Root(_) | RecoverError::Damaged(_) | RecoverError::Snapshot(_))));
}
