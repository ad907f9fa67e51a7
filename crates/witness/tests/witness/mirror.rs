//! The mirror: a whole log, checked before it is stored, and nothing that was not signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sulku_audit::{Draft, Event, Recordings, Source as _, SourceError, Trust};
use sulku_ledger::client::Client;
use sulku_ledger::folder::Folder;
use sulku_ledger::{Ledger, Settings, key};
use sulku_witness::mirror::{Mirror, MirrorError, Mirrored, Remote};
use sulku_witness::service::{Answers, Reply};
use sulku_witness::state::evidence;

use crate::support::{Log, ORIGIN, Served, TIME, keys, signer, trust};

fn mirror(directory: &Path) -> Mirror {
    Mirror::open(directory, trust()).unwrap()
}

fn copy_of(directory: &Path) -> PathBuf {
    Mirror::folder_of(directory, ORIGIN)
}

#[test]
fn a_log_of_any_size_is_held_whole_and_signed_for() {
    let public: Vec<_> = keys().iter().map(|key| key.public().clone()).collect();
    let cosigned = Trust::with_witnesses(signer().own_keys(), &public, 1).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut mirror_of = mirror(directory.path());
    let mut before = 0;
    for size in [0, 1, 255, 256, 257, 600, 1000, 65_535, 65_536, 65_537, 66_000] {
        let log = Log::of(size);
        let mirrored = mirror_of.pull(&mut log.clone(), &keys(), TIME + size).unwrap();
        assert_eq!(mirrored, Mirrored { size, new: size - before });
        before = size;
        for (path, bytes) in log.files.iter().filter(|(path, _)| *path != "checkpoint") {
            assert_eq!(&fs::read(copy_of(directory.path()).join(path)).unwrap(), bytes, "{path} of {size}");
        }
        let note = fs::read(copy_of(directory.path()).join("checkpoint")).unwrap();
        assert_eq!(cosigned.open(&note).unwrap().checkpoint.size, size);
        if size == 600 {
            drop(mirror_of);
            mirror_of = mirror(directory.path());
        }
    }
    let mut partial = Vec::new();
    let mut folders = vec![copy_of(directory.path())];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            }
            partial.extend(entry.file_name().to_string_lossy().ends_with(".p").then(|| entry.path()));
        }
    }
    assert_eq!(partial.len(), 4, "levels 0, 1 and 2 and the entries at the end, and none that is full: {partial:?}");
}

#[test]
fn nothing_that_was_not_signed_is_stored() {
    let log = Log::of(70_000);
    let paths: Vec<String> = log.files.keys().filter(|path| *path != "checkpoint").cloned().collect();
    for path in paths.iter().step_by(paths.len() / 12) {
        let directory = tempfile::tempdir().unwrap();
        let mut changed = log.clone();
        let bytes = changed.files.get_mut(path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        let outcome = mirror(directory.path()).pull(&mut changed, &keys(), TIME);
        assert!(outcome.is_err(), "{path}");
        assert!(!copy_of(directory.path()).join("checkpoint").exists(), "{path}: nothing is signed for");
        let stored = copy_of(directory.path()).join(path);
        assert!(!stored.exists(), "{path}: nor is the changed file stored");
    }
}

#[test]
fn a_log_that_goes_back_or_forks_is_left_as_it_was_and_the_evidence_kept() {
    let directory = tempfile::tempdir().unwrap();
    let mut mirror = mirror(directory.path());
    mirror.pull(&mut Log::of(600), &keys(), TIME).unwrap();
    let before = fs::read(copy_of(directory.path()).join("checkpoint")).unwrap();
    for mut lie in [Log::of(500), Log::forked(600, 599), Log::forked(900, 10)] {
        assert!(matches!(mirror.pull(&mut lie, &keys(), TIME), Err(MirrorError::Fork { known: 600, .. })));
    }
    assert_eq!(fs::read(copy_of(directory.path()).join("checkpoint")).unwrap(), before);
    let kinds: Vec<String> = evidence(directory.path()).unwrap().into_iter().map(|piece| piece.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "fork").count(), 1);
    assert_eq!(kinds.len(), 3);
    assert!(mirror.pull(&mut Log::of(900), &keys(), TIME).is_ok(), "the honest log goes on");
}

#[test]
fn what_a_crash_left_beyond_the_checkpoint_is_fetched_again() {
    let directory = tempfile::tempdir().unwrap();
    mirror(directory.path()).pull(&mut Log::of(300), &keys(), TIME).unwrap();
    let torn = copy_of(directory.path()).join("tile/entries/001");
    fs::write(&torn, b"half").unwrap();
    fs::write(copy_of(directory.path()).join("aside.tmp"), b"half").unwrap();
    mirror(directory.path()).pull(&mut Log::of(600), &keys(), TIME).unwrap();
    assert_eq!(fs::read(&torn).unwrap(), Log::of(600).files["tile/entries/001"]);
}

/// A ledger's folder, as whoever serves its tiles does it.
struct Files(PathBuf);

impl Answers for Files {
    fn body_bytes_max(&self) -> usize {
        0
    }

    fn answer(&self, _: &str, path: &str, _: &[u8]) -> Reply {
        match fs::read(self.0.join(path.trim_start_matches('/'))) {
            Ok(body) => Reply { status: 200, content_type: "application/octet-stream", body },
            Err(_) => Reply::text(404, "none"),
        }
    }
}

/// A real ledger, mirrored over HTTPS while it grows; the copy verifies with nothing but the public keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_a_ledger_verifies_on_another_host() -> Result<(), SourceError> {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let at = |name: &str| folder.path().join(name);
    let public = key::create(ORIGIN, &at("key")).unwrap();
    let uid = rustix::process::getuid().as_raw();
    let settings = Settings {
        origin: ORIGIN.to_owned(),
        directory: at("log"),
        socket: at("socket"),
        signing_key: at("key"),
        previous_signing_key: None,
        witness: None,
        run_as: None,
        gateway_uid: uid,
        warden_uid: uid,
        auditors: [].into(),
        courier_uid: None,
    };
    let ledger = Ledger::start(settings, key::load(&at("key")).unwrap()).unwrap();
    let stopper = ledger.stopper();
    let running = std::thread::spawn(|| ledger.run());
    let served = Served::new(Arc::new(Files(at("log")))).await;
    let (https, runtime) = (served.https(), tokio::runtime::Handle::current());
    let (copies, socket) = (at("copies"), at("socket"));
    let trusted: Vec<Trust> = vec![public.clone().into()];
    let verified = tokio::task::spawn_blocking(move || {
        let mut client = Client::connect(&socket).unwrap();
        let mut mirror = Mirror::open(&copies, trusted.clone()).unwrap();
        let mut remote = Remote::new(https, runtime);
        for round in 0..4 {
            for number in 0..200 {
                let action = format!("{round}.{number}");
                let event = Event::OperatorActed { action, from: "192.0.2.8".parse::<std::net::IpAddr>().unwrap().into() };
                let _kept = client.append(Draft::new(event), &[]).unwrap();
            }
            let size = client.publish().unwrap();
            assert_eq!(mirror.pull(&mut remote, &keys(), TIME).unwrap().size, size);
        }
        let mut copy = Folder::new(copy_of(&copies));
        assert!(copy.read("checkpoint").unwrap().is_some());
        sulku_audit::verify::verify(&mut copy, &trusted[0], Recordings::Skip, |_, _, _| {}).unwrap()
    });
    assert!(verified.await.unwrap().entries() > 800);
    stopper.stop("the test is over");
    running.join().unwrap().unwrap();
    Ok(())
}
