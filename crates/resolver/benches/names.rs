//! What asking by name and the look at TLS cost: `cargo bench -p sulku-resolver --bench names`, as root, on a machine with `ip`, `nft`
//! and `unshare`.
//!
//! The real program, confined as always, in a network namespace of its own, where everything is on the loopback. Questions: against an
//! echo of packets in the same run, that is what two system calls on either side cost. TLS: through the resolver against a direct
//! connection to the same host, and against a plain relay of one thread; the first hello is real in form, the bytes behind it are
//! not TLS, which makes no difference to who does not read them.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

#[path = "../tests/process/stage.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod stage;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use hickory_proto::serialize::binary::BinEncodable as _;
use stage::{Resolver, Stage, Tells, ask, connect, listed, question, session};
use sulku_plan::naming::NameCheck;

const INSIDE: &str = "SULKU_RESOLVER_BENCH_INSIDE";
const QUESTIONS: usize = 20_000;
const FRESH: usize = 2_000;
const TRIPS: usize = 5_000;
const BYTES: usize = 1 << 30;
const OPENINGS: usize = 400;

fn main() {
    if std::env::var_os(INSIDE).is_none() {
        let itself = std::env::current_exe().expect("the bench has a path");
        let error = Command::new("unshare").arg("--net").arg(itself).env(INSIDE, "1").exec();
        panic!("unshare can't be started: {error}");
    }
    stage::network();
    questions(Stage::new(1));
    connections(Stage::new(2));
}

/// Microseconds of each of these, the middle one and the one that 99 of 100 do not exceed.
fn middle(mut took: Vec<Duration>) -> (f64, f64) {
    took.sort_unstable();
    let at = |place: usize| took[place.min(took.len() - 1)].as_secs_f64() * 1e6;
    (at(took.len() / 2), at(took.len() * 99 / 100))
}

fn trips(count: usize, mut one: impl FnMut(usize)) -> (f64, f64) {
    let took = (0..count).map(|number| {
        let begin = Instant::now();
        one(number);
        begin.elapsed()
    });
    middle(took.collect())
}

fn told(what: &str, (median, p99): (f64, f64), beside: Option<(f64, f64)>) {
    let ratio = beside.map_or(String::new(), |(median_beside, _)| format!("  {:.2} x", median / median_beside));
    println!("{what:<58} {median:>9.1} µs  p99 {p99:>9.1} µs{ratio}");
}

fn socket(from: Ipv4Addr, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).expect("an address");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
    socket.connect(to).expect("an address");
    socket
}

fn questions(stage: Stage) {
    println!("Questions, one after the other over UDP ({QUESTIONS} each, {FRESH} fresh ones)");
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let at = echo.local_addr().expect("an address");
    thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = echo.recv_from(&mut packet) {
            let _ = echo.send_to(&packet[..length], from);
        }
    });
    let (resolver, upstream) = stage.served(vec![listed("*.example.org", NameCheck::NameChecked, &[])]);
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 300));
    let packet = question("www.example.org", RecordType::A).to_bytes().expect("a question");
    let mut answer = [0; 1500];
    let plain = {
        let socket = socket(Ipv4Addr::LOCALHOST, at);
        trips(QUESTIONS, |_| {
            socket.send(&packet).expect("sent");
            socket.recv(&mut answer).expect("an echo");
        })
    };
    told("an echo of the same packet", plain, None);
    // A session may ask 200 times at once and 50 times a second: many sessions, as many as the questions need.
    let cells: Vec<_> = (10..250).map(|number| stage.cell(number)).collect();
    let open = |resolver: &Resolver| {
        for cell in &cells {
            resolver.open(session(cell.octets()[3]), *cell, vec![listed("*.example.org", NameCheck::NameChecked, &[])]);
        }
    };
    let kept = (0..QUESTIONS / (cells.len() * 150) + 1).flat_map(|_| {
        open(&resolver);
        let mut took = Vec::new();
        for cell in &cells {
            ask(*cell, stage, "www.example.org", RecordType::A);
            let socket = socket(*cell, stage.dns());
            for _ in 0..150 {
                let begin = Instant::now();
                socket.send(&packet).expect("sent");
                socket.recv(&mut answer).expect("an answer");
                took.push(begin.elapsed());
            }
        }
        took
    });
    let kept: Vec<_> = kept.collect();
    let sum: Duration = kept.iter().sum();
    println!("{:<58} {:>9.0} a second", "a name that the session holds, answers", kept.len() as f64 / sum.as_secs_f64());
    told("a name that the session holds", middle(kept), Some(plain));
    open(&resolver);
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 300));
    let known = cells.iter().map(|cell| {
        let socket = socket(*cell, stage.dns());
        let begin = Instant::now();
        socket.send(&packet).expect("sent");
        socket.recv(&mut answer).expect("an answer");
        begin.elapsed()
    });
    told("a name kept from upstream, and the warden's word", middle(known.collect()), Some(plain));
    let per_cell = FRESH / cells.len() + 1;
    open(&resolver);
    let mut fresh = Vec::new();
    for cell in &cells {
        let socket = socket(*cell, stage.dns());
        for number in 0..per_cell {
            let name = format!("n{number}.c{}.example.org", cell.octets()[3]);
            upstream.knows(&name, Tells::Addresses(vec![stage.host(1)], 300));
            let packet = question(&name, RecordType::A).to_bytes().expect("a question");
            let begin = Instant::now();
            socket.send(&packet).expect("sent");
            socket.recv(&mut answer).expect("an answer");
            fresh.push(begin.elapsed());
        }
    }
    told("a fresh name: upstream, and the warden's word", middle(fresh), Some(plain));
    let refused = question("evil.org", RecordType::A).to_bytes().expect("a question");
    open(&resolver);
    let refusals = cells.iter().flat_map(|cell| {
        let socket = socket(*cell, stage.dns());
        let mut took = Vec::new();
        for _ in 0..150 {
            let begin = Instant::now();
            socket.send(&refused).expect("sent");
            socket.recv(&mut answer).expect("an answer");
            took.push(begin.elapsed());
        }
        took
    });
    told("a name that is refused, with its finding or its count", middle(refusals.collect()), Some(plain));
}

