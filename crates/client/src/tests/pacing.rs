use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::gateway::{Options, Peer, QUIC_WINDOW_BYTES, Subject};
use super::*;
use sulku_protocol::{Ask, ClosedFrame, INPUT_CREDIT_BYTES, OUTPUT_CREDIT_BYTES, Signal, quic_code};
use tokio::time::{sleep, timeout};

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tls];
const PIECE_BYTES: usize = 16 * 1024;
const TOTAL_BYTES: usize = 8 * 1024 * 1024;

/// What a gateway has on its way.
#[derive(Default)]
struct Ledger {
    sent: AtomicUsize,
    reported: AtomicUsize,
}

/// Sends within the credit only, as our gateway does.
async fn frugal(mut peer: Peer, ledger: Arc<Ledger>) {
    peer.ask().await;
    peer.tell(&welcomed()).await.expect("sent");
    let piece = Tell::Output(vec![b'x'; PIECE_BYTES]);
    while ledger.sent.load(Ordering::SeqCst) < TOTAL_BYTES {
        let on_way = ledger.sent.load(Ordering::SeqCst) - ledger.reported.load(Ordering::SeqCst);
        if on_way + PIECE_BYTES <= OUTPUT_CREDIT_BYTES as usize {
            ledger.sent.fetch_add(PIECE_BYTES, Ordering::SeqCst);
            if peer.tell(&piece).await.is_err() {
                return;
            }
        } else {
            match peer.ask().await {
                Some(Ask::Shown(bytes)) => ledger.reported.fetch_add(bytes as usize, Ordering::SeqCst),
                _ => return,
            };
        }
    }
    peer.tell(&Tell::Closed(ClosedFrame { reason: "exited".into(), message: "bye".into(), exit_status: Some(0) })).await.expect("sent");
    peer.end(quic_code::DONE).await;
}

fn frugal_gateway(desk: &Desk) -> (Gateway, Profile, Arc<Ledger>) {
    let ledger = Arc::new(Ledger::default());
    let shared = Arc::clone(&ledger);
    let gateway = Gateway::start(desk, Options::default(), move |peer| frugal(peer, Arc::clone(&shared)));
    let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
    (gateway, profile, ledger)
}

#[test]
fn a_gateway_that_keeps_to_the_credit_is_never_starved() {
    within_patience(async {
        for transport in BOTH {
            let desk = Desk::new();
            let (_gateway, profile, ledger) = frugal_gateway(&desk);
            let mut session = open(&profile, transport).await.expect("open");
            let mut received = 0;
            loop {
                match timeout(Duration::from_secs(5), session.screen.next()).await.expect("not starved").expect("a good session") {
                    Event::Output(bytes) => {
                        received += bytes.len();
                        session.screen.shown(bytes.len());
                    }
                    other @ (Event::Notice(_) | Event::Detached(_)) => panic!("nothing happens of which to tell: {other:?}"),
                    Event::Closed(closed) => break assert_eq!(closed.exit_status, Some(0)),
                }
            }
            assert_eq!((received, ledger.sent.load(Ordering::SeqCst)), (TOTAL_BYTES, TOTAL_BYTES));
        }
    });
}

#[test]
fn what_is_not_shown_is_not_reported_and_stops_the_gateway_at_its_credit() {
    within_patience(async {
        for transport in BOTH {
            let desk = Desk::new();
            let (_gateway, profile, ledger) = frugal_gateway(&desk);
            let mut session = open(&profile, transport).await.expect("open");
            let mut unshown = 0;
            while unshown < OUTPUT_CREDIT_BYTES as usize {
                let Ok(Event::Output(bytes)) = session.screen.next().await else { panic!("output comes") };
                unshown += bytes.len();
            }
            let more = timeout(Duration::from_millis(300), session.screen.next()).await;
            assert!(more.is_err(), "nothing comes beyond the credit: {more:?}");
            assert_eq!(ledger.sent.load(Ordering::SeqCst), OUTPUT_CREDIT_BYTES as usize);
            session.screen.shown(unshown);
            assert!(matches!(session.screen.next().await, Ok(Event::Output(_))), "it flows again");
        }
    });
}

#[test]
fn little_that_was_shown_is_reported_after_a_pause() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), |mut peer: Peer| async move {
            peer.ask().await;
            peer.tell(&welcomed()).await.expect("sent");
            peer.tell(&Tell::Output(b"$ ".to_vec())).await.expect("sent");
            assert_eq!(peer.ask().await, Some(Ask::Shown(2)));
            peer.tell(&Tell::Output(b"reported".to_vec())).await.expect("sent");
            peer.end(quic_code::DONE).await;
        });
        let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
        let mut session = open(&profile, Transport::Auto).await.expect("open");
        assert_eq!(session.screen.next().await.expect("output"), Event::Output(b"$ ".to_vec()));
        session.screen.shown(2);
        assert_eq!(session.screen.next().await.expect("output"), Event::Output(b"reported".to_vec()));
    });
}

