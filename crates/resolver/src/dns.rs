//! The sockets at which cells ask: UDP and TCP. Who asks is told by the source address, which the router vouches for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sulku_plan::naming::QuestionDenied;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::answer::{Answering, AtOnce};
use crate::sessions::{Session, Sessions};
use crate::wire::{NoQuestion, Over, QUESTION_BYTES_MAX, Question, Reply};

/// How long a connection may be silent, and how long its answer may take to be read.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(10);
/// How long nothing is accepted after the kernel could not give a connection: others have to end first.
pub const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Answers packets for ever.
///
/// # Errors
/// The socket failed: the process must end.
pub async fn over_udp(socket: Arc<UdpSocket>, sessions: Arc<Sessions>, answering: Arc<Answering>) -> io::Error {
    let mut packet = vec![0; QUESTION_BYTES_MAX + 1];
    loop {
        let (length, from) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            // An answer that met a closed port is no fault of this socket.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return error,
        };
        let Some(session) = sessions.behind_by_now(from.ip()).await else {
            tracing::debug!("a packet came from no session");
            continue;
        };
        match Asked::of(&answering, &session, &packet[..length], Over::Udp) {
            Asked::Answered(answer) => send(&socket, &answer, from),
            Asked::Unanswered => {}
            Asked::Later(question, name) => {
                let Ok(room) = session.waiting.clone().try_acquire_owned() else {
                    answering.deny(&session, &question, QuestionDenied::TooMany);
                    send(&socket, &question.answer(&Reply::Refused(QuestionDenied::TooMany), Over::Udp), from);
                    continue;
                };
                let (socket, answering) = (socket.clone(), answering.clone());
                tokio::spawn(async move {
                    let reply = answering.later(&session, &question, name).await;
                    if !session.closed.is_cancelled() {
                        send(&socket, &question.answer(&reply, Over::Udp), from);
                    }
                    drop(room);
                });
            }
        }
    }
}

/// Sends, or does not: who asked over UDP asks again.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

/// Answers over connections for ever.
///
/// # Errors
/// The socket failed: the process must end.
pub async fn over_tcp(listener: TcpListener, sessions: Arc<Sessions>, answering: Arc<Answering>) -> io::Error {
    loop {
        let (stream, from) = accept(&listener).await;
        let Some(session) = sessions.behind_by_now(from.ip()).await else {
            reset(stream);
            continue;
        };
        let Ok(room) = session.dns_connections.clone().try_acquire_owned() else {
            reset(stream);
            continue;
        };
        let answering = answering.clone();
        tokio::spawn(async move {
            let closed = session.closed.clone();
            tokio::select! {
                ended = converse(stream, &session, &answering) => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection that asked has ended");
                },
                () = closed.cancelled() => {}
            }
            drop(room);
        });
    }
}

/// The next connection. When the kernel has none to give, because of descriptors or memory, a little later.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Ends a connection so that the other end hears of it at once.
pub fn reset(stream: TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a connection could not be reset");
    }
}

/// Question by question (RFC 7766), until either end has enough.
async fn converse(mut stream: TcpStream, session: &Arc<Session>, answering: &Arc<Answering>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut packet = vec![0; QUESTION_BYTES_MAX];
    loop {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            let packet = packet.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
            stream.read_exact(packet).await
        };
        let length = match tokio::time::timeout(CONNECTION_IDLE, read).await? {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    answering.malformed(session, NoQuestion::Malformed { id: 0 });
                }
                return Err(error);
            }
        };
        let answer = match Asked::of(answering, session, &packet[..length], Over::Tcp) {
            Asked::Answered(answer) => answer,
            Asked::Unanswered => return Ok(()),
            Asked::Later(question, name) => question.answer(&answering.later(session, &question, name).await, Over::Tcp),
        };
        let length = u16::try_from(answer.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        let bytes = [&length.to_be_bytes(), answer.as_slice()].concat();
        tokio::time::timeout(CONNECTION_IDLE, stream.write_all(&bytes)).await??;
    }
}

/// What a packet comes to.
enum Asked {
    Answered(Vec<u8>),
    Unanswered,
    Later(Question, sulku_permit::HostName),
}

impl Asked {
    fn of(answering: &Answering, session: &Session, packet: &[u8], over: Over) -> Self {
        match Question::parse(packet) {
            Ok(question) => match answering.at_once(session, &question) {
                AtOnce::Reply(reply) => Self::Answered(question.answer(&reply, over)),
                AtOnce::Later(name) => Self::Later(question, name),
            },
            Err(no_question) => {
                answering.malformed(session, no_question);
                no_question.answer().map_or(Self::Unanswered, Self::Answered)
            }
        }
    }
}

/// When findings for what was only counted are tried again.
pub const SUPPRESSED_EVERY: Duration = Duration::from_secs(1);

/// Tells the warden of denials that were only counted, for ever.
pub async fn tell_suppressed(sessions: Arc<Sessions>, answering: Arc<Answering>) -> std::convert::Infallible {
    let mut every = tokio::time::interval(SUPPRESSED_EVERY);
    loop {
        every.tick().await;
        sessions.tell_suppressed(&answering.warden, Instant::now());
    }
}
