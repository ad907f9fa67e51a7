//! What was acknowledged is there, however the process ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use sulku_audit::merkle::{leaf_hash, sha256};
use sulku_audit::source::CHECKPOINT;
use sulku_audit::tile::{TILE_WIDTH, Tile, TileKind, split_entry};
use sulku_audit::{Checkpoint, Event, Hash, Source};
use sulku_ledger::folder::Folder;

use crate::support::{Home, acted, chunk, long};

/// Runs that end in SIGKILL; `SULKU_KILLS` asks for more.
const KILLS: u64 = 200;
/// Runs on one log: each start reads it.
const KILLS_A_LOG: u64 = 20;
/// Connections that one user may have.
const APPENDERS: u64 = 16;

/// LG-05. Two hundred times: 16 appenders at full load, SIGKILL at a random moment, and every entry that was acknowledged is in the log,
/// under the number that its receipt gave. Half of the logs are on the disk, half in memory.
#[test]
#[expect(clippy::print_stdout, reason = "the seed is shown when the test fails")]
fn what_was_acknowledged_survives_sigkill_under_load() {
    let kills = std::env::var("SULKU_KILLS").map_or(KILLS, |kills| kills.parse().expect("SULKU_KILLS is a number"));
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut random = seed;
    for log in 0..kills.div_ceil(KILLS_A_LOG) {
        let home = if log % 2 == 0 { Home::new() } else { Home::in_memory() };
        let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
        for run in 0..KILLS_A_LOG {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let moment = Duration::from_micros(random % 60_000);
            run_until_killed(&home, run, moment, &mut acknowledged);
        }
        home.start().stop().unwrap();
        let events = home.events();
        for (index, name) in &acknowledged {
            let event = &events[usize::try_from(*index).unwrap()];
            let is_it = matches!(event, Event::OperatorActed { action, .. } if action == name);
            assert!(is_it, "seed {seed}, log {log}: entry {index} should be {name} and is {event:?}");
        }
        assert!(acknowledged.len() as u64 >= KILLS_A_LOG * APPENDERS, "the control: {} entries were acknowledged", acknowledged.len());
    }
}

fn run_until_killed(home: &Home, run: u64, moment: Duration, acknowledged: &mut BTreeMap<u64, String>) {
    let ledger = home.spawn();
    let (sender, receiver) = mpsc::channel();
    let appenders: Vec<_> = (0..APPENDERS)
        .map(|appender| {
            let (mut client, sender) = (ledger.client(), sender.clone());
            std::thread::spawn(move || {
                for number in 0_u64.. {
                    // Every fourth entry comes with a piece of a recording, of a session of this run's own, as long as there are numbers.
                    let session = (run * APPENDERS + appender) as u8;
                    if number % 4 == 0 && run * APPENDERS + appender < 256 {
                        let at = number / 4;
                        if client.append(chunk(session, at, at * 5, b"piece"), b"piece").is_err() {
                            return;
                        }
                    }
                    let name = run * 1_000_000_000 + appender * 1_000_000 + number;
                    match client.append(acted(name), &[]) {
                        Ok(receipt) => sender.send((receipt.index(), name.to_string())).unwrap(),
                        Err(_) => return,
                    }
                }
            })
        })
        .collect();
    drop(sender);
    // From the first acknowledgements on, so that each run dies under load, on a slow machine too.
    for _ in 0..APPENDERS {
        let (index, name) = receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(acknowledged.insert(index, name), None, "no number is given twice");
    }
    std::thread::sleep(moment);
    ledger.kill();
    for (index, name) in receiver {
        assert_eq!(acknowledged.insert(index, name), None, "no number is given twice");
    }
    appenders.into_iter().for_each(|appender| appender.join().unwrap());
}

