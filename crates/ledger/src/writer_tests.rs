//! The writer by itself, on a simulated disk, as a connection's thread uses it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::collections::VecDeque;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use sulku_audit::tile::split_entry;
use sulku_audit::wire::{self, Cause, Response, ResponseBody};
use sulku_audit::{Draft, Entry, Event};

use crate::answers::{Gathered, Outbox};
use crate::clock::{ClockWatch, Reading};
use crate::disk::Disk;
use crate::disk::simulated::{Plan, SimulatedDisk};
use crate::files::create_folder;
use crate::flight::Flight;
use crate::handover::Handover;
use crate::keys::Keys;
use crate::ledger::Alarm;
use crate::metrics::Metrics;
use crate::queue::Desk;
use crate::recover::recover;
use crate::room::Room;
use crate::segment::SEGMENT_BYTES;
use crate::server::Reply;
use crate::stage::{Blob, Prepared, Stage, monotonic_ns};
use crate::writer::{Command, Writer};

/// A writer, the other end of a connection to it, and what it stands on.
struct Bench {
    desk: Arc<Desk>,
    keys: Arc<Keys>,
    handover: Arc<Handover>,
    alarm: Alarm,
    outbox: Arc<Outbox>,
    peer: UnixStream,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// The disk has a whole segment and its spare before `then` begins to count.
    fn new(clock_is_behind: SignedDuration, then: impl FnOnce(u64) -> Plan) -> (Self, SimulatedDisk) {
        let disk = SimulatedDisk::new(1, Plan::Nothing);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let folder = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(folder.path().join("keys")).unwrap());
        let signer = Arc::new(crate::key::generate("test.example/audit").unwrap());
        create_folder(&*shared, Path::new("/log")).unwrap();
        let found = recover(Path::new("/log"), &shared, SEGMENT_BYTES, Arc::clone(&signer)).unwrap();
        found.wal.prepare_spare().unwrap();
        let alarm = Alarm::unheard();
        let handover = Arc::<Handover>::default();
        let then_read = Reading { time: Timestamp::now() - clock_is_behind, mono_ns: monotonic_ns() };
        let writer = Writer {
            wal: found.wal,
            stage: Stage::new(found.counters, "boot".to_owned()),
            keys: Arc::clone(&keys),
            signer,
            handover: Arc::clone(&handover),
            room: Arc::<Room>::default(),
            metrics: Metrics::new(0),
            alarm: alarm.clone(),
            clock: ClockWatch::new(&then_read, None, false),
            noted: None,
            publish_next: Vec::new(),
            taken: VecDeque::new(),
            answers: Gathered::default(),
            ended: None,
        };
        let (peer, ours) = UnixStream::pair().unwrap();
        let outbox = Outbox::new(ours, Arc::new(Flight::new(4096, 1 << 20)));
        disk.plan(then(disk.steps()));
        (Self { desk: Desk::new(writer), keys, handover, alarm, outbox, peer, _folder: folder }, disk)
    }

    /// Appends as a connection's thread does, and reads the answer.
    fn append(&mut self, id: u64) -> ResponseBody {
        let draft = Draft::new(Event::OperatorActed { action: id.to_string(), from: std::net::IpAddr::from([192, 0, 2, 9]).into() });
        self.outbox.flight().board(0).unwrap();
        let prepared = Prepared::new(&self.keys, draft, Blob::none()).unwrap();
        let command = Command::Append { prepared, reply: Reply::to(&self.outbox, id) };
        self.desk.submit(&mut vec![(command, 0)]).unwrap();
        let (mut buffer, mut piece) = (Vec::new(), [0; 4096]);
        loop {
            if let Some((response, _, _)) = wire::decode::<Response>(&buffer).unwrap() {
                assert_eq!(response.id, id);
                return response.body;
            }
            let count = self.peer.read(&mut piece).unwrap();
            buffer.extend_from_slice(&piece[..count]);
        }
    }
}

/// LG-06. The answer is there when the thread that brought the request comes back, or it is a refusal, and then all are.
#[test]
fn after_a_failed_write_nothing_is_acknowledged_and_nothing_is_written() {
    // Each append is one write and its sync.
    for fails_at in 1..=8 {
        let (mut bench, disk) = Bench::new(SignedDuration::ZERO, |steps| Plan::FailAt(steps + fails_at));
        let answers: Vec<_> = (0..10).map(|id| bench.append(id)).collect();
        let kept = answers.iter().take_while(|answer| matches!(answer, ResponseBody::Kept(_))).count() as u64;
        assert_eq!(kept, (fails_at - 1) / 2, "the control: those before are kept");
        let steps = disk.steps();
        for answer in &answers[usize::try_from(kept).unwrap()..] {
            assert!(matches!(answer, ResponseBody::Refused { cause: Cause::Broken, .. }), "{answer:?}");
        }
        assert!(bench.alarm.has_sounded(), "and the process ends");
        assert!(matches!(bench.append(11), ResponseBody::Refused { cause: Cause::Broken, .. }));
        assert_eq!(disk.steps(), steps, "nothing is tried again");
    }
}

/// LG-06
#[test]
fn a_jump_of_the_wall_clock_is_an_entry_before_what_follows_and_numbers_go_on() {
    for behind in [SignedDuration::from_hours(1), SignedDuration::from_hours(-24 * 365), SignedDuration::ZERO] {
        let (mut bench, _) = Bench::new(behind, |_| Plan::Nothing);
        let indices: Vec<u64> = (0..3)
            .map(|id| match bench.append(id) {
                ResponseBody::Kept(receipt) => receipt.index(),
                other => panic!("{other:?}"),
            })
            .collect();
        let first = u64::from(!behind.is_zero());
        assert_eq!(indices, [first, first + 1, first + 2], "the order is that of the numbers");
        let frames = bench.handover.take(std::time::Duration::ZERO).frames;
        let (entry, _) = split_entry(&frames[0].entries).unwrap();
        match *Entry::parse(entry).unwrap().event {
            Event::LedgerClockJumped { by_ms } => assert!((by_ms - i64::try_from(behind.as_millis()).unwrap()).abs() < 1_000, "{by_ms}"),
            other => assert!(behind.is_zero(), "the control: without a jump there is no such entry, {other:?}"),
        }
    }
}
