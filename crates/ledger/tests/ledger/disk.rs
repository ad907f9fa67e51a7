//! A disk that is full: what opens is refused, what closes is kept from the reserve, and nothing is lost that was acknowledged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use sulku_audit::personal::Scope;
use sulku_audit::wire::Cause;
use sulku_audit::{Draft, Event, Receipt};
use sulku_ledger::client::{Client, ClientError};

use crate::support::{Home, acted, chunk, closed, opened};

/// A file system in memory with room for this much, unmounted when dropped.
struct SmallDisk(PathBuf);

fn options(mebibytes: u32) -> std::ffi::CString {
    std::ffi::CString::new(format!("size={mebibytes}m,mode=0700")).unwrap()
}

impl SmallDisk {
    fn mount(path: &Path, kind: &str, mebibytes: u32) -> Self {
        std::fs::create_dir(path).unwrap();
        let options = options(mebibytes);
        mount("sulku-test", path, kind, MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()).expect("this test needs to mount a file system");
        Self(path.to_owned())
    }

    fn resize(&self, mebibytes: u32) {
        mount_remount(&self.0, MountFlags::NODEV | MountFlags::NOSUID, options(mebibytes).as_c_str()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone_already = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A ledger's home on a disk with room for two segments and not much more.
fn home_on_small_disk(mebibytes: u32) -> (Home, SmallDisk) {
    let mut home = Home::new();
    let path = home.folder.path().join("disk");
    let disk = SmallDisk::mount(&path, "tmpfs", mebibytes);
    home.settings.directory = path.join("log");
    (home, disk)
}

fn cause(result: Result<Receipt, ClientError>) -> Option<Cause> {
    match result {
        Ok(_) => None,
        Err(ClientError::Refused { cause: Cause::Broken, reason }) => panic!("{reason}"),
        Err(ClientError::Refused { cause, .. }) => Some(cause),
        Err(error) => panic!("{error}"),
    }
}

/// Records until the disk is full; how many chunks were kept.
fn fill(client: &mut Client) -> u64 {
    const PIECE: &[u8] = &[b'x'; 512 << 10];
    let deadline = Instant::now() + Duration::from_secs(60);
    for kept in 0.. {
        match cause(client.append(chunk(1, kept, kept * PIECE.len() as u64, PIECE), PIECE)) {
            None => assert!(Instant::now() < deadline, "the disk never got full"),
            Some(cause) => {
                assert_eq!(cause, Cause::Full);
                return kept;
            }
        }
    }
    0
}

/// LG-07
#[test]
fn a_full_disk_opens_nothing_closes_everything_and_loses_nothing() {
    let (home, disk) = home_on_small_disk(140);
    let ledger = home.start();
    let mut client = ledger.client();
    assert_eq!(cause(client.append(opened(1), &[])), None, "the control");
    let chunks = fill(&mut client);
    assert!(chunks > 5, "the control: {chunks} chunks were kept before");
    assert_eq!(cause(client.append(opened(2), &[])), Some(Cause::Full), "no session opens");
    assert_eq!(cause(client.append(closed(1), &[])), None, "the open one ends, with its entry");
    assert_eq!(cause(client.append(acted(1), &[])), None, "operators act");
    assert_eq!(cause(client.break_glass("the disk is full, and the dam breaks")), None, "and break the glass");
    match client.publish() {
        Err(ClientError::Refused { cause: Cause::Full, reason }) => assert!(reason.contains("No space left"), "{reason}"),
        other => panic!("{other:?}"),
    }
    disk.resize(400);
    let deadline = Instant::now() + Duration::from_secs(30);
    while cause(client.append(opened(3), &[])).is_some() {
        assert!(Instant::now() < deadline, "sessions open again when there is room");
        std::thread::sleep(Duration::from_millis(20));
    }
    ledger.stop().unwrap();
    let verified = home.verify().unwrap();
    assert_eq!(verified.chunks(), chunks, "every chunk that was acknowledged is there");
    let names: Vec<_> = home.events().iter().map(Event::name).collect();
    let at = |name: &str| names.iter().position(|other| *other == name).unwrap_or_else(|| panic!("{name} is not among {names:?}"));
    let in_order = ["ledger.full", "session.closed", "operator.acted", "operator.broke-glass", "ledger.has-room", "ledger.stopped"];
    assert!(in_order.is_sorted_by_key(|name| at(name)), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "session.opened").count(), 2, "the refused one has left no trace");
}

/// What a gateway says when it starts.
fn gateway_started() -> Draft {
    Draft::new(Event::GatewayStarted {
        version: "0.1.0".to_owned(),
        listen: "192.0.2.1:443".parse().unwrap(),
        rung: "root".to_owned(),
        confinement: "test".to_owned(),
        policy: "none".to_owned(),
    })
}

/// What a warden says when it starts.
fn warden_started() -> Draft {
    Draft::new(Event::WardenStarted {
        version: "0.1.0".to_owned(),
        rung: "root".to_owned(),
        kernel: "6.1".to_owned(),
        landlock_abi: 6,
        ruleset: "0".repeat(64),
    })
}

/// A file that they load.
fn crl_loaded(file: String) -> Draft {
    Draft::new(Event::CrlLoaded { file, sha256: "0".repeat(64) })
}

/// LG-07. And whoever starts them for ever takes nothing from what closes.
#[test]
fn a_gateway_and_a_warden_start_on_a_full_disk_and_leave_the_reserve_to_what_closes() {
    let (home, disk) = home_on_small_disk(140);
    let ledger = home.start();
    let mut client = ledger.client();
    assert_eq!(cause(client.append(opened(1), &[])), None);
    fill(&mut client);
    assert_eq!(cause(client.append(opened(2), &[])), Some(Cause::Full), "the control: the disk is full");
    for start in [warden_started(), gateway_started(), crl_loaded("revoked.crl".to_owned())] {
        assert_eq!(cause(client.append(start.clone(), &[])), None, "{}", start.event.name());
    }
    // As large as such entries can be, to get there sooner.
    let large = || crl_loaded("x".repeat(31 << 10));
    let kept = (0..4000).take_while(|_| cause(client.append(large(), &[])).is_none()).count();
    assert!((100..4000).contains(&kept), "{kept} were kept: more than a start needs, and not without end");
    assert_eq!(cause(client.append(gateway_started(), &[])), Some(Cause::Full), "no more of them");
    for _ in 0..200 {
        assert_eq!(cause(client.append(closed(1), &[])), None, "what closes is kept as before");
    }
    assert_eq!(cause(client.break_glass("the disk is full, and the gateway starts and starts")), None);
    disk.resize(400);
    ledger.stop().unwrap();
    let starts = home.events().iter().filter(|event| event.name() == "crl.loaded").count();
    assert_eq!(starts, kept + 1, "what was acknowledged is in the log");
}

/// Somebody whom no entry has named yet acts while there is no room for a byte; the entry is kept, and the name as soon as there is.
#[test]
fn an_operator_who_is_new_to_the_log_acts_on_a_full_disk() {
    let (home, disk) = home_on_small_disk(140);
    let ledger = home.start();
    let mut client = ledger.client();
    fill(&mut client);
    let filler = home.log().with_file_name("filler");
    let mut file = std::fs::File::create(filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let draft = Draft { person: Some("onni".parse().unwrap()), permit: None, ..acted(1) };
    assert_eq!(cause(client.append(draft.clone(), &[])), None, "the entry is kept");
    let key = home.log().join(Scope::of(None, jiff::Timestamp::now()).key_id().path());
    assert!(!std::fs::read_to_string(&key).unwrap().contains("onni"), "the control: there was no room for the name");
    disk.resize(400);
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(&key).unwrap().contains("person onni\n") {
        assert!(Instant::now() < deadline, "the name is written when there is room");
        assert_eq!(cause(client.append(acted_nobody(), &[])), None);
        std::thread::sleep(Duration::from_millis(20));
    }
    ledger.stop().unwrap();
}

/// Something about no permit and no person.
fn acted_nobody() -> Draft {
    Draft { permit: None, ..acted(2) }
}

/// LG-07. Down to the floor, over a restart, and no further.
#[test]
fn a_ledger_whose_reserve_is_used_up_stops_in_order_and_does_not_start_until_there_is_room() {
    let (home, disk) = home_on_small_disk(131);
    let ledger = home.spawn();
    let mut client = ledger.client();
    let mut kept = fill(&mut client).min(1);
    ledger.kill();
    // Still full: it starts from the reserve, and soon finds out.
    let ledger = home.spawn();
    let mut client = ledger.client();
    let deadline = Instant::now() + Duration::from_secs(30);
    while cause(client.append(opened(2), &[])) != Some(Cause::Full) {
        assert!(Instant::now() < deadline, "sessions open on a full disk");
        std::thread::sleep(Duration::from_millis(5));
    }
    // As large as such entries can be, to get there sooner.
    let large = || Draft::new(Event::GatewayStopped { reason: "x".repeat(31 << 10), sessions_closed: 0, sessions_left: 0 });
    loop {
        match client.append(large(), &[]) {
            Ok(_) => kept += 1,
            Err(ClientError::Refused { cause: Cause::Full | Cause::Broken, .. } | ClientError::Io(_)) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(kept < 5000, "the reserve never ended");
    }
    assert!(kept > 100, "the control: {kept} were kept");
    let (status, said) = ledger.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    let error = home.try_start().map(drop).unwrap_err().to_string();
    assert!(error.contains("reserve is used up; make room"), "{error}");
    disk.resize(400);
    home.start().stop().unwrap();
    assert!(home.verify().unwrap().entries() > kept);
    let events = home.events();
    let large = events.iter().filter(|event| event.name() == "gateway.stopped").count() as u64;
    assert!(large >= kept - 1, "{large} of {kept}");
    let stops: Vec<_> =
        events.iter().filter_map(|event| if let Event::LedgerStopped { reason } = event { Some(reason.as_str()) } else { None }).collect();
    assert!(stops[0].contains("reserve is used up"), "it said so in its last entry: {stops:?}");
}

/// ramfs has no direct writes.
#[test]
fn a_file_system_that_refuses_direct_writes_is_written_and_synced() {
    let mut home = Home::new();
    let path = home.folder.path().join("disk");
    let _disk = SmallDisk::mount(&path, "ramfs", 0);
    home.settings.directory = path.join("log");
    let probe = path.join("probe");
    std::fs::write(&probe, []).unwrap();
    let direct = rustix::fs::open(&probe, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::DIRECT, rustix::fs::Mode::empty());
    assert!(direct.is_err(), "the control: this file system refuses O_DIRECT");
    let ledger = home.spawn();
    let kept = ledger.client().append(acted(1), &[]).unwrap();
    ledger.kill();
    home.start().stop().unwrap();
    assert!(home.events().len() as u64 > kept.index());
}

#[test]
fn a_log_that_can_not_be_published_is_not_written_on() {
    let home = Home::new();
    let ledger = home.start();
    let mut client = ledger.client();
    client.publish().unwrap();
    // Another file where the next bundle belongs: as if somebody else wrote here.
    std::fs::write(home.log().join("tile/entries/000.p/2"), "other bytes").unwrap();
    let _durable_already = client.append(acted(1), &[]).unwrap();
    match client.publish() {
        Err(ClientError::Refused { reason, .. }) => assert!(reason.contains("holds other bytes than the log"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(client.append(acted(2), &[]).is_err());
    assert!(ledger.ended().unwrap_err().to_string().contains("can't publish"));
}
