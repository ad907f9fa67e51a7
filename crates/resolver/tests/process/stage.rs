//! A router's network in small, and everybody around the resolver.
//!
//! Test number n has the resolver at 169.254.n.53, its cells at 10.77.n.1 and on, its upstreams at 127.0.n.1 and on, and hosts with
//! public addresses at 93.184.n.1 and on; all of them are on the loopback of one namespace.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use sulku_permit::{Protocol, SessionId};
use sulku_plan::naming::{Carries, Denied, Finding, Listed, NAMING_VERSION, NameCheck, OpenPort, Task};
use sulku_plan::order;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The user that the resolver runs as: nobody.
const NOBODY: u32 = 65_534;

/// Runs a program that must succeed.
pub fn must(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}; is this root?", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Addresses, and the rule that turns cells' TLS to the resolver as the router's does.
pub fn network() {
    must("ip", &["link", "set", "lo", "up"]);
    for net in ["10.77.0.0/16", "169.254.0.0/16", "93.184.0.0/16"] {
        must("ip", &["route", "add", "local", net, "dev", "lo"]);
    }
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").expect("root may say who binds ports");
    let turned: String =
        (1..=60).map(|n| format!("ip saddr 10.77.{n}.0/24 ip daddr 93.184.0.0/16 tcp dport 443 dnat to 169.254.{n}.53:8443\n")).collect();
    let rules = format!("table ip turn {{ chain out {{ type nat hook output priority -100; policy accept;\n{turned}}}\n}}\n");
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft is here");
    nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads its rules");
    assert!(nft.wait().expect("nft ends").success(), "nft takes the rules");
}

/// Waits until it is so.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "never: {what}");
        thread::yield_now();
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// What a listed destination looks like.
pub fn listed(names: &str, check: NameCheck, within: &[&str]) -> Listed {
    Listed {
        names: names.parse().expect("a pattern"),
        ports: vec![OpenPort { number: 443, protocol: Protocol::Tcp }],
        check,
        within: within.iter().map(|net| net.parse().expect("a network")).collect(),
    }
}

/// A session's number.
pub fn session(number: u8) -> SessionId {
    SessionId::from_random([number; 10])
}

/// A test's name, and the test.
pub type Test = (&'static str, fn(Stage));

/// One test's addresses.
#[derive(Clone, Copy)]
pub struct Stage {
    n: u8,
}

impl Stage {
    pub fn new(n: u8) -> Self {
        Self { n }
    }

    pub fn dns(self) -> SocketAddr {
        (Ipv4Addr::new(169, 254, self.n, 53), 53).into()
    }

    pub fn tls(self) -> SocketAddr {
        (Ipv4Addr::new(169, 254, self.n, 53), 8443).into()
    }

    pub fn cell(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.n, number)
    }

    pub fn upstream(self, number: u8) -> SocketAddr {
        (Ipv4Addr::new(127, 0, self.n, number), 53).into()
    }

    pub fn host(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(93, 184, self.n, number)
    }

    /// The resolver, asking its first upstream, with a warden that opens everything.
    pub fn resolver(self) -> Resolver {
        self.resolver_of(&[self.upstream(1)], Says::Opened)
    }

    pub fn resolver_of(self, upstream: &[SocketAddr], says: Says) -> Resolver {
        Resolver::start(self, upstream, says)
    }

    /// A resolver with one session behind the first cell, and its upstream.
    pub fn served(self, listed: Vec<Listed>) -> (Resolver, Upstream) {
        let upstream = Upstream::start(self.upstream(1));
        let resolver = self.resolver();
        resolver.open(session(1), self.cell(1), listed);
        (resolver, upstream)
    }
}

/// What the scripted warden answers to addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Opened,
    Refused,
    Nothing,
}

/// The program, and the warden at the other end of its socket.
pub struct Resolver {
    child: Mutex<Child>,
    socket: Arc<UnixDatagram>,
    findings: Arc<Mutex<Vec<Finding>>>,
    stop: Arc<AtomicBool>,
    /// While it is held, the warden reads nothing.
    pub reading: Arc<Mutex<()>>,
}

