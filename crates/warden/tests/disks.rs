//! Workspaces with a disk of their own: what one fills is nobody else's, and it comes and goes with its sessions.

mod stage;

use std::fs;
use std::os::unix::fs::MetadataExt;

use jiff::{SignedDuration, Timestamp};
use stage::{Running, Stage, eventually, launch};
use sulku_audit::Event;
use sulku_plan::order::{Order, Report};

const MIB: u64 = 1 << 20;

/// Gives the workspace of the first permit a disk of this size, or another.
fn give_disk(stage: &Stage, size: &str) {
    let text = fs::read_to_string(stage.path("permits/one.toml")).expect("a permit");
    let bare: String = text.lines().filter(|line| !line.starts_with("disk = ")).map(|line| format!("{line}\n")).collect();
    stage.put_permit("one.toml", &bare.replace("name = \"ws-one\"\n", &format!("name = \"ws-one\"\ndisk = \"{size}\"\n")));
}

fn with_disk(size: &str) -> Stage {
    let stage = Stage::new();
    give_disk(&stage, size);
    stage
}

/// The loop devices whose file is in the stage's folder.
fn loops(stage: &Stage) -> Vec<String> {
    let devices = fs::read_dir("/sys/block").expect("block devices").flatten();
    let files = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| file.starts_with(&*stage.folder.path().to_string_lossy())).collect()
}

fn refusal(stage: &mut Stage, file: &str) -> String {
    let receipt = stage.opening(file, None);
    let receipt = stage.ledger.keep(&receipt);
    stage.gateway.order(&launch(receipt));
    stage.gateway.refusal()
}

fn end(stage: &Stage, running: &Running) {
    stage.gateway.order(&Order::End { session: running.session, reason: "holder-left".to_owned() });
    stage.reaped(running);
}

const FILL: &str = "dd if=/dev/zero of=$F bs=64k count=4096 2>&1 | grep -c 'No space left'; stat -c %s $F";

/// SE-06: a full disk ends in its own workspace; the host gives nothing that it had not set aside, and files outlive their session.
#[test]
fn a_full_disk_hurts_its_own_workspace_alone() {
    let mut stage = with_disk("64 MiB");
    assert_eq!(stage.shell("one.toml", "echo kept > note; ls -A; stat -c '%U %a' ."), "note\r\nmaija 700\r\n", "nothing else is there");
    let image = fs::metadata(stage.path("workspaces/ws-one.disk")).expect("a disk");
    assert!(image.blocks() * 512 >= 64 * MIB, "set aside whole: {} bytes are", image.blocks() * 512);
    assert_eq!((image.uid(), image.mode() & 0o7777), (0, 0o600));
    let said = stage.shell("one.toml", &FILL.replace("$F", "fill"));
    let (full, bytes) = said.trim().split_once("\r\n").expect("two lines");
    assert_eq!(full, "1", "{said}");
    let bytes: u64 = bytes.trim().parse().expect("a number");
    assert!((32 * MIB..64 * MIB).contains(&bytes), "{bytes}");
    let after = fs::metadata(stage.path("workspaces/ws-one.disk")).expect("a disk");
    assert_eq!((after.len(), after.blocks()), (image.len(), image.blocks()), "nothing more was taken of the host's");
    let (used, limit) = stage.ledger.entry("what the disk holds", |draft| match draft.event {
        Event::CellReaped { disk_used_bytes: Some(used), disk_limit_bytes: Some(limit), .. } if used > 32 * MIB => Some((used, limit)),
        _ => None,
    });
    assert!(used <= limit && limit == 64 * MIB, "{used} of {limit}");
    let theirs = stage.shell("two.toml", &FILL.replace("$F", "fill").replace("4096", "1200"));
    assert_eq!(theirs.trim(), "0\r\n78643200", "control: another workspace has the host's room");
    let again = "head -c 1M /dev/zero > more 2>/dev/null || echo full; rm -f fill; head -c 1M /dev/zero > more && cat note";
    assert_eq!(stage.shell("one.toml", again), "full\r\nkept\r\n", "also for the next session, until there is room again");
    eventually("the disk is let go", || loops(&stage).is_empty().then_some(()));
}

/// Nothing is left of a warden that was killed, and what was written is there for the next one.
#[test]
fn a_disk_outlives_the_warden_that_is_killed_and_nothing_holds_it() {
    let mut stage = with_disk("64 MiB");
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", "echo kept > note; sync; echo ready; sleep 600"]));
    running.read_until("ready");
    assert_eq!(loops(&stage).len(), 1, "control: it is mounted");
    stage.warden.kill().expect("killed");
    stage.warden.wait().expect("its end");
    stage.await_uplinks_end();
    stage.restart();
    assert_eq!(stage.shell("one.toml", "cat note"), "kept\r\n");
    eventually("the disk is let go", || loops(&stage).is_empty().then_some(()));
}

