//! Measures acknowledged appends: `measure DIRECTORY APPENDERS SECONDS entries|chunks`. Starts a ledger in a new folder below
//! DIRECTORY and keeps that many appends in flight over one connection, as the gateway does, each following the acknowledgement of
//! the one before. `chunks` are pieces of recordings of 4 KiB, each appender's its own. Prints appends a second and the times from
//! the request to the acknowledgement.

#![expect(clippy::print_stdout, reason = "prints its figures")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use sulku_audit::merkle::sha256;
use sulku_audit::wire::{self, Request, RequestBody, Response, ResponseBody};
use sulku_audit::{Draft, Event};
use sulku_ledger::{Ledger, Settings, key};
use sulku_permit::SessionId;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, appenders, seconds, what] = arguments.as_slice() else {
        return Err("usage: measure DIRECTORY APPENDERS SECONDS entries|chunks".into());
    };
    let (appenders, seconds): (u8, u64) = (appenders.parse()?, seconds.parse()?);
    let folder = Path::new(directory).join(format!("ledger-measure-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let settings = Settings {
        origin: "measure.example".to_owned(),
        directory: folder.join("log"),
        socket: folder.join("socket"),
        signing_key: folder.join("key"),
        previous_signing_key: None,
        witness: None,
        run_as: None,
        gateway_uid: rustix::process::getuid().as_raw(),
        warden_uid: rustix::process::getuid().as_raw(),
        auditors: [].into(),
        courier_uid: None,
    };
    let socket = settings.socket.clone();
    let ledger = Ledger::start(settings, key::generate("measure.example")?)?;
    let stopper = ledger.stopper();
    let running = std::thread::spawn(|| ledger.run());
    let mut times = append_for(Duration::from_secs(seconds), &socket, appenders, what == "chunks")?;
    stopper.stop("measured");
    running.join().map_err(|_| "the ledger panicked")??;
    std::fs::remove_dir_all(&folder)?;
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default().as_micros();
    println!(
        "{what}: {appenders} appenders: {:.0} acknowledged a second, p50 {} us, p99 {} us, largest {} us",
        times.len() as f64 / seconds as f64,
        at(0.5),
        at(0.99),
        times.last().copied().unwrap_or_default().as_micros(),
    );
    Ok(())
}

fn append_for(length: Duration, socket: &Path, appenders: u8, chunks: bool) -> Result<Vec<Duration>, Failure> {
    let mut stream = UnixStream::connect(socket)?;
    let bytes = vec![b'x'; 4096];
    let sha256 = sha256(&[&bytes]).to_string();
    let begun = Instant::now();
    let (mut times, mut sent) = (Vec::new(), vec![(0_u64, begun); usize::from(appenders)]);
    let (mut buffer, mut piece) = (Vec::new(), vec![0; 256 << 10]);
    let mut ready: Vec<u8> = (0..appenders).collect();
    let mut waiting = 0;
    loop {
        let mut frames = Vec::new();
        for number in ready.drain(..).filter(|_| begun.elapsed() < length) {
            let (chunk, at) = &mut sent[usize::from(number)];
            let event = if chunks {
                Event::RecordingChunk {
                    part: 0,
                    chunk: *chunk,
                    offset: *chunk * 4096,
                    length: 4096,
                    sha256: sha256.clone(),
                    began_ms: 0,
                    ended_ms: 0,
                    lines: 1,
                }
            } else {
                Event::OperatorActed { action: "sessions-listed".to_owned(), from: std::net::IpAddr::from([192, 0, 2, 9]).into() }
            };
            let session = Some(SessionId::from_random([number; 10]));
            let draft = Draft { permit: Some("THL/1/2026".parse()?), session, person: Some("maija.meikalainen".parse()?), event };
            let request = Request { id: u64::from(number), body: RequestBody::Append(draft) };
            frames.extend(wire::encode(&request, if chunks { &bytes } else { &[] })?);
            (*chunk, *at) = (*chunk + 1, Instant::now());
            waiting += 1;
        }
        stream.write_all(&frames)?;
        if waiting == 0 {
            return Ok(times);
        }
        let count = stream.read(&mut piece)?;
        buffer.extend_from_slice(&piece[..count]);
        let mut taken = 0;
        while let Some((response, _, length)) = wire::decode::<Response>(&buffer[taken..])? {
            let ResponseBody::Kept(_) = response.body else { return Err(format!("{:?}", response.body).into()) };
            let number = u8::try_from(response.id)?;
            times.push(sent[usize::from(number)].1.elapsed());
            ready.push(number);
            waiting -= 1;
            taken += length;
        }
        buffer.drain(..taken);
    }
}