impl Resolver {
    fn start(stage: Stage, upstream: &[SocketAddr], says: Says) -> Self {
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("sockets");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sulku-resolver"));
        command.args(["--dns", &stage.dns().to_string(), "--tls", &stage.tls().to_string()]);
        command.env_clear().stdin(Stdio::from(theirs)).gid(NOBODY).uid(NOBODY);
        if std::env::var_os("SULKU_RESOLVER_LOG").is_some() {
            command.env("RUST_LOG", "sulku_resolver=debug");
        }
        let child = command.spawn().expect("the resolver starts");
        drop(command);
        let socket = Arc::new(UnixDatagram::from(ours));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let resolver = Self { child: Mutex::new(child), socket, findings: Arc::default(), stop: Arc::default(), reading: Arc::default() };
        resolver.tell(&Task::Serve { version: NAMING_VERSION, upstream: upstream.to_vec(), carries: Carries::Packets });
        resolver.listen(says);
        until("ready", || {
            assert!(resolver.is_running(), "it ended at its start");
            (resolver.findings() == [Finding::Ready { version: NAMING_VERSION }]).then_some(())
        });
        resolver
    }

    fn listen(&self, says: Says) {
        let (socket, findings, stop, reading) = (self.socket.clone(), self.findings.clone(), self.stop.clone(), self.reading.clone());
        thread::spawn(move || {
            let mut packet = vec![0; order::PACKET_BYTES_MAX];
            while !stop.load(Ordering::Relaxed) {
                let _turn = reading.lock().expect("a turn");
                let Ok(length) = socket.recv(&mut packet) else { continue };
                if length == 0 {
                    return;
                }
                let finding: Finding = order::decode(&packet[..length]).expect("a finding");
                if let Finding::Resolved { question, .. } = finding {
                    let word = match says {
                        Says::Opened => Some(Task::Opened { question }),
                        Says::Refused => Some(Task::Refused { question }),
                        Says::Nothing => None,
                    };
                    if let Some(word) = word {
                        socket.send(&order::encode(&word).expect("short")).expect("the resolver reads");
                    }
                }
                findings.lock().expect("whole").push(finding);
            }
        });
    }

    pub fn tell(&self, task: &Task) {
        self.socket.send(&order::encode(task).expect("short")).expect("the resolver reads");
    }

    pub fn open(&self, session: SessionId, address: Ipv4Addr, listed: Vec<Listed>) {
        self.tell(&Task::Open { session, address, listed });
    }

    pub fn findings(&self) -> Vec<Finding> {
        self.findings.lock().expect("whole").clone()
    }

    /// Every denial, with what was suppressed before it.
    pub fn denials(&self) -> Vec<(Denied, u64)> {
        let denied = |finding| match finding {
            Finding::Denied { what, suppressed, .. } => Some((what, suppressed)),
            _ => None,
        };
        self.findings().into_iter().filter_map(denied).collect()
    }

    /// Names that were found, with their addresses and times.
    pub fn resolved(&self) -> Vec<(String, Vec<IpAddr>, u32)> {
        let resolved = |finding| match finding {
            Finding::Resolved { name, addresses, ttl_s, .. } => Some((name.to_string(), addresses, ttl_s)),
            _ => None,
        };
        self.findings().into_iter().filter_map(resolved).collect()
    }

    /// Closes the warden's end, and waits until the program has ended.
    pub fn hang_up(&self) {
        self.socket.shutdown(std::net::Shutdown::Both).expect("a socket");
        until("the end of the resolver", || self.child.lock().expect("whole").try_wait().expect("a child"));
    }