/// A disk grows with its permit once nobody is in it; a smaller limit holds at once, unless more is there already.
#[test]
fn a_disk_follows_its_permit() {
    let mut stage = with_disk("64 MiB");
    let room = |stage: &mut Stage| -> u64 { stage.shell("one.toml", "df -B1M --output=avail . | tail -n 1").trim().parse().expect("a number") };
    let running = stage.launch("one.toml", None);
    give_disk(&stage, "160 MiB");
    let before = room(&mut stage);
    assert!((40..64).contains(&before), "somebody is in it: {before}");
    end(&stage, &running);
    eventually("the disk is let go", || loops(&stage).is_empty().then_some(()));
    let grown = room(&mut stage);
    assert!((110..160).contains(&grown), "{grown}");
    let running = stage.launch("one.toml", None);
    assert_eq!(stage.shell("one.toml", "head -c 100M /dev/zero > big && stat -c %s big"), "104857600\r\n");
    give_disk(&stage, "128 MiB");
    let less = room(&mut stage);
    assert!(less < 28, "{less}");
    assert!(stage.shell("one.toml", "head -c 40M /dev/zero > more || echo full").contains("full"));
    end(&stage, &running);
    eventually("the disk is let go", || loops(&stage).is_empty().then_some(()));
    assert!(stage.shell("one.toml", "rm more; head -c 40M /dev/zero > more || echo full").contains("full"), "also once it is mounted anew");
    give_disk(&stage, "64 MiB");
    let refused = refusal(&mut stage, "one.toml");
    assert!(refused.contains("more than the 67108864 that the permit gives") && refused.contains("write a larger"), "{refused}");
    give_disk(&stage, "160 MiB");
    assert!(stage.shell("one.toml", "rm big more; ls -A; echo here").contains("here"), "what is there stays reachable");
}

/// What can't be had is said, in words that name what to do; other workspaces go on.
#[test]
fn a_disk_that_can_not_be_had_refuses_the_session_in_words() {
    let mut stage = with_disk("15 TiB");
    let refused = refusal(&mut stage, "one.toml");
    assert!(refused.contains("disk of workspace ws-one") && refused.contains("no room to set"), "{refused}");
    let left: Vec<_> = fs::read_dir(stage.path("workspaces")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["ws-one"], "nothing is left of the attempt");
    fs::write(stage.path("workspaces/ws-one/old"), "from before").expect("written");
    give_disk(&stage, "64 MiB");
    let refused = refusal(&mut stage, "one.toml");
    assert!(refused.contains("has files in") && refused.contains("move them away"), "{refused}");
    fs::remove_file(stage.path("workspaces/ws-one/old")).expect("moved away");
    assert_eq!(stage.shell("one.toml", "echo made"), "made\r\n");
    let permit = fs::read_to_string(stage.path("permits/one.toml")).expect("a permit");
    stage.put_permit("one.toml", &permit.replace("disk = \"64 MiB\"\n", ""));
    let refused = refusal(&mut stage, "one.toml");
    assert!(refused.contains("its permit names none"), "{refused}");
    stage.put_permit("one.toml", &permit);
    eventually("the disk is let go", || loops(&stage).is_empty().then_some(()));
    let image = stage.path("workspaces/ws-one.disk");
    let good = fs::read(&image).expect("the disk");
    fs::write(&image, vec![0; good.len()]).expect("written");
    let refused = refusal(&mut stage, "one.toml");
    assert!(refused.contains("need a person") && refused.contains("e2fsck -f"), "{refused}");
    assert_eq!(stage.shell("two.toml", "echo on"), "on\r\n", "control: others go on");
    fs::write(&image, good).expect("written");
    assert_eq!(stage.shell("one.toml", "echo back"), "back\r\n");
}

/// LC-04: a workspace on a disk is destroyed with the same two entries, and its disk is gone with it.
#[test]
fn a_workspace_on_a_disk_goes_with_a_certificate() {
    let mut stage = with_disk("64 MiB");
    stage.shell("one.toml", "mkdir -p a/b; echo 12345 > a/b/c; ln -s /etc d; echo x > e");
    let ended = (Timestamp::now() - SignedDuration::from_hours(24 * 400)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    stage.change_permit("one.toml", "2099-12-31", &ended);
    fs::write(stage.path("workspaces/.ws-one.disk.new"), "what an interrupted attempt left").expect("written");
    stage.gateway.order(&Order::DeleteWorkspace { named: "ws-one".to_owned() });
    match stage.gateway.report().0 {
        Report::Deleted { workspace, files, bytes } => assert_eq!((workspace.as_str(), files, bytes), ("ws-one", 3, 8)),
        other => panic!("not deleted: {other:?}"),
    }
    let begun = stage.ledger.entry("its beginning", |draft| match &draft.event {
        Event::WorkspaceDeletionBegun { files: 3, folders: 2, bytes: 8, sha256, .. } => Some(sha256.clone()),
        _ => None,
    });
    stage.ledger.entry("the certificate", |draft| match &draft.event {
        Event::WorkspaceDeleted { files: 3, folders: 2, bytes: 8, sha256, .. } => (*sha256 == begun).then_some(()),
        _ => None,
    });
    let left: Vec<_> = fs::read_dir(stage.path("workspaces")).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
    assert_eq!(loops(&stage), Vec::<String>::new());
}
