use super::gateway::{Options, Peer, Subject};
use super::*;
use sulku_permit::RefusalCode;
use sulku_protocol::{ClosedFrame, FrameError, PAYLOAD_BYTES_MAX, RefusedFrame, encode, quic_code};

fn bytes_of(tells: &[Tell]) -> Vec<u8> {
    let mut bytes = Vec::new();
    tells.iter().for_each(|tell| encode(tell, &mut bytes).expect("short"));
    bytes
}

/// A gateway that answers the first frame with these bytes and ends the connection in good order.
fn answering(desk: &Desk, bytes: Vec<u8>) -> (Gateway, Profile) {
    let gateway = Gateway::start(desk, Options::default(), move |mut peer: Peer| {
        let bytes = bytes.clone();
        async move {
            peer.ask().await;
            // A peer that has left on reading the first bytes does not take the others.
            let _ = peer.raw(&bytes).await;
            peer.end(quic_code::DONE).await;
        }
    });
    let profile = Profile::load(&desk.profile(gateway.port, &desk.issue(Subject::Holder))).expect("a good profile");
    (gateway, profile)
}

/// What a gateway sends, and the error that it must lead to.
type Case<E> = (Vec<u8>, fn(&E) -> bool);

const BOTH: [Transport; 2] = [Transport::Quic, Transport::Tls];

fn too_long() -> Vec<u8> {
    let mut bytes = vec![0x83];
    bytes.extend(u32::try_from(PAYLOAD_BYTES_MAX + 1).expect("small").to_be_bytes());
    bytes
}

#[test]
fn an_answer_that_is_no_answer_is_an_error_in_plain_words() {
    within_patience(async {
        let desk = Desk::new();
        let cases: [Case<DialError>; 6] = [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), |error| matches!(error, DialError::Frame(_))),
            (too_long(), |error| matches!(error, DialError::Frame(FrameError::TooLong { .. }))),
            (bytes_of(&[welcomed()])[..20].to_vec(), |error| matches!(error, DialError::Frame(FrameError::Truncated))),
            (bytes_of(&[Tell::Output(b"x".to_vec())]), |error| matches!(error, DialError::OutOfPhase)),
            (bytes_of(&[Tell::Done]), |error| matches!(error, DialError::OutOfPhase)),
            (Vec::new(), |error| matches!(error, DialError::Network { .. })),
        ];
        for (bytes, expected) in cases {
            let (_gateway, profile) = answering(&desk, bytes.clone());
            for transport in BOTH {
                let error = open(&profile, transport).await.expect_err("no session");
                assert!(expected(&error), "over {transport:?}, {:?}: {error:?}", String::from_utf8_lossy(&bytes));
            }
        }
    });
}

#[test]
fn a_session_whose_gateway_breaks_the_protocol_is_over() {
    within_patience(async {
        let desk = Desk::new();
        let cases: [Case<SessionError>; 5] = [
            (vec![0xff; 40], |error| matches!(error, SessionError::Frame(_))),
            (too_long(), |error| matches!(error, SessionError::Frame(FrameError::TooLong { .. }))),
            (bytes_of(&[Tell::Output(vec![b'x'; 9])])[..9].to_vec(), |error| matches!(error, SessionError::Frame(FrameError::Truncated))),
            (bytes_of(&[welcomed()]), |error| matches!(error, SessionError::OutOfPhase)),
            (Vec::new(), |error| matches!(error, SessionError::Cut(_))),
        ];
        for (after, expected) in cases {
            let (_gateway, profile) = answering(&desk, [bytes_of(&[welcomed(), Tell::Output(b"before".to_vec())]), after.clone()].concat());
            for transport in BOTH {
                let mut session = open(&profile, transport).await.expect("open");
                assert_eq!(session.screen.next().await.expect("what came before counts"), Event::Output(b"before".to_vec()));
                let error = session.screen.next().await.expect_err("broken");
                assert!(expected(&error), "over {transport:?}, {after:?}: {error:?}");
            }
        }
    });
}

#[test]
fn a_refusal_comes_with_its_advice_and_choices() {
    within_patience(async {
        let desk = Desk::new();
        let refused = RefusedFrame {
            code: RefusalCode::ChooseAPermit,
            advice: RefusalCode::ChooseAPermit.advice().into(),
            choices: vec!["A/1".parse().expect("an id"), "B/2".parse().expect("an id")],
            sessions: Vec::new(),
        };
        let (_gateway, profile) = answering(&desk, bytes_of(&[Tell::Refused(refused)]));
        for transport in BOTH {
            let error = open(&profile, transport).await.expect_err("refused");
            assert_eq!(error.to_string(), "the gateway refused (choose-a-permit); name the permit: sulku connect PERMIT (one of A/1, B/2)");
        }
    });
}

#[test]
fn words_from_the_gateway_cannot_act_on_the_terminal() {
    within_patience(async {
        let desk = Desk::new();
        let mut bad = welcome();
        bad.title = "a\u{1b}]52;c;ZXZpbA==\u{7}b\u{202e}c".into();
        let closed = ClosedFrame { reason: "left\r\n".into(), message: "x".repeat(5_000), exit_status: None };
        let (_gateway, profile) = answering(&desk, bytes_of(&[Tell::Welcome(bad), Tell::Closed(closed)]));
        let mut session = open(&profile, Transport::Tls).await.expect("open");
        assert_eq!(session.welcome.title, "a\u{fffd}]52;c;ZXZpbA==\u{fffd}b\u{fffd}c");
        let Ok(Event::Closed(closed)) = session.screen.next().await else { panic!("closed comes next") };
        assert_eq!((closed.reason.as_str(), closed.message.len()), ("left\u{fffd}\u{fffd}", 400));
    });
}
