//! The auditor's work, done as an auditor does it: with `sulku audit`.

use anyhow::ensure;
use rustix::process::Signal;
use sulku_stage::{Daemon, Options, Person, Stage, copy_folder, flip_in_entry};
use sulku_tests::{SOON, closed, session_id, shared};

fn live(stage: &Stage) -> [String; 4] {
    ["--ledger".to_owned(), stage.ledger_socket().display().to_string(), "--key".to_owned(), stage.ledger_key().display().to_string()]
}

fn audit(stage: &Stage, args: &[&str]) -> anyhow::Result<sulku_stage::Finished> {
    let live = live(stage);
    let args: Vec<&str> = ["audit"].into_iter().chain(args.iter().copied()).chain(live.iter().map(String::as_str)).collect();
    Ok(stage.run(&args)?)
}

/// LG-02
pub fn what_was_shown_can_be_replayed() -> anyhow::Result<()> {
    let stage = shared()?;
    let session = stage.connect(Person::Maija, &["--", "printf", "shown to Maija äö\\n"])?;
    let id = session_id(&session.err)?;
    closed(&stage, &id)?;
    let identity = stage.auditor_identity().display().to_string();
    let played = audit(&stage, &["play", &id, "--no-wait", "--identity", &identity])?;
    ensure!(played.code() == Some(0) && played.out.contains("shown to Maija äö") && played.err.is_empty(), "{played:?}");
    let export = stage.folder().join("export.cast");
    let exported = audit(&stage, &["play", &id, "--identity", &identity, "--export", &export.display().to_string()])?;
    let cast = std::fs::read_to_string(&export)?;
    ensure!(exported.code() == Some(0) && cast.starts_with("{") && cast.contains("\"o\", \"shown to Maija äö"), "{exported:?} {cast}");
    Ok(())
}

/// LG-02: whoever has all that the host has, its operator's keys included, opens no recording; an auditor does.
pub fn nothing_on_the_host_opens_a_recording() -> anyhow::Result<()> {
    let stage = shared()?;
    let session = stage.connect(Person::Maija, &["--", "echo", "for-auditors-only"])?;
    let id = session_id(&session.err)?;
    closed(&stage, &id)?;
    let recording = stage.ledger_dir().join(format!("recordings/{id}.rec"));
    let bytes = std::fs::read(&recording)?;
    ensure!(!bytes.is_empty() && !bytes.windows(8).any(|bytes| bytes == b"auditors"), "it is not in the clear");
    let identity = stage.auditor_identity();
    let mut tried = 0;
    for file in files_below(stage.folder())?.into_iter().filter(|file| *file != identity && !file.is_symlink()) {
        // A file that is no identity is refused as one; nothing that lies here may be one that opens it.
        let play = stage.run(&[
            "audit",
            "play",
            &id,
            "--no-wait",
            "--dir",
            &stage.ledger_dir().display().to_string(),
            "--key",
            &stage.ledger_key().display().to_string(),
            "--identity",
            &file.display().to_string(),
        ])?;
        ensure!(play.code() == Some(1) && !play.out.contains("for-auditors-only"), "{} opens it: {play:?}", file.display());
        tried += 1;
    }
    ensure!(tried >= 10, "the host's files were tried: {tried}");
    let other = stage.folder().join("another.identity");
    ensure!(stage.run(&["audit", "identity", "--out", &other.display().to_string()])?.code() == Some(0));
    for (identity, opens) in [(&other, false), (&identity, true)] {
        let played = audit(&stage, &["play", &id, "--no-wait", "--identity", &identity.display().to_string()])?;
        ensure!(played.out.contains("for-auditors-only") == opens, "{played:?}");
    }
    Ok(())
}

/// The configuration, keys, certificates, permits and the whole log; registers and workspaces aside, which are the holders'.
fn files_below(folder: &std::path::Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder)? {
        let path = item?.path();
        let leave_out =
            path.ends_with("datasets") || path.ends_with("workspaces") || path.ends_with("wal") || path.ends_with("run") || path.ends_with("tile");
        if path.is_dir() && !leave_out {
            found.extend(files_below(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

/// LG-10
pub fn every_reading_is_an_entry() -> anyhow::Result<()> {
    let stage = shared()?;
    let before = stage.entries(&["--event", "audit.read"])?.len();
    audit(&stage, &["list", "--denied"])?;
    let after = stage.entries(&["--event", "audit.read"])?;
    ensure!(after.len() >= before + 2, "the listing and this look are entries: {before} before, {} after", after.len());
    ensure!(after.iter().all(|entry| entry.data("uid") == 0), "{after:?}");
    Ok(())
}

/// LG-04
pub fn a_flipped_bit_is_found_and_named() -> anyhow::Result<()> {
    let stage = shared()?;
    let session = stage.connect(Person::Maija, &["--", "true"])?;
    let id = session_id(&session.err)?;
    let opened = stage.entry(&["--event", "session.opened", "--session", &id], SOON, |_| true)?;
    let copy = stage.folder().join("copy-with-a-flipped-bit");
    copy_folder(&stage.ledger_dir(), &copy)?;
    let (copy_text, key) = (copy.display().to_string(), stage.ledger_key().display().to_string());
    let verify = || stage.run(&["audit", "verify", "--dir", &copy_text, "--key", &key]);
    let untouched = verify()?;
    ensure!(untouched.code() == Some(0), "the control: {untouched:?}");
    flip_in_entry(&copy, opened.index())?;
    let flipped = verify()?;
    ensure!(flipped.code() == Some(1) && flipped.gist().contains(&format!("entry {}", opened.index())), "{flipped:?}");
    Ok(())
}

/// LG-04, LG-10
pub fn a_proof_stands_alone() -> anyhow::Result<()> {
    let stage = shared()?;
    let started = stage.entry(&["--event", "gateway.started"], SOON, |_| true)?;
    let proof = audit(&stage, &["proof", &started.index().to_string()])?;
    ensure!(proof.code() == Some(0) && proof.out.contains("c2sp.org/tlog-proof"), "{proof:?}");
    let beyond = audit(&stage, &["proof", "99999999"])?;
    ensure!(beyond.code() == Some(1), "the control: {beyond:?}");
    Ok(())
}

pub fn a_ledger_survives_its_own_restart() -> anyhow::Result<()> {
    let mut stage = Stage::raise(&Options { rows: 100, ..Options::default() })?;
    let session = stage.connect(Person::Maija, &["--", "echo", "kept"])?;
    let id = session_id(&session.err)?;
    closed(&stage, &id)?;
    for daemon in Daemon::ALL.iter().rev() {
        let ended = stage.kill(*daemon, Signal::TERM);
        ensure!(ended.is_some_and(|status| status.success()), "{daemon:?}: {ended:?}");
    }
    for daemon in Daemon::ALL {
        stage.start(*daemon)?;
    }
    ensure!(stage.entries(&["--event", "ledger.started"])?.len() == 2);
    ensure!(stage.entries(&["--event", "session.opened", "--session", &id])?.len() == 1);
    let verified = audit(&stage, &["verify"])?;
    ensure!(verified.code() == Some(0), "{verified:?}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
