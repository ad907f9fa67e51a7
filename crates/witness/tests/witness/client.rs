//! The client beside a witness that is honest, forgetful, or none.

use std::sync::{Arc, Mutex};

use sulku_audit::SecretKey;
use sulku_audit::key::Algorithm;
use sulku_witness::client::AskError;
use sulku_witness::service::{Answers, Reply};
use sulku_witness::{Answer, Client};

use crate::support::{Log, Served, keys, service};

fn public() -> Vec<sulku_audit::PublicKey> {
    keys().iter().map(|key| key.public().clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_follows_the_log_and_catches_up_where_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(service(folder.path())).await;
    let mut client = Client::new(served.https(), public(), 0);
    for size in [3, 256, 300, 300, 700] {
        let answer = client.cosign(&Log::of(size).note(), &mut Log::of(size)).await.unwrap();
        assert!(matches!(&answer, Answer::Cosigned(lines) if lines.lines().count() == 2), "{size}: {answer:?}");
        assert_eq!(client.seen(), size);
    }
    let mut newcomer = Client::new(served.https(), public(), 0);
    let answer = newcomer.cosign(&Log::of(900).note(), &mut Log::of(900)).await.unwrap();
    assert!(matches!(answer, Answer::Cosigned(_)), "409, then with the size that it named");
    let mut lagging = Client::new(served.https(), public(), 700);
    assert!(matches!(lagging.cosign(&Log::of(950).note(), &mut Log::of(950)).await.unwrap(), Answer::Cosigned(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_put_back_or_forked_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(service(folder.path())).await;
    let mut client = Client::new(served.https(), public(), 0);
    client.cosign(&Log::of(300).note(), &mut Log::of(300)).await.unwrap();
    let mut after_restore = Client::new(served.https(), public(), 0);
    assert_eq!(after_restore.cosign(&Log::of(200).note(), &mut Log::of(200)).await.unwrap(), Answer::Ahead { size: 300 });
    let same = client.cosign(&Log::forked(300, 9).note(), &mut Log::forked(300, 9)).await.unwrap();
    assert!(matches!(same, Answer::Forked { .. }), "{same:?}");
    let larger = client.cosign(&Log::forked(400, 9).note(), &mut Log::forked(400, 9)).await.unwrap();
    assert!(matches!(larger, Answer::Forked { .. }), "{larger:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_forgot_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(service(folder.path())).await;
    let mut client = Client::new(served.https(), public(), 500);
    let answer = client.cosign(&Log::of(600).note(), &mut Log::of(600)).await.unwrap();
    assert_eq!(answer, Answer::WentBack { size: 0, before: 500 });
    assert!(matches!(client.cosign(&Log::of(600).note(), &mut Log::of(600)).await.unwrap(), Answer::Cosigned(_)), "asked again, it goes on");
}

/// Answers whatever it was told, whatever it is asked.
struct Parrot(Mutex<Reply>);

impl Answers for Parrot {
    fn body_bytes_max(&self) -> usize {
        1 << 20
    }

    fn answer(&self, _: &str, _: &str, _: &[u8]) -> Reply {
        self.0.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_only_when_it_verifies() {
    let parrot = Arc::new(Parrot(Mutex::new(Reply::text(200, "yes"))));
    let served = Served::new(Arc::<Parrot>::clone(&parrot)).await;
    let mut client = Client::new(served.https(), public(), 0);
    let checkpoint = sulku_audit::Checkpoint::of_note(&sulku_audit::note::Note::parse(Log::of(3).note().as_bytes()).unwrap()).unwrap();
    let other = sulku_audit::Checkpoint { size: 4, ..checkpoint.clone() };
    let stranger = SecretKey::from_seed("authority.example/witness", Algorithm::MlDsa44, &[99; 32]).unwrap();
    let good = keys()[1].sign(&checkpoint, 7);
    let reply = |body: String| Reply { status: 200, content_type: "text/plain", body: body.into_bytes() };
    for wrong in [stranger.sign(&checkpoint, 7), keys()[1].sign(&other, 7), String::new(), "\u{2014} x\n".to_owned(), "{}".to_owned()] {
        *parrot.0.lock().unwrap() = reply(wrong);
        let outcome = client.cosign(&Log::of(3).note(), &mut Log::of(3)).await;
        assert!(matches!(outcome, Err(AskError::Confused(..))), "{outcome:?}");
        assert_eq!(client.seen(), 0);
    }
    *parrot.0.lock().unwrap() = reply("x".repeat(1 << 17));
    assert!(client.cosign(&Log::of(3).note(), &mut Log::of(3)).await.is_err(), "too long an answer");
    *parrot.0.lock().unwrap() = Reply { status: 409, content_type: "text/x.tlog.size", body: b"many\n".to_vec() };
    assert!(matches!(client.cosign(&Log::of(3).note(), &mut Log::of(3)).await, Err(AskError::Confused(..))));
    *parrot.0.lock().unwrap() = Reply::text(503, "later");
    assert!(matches!(client.cosign(&Log::of(3).note(), &mut Log::of(3)).await, Ok(Answer::Refused { status: 503, .. })));
    *parrot.0.lock().unwrap() = reply(stranger.sign(&checkpoint, 7) + &good);
    assert_eq!(client.cosign(&Log::of(3).note(), &mut Log::of(3)).await.unwrap(), Answer::Cosigned(good), "strangers' lines are left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_restarts_is_reached_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let first = Served::new(Arc::<sulku_witness::Service>::clone(&service)).await;
    let mut client = Client::new(first.https(), public(), 0);
    client.cosign(&Log::of(3).note(), &mut Log::of(3)).await.unwrap();
    drop(first);
    let gone = client.cosign(&Log::of(4).note(), &mut Log::of(4)).await;
    assert!(gone.is_err() || client.seen() == 4, "either it is gone or the last connection still answered");
    let second = Served::new(service).await;
    let mut client = Client::new(second.https(), public(), client.seen());
    assert!(matches!(client.cosign(&Log::of(5).note(), &mut Log::of(5)).await.unwrap(), Answer::Cosigned(_)));
}
