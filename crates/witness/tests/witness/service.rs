//! The witness itself: what it cosigns, what it refuses, what it keeps.

use std::fs;
use std::sync::Barrier;

use sulku_audit::note::Note;
use sulku_audit::{Checkpoint, LogSigner, Trust};
use sulku_witness::service::Service;
use sulku_witness::state::{StateError, evidence};

use crate::support::{Log, ORIGIN, TIME, keys, post, service, signer, trust};

fn status_and_size(reply: &sulku_witness::service::Reply) -> (u16, &str, String) {
    (reply.status, reply.content_type, String::from_utf8_lossy(&reply.body).into_owned())
}

fn conflict(size: u64) -> (u16, &'static str, String) {
    (409, "text/x.tlog.size", format!("{size}\n"))
}

/// What a reader makes of a log's note with a witness's answer.
fn cosigned(note: &str, lines: &[u8]) -> bool {
    let public: Vec<_> = keys().iter().map(|key| key.public().clone()).collect();
    let trust = Trust::with_witnesses(signer().own_keys(), &public, 1).unwrap();
    trust.open((note.to_owned() + &String::from_utf8_lossy(lines)).as_bytes()).is_ok()
}

#[test]
fn each_checkpoint_that_continues_the_last_is_cosigned_with_both_keys() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let mut old = 0;
    for size in [1, 2, 3, 256, 257, 700] {
        let log = Log::of(size);
        let reply = post(&service, &log.request(old));
        assert_eq!(reply.status, 200, "{size}: {}", String::from_utf8_lossy(&reply.body));
        assert_eq!(String::from_utf8_lossy(&reply.body).lines().count(), 2);
        assert!(cosigned(&log.note(), &reply.body) && !cosigned(&log.note(), b""), "{size}");
        old = size;
    }
    let again = post(&service, &Log::of(700).request(700));
    assert!(cosigned(&Log::of(700).note(), &again.body), "a quiet log's last checkpoint is cosigned again");
    assert!(evidence(folder.path()).unwrap().is_empty());
}

#[test]
fn a_rollback_a_cut_tail_and_a_wrong_old_size_are_told_the_size_that_was_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    assert_eq!(status_and_size(&post(&service, &Log::of(5).request(3))), conflict(0), "never seen");
    assert_eq!(post(&service, &Log::of(10).request(0)).status, 200);
    for (size, old) in [(8, 8), (8, 0), (8, 5), (12, 0), (12, 9), (12, 11), (10, 0), (9, 9)] {
        assert_eq!(status_and_size(&post(&service, &Log::of(size).request(old))), conflict(10), "{size} from {old}");
    }
    let mut beyond = Log::of(8).request(0);
    beyond.splice(4..5, *b"10");
    assert_eq!(post(&service, &beyond).status, 400, "an old size beyond the checkpoint's");
    assert_eq!(post(&service, &Log::of(12).request(10)).status, 200, "409 was the way to go on");
    assert!(evidence(folder.path()).unwrap().is_empty(), "none of it shows a lie");
}

/// The operator has the real key and signs another history with it.
#[test]
fn a_fork_that_the_operator_signed_is_not_cosigned_and_both_sides_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let honest = post(&service, &Log::of(300).request(0));
    assert_eq!(honest.status, 200);
    let same_size = Log::forked(300, 299);
    assert_eq!(status_and_size(&post(&service, &same_size.request(300))), conflict(300));
    assert_eq!(status_and_size(&post(&service, &same_size.request(0))), conflict(300), "whatever old size it claims");
    let larger = Log::forked(400, 250);
    assert_eq!(post(&service, &larger.request(300)).status, 422);
    let pieces = evidence(folder.path()).unwrap();
    assert_eq!(pieces.iter().map(|piece| piece.kind.as_str()).filter(|kind| *kind == "fork").count(), 2);
    assert_eq!(pieces.iter().filter(|piece| piece.kind == "suspicion").count(), 1);
    let trust: Trust = trust().remove(0);
    for piece in pieces.iter().filter(|piece| piece.kind == "fork") {
        let (known, shown) = (fs::read(&piece.known).unwrap(), fs::read_to_string(&piece.shown).unwrap());
        let shown = shown.split_once("\n\n").unwrap().1;
        let (known, shown) = (trust.open(&known).unwrap().checkpoint, trust.open(shown.as_bytes()).unwrap().checkpoint);
        assert!(known.size == shown.size && known.root != shown.root, "anybody with the log's public keys sees the lie in the two files");
    }
    let count = pieces.len();
    assert_eq!(post(&service, &larger.request(300)).status, 422);
    assert_eq!(evidence(folder.path()).unwrap().len(), count, "the same again is kept once");
    assert_eq!(post(&service, &Log::of(400).request(300)).status, 200, "the honest history goes on");
}

