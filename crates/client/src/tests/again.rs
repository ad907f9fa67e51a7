use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::gateway::{Options, Peer, Subject};
use super::*;
use sulku_permit::RefusalCode;
use sulku_protocol::{Ask, INPUT_CREDIT_BYTES, Purpose, RefusedFrame, ResumedFrame, quic_code};
use tokio::sync::Mutex;

fn resumed(typed: u64, waiting: u32) -> Tell {
    Tell::Welcome(WelcomeFrame { stays_s: Some(60), resumed: Some(ResumedFrame { typed, waiting, replay: 0, detached_ms: 0, part: 0 }), ..welcome() })
}

/// All that is typed until the bytes are so many.
async fn typed(peer: &mut Peer, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        match peer.ask().await.expect("more is typed") {
            Ask::Input(piece) => bytes.extend(piece),
            Ask::Shown(_) => {}
            other => panic!("not typed: {other:?}"),
        }
    }
    bytes
}

async fn purpose(peer: &mut Peer) -> Purpose {
    match peer.ask().await {
        Some(Ask::Hello(hello)) => hello.purpose,
        other => panic!("no hello: {other:?}"),
    }
}

/// A gateway that took the session over knows nothing of what was typed before: none of it is sent again, and how much that is is said.
#[test]
fn nothing_is_sent_again_to_a_gateway_that_took_the_session_over() {
    within_patience(async {
        for transport in [Transport::Quic, Transport::Tls] {
            let desk = Desk::new();
            let round = Arc::new(AtomicUsize::new(0));
            let gateway = Gateway::start(&desk, Options::default(), move |mut peer| {
                let round = round.fetch_add(1, Ordering::SeqCst);
                async move {
                    purpose(&mut peer).await;
                    if round == 0 {
                        peer.tell(&Tell::Welcome(WelcomeFrame { stays_s: Some(60), ..welcome() })).await.expect("sent");
                        assert_eq!(typed(&mut peer, 10).await, b"0123456789");
                        peer.tell(&Tell::Taken(4)).await.expect("sent");
                        peer.tell(&Tell::Output(b"four".to_vec())).await.expect("sent");
                    } else {
                        // The second loses its connection once, and has heard all.
                        let resumed = ResumedFrame { typed: if round == 1 { 0 } else { 3 }, waiting: 0, replay: 0, detached_ms: 0, part: 1 };
                        peer.tell(&Tell::Welcome(WelcomeFrame { stays_s: Some(60), resumed: Some(resumed), ..welcome() })).await.expect("sent");
                        let expected: &[u8] = if round == 1 { b"abc" } else { b"def" };
                        assert_eq!(typed(&mut peer, 3).await, expected, "and nothing from before");
                        peer.tell(&Tell::Output(b"heard".to_vec())).await.expect("sent");
                    }
                    peer.end(quic_code::DONE).await;
                }
            });
            let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a profile");
            let mut session = connect(&profile, transport, None, None, terminal(), Stay::TakesUp).await.expect("open");
            session.keyboard.input(b"0123456789").await.expect("typed");
            for (unknown, then) in [(Some(6), b"abc"), (None, b"def")] {
                while session.screen.next().await.is_ok() {}
                let taken_up = session.screen.take_up(&profile, transport, (80, 24)).await.expect("taken up");
                assert_eq!(taken_up.by, unknown.map_or(By::TheSame, |unknown| By::Another { unknown }));
                session.keyboard.input(then).await.expect("typed");
                assert_eq!(session.screen.next().await.expect("shown"), Event::Output(b"heard".to_vec()));
            }
        }
    });
}

/// A gateway that stops waits for it.
#[test]
fn a_connection_that_was_cut_is_hung_up_on_before_there_is_another() {
    within_patience(async {
        for transport in [Transport::Quic, Transport::Tls] {
            let desk = Desk::new();
            let hung_up = Arc::new(tokio::sync::Notify::new());
            let hears = Arc::clone(&hung_up);
            let gateway = Gateway::start(&desk, Options::default(), move |mut peer| {
                let hears = Arc::clone(&hears);
                async move {
                    purpose(&mut peer).await;
                    peer.tell(&Tell::Welcome(WelcomeFrame { stays_s: Some(60), ..welcome() })).await.expect("sent");
                    peer.end(quic_code::DONE).await;
                    hears.notify_one();
                }
            });
            let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a profile");
            let mut session = connect(&profile, transport, None, None, terminal(), Stay::TakesUp).await.expect("open");
            assert!(matches!(session.screen.next().await, Err(SessionError::Cut(_))));
            hung_up.notified().await;
            assert!(matches!(session.screen.next().await, Err(SessionError::Cut(_))), "it stays cut");
        }
    });
}

/// Over QUIC nobody says that a gateway was killed, unless somebody asks.
#[test]
fn a_gateway_over_quic_that_shows_nothing_more_is_asked_whether_it_is_there() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), move |mut peer| async move {
            purpose(&mut peer).await;
            peer.tell(&Tell::Welcome(welcome())).await.expect("sent");
            peer.tell(&Tell::Output(b"four".to_vec())).await.expect("sent");
            assert_eq!(peer.ask().await, Some(Ask::Shown(4)));
            assert_eq!(peer.ask().await, Some(Ask::Shown(0)), "asked");
            peer.tell(&Tell::Output(b"over".to_vec())).await.expect("sent");
            peer.end(quic_code::DONE).await;
        });
        let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a profile");
        let mut session = connect(&profile, Transport::Quic, None, None, terminal(), Stay::Ends).await.expect("open");
        assert_eq!(session.screen.next().await.expect("shown"), Event::Output(b"four".to_vec()));
        session.screen.shown(4);
        assert_eq!(session.screen.next().await.expect("the gateway's script has run to its end"), Event::Output(b"over".to_vec()));
    });
}

