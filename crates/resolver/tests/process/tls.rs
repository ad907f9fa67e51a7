//! TLS connections, which a rule turns to the resolver as the router's does.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_proto::rr::RecordType;
use sulku_plan::naming::{ConnectionDenied, Denied, Finding, NameCheck, Task};

use crate::stage::{Resolver, Stage, Tells, Test, Upstream, ask, connect, listed, must, session, until};

pub const TESTS: &[Test] = &[
    ("a_connection_that_says_its_name_passes_unchanged", a_connection_that_says_its_name_passes_unchanged),
    ("what_does_not_say_a_listed_name_sends_nothing_out", what_does_not_say_a_listed_name_sends_nothing_out),
    ("a_second_hello_must_give_the_same_name", a_second_hello_must_give_the_same_name),
    ("half_a_connection_goes_on", half_a_connection_goes_on),
    ("the_end_of_a_session_ends_its_connections_at_once", the_end_of_a_session_ends_its_connections_at_once),
    ("connections_have_a_bound", connections_have_a_bound),
    ("a_destination_that_does_not_answer_is_said", a_destination_that_does_not_answer_is_said),
    ("clients_that_others_wrote_pass_and_are_stopped", clients_that_others_wrote_pass_and_are_stopped),
];

/// A host that writes down what arrived, and answers it with the same.
struct Host {
    arrived: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Host {
    fn start(at: Ipv4Addr, answers: fn(&mut TcpStream, &Mutex<Vec<Vec<u8>>>)) -> Self {
        let listener = TcpListener::bind((at, 443)).expect("a host's address");
        let host = Self { arrived: Arc::default() };
        let arrived = host.arrived.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let arrived = arrived.clone();
                thread::spawn(move || answers(&mut stream, &arrived));
            }
        });
        host
    }

    fn arrived(&self) -> Vec<Vec<u8>> {
        self.arrived.lock().expect("whole").clone()
    }
}

/// Writes down everything, piece by piece, and sends it back.
fn echo(stream: &mut TcpStream, arrived: &Mutex<Vec<Vec<u8>>>) {
    let place = {
        let mut arrived = arrived.lock().expect("whole");
        arrived.push(Vec::new());
        arrived.len() - 1
    };
    let mut buffer = [0; 65_536];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        arrived.lock().expect("whole")[place].extend_from_slice(&buffer[..length]);
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

fn list(length_bytes: usize, data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[4 - length_bytes..], data].concat()
}

/// A ClientHello in one record, with this name and these other extensions.
fn hello(name: Option<&str>, more: &[u8]) -> Vec<u8> {
    let name = name.map_or(Vec::new(), |name| {
        let names = list(2, &[&[0], list(2, name.as_bytes()).as_slice()].concat());
        [&[0, 0], list(2, &names).as_slice()].concat()
    });
    let body = [&[3, 3], [7; 32].as_slice(), &[0, 0, 2, 0x13, 1, 1, 0], &list(2, &[name.as_slice(), more].concat())].concat();
    let message = [&[1], list(3, &body).as_slice()].concat();
    [&[22, 3, 1], list(2, &message).as_slice()].concat()
}

/// The extension of an encrypted hello, or what looks like one.
fn hiding() -> Vec<u8> {
    [&[0xfe, 0x0d], list(2, &[0; 100]).as_slice()].concat()
}

/// A record of the server's with a hello that asks for another.
fn retry() -> Vec<u8> {
    let random: [u8; 32] = [
        0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c,
        0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
    ];
    let body = [&[3, 3], random.as_slice(), &[0, 0x13, 1, 0, 0, 0]].concat();
    let message = [&[2], list(3, &body).as_slice()].concat();
    [&[22, 3, 3], list(2, &message).as_slice()].concat()
}

/// What came back before the end, and whether that was a reset.
fn rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let ended = stream.read_to_end(&mut bytes);
    assert!(!ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "it never ended");
    (bytes, ended.is_err())
}

/// A resolver, its upstream, a host at the first address for www.example.org, resolved for the first session.
fn served(stage: Stage) -> (Resolver, Upstream, Host) {
    let host = Host::start(stage.host(1), echo);
    let (resolver, upstream) = stage.served(vec![
        listed("www.example.org", NameCheck::NameChecked, &[]),
        listed("other.example.org", NameCheck::NameChecked, &[]),
        listed("shut.example.org", NameCheck::Closed, &[]),
    ]);
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    upstream.knows("other.example.org", Tells::Addresses(vec![stage.host(2)], 60));
    for name in ["www.example.org", "other.example.org"] {
        ask(stage.cell(1), stage, name, RecordType::A);
    }
    (resolver, upstream, host)
}

fn to(stage: Stage, number: u8) -> SocketAddr {
    (stage.host(number), 443).into()
}