#[test]
fn a_damaged_proof_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    assert_eq!(post(&service, &Log::of(300).request(0)).status, 200);
    let good = String::from_utf8(Log::of(777).request(300)).unwrap();
    let lines: Vec<&str> = good.split_inclusive('\n').collect();
    let hashes = lines.iter().position(|line| *line == "\n").unwrap() - 1;
    assert!(hashes > 3);
    for drop in 1..=hashes {
        let without: String = lines.iter().enumerate().filter(|(at, _)| *at != drop).map(|(_, line)| *line).collect();
        assert_eq!(post(&service, without.as_bytes()).status, 422, "line {drop} is missing");
        let mut twice = lines.clone();
        twice.insert(drop, lines[drop]);
        assert_eq!(post(&service, twice.concat().as_bytes()).status, 422, "line {drop} is there twice");
    }
    assert_eq!(post(&service, good.as_bytes()).status, 200, "the control");
}

#[test]
fn only_what_the_logs_keys_signed_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let checkpoint = Checkpoint::of_note(&Note::parse(Log::of(5).note().as_bytes()).unwrap()).unwrap();
    let with = |note: &str| sulku_audit::witness::encode(0, &[], note).into_bytes();
    let stranger = LogSigner::from_seeds(ORIGIN, &[8; 32], &[9; 32]).unwrap();
    assert_eq!(post(&service, &with(&stranger.sign(&checkpoint, TIME))).status, 403);
    let one_key = Log::of(5).note().split_inclusive('\n').take(5).collect::<String>();
    assert_eq!(post(&service, &with(&one_key)).status, 403, "each key of the file is demanded");
    let elsewhere = LogSigner::from_seeds("other.example", &[1; 32], &[2; 32]).unwrap();
    let other = Checkpoint { origin: "other.example".to_owned(), ..checkpoint };
    assert_eq!(post(&service, &with(&elsewhere.sign(&other, TIME))).status, 404);
    assert_eq!(post(&service, &with(&Log::of(5).note())).status, 200, "the control");
}

#[test]
fn old_and_new_keys_are_taken_while_the_log_replaces_them() {
    let folder = tempfile::tempdir().unwrap();
    let second = || LogSigner::from_seeds(ORIGIN, &[11; 32], &[12; 32]).unwrap();
    let both = [trust(), vec![second().own_keys().into()]].concat();
    let service = Service::open(folder.path(), both, keys()).unwrap();
    assert_eq!(post(&service, &Log::of(5).request(0)).status, 200);
    let mut after = Log::of(9);
    let checkpoint = Checkpoint::of_note(&Note::parse(after.note().as_bytes()).unwrap()).unwrap();
    after.files.insert("checkpoint".to_owned(), second().sign(&checkpoint, TIME).into_bytes());
    assert_eq!(post(&service, &after.request(5)).status, 200);
}

