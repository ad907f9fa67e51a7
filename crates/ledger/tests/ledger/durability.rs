//! What was acknowledged is there, however the process ended.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sulku_audit::Event;

use crate::support::{Home, acted, chunk, long};

/// LG-05. Ten times: 16 appenders at full load, SIGKILL at another moment, and every entry that was acknowledged is in the log,
/// under the number that its receipt gave.
#[test]
fn what_was_acknowledged_survives_sigkill_under_load() {
    let home = Home::new();
    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    for run in 0..10_u64 {
        let ledger = home.spawn();
        let (sender, receiver) = mpsc::channel();
        let appenders: Vec<_> = (0..16_u64)
            .map(|appender| {
                let (mut client, sender) = (ledger.client(), sender.clone());
                std::thread::spawn(move || {
                    for number in 0_u64.. {
                        // Every other entry comes with a piece of a recording.
                        let session = (run * 16 + appender) as u8;
                        if client.append(chunk(session, number, number * 5, b"piece"), b"piece").is_err() {
                            return;
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
        // Counted in acknowledgements, so that each run dies under load, on a slow machine too.
        let enough = 100 + run as usize * 37;
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut in_this_run = 0;
        while in_this_run < enough {
            let (index, name) = receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
            assert_eq!(acknowledged.insert(index, name), None, "no number is given twice");
            in_this_run += 1;
        }
        ledger.kill();
        acknowledged.extend(receiver);
        appenders.into_iter().for_each(|appender| appender.join().unwrap());
    }
    home.start().stop().unwrap();
    let events = home.events();
    for (index, name) in &acknowledged {
        let event = &events[usize::try_from(*index).unwrap()];
        assert!(matches!(event, Event::OperatorActed { action, .. } if action == name), "entry {index} should be {name} and is {event:?}");
    }
    assert!(acknowledged.len() >= 2000, "{} entries were acknowledged", acknowledged.len());
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
    for _ in 0..1100 {
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
