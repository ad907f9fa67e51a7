//! A disk that is full: nothing is acknowledged that is not kept, and the process ends.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use sulku_ledger::client::ClientError;

use crate::support::{Home, acted, chunk};

/// A file system in memory with room for this much, unmounted when dropped.
struct SmallDisk<'p>(&'p Path);

impl<'p> SmallDisk<'p> {
    fn mount(path: &'p Path, mebibytes: u32) -> Self {
        std::fs::create_dir(path).unwrap();
        let options = std::ffi::CString::new(format!("size={mebibytes}m,mode=0700")).unwrap();
        mount("sulku-test", path, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()).expect("this test needs to mount a tmpfs");
        Self(path)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _gone_already = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// LG-05
#[test]
fn a_full_disk_ends_the_ledger_and_loses_nothing_that_was_acknowledged() {
    const PIECE: &[u8] = &[b'x'; 512 << 10];
    let mut home = Home::new();
    let disk_path = home.folder.path().join("disk");
    let disk = SmallDisk::mount(&disk_path, 44);
    home.settings.directory = disk_path.join("log");
    let ledger = home.spawn();
    let (mut client, mut other) = (ledger.client(), ledger.client());
    let _before = other.append(acted(1), &[]).unwrap();
    let mut kept = 0;
    loop {
        match client.append(chunk(1, kept, kept * PIECE.len() as u64, PIECE), PIECE) {
            Ok(_) => kept += 1,
            Err(ClientError::Refused { reason, .. }) => break assert!(reason.contains("the ledger can't"), "{reason}"),
            // Not read any more when the ledger ended.
            Err(ClientError::Io(_)) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(kept < 100, "the disk never got full");
    }
    assert!(kept > 5, "the control: {kept} chunks were kept before");
    assert!(other.append(acted(2), &[]).is_err(), "nothing is acknowledged after the error");
    let (status, said) = ledger.ended();
    assert_eq!(status.code(), Some(1), "the process ends with a failure");
    assert!(said.contains("the ledger can't") && said.contains("No space left"), "{said}");

    // With room again, all that was acknowledged is there.
    let copy = home.folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(disk_path.join("log")).arg(&copy).status().unwrap();
    assert!(copied.success());
    drop(disk);
    home.settings.directory = copy;
    home.start().stop().unwrap();
    let verified = home.verify().unwrap();
    assert_eq!((verified.chunks(), verified.recorded_bytes()), (kept, kept * PIECE.len() as u64));
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