#[test]
fn a_restart_between_keeping_and_answering_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = service(folder.path());
    assert!(matches!(Service::open(folder.path(), trust(), keys()), Err(StateError::Locked(_))), "a folder has one witness");
    // The answer of 200 is lost with the process.
    assert_eq!(post(&first, &Log::of(10).request(0)).status, 200);
    drop(first);
    let second = service(folder.path());
    assert_eq!(status_and_size(&post(&second, &Log::of(10).request(0))), conflict(10));
    let reply = post(&second, &Log::of(10).request(10));
    assert!(cosigned(&Log::of(10).note(), &reply.body));
    assert_eq!(post(&second, &Log::forked(10, 3).request(10)).status, 409);
}

#[test]
fn what_can_not_be_kept_is_not_cosigned() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    assert_eq!(post(&service, &Log::of(5).request(0)).status, 200);
    let (logs, aside) = (folder.path().join("logs"), folder.path().join("aside"));
    fs::rename(&logs, &aside).unwrap();
    let reply = post(&service, &Log::of(9).request(5));
    assert_eq!((reply.status, reply.body.windows(3).any(|bytes| bytes == "\u{2014}".as_bytes())), (500, false));
    fs::rename(&aside, &logs).unwrap();
    assert_eq!(status_and_size(&post(&service, &Log::of(9).request(9))), conflict(5), "and not remembered either");
    assert_eq!(post(&service, &Log::of(9).request(5)).status, 200);
}

#[test]
fn of_two_requests_at_once_one_wins_and_nothing_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    assert_eq!(post(&service, &Log::of(10).request(0)).status, 200);
    let mut at = 10;
    for round in 0..20 {
        let requests: Vec<Vec<u8>> = (1..=8).map(|more| Log::of(at + more).request(at)).collect();
        let start = Barrier::new(requests.len());
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let post = |request| {
                let (start, service) = (&start, &service);
                move || {
                    start.wait();
                    post(service, request).status
                }
            };
            let threads: Vec<_> = requests.iter().map(|request| scope.spawn(post(request))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<usize> = (0..8).filter(|request| statuses[*request] == 200).collect();
        assert_eq!(winners.len(), 1, "round {round}: {statuses:?}");
        at += winners[0] as u64 + 1;
        let last = service.state().last(ORIGIN).unwrap();
        assert_eq!(trust()[0].open(&last).unwrap().checkpoint.size, at, "the disk's and the memory's");
        assert!(statuses.iter().all(|status| [200, 409].contains(status)));
    }
}

/// Its folder was put back to yesterday's. It can't know by itself; a cosignature of its own tells it.
#[test]
fn a_witness_whose_state_was_put_back_learns_it_from_its_own_cosignature() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let first = service(folder.path());
    assert_eq!(post(&first, &Log::of(5).request(0)).status, 200);
    let state = first_file(&folder.path().join("logs"));
    let yesterday = fs::read(&state).unwrap();
    let newest = post(&first, &Log::of(20).request(5));
    drop((first, copy));
    fs::write(&state, yesterday).unwrap();

    let second = service(folder.path());
    let mut log = Log::of(20);
    let note = log.note() + &String::from_utf8(newest.body).unwrap();
    log.files.insert("checkpoint".to_owned(), note.into_bytes());
    assert_eq!(post(&second, &log.request(5)).status, 200, "it continues what is left");
    assert_eq!(evidence(folder.path()).unwrap()[0].kind, "restored", "and a person is told");
    assert_eq!(status_and_size(&post(&second, &Log::forked(20, 7).request(20))), conflict(20), "what it had cosigned holds again");
}

#[test]
fn a_damaged_state_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let first = service(folder.path());
    assert_eq!(post(&first, &Log::of(5).request(0)).status, 200);
    drop(first);
    fs::write(first_file(&folder.path().join("logs")), "not a checkpoint").unwrap();
    let error = Service::open(folder.path(), trust(), keys()).map(drop).unwrap_err();
    assert!(matches!(error, StateError::Damaged(..)), "{error}");
}

fn first_file(folder: &std::path::Path) -> std::path::PathBuf {
    fs::read_dir(folder).unwrap().flatten().next().unwrap().path().join("cosigned")
}