/// A gateway that ignores the credit fills the client's window, not its memory.
#[test]
fn a_flood_beyond_the_credit_stops_at_the_window() {
    within_patience(async {
        let desk = Desk::new();
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let gateway = Gateway::start(&desk, Options::default(), move |mut peer: Peer| {
            let sent = Arc::clone(&counter);
            async move {
                peer.ask().await;
                peer.tell(&welcomed()).await.expect("sent");
                while peer.tell(&Tell::Output(vec![b'x'; PIECE_BYTES])).await.is_ok() {
                    sent.fetch_add(PIECE_BYTES, Ordering::SeqCst);
                }
            }
        });
        let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
        let mut session = open(&profile, Transport::Quic).await.expect("open");
        let mut before = usize::MAX;
        while sent.load(Ordering::SeqCst) != before {
            before = sent.load(Ordering::SeqCst);
            sleep(Duration::from_millis(200)).await;
        }
        let bound = (2 * OUTPUT_CREDIT_BYTES + QUIC_WINDOW_BYTES) as usize + PIECE_BYTES;
        assert!(before > 0 && before <= bound, "{before} bytes left the gateway, at most {bound} may");
        assert!(matches!(session.screen.next().await, Ok(Event::Output(_))));
    });
}

#[test]
fn a_signal_overtakes_a_long_paste_while_output_stands_still() {
    within_patience(async {
        let desk = Desk::new();
        let (go, wait) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let (paste_bytes, shared) = (4 * 1024 * 1024_usize, Arc::clone(&go));
        let (seen, seen_by_gateway) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::clone(&wait));
        let noted = Arc::clone(&seen);
        let gateway = Gateway::start(&desk, Options::default(), move |mut peer: Peer| {
            let (go, wait, noted) = (Arc::clone(&shared), Arc::clone(&seen_by_gateway), Arc::clone(&noted));
            async move {
                peer.ask().await;
                peer.tell(&welcomed()).await.expect("sent");
                go.notified().await;
                let mut before = 0;
                while let Some(ask) = peer.ask().await {
                    match ask {
                        Ask::Input(bytes) => before += bytes.len(),
                        Ask::Signal(Signal::Int) => break,
                        other => panic!("{other:?} was not sent"),
                    }
                }
                noted.store(before, Ordering::SeqCst);
                wait.notify_one();
            }
        });
        let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
        let session = open(&profile, Transport::Quic).await.expect("open");
        let keyboard = session.keyboard.clone();
        let paste = tokio::spawn(async move { keyboard.input(&vec![b'p'; paste_bytes]).await });
        sleep(Duration::from_millis(300)).await;
        assert!(!paste.is_finished(), "the paste waits for the gateway");
        let started = Instant::now();
        session.keyboard.signal(Signal::Int).await.expect("the session is open");
        assert!(started.elapsed() < Duration::from_millis(100), "a signal does not wait for the paste");
        go.notify_one();
        wait.notified().await;
        let before = seen.load(Ordering::SeqCst);
        assert!(before <= INPUT_CREDIT_BYTES as usize, "{before} bytes of {paste_bytes} came before the signal");
        drop(session);
        assert!(paste.await.expect("it ran").is_err(), "a paste into a session that is over says so");
    });
}

/// A terminal that shows what is typed, within both credits, as a gateway with `cat` behind it does. It always reads.
async fn echo(mut peer: Peer, total: usize) {
    peer.ask().await;
    peer.tell(&welcomed()).await.expect("sent");
    let (mut typed, mut unshown, mut echoed) = (0_usize, 0_usize, 0_usize);
    while echoed < total {
        let room = (OUTPUT_CREDIT_BYTES as usize - unshown).min(typed).min(PIECE_BYTES);
        if room > 0 {
            (typed, unshown, echoed) = (typed - room, unshown + room, echoed + room);
            peer.tell(&Tell::Output(vec![b'x'; room])).await.expect("sent");
            peer.tell(&Tell::Taken(u32::try_from(room).expect("a piece"))).await.expect("sent");
            continue;
        }
        match peer.ask().await {
            Some(Ask::Input(bytes)) => typed += bytes.len(),
            Some(Ask::Shown(bytes)) => unshown -= bytes as usize,
            other => panic!("{other:?} does not belong here"),
        }
        assert!(typed <= INPUT_CREDIT_BYTES as usize, "the client keeps to its credit");
    }
    peer.tell(&Tell::Closed(ClosedFrame { reason: "exited".into(), message: "bye".into(), exit_status: Some(0) })).await.expect("sent");
    peer.end(quic_code::DONE).await;
}

#[test]
fn more_than_both_credits_goes_in_and_comes_back_without_a_standstill() {
    const BYTES: usize = 2 * 1024 * 1024;
    within_patience(async {
        for transport in BOTH {
            let desk = Desk::new();
            let gateway = Gateway::start(&desk, Options::default(), |peer| echo(peer, BYTES));
            let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
            let mut session = open(&profile, transport).await.expect("open");
            let keyboard = session.keyboard.clone();
            let typing = tokio::spawn(async move { keyboard.input(&vec![b'x'; BYTES]).await });
            let mut back = 0;
            while let Event::Output(bytes) = session.screen.next().await.expect("a good session") {
                back += bytes.len();
                session.screen.shown(bytes.len());
            }
            assert_eq!((back, typing.await.expect("it ran")), (BYTES, Ok(())));
        }
    });
}

#[test]
fn a_gateway_that_reports_input_which_was_never_sent_is_left() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), |mut peer: Peer| async move {
            peer.ask().await;
            peer.tell(&welcomed()).await.expect("sent");
            peer.tell(&Tell::Taken(u32::MAX)).await.expect("sent");
            peer.ask().await;
        });
        let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
        let mut session = open(&profile, Transport::Auto).await.expect("open");
        assert!(matches!(session.screen.next().await, Err(SessionError::OutOfPhase)));
    });
}