fn a_connection_that_says_its_name_passes_unchanged(stage: Stage) {
    let (resolver, _upstream, host) = served(stage);
    // In pieces, with letters of another size and something hidden behind a listed name, which is what GREASE looks like.
    let hello = hello(Some("WWW.example.ORG"), &hiding());
    let mut stream = connect(stage.cell(1), to(stage, 1)).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    let (first, second) = hello.split_at(60);
    stream.write_all(first).expect("sent");
    stream.write_all(second).expect("sent");
    let mut back = vec![0; hello.len()];
    stream.read_exact(&mut back).expect("an echo");
    assert_eq!(back, hello);
    let port = stream.local_addr().expect("an address").port();
    let passed = Finding::Passed { session: session(1), port, to: to(stage, 1), name: "www.example.org".parse().expect("a name") };
    until("what passed", || resolver.findings().contains(&passed).then_some(()));
    // Much more, both ways at once.
    let much: Vec<u8> = (0..4_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (mut sender, sent) = (stream.try_clone().expect("a descriptor"), much.clone());
    let sending = thread::spawn(move || {
        sender.write_all(&sent).expect("sent");
        sender.shutdown(std::net::Shutdown::Write).expect("an end");
    });
    let (received, reset) = rest(&mut stream);
    sending.join().expect("sent");
    assert!(received == much && !reset, "{} bytes came back", received.len());
    assert_eq!(host.arrived(), [[hello, much].concat()]);
    assert_eq!(resolver.denials(), []);
}

fn what_does_not_say_a_listed_name_sends_nothing_out(stage: Stage) {
    let (resolver, _upstream, host) = served(stage);
    let said = |name: &str| hello(Some(name), &[]);
    for (number, bytes, name, why) in [
        (1, said("evil.org"), Some("evil.org"), ConnectionDenied::NotListed),
        (1, said("shut.example.org"), Some("shut.example.org"), ConnectionDenied::NotListed),
        (1, said("www.example.org."), Some("www.example.org."), ConnectionDenied::NotListed),
        (1, hello(None, &[]), None, ConnectionDenied::NoName),
        (1, hello(None, &hiding()), None, ConnectionDenied::Hidden),
        (1, hello(Some("cover.example.net"), &hiding()), Some("cover.example.net"), ConnectionDenied::Hidden),
        // A listed name, at an address that is another listed name's, or nobody's.
        (2, said("www.example.org"), Some("www.example.org"), ConnectionDenied::OtherAddress),
        (1, said("other.example.org"), Some("other.example.org"), ConnectionDenied::OtherAddress),
        (3, said("www.example.org"), Some("www.example.org"), ConnectionDenied::OtherAddress),
        (1, b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n".to_vec(), None, ConnectionDenied::NotTls),
        (1, b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), None, ConnectionDenied::NotTls),
        (1, [said("www.example.org"), said("evil.org")].concat()[..40].to_vec(), None, ConnectionDenied::Silent),
    ] {
        let before = resolver.denials().len();
        let mut stream = connect(stage.cell(1), to(stage, number)).expect("a connection to the resolver");
        stream.write_all(&bytes).expect("sent");
        if why == ConnectionDenied::Silent {
            stream.shutdown(std::net::Shutdown::Write).expect("an end");
        }
        let (received, _) = rest(&mut stream);
        assert_eq!(received, b"", "{why:?}");
        let (denial, _) = until("a denial", || resolver.denials().get(before).cloned());
        assert_eq!(denial, Denied::Connection { to: to(stage, number), name: name.map(str::to_owned), why });
    }
    // Straight to the resolver's port, without being turned there.
    let mut straight = connect(stage.cell(1), stage.tls()).expect("the resolver listens");
    straight.write_all(&said("www.example.org")).expect("sent");
    assert_eq!(rest(&mut straight).0, b"");
    assert_eq!(host.arrived(), [[0_u8; 0]; 0], "nothing arrived, not even a connection");
    // Another session, with the same list, has not resolved the name.
    resolver.open(session(2), stage.cell(2), vec![listed("www.example.org", NameCheck::NameChecked, &[])]);
    let mut other = connect(stage.cell(2), to(stage, 1)).expect("a connection to the resolver");
    other.write_all(&said("www.example.org")).expect("sent");
    assert_eq!(rest(&mut other).0, b"");
    assert_eq!(host.arrived(), [[0_u8; 0]; 0]);
    let nobody = connect(stage.cell(9), to(stage, 1)).map(|mut stream| (stream.write_all(&said("www.example.org")), rest(&mut stream).0));
    assert!(nobody.is_ok_and(|(_, received)| received.is_empty()));
    // The control.
    let mut good = connect(stage.cell(1), to(stage, 1)).expect("a connection");
    good.write_all(&said("www.example.org")).expect("sent");
    good.shutdown(std::net::Shutdown::Write).expect("an end");
    assert_eq!(rest(&mut good), (said("www.example.org"), false));
    assert_eq!(host.arrived(), [said("www.example.org")]);
}

fn a_second_hello_must_give_the_same_name(stage: Stage) {
    let (resolver, upstream) = stage.served(vec![listed("*.example.org", NameCheck::NameChecked, &[])]);
    let host = Host::start(stage.host(1), |stream, arrived| {
        let mut buffer = [0; 65_536];
        let _ = stream.read(&mut buffer);
        let _ = stream.write_all(&retry());
        echo(stream, arrived);
    });
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    ask(stage.cell(1), stage, "www.example.org", RecordType::A);
    let first = hello(Some("www.example.org"), &[]);
    let between = [[20, 3, 3, 0, 1, 1].as_slice(), &[23, 3, 3, 0, 4, 1, 2, 3, 4]].concat();
    for (second, passes) in [("www.example.org", true), ("evil.org", false)] {
        let before = host.arrived().len();
        let mut stream = connect(stage.cell(1), to(stage, 1)).expect("a connection");
        let then = [between.as_slice(), &hello(Some(second), &[])].concat();
        // All at once, as somebody would who does not wait for the server.
        stream.write_all(&[first.as_slice(), &then].concat()).expect("sent");
        let mut asked = vec![0; retry().len()];
        stream.read_exact(&mut asked).expect("the server asks for another");
        if passes {
            stream.shutdown(std::net::Shutdown::Write).expect("an end");
            assert_eq!(rest(&mut stream), (then.clone(), false));
            assert_eq!(host.arrived().get(before), Some(&then));
        } else {
            assert_eq!(rest(&mut stream).0, b"");
            let (denial, _) = until("a denial", || resolver.denials().pop());
            assert_eq!(denial, Denied::Connection { to: to(stage, 1), name: Some("evil.org".to_owned()), why: ConnectionDenied::NotListed });
            assert_eq!(host.arrived().get(before).map_or(0, Vec::len), 0, "the second hello went nowhere");
        }
    }
}

fn half_a_connection_goes_on(stage: Stage) {
    let (_resolver, upstream) = stage.served(vec![listed("www.example.org", NameCheck::NameChecked, &[])]);
    // A host that answers when the cell has said everything, and one that is done before the cell is.
    Host::start(stage.host(1), |stream, _| {
        let _ = stream.write_all(&[23, 3, 3]);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let _ = stream.write_all(format!("heard {}", all.len()).as_bytes());
    });
    let host = Host::start(stage.host(2), |stream, arrived| {
        let _ = stream.write_all(b"\x17all");
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        arrived.lock().expect("whole").push(all);
    });
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1), stage.host(2)], 60));
    ask(stage.cell(1), stage, "www.example.org", RecordType::A);
    let hello = hello(Some("www.example.org"), &[]);
    let mut stream = connect(stage.cell(1), to(stage, 1)).expect("a connection");
    stream.write_all(&[&hello[..], b"0123456789"].concat()).expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("an end");
    assert_eq!(rest(&mut stream), ([&[23, 3, 3], format!("heard {}", hello.len() + 10).as_bytes()].concat(), false));
    let mut stream = connect(stage.cell(1), to(stage, 2)).expect("a connection");
    stream.write_all(&hello).expect("sent");
    assert_eq!(rest(&mut stream), (b"\x17all".to_vec(), false));
    stream.write_all(b"still here").expect("sent");
    drop(stream);
    let arrived = until("all of it", || host.arrived().pop());
    assert_eq!(arrived, [&hello[..], b"still here"].concat());
}