/// LG-04. Sixteen readers follow the checkpoints while the log grows: what a checkpoint covers is there, is what it commits to, and never
/// changes.
#[test]
fn readers_during_ingest_never_see_a_byte_that_changes() {
    let home = Home::new();
    let ledger = home.start();
    let is_over = AtomicBool::new(false);
    let seen: Mutex<HashMap<String, Hash>> = Mutex::default();
    std::thread::scope(|scope| {
        for reader in 0..16_u64 {
            let (home, seen, is_over) = (&home, &seen, &is_over);
            // A few over the socket, where the ledger's own writing is in between; the rest from the folder, as fast as they can.
            let mut source: Box<dyn Source + Send> = if reader < 4 {
                Box::new(ledger.client().announce("the growing log").unwrap())
            } else {
                Box::new(Folder::new(home.log().to_owned()))
            };
            scope.spawn(move || {
                let (mut size, mut looked, mut random) = (0, 0, reader + 1);
                while !is_over.load(Ordering::Acquire) || looked < 50 {
                    looked += 1;
                    let Some(note) = source.read(CHECKPOINT).unwrap() else { continue };
                    let checkpoint = Checkpoint::open(&note, &home.key).unwrap();
                    assert!(checkpoint.size >= size, "checkpoints never go back");
                    size = checkpoint.size;
                    random = (random * 48_271) % 2_147_483_647;
                    let number = random % size.div_ceil(TILE_WIDTH);
                    let mut read = |kind| {
                        let tile = Tile::in_tree(kind, number, size).unwrap();
                        // The partial one is gone when the full one is out.
                        let path = tile.to_string();
                        let found = source.read(&path).unwrap().map(|bytes| (path, bytes));
                        let full = tile.when_full().to_string();
                        let (path, bytes) = found.unwrap_or_else(|| {
                            let bytes = source.read(&full).unwrap().unwrap_or_else(|| panic!("{full} is covered by a checkpoint"));
                            (full, bytes)
                        });
                        let hash = sha256(&[&bytes]);
                        let before = *seen.lock().unwrap().entry(path.clone()).or_insert(hash);
                        assert_eq!(before, hash, "{path} changed");
                        bytes
                    };
                    let (bundle, hashes) = (read(TileKind::Entries), read(TileKind::Hashes(0)));
                    let mut rest = bundle.as_slice();
                    for hash in hashes.chunks(32) {
                        // The tile may have been read when it was wider than the bundle was.
                        let Some((entry, after)) = split_entry(rest) else { break };
                        assert_eq!(leaf_hash(entry).as_bytes(), hash);
                        rest = after;
                    }
                }
            });
        }
        let mut client = ledger.client();
        let begun = Instant::now();
        let mut number = 0;
        // Over some checkpoints, and some full bundles.
        while number < 700 || begun.elapsed() < Duration::from_secs(3) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{number} entries in a minute");
            let _receipt = client.append(acted(number), &[]).unwrap();
            number += 1;
        }
        is_over.store(true, Ordering::Release);
    });
    ledger.stop().unwrap();
    assert!(home.verify().unwrap().entries() > 700);
    assert!(seen.lock().unwrap().len() > 8, "the control: files were read again and again");
}

#[test]
fn a_stop_in_order_seals_the_log() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    for number in 0..300 {
        let _receipt = client.append(acted(number), &[]).unwrap();
    }
    ledger.stop().unwrap();
    let events = home.events();
    assert_eq!(events.len(), 302);
    assert_eq!(events.first().unwrap().name(), "ledger.started");
    assert_eq!(events.last().unwrap().name(), "ledger.stopped");
    assert!(!home.settings.socket.exists());
    home.start().stop().unwrap();
    let again = home.events();
    assert_eq!(again[..302], events);
    assert!(matches!(again[302], Event::LedgerStarted { entries: 302, dropped_bytes: 0, .. }));
}

#[test]
fn a_checkpoint_is_published_by_itself_within_seconds() {
    let home = Home::new();
    let ledger = home.start();
    let _receipt = ledger.client().append(acted(1), &[]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while home.verify().map(|verified| verified.entries()).unwrap_or(0) < 2 {
        assert!(Instant::now() < deadline, "no checkpoint came");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(ledger);
}

#[test]
fn the_log_outlives_the_write_ahead_segments_that_its_bundles_cover() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    let _chunk = client.append(chunk(1, 0, 0, b"early"), b"early").unwrap();
    let _acted = client.append(acted(0), &[]).unwrap();
    for _ in 0..2400 {
        let _receipt = client.append(long(31 << 10), &[]).unwrap();
    }
    client.publish().unwrap();
    let first = home.log().join("wal/00000000000000000000");
    assert!(!first.exists(), "the first segment is gone");
    ledger.stop().unwrap();
    let before = home.verify().unwrap().entries();
    let ledger = home.start();
    let mut client = ledger.client();
    let _continued = client.append(chunk(1, 1, 5, b", late"), b", late").unwrap();
    let _continued = client.append(acted(1), &[]).unwrap();
    ledger.stop().unwrap();
    let verified = home.verify().unwrap();
    assert_eq!((verified.entries(), verified.chunks()), (before + 4, 2), "counters and recordings go on");
}