/// What had arrived is not sent again, what had not is, and what is typed later follows it; over each transport.
#[test]
fn nothing_that_was_typed_is_lost_or_doubled_when_the_connection_is() {
    within_patience(async {
        for transport in [Transport::Quic, Transport::Tls] {
            let desk = Desk::new();
            let (round, heard) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
            let (counting, hearing) = (Arc::clone(&round), Arc::clone(&heard));
            let gateway = Gateway::start(&desk, Options::default(), move |mut peer| {
                let (round, heard) = (counting.fetch_add(1, Ordering::SeqCst), Arc::clone(&hearing));
                async move {
                    let asked = purpose(&mut peer).await;
                    match round {
                        0 => {
                            assert!(matches!(asked, Purpose::Connect { stay: Stay::TakesUp, .. }));
                            peer.tell(&Tell::Welcome(WelcomeFrame { stays_s: Some(60), ..welcome() })).await.expect("sent");
                            let came = typed(&mut peer, 10_000).await;
                            peer.tell(&Tell::Taken(4_000)).await.expect("sent");
                            heard.lock().await.extend_from_slice(&came[..7_000]);
                            peer.end(quic_code::DONE).await;
                        }
                        // Two attempts that come to nothing, as restarts make them.
                        1 => {
                            peer.tell(&Tell::Refused(RefusedFrame::plain(RefusalCode::Draining))).await.expect("sent");
                            peer.end(quic_code::REFUSED).await;
                        }
                        2 => peer.end(quic_code::DONE).await,
                        _ => {
                            assert_eq!(asked, Purpose::TakeUp { session: welcome().session, columns: 80, rows: 24 });
                            // 7000 of 10000 had arrived, of which the terminal has taken 6000.
                            peer.tell(&resumed(7_000, 1_000)).await.expect("sent");
                            let rest = INPUT_CREDIT_BYTES as usize - 7_000 + 6_000;
                            let more = typed(&mut peer, rest).await;
                            assert_eq!(more.len(), rest, "no more than the credit");
                            heard.lock().await.extend(more);
                            peer.tell(&Tell::Output(b"all".to_vec())).await.expect("sent");
                            while peer.ask().await.is_some() {}
                        }
                    }
                }
            });
            let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a profile");
            let mut session = connect(&profile, transport, None, None, terminal(), Stay::TakesUp).await.expect("open");
            let all: Vec<u8> = (0..INPUT_CREDIT_BYTES + 6_000).map(|at| (at % 251) as u8).collect();
            session.keyboard.input(&all[..10_000]).await.expect("typed");
            let lost = session.screen.next().await.expect_err("the connection is gone");
            assert!(matches!(lost, SessionError::Cut(_)), "{lost:?}");
            for _ in 0..2 {
                let error = session.screen.take_up(&profile, transport, (80, 24)).await.expect_err("not yet");
                assert!(error.may_pass(), "{error:?}");
            }
            let TakenUp { welcome, by: By::TheSame, .. } = session.screen.take_up(&profile, transport, (80, 24)).await.expect("taken up") else {
                panic!("by the same")
            };
            assert_eq!(welcome.resumed.map(|resumed| resumed.typed), Some(7_000));
            session.keyboard.input(&all[10_000..]).await.expect("typed");
            assert_eq!(session.screen.next().await.expect("a good session"), Event::Output(b"all".to_vec()));
            assert!(*heard.lock().await == all, "each byte once, in order");
            assert_eq!(round.load(Ordering::SeqCst), 4);
        }
    });
}

/// A gateway that claims what can't be is left, as one that breaks the protocol.
#[test]
fn a_gateway_that_has_more_than_was_ever_typed_is_not_believed() {
    within_patience(async {
        for (typed_before, claimed) in [(5, (6, 0)), (5, (5, 6)), (5, (0, 1))] {
            let desk = Desk::new();
            let round = Arc::new(AtomicUsize::new(0));
            let gateway = Gateway::start(&desk, Options::default(), move |mut peer| {
                let round = round.fetch_add(1, Ordering::SeqCst);
                async move {
                    purpose(&mut peer).await;
                    if round == 0 {
                        peer.tell(&Tell::Welcome(WelcomeFrame { stays_s: Some(60), ..welcome() })).await.expect("sent");
                        typed(&mut peer, typed_before).await;
                    } else {
                        peer.tell(&resumed(claimed.0, claimed.1)).await.expect("sent");
                    }
                    peer.end(quic_code::DONE).await;
                }
            });
            let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a profile");
            let mut session = open(&profile, Transport::Quic).await.expect("open");
            session.keyboard.input(&vec![b'x'; typed_before]).await.expect("typed");
            assert!(session.screen.next().await.is_err());
            let error = session.screen.take_up(&profile, Transport::Quic, (80, 24)).await.expect_err("not believed");
            assert!(matches!(error, DialError::OutOfPhase) && !error.may_pass(), "{claimed:?}: {error:?}");
        }
    });
}