fn the_end_of_a_session_ends_its_connections_at_once(stage: Stage) {
    let (resolver, _upstream, _host) = served(stage);
    let hello = hello(Some("www.example.org"), &[]);
    let mut open = connect(stage.cell(1), to(stage, 1)).expect("a connection");
    open.write_all(&hello).expect("sent");
    open.read_exact(&mut vec![0; hello.len()]).expect("an echo");
    let mut silent = connect(stage.cell(1), to(stage, 1)).expect("a connection");
    resolver.tell(&Task::Close { session: session(1) });
    for stream in [&mut open, &mut silent] {
        let (received, reset) = rest(stream);
        assert!(received.is_empty() && reset, "not reset");
    }
    let again = connect(stage.cell(1), to(stage, 1)).map(|mut stream| (stream.write_all(&hello), rest(&mut stream).0));
    assert!(again.is_ok_and(|(_, received)| received.is_empty()));
}

fn connections_have_a_bound(stage: Stage) {
    let (resolver, _upstream, _host) = served(stage);
    let hello = hello(Some("www.example.org"), &[]);
    let mut open = Vec::new();
    for _ in 0..256 {
        let mut stream = connect(stage.cell(1), to(stage, 1)).expect("a connection");
        stream.write_all(&hello).expect("sent");
        stream.read_exact(&mut vec![0; hello.len()]).expect("an echo");
        open.push(stream);
    }
    let mut beyond = connect(stage.cell(1), to(stage, 1)).expect("a connection");
    assert_eq!(rest(&mut beyond).0, b"");
    let why = until("a denial", || resolver.denials().pop());
    assert!(matches!(why.0, Denied::Connection { why: ConnectionDenied::TooMany, .. }), "{why:?}");
    // Another session has its own.
    resolver.open(session(2), stage.cell(2), vec![listed("www.example.org", NameCheck::NameChecked, &[])]);
    ask(stage.cell(2), stage, "www.example.org", RecordType::A);
    let mut other = connect(stage.cell(2), to(stage, 1)).expect("a connection");
    other.write_all(&hello).expect("sent");
    other.read_exact(&mut vec![0; hello.len()]).expect("an echo");
    // One that ends makes room.
    drop(open.pop());
    until("room for one more", || {
        let mut stream = connect(stage.cell(1), to(stage, 1)).ok()?;
        stream.write_all(&hello).ok()?;
        stream.read_exact(&mut vec![0; hello.len()]).ok()
    });
}

