//! What the fuzz targets do with the bytes they are given: each is a function here, so that cargo-fuzz drives it where there is a
//! nightly toolchain, and `tests/briefly.rs` drives the same on the stable one.
//!
//! Each target asks for more than "no panic": what was read, written again and read again must be the same. None reads a file,
//! opens a socket or knows a secret.

use std::io::Read as _;
use std::sync::OnceLock;
use std::time::Duration;

use hickory_proto::op::Message as DnsMessage;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinDecodable as _;
use sulku_audit::export::{self, Check, Subject};
use sulku_audit::merkle::leaf_hash;
use sulku_audit::personal::{KeyFile, KeyState};
use sulku_audit::wire::{Request, Response};
use sulku_audit::{Body, Checkpoint, Entry, EntryProof, LogSigner, PersonalKey, Receipt, Trust, tile, wire};
use sulku_permit::{Policy, Protocol, SessionId, Source};
use sulku_plan::Plan;
use sulku_plan::naming::{Listed, NameCheck, OpenPort, QuestionDenied};
use sulku_plan::order::{self, Order, Report};
use sulku_policy::{OperatorKey, Signed, SigningKey, TreePath};
use sulku_protocol::{Ask, Decoder, Message, Tell, encode};
use sulku_recording::{Began, Cast, Line, SealedChunk, Sealer, SessionKey};
use sulku_resolver::upstream::TTL_MAX_S;
use sulku_resolver::upstream::exchange::{Exchange, Heard};
use sulku_resolver::upstream::reading::{self, Found};
use sulku_resolver::wire::{Over, Question, Reply, UDP_BYTES_MAX};
use sulku_resolver::{hello, judge};

/// The most that is read from standard input.
const INPUT_BYTES_MAX: u64 = 16 << 20;

/// Frames between client and gateway, in both directions, whole and in pieces.
pub fn frames(bytes: &[u8]) {
    frames_of::<Ask>(bytes);
    frames_of::<Tell>(bytes);
}

fn frames_of<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let whole = decoded::<M>(bytes, bytes.len());
    let piece = 1 + usize::from(bytes.first().copied().unwrap_or_default() % 7);
    assert_eq!(whole, decoded::<M>(bytes, piece), "how the bytes were cut has changed what they say");
    for frame in &whole {
        let mut again = Vec::new();
        encode(frame, &mut again).expect("a frame that was read is no longer than a frame may be");
        assert_eq!(decoded::<M>(&again, again.len()).first(), Some(frame));
    }
}

/// All frames until the first that is none.
fn decoded<M: Message>(bytes: &[u8], piece: usize) -> Vec<M> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for bytes in bytes.chunks(piece.max(1)) {
        decoder.feed(bytes);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    frames
}

/// Permit documents, and the files that permits share. A permit that is accepted has a plan, and that plan has a text.
pub fn permits(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for path in ["permits/a.toml", "images/a.toml", "datasets/a.toml", "networks/a.toml", "calendars/a.toml", "authorities/a.toml", "halt.toml"] {
        match Policy::read([Source { path, shown: path, text }]) {
            Ok(policy) => assert!(policy.failed_cases().len() <= policy.cases()),
            Err(problems) => assert!(!problems.is_empty(), "{path}"),
        }
    }
    match sulku_permit::parse("fuzzed.toml", text) {
        Ok(permit) => assert!(!Plan::of(&permit).render().is_empty()),
        Err(problems) => {
            let lines = u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX).saturating_add(1);
            assert!(!problems.is_empty() && problems.iter().all(|problem| (1..=lines).contains(&problem.at.line)), "{problems:?}");
        }
    }
}

/// Revisions of the policy, and operators' keys. One text has one value.
pub fn revisions(bytes: &[u8]) {
    match Signed::parse(bytes) {
        Ok(signed) => assert_eq!(signed.render().as_bytes(), bytes, "another text of the same revision"),
        Err(error) => {
            let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!((1..=lines).contains(&error.line), "{error}");
        }
    }
    if let Ok(key) = OperatorKey::from_der(bytes) {
        assert_eq!(key.der(), bytes, "another text of the same key");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = SigningKey::from_pem(text);
        if let Ok(path) = text.parse::<TreePath>() {
            assert!(path.as_str() == text && !text.contains("..") && !text.starts_with('/'));
        }
    }
}

