//! Peers that others wrote: OpenSSL's `s_client` over TLS, aioquic over QUIC. They show that the wire is TLS 1.3 and QUIC, not only
//! something on which our two ends agree.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sulku_protocol::{Ask, Decoder, HelloFrame, Purpose, Stay, Tell, VERSION, encode};
use sulku_stage::{Finished, Interrupt, Person, Running, Stage, find_in};

/// The longest that a peer waits for an answer, and a little.
const PEER_TIME: Duration = Duration::from_secs(20);

/// What a peer got back.
#[derive(Debug)]
pub struct Answer {
    /// The frames, as far as they are frames.
    pub frames: Vec<Tell>,
    /// What the peer said of the connection.
    pub said: String,
    /// How it ended.
    pub finished: Finished,
}

impl Answer {
    /// Whether a session opened.
    #[must_use]
    pub fn welcomed(&self) -> bool {
        matches!(self.frames.first(), Some(Tell::Welcome(_)))
    }

    /// What the terminal showed.
    #[must_use]
    pub fn output(&self) -> String {
        let shown = self.frames.iter().filter_map(|frame| if let Tell::Output(bytes) = frame { Some(&bytes[..]) } else { None });
        String::from_utf8_lossy(&shown.flatten().copied().collect::<Vec<_>>()).into_owned()
    }

    /// The reason in the closing frame.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.frames.iter().find_map(|frame| if let Tell::Closed(closed) = frame { Some(closed.reason.as_str()) } else { None })
    }
}

/// A first frame that asks for one command in the only permit of the person.
///
/// # Errors
/// The frame would be too long.
pub fn hello(command: &[&str]) -> anyhow::Result<Vec<u8>> {
    let purpose = Purpose::Connect {
        permit: None,
        command: Some(command.iter().map(|word| (*word).to_owned()).collect()),
        term: "dumb".to_owned(),
        columns: 80,
        rows: 24,
        stay: Stay::Ends,
    };
    let mut bytes = Vec::new();
    encode(&Ask::Hello(HelloFrame { version: VERSION, client: "a peer of another make".to_owned(), purpose }), &mut bytes)?;
    Ok(bytes)
}

/// Sends bytes over TLS with `openssl s_client`; `arguments` are more of its own.
///
/// # Errors
/// OpenSSL is missing, or does not end.
pub fn openssl(stage: &Stage, person: Option<Person>, sent: &[u8], arguments: &[&str]) -> anyhow::Result<Answer> {
    answer(openssl_command(stage, person, arguments)?, sent)
}

/// A connection over TLS that shows who it is and says nothing, until it is dropped.
///
/// # Errors
/// OpenSSL is missing.
pub fn openssl_held(stage: &Stage, person: Person) -> anyhow::Result<Running> {
    Ok(Running::start(openssl_command(stage, Some(person), &[])?, &Interrupt::never())?)
}

fn openssl_command(stage: &Stage, person: Option<Person>, arguments: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(find_in("openssl", "openssl")?);
    command.args(["s_client", "-connect", &format!("127.0.0.1:{}", stage.port()), "-servername", "localhost", "-alpn", "sulku/1"]);
    command.args(["-verify_return_error", "-CAfile"]).arg(stage.authority().certificate());
    // No commands in what is sent, and the end of the input does not end the connection: the gateway does.
    command.args(["-nocommands", "-ign_eof", "-quiet"]).args(arguments);
    if let Some(person) = person {
        let (certificate, key) = stage.authority().files_of(person.name());
        command.arg("-cert").arg(certificate).arg("-key").arg(key);
    }
    Ok(command)
}

/// Sends bytes over QUIC with aioquic.
///
/// # Errors
/// aioquic is missing, or does not end.
pub fn quic(stage: &Stage, person: Option<Person>, sent: &[u8]) -> anyhow::Result<Answer> {
    answer(quic_command(stage, person, &[])?, sent)
}

/// A connection over QUIC that shows who it is and says nothing, until it is dropped.
///
/// # Errors
/// aioquic is missing.
pub fn quic_held(stage: &Stage, person: Person) -> anyhow::Result<Running> {
    Ok(Running::start(quic_command(stage, Some(person), &["--hold"])?, &Interrupt::never())?)
}

fn quic_command(stage: &Stage, person: Option<Person>, arguments: &[&str]) -> anyhow::Result<Command> {
    let python = peers().join("bin/python");
    if !python.exists() {
        bail!(
            "{} is missing; make test installs it: python3 -m venv target/peers && target/peers/bin/pip install -r tests/peers/requirements.txt",
            python.display()
        );
    }
    let mut command = Command::new(python);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/quic.py"))
        .args(arguments)
        .arg(stage.port().to_string())
        .arg(stage.authority().certificate());
    if let Some(person) = person {
        let (certificate, key) = stage.authority().files_of(person.name());
        command.arg(certificate).arg(key);
    }
    Ok(command)
}

/// Where the peers from other registries are installed.
fn peers() -> PathBuf {
    std::env::var_os("SULKU_PEERS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"), PathBuf::from)
}

fn answer(command: Command, sent: &[u8]) -> anyhow::Result<Answer> {
    let mut peer = Running::start(command, &Interrupt::never())?;
    if let Some(input) = peer.input() {
        // A peer that was refused may be gone already; what it says tells why.
        let _ = input.write_all(sent).and_then(|()| input.flush());
    }
    let finished = peer.finish_input(PEER_TIME).context("a peer of another make")?;
    let mut decoder = Decoder::<Tell>::default();
    decoder.feed(&finished.out_bytes);
    let mut frames = Vec::new();
    while let Ok(Some(frame)) = decoder.next() {
        frames.push(frame);
    }
    Ok(Answer { frames, said: finished.err.clone(), finished })
}
