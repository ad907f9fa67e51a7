//! The warden's socket: findings go out, tasks come in. Whatever is wrong with it ends the process.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use rustix::net::RecvFlags;
use sulku_permit::{HostName, SessionId};
use sulku_plan::naming::{Carries, Finding, NAMING_VERSION, Task};
use sulku_plan::order::{self, PACKET_BYTES_MAX, PacketError};
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};

use crate::sessions::lock;

/// Findings that wait for the warden. When they are as many, questions are dropped and denials counted.
pub const FINDINGS_WAITING_MAX: usize = 256;
/// How long a cell waits for the warden's word at most; less than the 5 s after which resolvers ask again.
pub const WORD_WITHIN: Duration = Duration::from_secs(3);

/// A warden that can't be worked with.
#[derive(Debug, thiserror::Error)]
pub enum WardenError {
    /// The socket failed.
    #[error("the warden's socket failed")]
    Socket(#[from] io::Error),
    /// It has ended.
    #[error("the warden's socket has ended")]
    Ended,
    /// A packet is not of the vocabulary.
    #[error("the warden said something that is no task")]
    Packet(#[from] PacketError),
    /// It is of another version.
    #[error("the warden speaks version {0} about names, this resolver {NAMING_VERSION}; install both from one release")]
    Version(u32),
    /// It began with something else than what to serve, or said so again.
    #[error("the warden gave a task out of its order")]
    Order,
    /// It named nobody to ask.
    #[error("the warden named no resolver to ask")]
    NoUpstream,
}

/// Too many findings wait for the warden already.
#[derive(Debug, thiserror::Error)]
#[error("too many findings wait for the warden already")]
pub struct Busy;

/// The warden, to tell findings to.
#[derive(Debug)]
pub struct Warden {
    findings: mpsc::Sender<Finding>,
    questions: Mutex<Questions>,
}

#[derive(Debug, Default)]
struct Questions {
    last: u64,
    waiting: HashMap<u64, oneshot::Sender<Word>>,
}

/// The warden's word on a name's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The kernel lets them through.
    Opened,
    /// It does not.
    Refused,
}

impl Warden {
    /// One to tell findings to, and what takes them.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Finding>) {
        let (findings, waiting) = mpsc::channel(FINDINGS_WAITING_MAX);
        (Self { findings, questions: Mutex::default() }, waiting)
    }

    /// Tells a finding, without waiting.
    ///
    /// # Errors
    /// [`Busy`]: nothing was told.
    pub fn tell(&self, finding: Finding) -> Result<(), Busy> {
        self.findings.try_send(finding).map_err(|_| Busy)
    }

    /// Tells a finding as soon as there is room for it.
    ///
    /// # Errors
    /// The process is about to end.
    pub async fn tell_patiently(&self, finding: Finding) -> Result<(), Busy> {
        self.findings.send(finding).await.map_err(|_| Busy)
    }

    /// Has a name's addresses let through, and waits for the warden's word. No word in time is a refusal.
    pub async fn ask(&self, session: SessionId, name: HostName, addresses: Vec<std::net::IpAddr>, ttl_s: u32) -> Word {
        let (word, told) = oneshot::channel();
        let question = {
            let mut questions = lock(&self.questions);
            let question = questions.last + 1;
            // Under the lock, so that the numbers arrive in their order.
            if self.tell(Finding::Resolved { question, session, name, addresses, ttl_s }).is_err() {
                return Word::Refused;
            }
            questions.last = question;
            questions.waiting.insert(question, word);
            question
        };
        let word = tokio::time::timeout(WORD_WITHIN, told).await;
        lock(&self.questions).waiting.remove(&question);
        word.ok().and_then(Result::ok).unwrap_or(Word::Refused)
    }

    /// Takes the warden's word. One that nobody waits for any more is late, and void.
    pub fn hear(&self, question: u64, word: Word) {
        let waiting = lock(&self.questions).waiting.remove(&question);
        if let Some(waiting) = waiting
            && waiting.send(word).is_err()
        {
            tracing::debug!(question, "the warden's word came too late");
        }
    }
}

/// The first task, read while nothing else runs yet.
///
/// # Errors
/// It is something else, or of another version.
pub fn first_task(socket: &OwnedFd) -> Result<(Vec<std::net::SocketAddr>, Carries), WardenError> {
    let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
    let (length, _) = rustix::net::recv(socket, buffer.as_mut_slice(), RecvFlags::empty()).map_err(io::Error::from)?;
    match decode(&buffer[..length])? {
        Task::Serve { version, .. } if version != NAMING_VERSION => Err(WardenError::Version(version)),
        Task::Serve { upstream, .. } if upstream.is_empty() => Err(WardenError::NoUpstream),
        Task::Serve { upstream, carries, .. } => Ok((upstream, carries)),
        _ => Err(WardenError::Order),
    }
}

/// Reads tasks for ever.
///
/// # Errors
/// The socket ended or failed, or something that is no task came: the process must end.
pub async fn tasks(socket: &UnixDatagram, mut carry_out: impl FnMut(Task) -> Result<(), WardenError>) -> WardenError {
    let mut buffer = vec![0; PACKET_BYTES_MAX + 1];
    loop {
        let received = socket.recv(&mut buffer).await.map_err(WardenError::from);
        let received = received.and_then(|length| decode(&buffer[..length])).and_then(&mut carry_out);
        if let Err(error) = received {
            return error;
        }
    }
}

/// Writes findings for ever.
///
/// # Errors
/// The socket failed: the process must end.
pub async fn findings(socket: &UnixDatagram, mut waiting: mpsc::Receiver<Finding>) -> WardenError {
    while let Some(finding) = waiting.recv().await {
        let sent = async {
            let packet = order::encode(&finding)?;
            Ok::<_, WardenError>(socket.send(&packet).await?)
        };
        if let Err(error) = sent.await {
            return error;
        }
    }
    WardenError::Ended
}

fn decode(packet: &[u8]) -> Result<Task, WardenError> {
    if packet.is_empty() { Err(WardenError::Ended) } else { Ok(order::decode(packet)?) }
}