/// Everything that an auditor reads, and the frames of the ledger's socket.
pub fn entries(bytes: &[u8]) {
    if let Ok(read) = Entry::parse(bytes) {
        let key = PersonalKey::from_random([0; 32]);
        // What has nothing private and names nobody needs no key to be made again.
        if let Some(draft) = read.open(&key, &[].into()) {
            let again = Body::new(&draft, &key, &[0; 24]).and_then(|body| body.encode(&read.stamp));
            let again = again.expect("an entry that was read is no longer than an entry may be");
            assert!(read.sealed.is_some() || Entry::parse(&again).ok() == Some(read));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(KeyState::Kept(file)) = KeyFile::parse(text)
    {
        assert!(KeyFile::parse(&file.to_text()).is_ok());
    }
    let mut rest = bytes;
    while let Some((_, after)) = tile::split_entry(rest) {
        assert!(after.len() < rest.len(), "a bundle that never ends");
        rest = after;
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(checkpoint) = Checkpoint::parse(text) {
            assert!(Checkpoint::parse(&checkpoint.text()).is_some());
        }
        if let Ok(proof) = EntryProof::parse(text) {
            assert!(EntryProof::parse(&proof.to_text()).is_ok());
        }
        if let Ok(tile) = text.parse::<tile::Tile>() {
            assert_eq!(tile.to_string(), text, "two paths of one tile");
        }
    }
    if let Ok(Some((_, blob, length))) = wire::decode::<Request>(bytes) {
        assert!(blob.len() < length && length <= bytes.len());
    }
    let _ = wire::decode::<Response>(bytes);
}

/// An entry about a permit, the first.
pub const ENTRY: &str = r#"{"v":1,"t":"2026-11-23T08:00:00.000000Z","mono_ns":1,"boot":"b","by":"warden","permit":"FUZZ/1","permit_seq":0,"code":"SLK3002I","event":"warden.stopped","data":{"reason":"fuzzed"},"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}"#;

/// An export of a log that has only [`ENTRY`], and whom to believe about it.
pub fn export_of_one() -> &'static (Trust, String) {
    static EXPORT: OnceLock<(Trust, String)> = OnceLock::new();
    EXPORT.get_or_init(|| {
        let signer = LogSigner::from_seeds("fuzz", &[1; 32], &[2; 32]).expect("a key of a good name");
        let checkpoint = Checkpoint { origin: "fuzz".to_owned(), size: 1, root: leaf_hash(ENTRY.as_bytes()) };
        let head = export::head(&Subject::Permit("FUZZ/1".parse().expect("an id")), 1, &signer.sign(&checkpoint, 0));
        (signer.own_keys().into(), head + &export::line(0, ENTRY.as_bytes(), &[]))
    })
}

/// Exports that somebody else checks: what passes as one of this log has its one entry.
pub fn exports(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (trust, good) = export_of_one();
    let (head, line) = good.rsplit_once("\n\n").expect("a head ends with an empty line");
    if let Some((head, rest)) = text.rsplit_once("\n\n")
        && let Ok(mut check) = Check::begin(&format!("{head}\n\n"), trust)
    {
        // The count and what it is of stand under no signature.
        let all = rest.lines().all(|line| check.take(line).is_ok_and(|exported| exported.bytes() == ENTRY.as_bytes()));
        assert!(!all || check.finish().is_err() || rest.lines().count() <= 1);
    }
    if !text.starts_with(|first: char| first.is_ascii_digit()) {
        return;
    }
    let mut check = Check::begin(&format!("{head}\n\n"), trust).expect("a head that was just written");
    for changed in text.lines() {
        assert!(!check.take(changed).is_ok_and(|exported| exported.bytes() != ENTRY.as_bytes()), "another entry than {line}");
    }
}

/// Orders to the warden, and its reports.
pub fn orders(bytes: &[u8]) {
    if let Ok(read) = order::decode::<Order<Receipt>>(bytes) {
        // A number may be written in more digits than it needs, so only what was encoded here has to fit.
        if let Ok(again) = order::encode(&read) {
            assert_eq!(order::decode::<Order<Receipt>>(&again).ok(), Some(read));
        }
    }
    if let Ok(read) = order::decode::<Report>(bytes)
        && let Ok(again) = order::encode(&read)
    {
        assert_eq!(order::decode::<Report>(&again).ok(), Some(read));
    }
}

/// A session's recording of three chunks under a key of zeroes, and its session.
pub fn recording() -> &'static (SessionId, Vec<SealedChunk>) {
    static RECORDING: OnceLock<(SessionId, Vec<SealedChunk>)> = OnceLock::new();
    RECORDING.get_or_init(record)
}

fn record() -> (SessionId, Vec<SealedChunk>) {
    let session = SessionId::from_random([1; 10]);
    let mut cast = Cast::begin(Began { size: (80, 24), term: "xterm", timestamp: 0, title: "fuzzed" }, Duration::ZERO);
    let mut sealer = Sealer::new(SessionKey::take(&mut [0; 32]), session);
    let mut chunks = Vec::new();
    for second in 0..3 {
        // The second is long enough to be compressed.
        cast.push('o', &"shown\r\n".repeat(1 + second % 2 * 200), Duration::from_secs(second as u64));
        chunks.extend(cast.take().map(|lines| sealer.seal(&lines)));
    }
    (session, chunks)
}