    pub fn is_running(&self) -> bool {
        self.child.lock().expect("whole").try_wait().expect("a child").is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().expect("whole").id()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut child = self.child.lock().expect("whole");
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// What a fake resolver says to one question.
#[derive(Clone)]
pub enum Tells {
    Addresses(Vec<Ipv4Addr>, u32),
    /// Aliases one after the other, then these addresses of the last.
    Aliases(Vec<&'static str>, Vec<Ipv4Addr>, u32),
    Code(ResponseCode),
    /// Over UDP that it does not fit; over TCP the addresses.
    Truncated(Vec<Ipv4Addr>),
    /// A forgery first, with another number or another name, then the truth.
    Forged(Forgery, Vec<Ipv4Addr>),
    /// The right answer with the name in small letters, over UDP.
    SmallLetters(Vec<Ipv4Addr>),
    Bytes(Vec<u8>),
    Silence,
}

#[derive(Clone, Copy)]
pub enum Forgery {
    OtherNumber,
    OtherName,
}

/// A fake resolver upstream. It writes down every question.
pub struct Upstream {
    pub names: Arc<Mutex<BTreeMap<String, Tells>>>,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    raw: Arc<Mutex<Vec<Message>>>,
}

impl Upstream {
    pub fn start(at: SocketAddr) -> Self {
        let this = Self { names: Arc::default(), asked: Arc::default(), raw: Arc::default() };
        let udp = UdpSocket::bind(at).expect("an address for an upstream");
        let tcp = TcpListener::bind(at).expect("an address for an upstream");
        let over_udp = this.teller();
        thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut packet) {
                for answer in over_udp(&packet[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let over_tcp = this.teller();
        thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                let mut length = [0; 2];
                while stream.read_exact(&mut length).is_ok() {
                    let mut packet = vec![0; u16::from_be_bytes(length).into()];
                    stream.read_exact(&mut packet).expect("a whole question");
                    for answer in over_tcp(&packet, true) {
                        let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                        let _ = stream.write_all(&[&length, answer.as_slice()].concat());
                    }
                }
            }
        });
        this
    }

    pub fn knows(&self, name: &str, tells: Tells) {
        self.names.lock().expect("whole").insert(name.to_owned(), tells);
    }

    /// Names that were asked for, in small letters, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("whole").iter().map(|(name, _)| name.clone()).collect()
    }

    /// The questions as they came.
    pub fn raw(&self) -> Vec<Message> {
        self.raw.lock().expect("whole").clone()
    }

    fn teller(&self) -> impl Fn(&[u8], bool) -> VecDeque<Vec<u8>> + use<> {
        let (names, asked, raw) = (self.names.clone(), self.asked.clone(), self.raw.clone());
        move |packet, by_tcp| {
            let question = Message::from_bytes(packet).expect("the resolver writes questions");
            let query = question.queries[0].clone();
            let name = query.name().to_lowercase().to_string().trim_end_matches('.').to_owned();
            asked.lock().expect("whole").push((name.clone(), query.query_type()));
            raw.lock().expect("whole").push(question.clone());
            let tells = names.lock().expect("whole").get(&name).cloned().unwrap_or(Tells::Code(ResponseCode::NXDomain));
            told(&question, &query, tells, by_tcp)
        }
    }
}

fn told(question: &Message, query: &Query, tells: Tells, by_tcp: bool) -> VecDeque<Vec<u8>> {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(query.clone());
    let a = |name: &Name, ttl_s, address: &Ipv4Addr| Record::from_rdata(name.clone(), ttl_s, RData::A(A(*address)));
    let addresses = |answer: &mut Message, name: &Name, addresses: &[Ipv4Addr], ttl_s| {
        answer.add_answers(addresses.iter().map(|address| a(name, ttl_s, address)));
    };
    let bytes = |answer: &Message| answer.to_bytes().expect("an answer");
    match tells {
        Tells::Addresses(list, ttl_s) => addresses(&mut answer, query.name(), &list, ttl_s),
        Tells::Aliases(aliases, list, ttl_s) => {
            let mut from = query.name().clone();
            for alias in aliases {
                let to = Name::from_ascii(format!("{alias}.")).expect("a name");
                answer.add_answer(Record::from_rdata(from, ttl_s, RData::CNAME(CNAME(to.clone()))));
                from = to;
            }
            addresses(&mut answer, &from, &list, ttl_s);
        }
        Tells::Code(code) => answer.metadata.response_code = code,
        Tells::Truncated(list) if by_tcp => addresses(&mut answer, query.name(), &list, 60),
        Tells::Truncated(_) => answer.metadata.truncation = true,
        Tells::Forged(forgery, list) => {
            let mut forged = answer.clone();
            match forgery {
                Forgery::OtherNumber => forged.metadata.id = forged.metadata.id.wrapping_add(1),
                Forgery::OtherName => {
                    forged.queries[0].set_name(Name::from_ascii("other.example.net.").expect("a name"));
                }
            }
            addresses(&mut forged, query.name(), &[Ipv4Addr::new(93, 184, 66, 66)], 60);
            addresses(&mut answer, query.name(), &list, 60);
            return [bytes(&forged), bytes(&answer)].into();
        }
        Tells::SmallLetters(list) => {
            if !by_tcp {
                answer.queries[0] = Query::query(query.name().to_lowercase(), query.query_type());
            }
            addresses(&mut answer, query.name(), &list, 60);
        }
        Tells::Bytes(bytes) => return [bytes].into(),
        Tells::Silence => return VecDeque::new(),
    }
    [bytes(&answer)].into()
}

/// A cell's question over UDP, and its answer.
pub fn ask(from: Ipv4Addr, stage: Stage, name: &str, record: RecordType) -> Message {
    heard(from, stage, name, record).expect("an answer")
}

/// A cell's question over UDP, and its answer if one comes within a while.
pub fn heard(from: Ipv4Addr, stage: Stage, name: &str, record: RecordType) -> Option<Message> {
    let answer = exchange(from, stage, &question(name, record).to_bytes().expect("a question"))?;
    let answer = Message::from_bytes(&answer).expect("the resolver writes answers");
    assert_eq!(answer.queries[0].name(), &Name::from_ascii(format!("{name}.")).expect("a name"));
    Some(answer)
}

/// Any packet, and what comes back.
pub fn exchange(from: Ipv4Addr, stage: Stage, packet: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((from, 0)).expect("a cell's address");
    socket.set_read_timeout(Some(Duration::from_secs(6))).expect("a time-out");
    socket.connect(stage.dns()).expect("the resolver's address");
    socket.send(packet).expect("sent");
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

/// A question as clients put it, without EDNS.
pub fn question(name: &str, record: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), record));
    message
}

