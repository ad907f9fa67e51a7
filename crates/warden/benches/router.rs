//! What it costs a cell's connections to pass the router and its ruleset: the same programme over a link of the same kind that leads
//! straight to the same server, in turns. Half a minute, as root.
//!
//! The client stands in the cell's network and goes without the cell's other walls, so that the difference is the way alone.
#![allow(clippy::print_stdout, reason = "it reports")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::process::{Child, Command, Stdio};

use stage::{Options, Stage};
use sulku_audit::Event;

const ROUNDS: usize = 9;
/// Sends back each byte at one port, counts what comes at the next, and lets go of who comes to the third.
const SERVER: &str = "import socket, threading\n\
    def echo(c):\n  c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n  while d := c.recv(64): c.sendall(d)\n\
    def sink(c):\n  room = bytearray(1 << 20)\n  while c.recv_into(room): pass\n  c.close()\n\
    def serve(port, each):\n  s = socket.create_server(('0.0.0.0', port), backlog=1024)\n  while True: each(s.accept()[0])\n\
    def beside(each): return lambda c: threading.Thread(target=each, args=(c,), daemon=True).start()\n\
    for port, each in ((7001, beside(echo)), (7002, beside(sink)), (7003, socket.socket.close)):\n  \
    threading.Thread(target=serve, args=(port, each)).start()\nimport time; time.sleep(0.2); print('ready', flush=True)";
/// The microseconds that a byte takes there and back.
const ROUND_TRIP: &str = "import socket, sys, time\ns = socket.create_connection((sys.argv[1], 7001))\ns.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n\
    def once():\n  s.sendall(b'x'); s.recv(1)\n\
    [once() for _ in range(200)]\nbegun = time.monotonic()\n[once() for _ in range(10000)]\nprint((time.monotonic() - begun) * 100)";
/// The mebibytes that arrive in a second.
const THROUGHPUT: &str = "import socket, sys, time\ns = socket.create_connection((sys.argv[1], 7002))\nd = bytes(1 << 20)\n[s.sendall(d) for _ in range(20)]\n\
    begun = time.monotonic()\nn = 0\nwhile time.monotonic() < begun + 1: s.sendall(d); n += 1\ns.shutdown(socket.SHUT_WR)\ns.recv(1)\nprint(n / (time.monotonic() - begun))";
/// The microseconds that a connection takes to be there and to be gone.
const CONNECT: &str = "import socket, sys, time\n\
    def once():\n  s = socket.create_connection((sys.argv[1], 7003)); s.recv(1); s.close()\n\
    [once() for _ in range(100)]\nbegun = time.monotonic()\n[once() for _ in range(2000)]\nprint((time.monotonic() - begun) * 500)";

/// The microseconds that a refused connection takes: at a port that the permit does not list, and over the straight link at one that a rule refuses
/// and does not log.
const REFUSED: &str = "import socket, sys, time\n\
    def once():\n  s = socket.socket()\n  r = s.connect_ex((sys.argv[1], 7004)); s.close(); assert r, r\n\
    [once() for _ in range(100)]\nbegun = time.monotonic()\n[once() for _ in range(2000)]\nprint((time.monotonic() - begun) * 500)";

/// The address of the server over the straight link.
const STRAIGHT: &str = "10.212.0.1";
/// And the one that the permit lists.
const LISTED: &str = "198.18.0.10";

fn main() {
    let egress = format!(
        "[[egress]]\nname = \"server\"\nto = \"{LISTED}\"\nports = [\"7001/tcp\", \"7002/tcp\", \"7003/tcp\"]\nreason = \"to be measured\"\n"
    );
    let mut stage = Stage::with(Options { egress, ..Options::default() });
    let mut server = serve(&stage);
    let holder = straight_link(&stage);
    let running = stage.launch("one.toml", Some(&["/bin/sleep", "600"]));
    let cell = stage.ledger.entry("its first process", |draft| match &draft.event {
        Event::CellLaunched { pid, .. } if draft.session == Some(running.session) => Some(format!("--net=/proc/{pid}/ns/net")),
        _ => None,
    });
    let straight = format!("--net=/proc/{}/ns/net", holder.0.id());
    println!("{:<44} {:>12} {:>12}", "median", "router", "plain link");
    refuse(&stage);
    let measures = [
        ("a byte there and back, µs", ROUND_TRIP),
        ("throughput, MiB/s", THROUGHPUT),
        ("a connection and its end, µs", CONNECT),
        ("a refused connection, copied and noted, µs", REFUSED),
    ];
    for (what, script) in measures {
        let (mut routed, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            routed.push(measured(&cell, script, LISTED));
            plain.push(measured(&straight, script, STRAIGHT));
        }
        routed.sort_by(f64::total_cmp);
        plain.sort_by(f64::total_cmp);
        let (routed, plain) = (routed[ROUNDS / 2], plain[ROUNDS / 2]);
        println!("{what:<44} {routed:>12.1} {plain:>12.1}   {:.2} times", routed / plain);
    }
    stage.end(&running, "holder-left");
    server.kill().expect("killed");
    server.wait().expect("its end");
}

/// Has a rule of the server's host refuse one port, as the router does, and say nothing of it.
fn refuse(stage: &Stage) {
    let rules = "add table inet plain; add chain inet plain input { type filter hook input priority 0; }; \
                 add rule inet plain input tcp dport 7004 reject with tcp reset";
    let net = format!("--net={}", stage.world.namespace());
    let status = Command::new("/usr/bin/nsenter").args([&net, "/usr/sbin/nft", rules]).status().expect("nsenter");
    assert!(status.success());
}

fn serve(stage: &Stage) -> Child {
    use std::io::BufRead;
    let mut server = Command::new("/usr/bin/nsenter");
    server.arg(format!("--net={}", stage.world.namespace())).args(["/usr/bin/python3", "-c", SERVER]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = server.spawn().expect("nsenter");
    let mut ready = String::new();
    std::io::BufReader::new(server.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
    assert_eq!(ready.trim(), "ready");
    server
}

/// A network of its own, as long as this is held.
struct Straight(Child);

impl Drop for Straight {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn straight_link(stage: &Stage) -> Straight {
    let holder = Straight(Command::new("/usr/bin/unshare").args(["--net", "/bin/sleep", "600"]).spawn().expect("unshare"));
    let own = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let place = format!("/proc/{}/ns/net", holder.0.id());
    stage::eventually("it has a network of its own", || std::fs::read_link(&place).ok().filter(|found| *found != own));
    let pid = holder.0.id().to_string();
    let ip = |namespace: &str, words: &str| {
        let mut ip = Command::new("/usr/bin/nsenter");
        let done = ip.arg(format!("--net={namespace}")).arg("/bin/ip").args(words.split(' ')).status().expect("ip");
        assert!(done.success(), "ip {words}");
    };
    let world = stage.world.namespace();
    ip(&world, &format!("link add straight type veth peer name straight netns {pid}"));
    for (namespace, address) in [(world.as_str(), STRAIGHT), (place.as_str(), "10.212.0.2")] {
        ip(namespace, &format!("address add {address}/30 dev straight"));
        ip(namespace, "link set straight up");
    }
    holder
}

fn measured(network: &str, script: &str, to: &str) -> f64 {
    let output = Command::new("/usr/bin/nsenter").args([network, "/usr/bin/python3", "-c", script, to]).output().expect("nsenter");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().unwrap_or_else(|_| panic!("{text} {}", String::from_utf8_lossy(&output.stderr)))
}