/// Recordings: the lines that a player parses, what a session shows on its way through the writer and the reader, and chunks that
/// somebody changed, which open nowhere.
pub fn recordings(bytes: &[u8]) {
    for first in [true, false] {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let _ = Line::parse(line, first);
        }
    }
    let session = SessionId::from_random([2; 10]);
    let shown = String::from_utf8_lossy(bytes);
    let mut cast = Cast::begin(Began { size: (80, 24), term: "xterm", timestamp: 0, title: &shown }, Duration::ZERO);
    cast.push('o', &shown, Duration::from_millis(bytes.len() as u64));
    let (key, mut sealer) = (SessionKey::take(&mut [0; 32]), Sealer::new(SessionKey::take(&mut [0; 32]), session));
    let (mut read, mut first, mut previous) = (String::new(), true, None);
    while let Some(lines) = cast.take() {
        let chunk = sealer.seal(&lines);
        let opened = sulku_recording::open(&key, &session, chunk.number, previous.as_ref(), &chunk.bytes).expect("a chunk that was just sealed");
        previous = Some(chunk.sha256);
        for line in opened.split_inclusive(|byte| *byte == b'\n') {
            if let Line::Event { text, .. } = Line::parse(line, first).expect("a line that was just written") {
                read += &text;
            }
            first = false;
        }
    }
    assert_eq!(read, shown, "what was shown is what is played");
    let (session, chunks) = recording();
    let mut previous = None;
    for chunk in chunks {
        let is_it = chunk.bytes == bytes;
        let opens = sulku_recording::open(&key, session, chunk.number, previous.as_ref(), bytes).is_ok();
        assert_eq!(opens, is_it, "other bytes than chunk {} open in its place", chunk.number);
        previous = Some(chunk.sha256);
    }
}

/// What a cell asks and how its TLS begins, and what resolvers upstream answer.
pub fn names(bytes: &[u8]) {
    if let Ok(question) = Question::parse(bytes) {
        let asked = question.name();
        assert!(asked.as_ref().is_none_or(|name| name.as_str() == question.name_text()), "one name has two texts");
        assert!(question.name_text().len() <= 255 && question.name_text().is_ascii());
        let many = (0..16).map(|number| [93, 184, 0, number].into()).collect();
        for reply in [Reply::Addresses(many, 300), Reply::Empty, Reply::NoSuchName, Reply::Failed, Reply::Refused(QuestionDenied::NotListed)] {
            for over in [Over::Udp, Over::Tcp] {
                let answer = question.answer(&reply, over);
                assert!(over == Over::Tcp || answer.len() <= UDP_BYTES_MAX.into(), "{} bytes", answer.len());
                let read = DnsMessage::from_bytes(&answer).expect("an answer that was just written");
                assert!(read.metadata.id.to_be_bytes() == bytes[..2] && read.queries.len() == 1);
            }
        }
        if let Some(name) = asked {
            let listed = |names: &str| Listed {
                names: names.parse().expect("a pattern"),
                ports: vec![OpenPort { number: 443, protocol: Protocol::Tcp }],
                check: NameCheck::NameChecked,
                within: Vec::new(),
            };
            let listed = [listed("www.example.org"), listed("*.example.org")];
            let open = name.as_str() == "www.example.org" || name.as_str().ends_with(".example.org");
            assert!(judge::question(&listed, &name).is_err() || open);
        }
    }
    if let Ok(Some((read, length))) = hello::read(bytes) {
        assert_eq!(hello::read(&bytes[..length]), Ok(Some((read, length))), "what stands behind a hello has changed it");
        assert_eq!(hello::read(&bytes[..length - 1]), Ok(None), "less than a hello is one");
    }
    let name = Name::from_ascii("www.example.org.").expect("a name");
    if let Ok(message) = DnsMessage::from_bytes(bytes)
        && let Found::Addresses(addresses, ttl_s) = reading::read(&message, &name)
    {
        assert!(!addresses.is_empty() && ttl_s <= TTL_MAX_S);
    }
    let exchange = Exchange::new(&name);
    let mut answer = exchange.question().expect("a short name");
    // Whatever somebody sends who does not know the number and the letters is none of ours.
    assert!(bytes.get(..2) == Some(&answer[..2]) || matches!(exchange.hear(bytes), Heard::Stranger));
    answer.truncate(2);
    answer.extend_from_slice(bytes.get(2..).unwrap_or_default());
    if let Heard::Answer(message) = exchange.hear(&answer) {
        assert!(message.queries.len() == 1 && !message.metadata.truncation);
    }
}

/// Tries what comes on standard input: how a finding is run again without cargo-fuzz.
///
/// # Errors
/// Standard input can't be read.
pub fn from_standard_input(target: fn(&[u8])) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    target(&bytes);
    Ok(())
}