/// The addresses in an answer, each with its time.
pub fn addresses(answer: &Message) -> Vec<(Ipv4Addr, u32)> {
    answer.answers.iter().filter_map(|record| if let RData::A(address) = record.data { Some((address.0, record.ttl)) } else { None }).collect()
}

/// Asserts that these are the addresses, each with this time or a little less: a slow machine takes of it.
pub fn assert_answer(answer: &Message, expected: &[(Ipv4Addr, u32)]) {
    let told = addresses(answer);
    let near = |((address, ttl_s), (expected, most_s)): (&(Ipv4Addr, u32), &(Ipv4Addr, u32))| {
        address == expected && (most_s.saturating_sub(20).max(25)..=*most_s).contains(ttl_s)
    };
    assert!(told.len() == expected.len() && told.iter().zip(expected).all(near), "{told:?} is not {expected:?}");
}

/// A connection from a cell to the resolver's port for questions.
pub fn connect(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    rustix::net::connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// A question over an open connection.
pub fn ask_over(stream: &mut TcpStream, name: &str, record: RecordType) -> std::io::Result<Message> {
    let question = question(name, record).to_bytes().expect("a question");
    let length = u16::try_from(question.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length, question.as_slice()].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(Message::from_bytes(&answer).expect("an answer"))
}

impl Resolver {
    /// Any packet on the warden's socket.
    pub fn say(&self, packet: &[u8]) {
        self.socket.send(packet).expect("the resolver reads");
    }
}
