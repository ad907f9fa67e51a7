use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::gateway::{Options, Peer, Subject, Tcp, Udp};
use super::*;
use sulku_permit::SessionId;
use sulku_protocol::{Ask, NoticeFrame, NoticeKind, Purpose, quic_code};

async fn welcome_and_close(mut peer: Peer) {
    if matches!(peer.ask().await, Some(Ask::Hello(_))) && peer.tell(&welcomed()).await.is_ok() {
        peer.ask().await;
    }
}

fn profile(desk: &Desk, port: u16) -> Profile {
    Profile::load(&desk.profile(port, &desk.issue(Subject::Holder))).expect("a good profile")
}

#[test]
fn quic_is_preferred_and_tls_not_even_tried() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), welcome_and_close);
        let session = open(&profile(&desk, gateway.port), Transport::Auto).await.expect("open");
        assert_eq!((session.carrier, session.welcome), (Carrier::Quic, welcome()));
        assert_eq!(gateway.came.tls.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn silence_on_udp_costs_three_tenths_of_a_second_and_not_the_session() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options { udp: Udp::Silent, ..Options::default() }, welcome_and_close);
        let profile = profile(&desk, gateway.port);
        let started = Instant::now();
        let session = open(&profile, Transport::Auto).await.expect("open");
        let took = started.elapsed();
        assert_eq!(session.carrier, Carrier::Tls);
        assert!(took >= QUIC_PATIENCE && took < QUIC_PATIENCE + Duration::from_millis(700), "took {took:?}");
    });
}

#[test]
fn a_forced_transport_is_the_only_one_tried() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), welcome_and_close);
        let profile = profile(&desk, gateway.port);
        for (transport, carrier) in [(Transport::Tls, Carrier::Tls), (Transport::Quic, Carrier::Quic)] {
            assert_eq!(open(&profile, transport).await.expect("open").carrier, carrier);
        }
        assert_eq!((gateway.came.quic.load(Ordering::SeqCst), gateway.came.tls.load(Ordering::SeqCst)), (1, 1));
    });
}

#[test]
fn a_notice_comes_in_its_place_and_is_no_output() {
    let warning = || NoticeFrame { kind: NoticeKind::Ending, text: "this session ends in 5 minutes".to_owned() };
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), move |mut peer: Peer| async move {
            peer.ask().await;
            for tell in [welcomed(), Tell::Output(b"a".to_vec()), Tell::Notice(warning()), Tell::Output(b"b".to_vec())] {
                peer.tell(&tell).await.expect("sent");
            }
            peer.ask().await;
        });
        let profile = profile(&desk, gateway.port);
        for transport in [Transport::Quic, Transport::Tls] {
            let mut session = open(&profile, transport).await.expect("open");
            for expected in [Event::Output(b"a".to_vec()), Event::Notice(warning()), Event::Output(b"b".to_vec())] {
                assert_eq!(session.screen.next().await.expect("a good session"), expected, "over {transport:?}");
            }
        }
    });
}

#[test]
fn a_port_where_nothing_listens_is_named_as_such() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options { udp: Udp::Silent, tcp: Tcp::Closed, ..Options::default() }, welcome_and_close);
        let error = open(&profile(&desk, gateway.port), Transport::Auto).await.expect_err("nobody is there");
        assert!(matches!(error, DialError::NothingListens { .. }), "{error:?}");
    });
}

#[test]
fn a_port_where_something_else_listens_is_named_as_such() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a peer");
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").expect("sent");
        stream
    });
    within_patience(async move {
        let desk = Desk::new();
        let error = open(&profile(&desk, port), Transport::Auto).await.expect_err("no gateway");
        assert!(matches!(error, DialError::NotAGateway { .. }), "{error:?}");
        drop(other.join().expect("it answered"));
    });
}

#[test]
fn a_close_code_counts_without_a_frame_and_a_gateway_that_vanishes_is_no_refusal() {
    within_patience(async {
        let desk = Desk::new();
        let busy = Gateway::start(&desk, Options::default(), |mut peer: Peer| async move {
            peer.ask().await;
            peer.end(quic_code::BUSY).await;
        });
        let error = open(&profile(&desk, busy.port), Transport::Quic).await.expect_err("no room");
        assert!(matches!(error, DialError::Busy), "{error:?}");
        let curt = Gateway::start(&desk, Options::default(), |mut peer: Peer| async move {
            peer.ask().await;
            peer.end(quic_code::REFUSED).await;
        });
        let error = open(&profile(&desk, curt.port), Transport::Quic).await.expect_err("refused");
        assert!(matches!(error, DialError::Unexplained), "{error:?}");
        let gone = Gateway::start(&desk, Options::default(), |peer: Peer| async move { drop(peer) });
        for transport in [Transport::Quic, Transport::Tls] {
            let error = open(&profile(&desk, gone.port), transport).await.expect_err("gone");
            assert!(matches!(error, DialError::Network { .. }), "{error:?}");
        }
    });
}

#[test]
fn an_operator_sees_and_ends_sessions() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), |mut peer: Peer| async move {
            let Some(Ask::Hello(hello)) = peer.ask().await else { panic!("hello comes first") };
            let answer = match hello.purpose {
                Purpose::ListSessions => Tell::Sessions(Vec::new()),
                Purpose::EndSession { session } if session == SessionId::from_random([1; 10]) => Tell::Done,
                other => panic!("{other:?} was not asked"),
            };
            peer.tell(&answer).await.expect("sent");
            peer.end(quic_code::DONE).await;
        });
        let profile = profile(&desk, gateway.port);
        for transport in [Transport::Quic, Transport::Tls] {
            assert_eq!(sessions(&profile, transport).await.expect("a list"), Vec::new());
            end_session(&profile, transport, SessionId::from_random([1; 10])).await.expect("ended");
        }
    });
}

#[test]
fn what_no_gateway_would_take_is_not_sent() {
    within_patience(async {
        let desk = Desk::new();
        let gateway = Gateway::start(&desk, Options::default(), |mut peer: Peer| async move {
            let Some(Ask::Hello(hello)) = peer.ask().await else { panic!("hello comes first") };
            let Purpose::Connect { term, columns, rows, .. } = hello.purpose else { panic!("a session was asked for") };
            assert_eq!((term.as_str(), columns, rows), ("dumb", 1, 1000));
            peer.tell(&welcomed()).await.expect("sent");
            assert_eq!(peer.ask().await, Some(Ask::Resize { columns: 1000, rows: 1 }));
            peer.tell(&Tell::Output(b"seen".to_vec())).await.expect("sent");
            peer.ask().await;
        });
        let profile = profile(&desk, gateway.port);
        let odd = || Terminal { term: "x\u{1b}[2J".into(), columns: 0, rows: u16::MAX };
        let mut session = connect(&profile, Transport::Auto, None, None, odd(), Stay::Ends).await.expect("open");
        session.keyboard.resize(u16::MAX, 0).await.expect("open");
        assert_eq!(session.screen.next().await.expect("output"), Event::Output(b"seen".to_vec()));
        let long = connect(&profile, Transport::Auto, None, Some(vec!["x".repeat(9_000)]), odd(), Stay::Ends).await.expect_err("too long");
        let none = connect(&profile, Transport::Auto, None, Some(vec![String::new()]), odd(), Stay::Ends).await.expect_err("no program");
        assert!(matches!((&long, &none), (DialError::TooLong, DialError::NoProgram)), "{long:?}, {none:?}");
    });
}