fn a_destination_that_does_not_answer_is_said(stage: Stage) {
    let (resolver, _upstream, _host) = served(stage);
    // Nothing listens at the second address.
    let mut stream = connect(stage.cell(1), to(stage, 2)).expect("a connection to the resolver");
    stream.write_all(&hello(Some("other.example.org"), &[])).expect("sent");
    assert_eq!(rest(&mut stream).0, b"");
    let (denial, _) = until("a denial", || resolver.denials().pop());
    let name = Some("other.example.org".to_owned());
    assert_eq!(denial, Denied::Connection { to: to(stage, 2), name, why: ConnectionDenied::Unreachable });
}

fn clients_that_others_wrote_pass_and_are_stopped(stage: Stage) {
    let (resolver, upstream) = stage.served(vec![listed("www.example.org", NameCheck::NameChecked, &[])]);
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 60));
    ask(stage.cell(1), stage, "www.example.org", RecordType::A);
    let folder = std::env::temp_dir().join(format!("sulku-resolver-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| folder.join(name).display().to_string();
    let (key, certificate) = (path("key.pem"), path("certificate.pem"));
    let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=www.example.org", "-days", "2"];
    let out = ["-addext", "subjectAltName=DNS:www.example.org", "-keyout", &key, "-out", &certificate];
    must("openssl", &[request.as_slice(), &out].concat());
    // P-384 alone: a client whose first key share is of another group is asked for a second hello.
    let at = to(stage, 1).to_string();
    let mut server = Command::new("openssl")
        .args(["s_server", "-accept", &at, "-cert", &certificate, "-key", &key, "-groups", "P-384", "-www", "-quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is here");
    until("a server", || TcpStream::connect(at.as_str()).ok());
    let script = r#"
import socket, ssl, sys
source, host, name, authority = sys.argv[1:]
plain = socket.create_connection((host, 443), timeout=20, source_address=(source, 0))
context = ssl.create_default_context(cafile=authority)
context.check_hostname = name == "www.example.org"
try:
    tls = context.wrap_socket(plain, server_hostname=name)
except OSError as error:
    print("stopped", type(error).__name__)
    sys.exit()
tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
print(tls.version(), tls.recv(4096).split(b"\r\n")[0].decode())
"#;
    let python = |name: &str| {
        let arguments = ["-c", script, &stage.cell(1).to_string(), &stage.host(1).to_string(), name, &certificate];
        must("/usr/bin/python3", &arguments)
    };
    assert_eq!(python("www.example.org").trim(), "TLSv1.3 HTTP/1.0 200 ok");
    assert!(python("evil.org").starts_with("stopped"));
    let client = |name: &str| {
        let source = format!("{}:0", stage.cell(1));
        let arguments = ["s_client", "-connect", &at, "-bind", &source, "-servername", name, "-CAfile", &certificate, "-brief"];
        Command::new("openssl").args(arguments).stdin(Stdio::null()).output().expect("openssl is here")
    };
    let told = String::from_utf8_lossy(&client("www.example.org").stderr).into_owned();
    assert!(told.contains("CONNECTION ESTABLISHED") && told.contains("Verification: OK"), "{told}");
    assert!(!client("evil.org").status.success());
    let denied = until("both denials", || (resolver.denials().len() == 2).then(|| resolver.denials()));
    assert!(denied.iter().all(|(denied, _)| matches!(denied, Denied::Connection { why: ConnectionDenied::NotListed, .. })), "{denied:?}");
    let _ = (server.kill(), server.wait(), std::fs::remove_dir_all(&folder));
}