/// A ClientHello for `www.example.org`.
fn hello() -> Vec<u8> {
    let name = b"\x00\x00\x00\x14\x00\x12\x00\x00\x0fwww.example.org";
    let body = [b"\x03\x03".as_slice(), &[7; 32], b"\x00\x00\x02\x13\x01\x01\x00\x00\x18", name].concat();
    let length = u8::try_from(body.len()).expect("short");
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], body.as_slice()].concat()
}

/// What a host does after the hello: `t` echoes pieces of 64 bytes, `u` takes bytes, `d` gives them.
fn host(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut begin = vec![0; hello().len()];
    if stream.read_exact(&mut begin).is_err() || stream.write_all(&[23, 3, 3, 0, 1, 0]).is_err() {
        return;
    }
    let (mut what, mut buffer) = ([0], vec![0; 256 * 1024]);
    while stream.read_exact(&mut what).is_ok() {
        match what[0] {
            b't' => {
                while let Ok(()) = stream.read_exact(&mut buffer[..64]) {
                    if stream.write_all(&buffer[..64]).is_err() {
                        return;
                    }
                }
            }
            b'u' => {
                let mut left = BYTES;
                while left > 0 {
                    match stream.read(&mut buffer) {
                        Ok(length @ 1..) => left -= length,
                        _ => return,
                    }
                }
                let _ = stream.write_all(b"!");
            }
            _ => {
                let mut left = BYTES;
                while left > 0 {
                    let length = left.min(buffer.len());
                    if stream.write_all(&buffer[..length]).is_err() {
                        return;
                    }
                    left -= length;
                }
            }
        }
    }
}

fn opened(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let mut stream = connect(from, to).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.write_all(&hello()).expect("sent");
    stream.read_exact(&mut [0; 6]).expect("the host's first bytes");
    stream
}

/// A relay of two threads that only copies.
fn plain_relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for cell in listener.incoming().flatten() {
            let host = TcpStream::connect(to).expect("the host");
            for stream in [&cell, &host] {
                stream.set_nodelay(true).expect("an option");
            }
            for (mut from, mut to) in [(cell.try_clone().expect("one"), host.try_clone().expect("one")), (host, cell)] {
                thread::spawn(move || {
                    let mut buffer = vec![0; 32 * 1024];
                    while let Ok(length @ 1..) = from.read(&mut buffer) {
                        if to.write_all(&buffer[..length]).is_err() {
                            break;
                        }
                    }
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    at
}

fn connections(stage: Stage) {
    println!("TLS connections ({OPENINGS} opened, {TRIPS} round trips of 64 bytes, {} MiB each way)", BYTES >> 20);
    let at: SocketAddr = (stage.host(1), 443).into();
    let listener = TcpListener::bind(at).expect("a host's address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| host(stream));
        }
    });
    let (_resolver, upstream) = stage.served(vec![listed("www.example.org", NameCheck::NameChecked, &[])]);
    upstream.knows("www.example.org", Tells::Addresses(vec![stage.host(1)], 300));
    ask(stage.cell(1), stage, "www.example.org", RecordType::A);
    let relay = plain_relay(at);
    let ways: [(&str, Ipv4Addr, SocketAddr); 3] =
        [("direct", Ipv4Addr::LOCALHOST, at), ("through a plain relay", Ipv4Addr::LOCALHOST, relay), ("through the name check", stage.cell(1), at)];
    let mut direct = None;
    for (way, from, to) in ways {
        let took = trips(OPENINGS, |_| drop(opened(from, to)));
        told(&format!("opened, to the host's first bytes, {way}"), took, direct);
        direct = direct.or(Some(took));
    }
    let mut direct = None;
    for (way, from, to) in ways {
        let mut stream = opened(from, to);
        stream.write_all(b"t").expect("sent");
        let mut piece = [0; 64];
        let took = trips(TRIPS, |_| {
            stream.write_all(&piece).expect("sent");
            stream.read_exact(&mut piece).expect("an echo");
        });
        told(&format!("a round trip, {way}"), took, direct);
        direct = direct.or(Some(took));
    }
    for (what, direction) in [(b'u', "up"), (b'd', "down")] {
        let mut direct = None;
        for (way, from, to) in ways {
            let mut stream = opened(from, to);
            let begin = Instant::now();
            stream.write_all(&[what]).expect("sent");
            moved(&mut stream, what);
            let rate = BYTES as f64 / begin.elapsed().as_secs_f64() / 1e9;
            let of = *direct.get_or_insert(rate);
            println!("{:<58} {rate:>9.2} GB/s  {:.2} x", format!("{direction}, {way}"), rate / of);
        }
    }
}

fn moved(stream: &mut TcpStream, what: u8) {
    let (mut buffer, mut left) = (vec![0; 256 * 1024], BYTES);
    while left > 0 {
        left -= if what == b'u' {
            let length = left.min(buffer.len());
            stream.write_all(&buffer[..length]).expect("sent");
            length
        } else {
            stream.read(&mut buffer).expect("received")
        };
    }
    if what == b'u' {
        stream.read_exact(&mut buffer[..1]).expect("all of it arrived");
    }
}
