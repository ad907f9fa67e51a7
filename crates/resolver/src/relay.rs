//! Bytes between a cell and its destination, once the destination has said how it begins.
//!
//! A server may ask for a second ClientHello (RFC 8446 section 4.1.4), and some take the name from that one. So nothing but the first
//! hello goes out until the server has answered, and a second one must give the same name.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sulku_plan::naming::ConnectionDenied;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::hello::{self, HANDSHAKE, Hello, RECORD_BYTES_MAX, RECORD_HEAD_BYTES};
use crate::tls::{Ended, HELLO_WITHIN};

/// A connection over which nothing goes either way for so long has ended.
pub const IDLE: Duration = Duration::from_secs(15 * 60);
/// Bytes that are moved at once. Two records of TLS.
pub const QUANTUM_BYTES: usize = 32 * 1024;
/// What a cell may send between its two hellos: early data that the server will not read, at most.
const BETWEEN_BYTES_MAX: usize = 64 * 1024;
/// A record's head, a message's head, a version and the server's random (RFC 8446 section 4.1.3).
const SERVER_HELLO_BYTES: usize = RECORD_HEAD_BYTES + 4 + 2 + 32;
/// The random of a server that asks for a second hello (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e,
    0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// The types of records that may stand between two hellos: a change of ciphers for old devices on the way, and early data.
const BETWEEN: [u8; 2] = [20, 23];

/// How many bytes went which way, the hellos left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    /// From the cell.
    pub sent: u64,
    /// To the cell.
    pub received: u64,
}

/// Moves bytes both ways until both ends are done. `held_back` is what the cell sent behind its hello.
///
/// # Errors
/// It broke, was idle for too long, or gave another name in a second hello.
pub async fn relay(cell: &mut TcpStream, host: &mut TcpStream, hello: &Hello, mut held_back: Vec<u8>) -> Result<Relayed, Ended> {
    let begin = tokio::time::timeout(IDLE, server_hello(host)).await.map_err(io::Error::from)??;
    cell.write_all(&begin).await?;
    if begin.get(SERVER_HELLO_BYTES - RETRY.len()..SERVER_HELLO_BYTES) == Some(&RETRY) {
        let denied = || Ended::denied(hello, ConnectionDenied::Silent);
        tokio::time::timeout(HELLO_WITHIN, second_hello(cell, hello, &mut held_back)).await.unwrap_or_else(|_| Err(denied()))?;
    }
    host.write_all(&held_back).await?;
    Ok(both_ways(cell, host).await?)
}

/// The server's first bytes: enough of a ServerHello to tell whether it asks for a second hello, or whatever else it said until it
/// said no more.
async fn server_hello(host: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(QUANTUM_BYTES);
    while bytes.len() < SERVER_HELLO_BYTES && bytes.first().is_none_or(|kind| *kind == HANDSHAKE) {
        if host.read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    let head = bytes.get(3..RECORD_HEAD_BYTES).map(|length| usize::from(length[0]) << 8 | usize::from(length[1]));
    let cut = bytes.first() == Some(&HANDSHAKE) && head.is_some_and(|length| length < SERVER_HELLO_BYTES - RECORD_HEAD_BYTES);
    // A hello in pieces could hide that it asks for another. No server cuts it so small.
    if cut { Err(io::ErrorKind::InvalidData.into()) } else { Ok(bytes) }
}

/// Reads on until the cell's second hello is there, and looks at its name.
async fn second_hello(cell: &mut TcpStream, first: &Hello, bytes: &mut Vec<u8>) -> Result<(), Ended> {
    let not_tls = || Ended::denied(first, ConnectionDenied::NotTls);
    let mut at = 0;
    loop {
        while let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk::<RECORD_HEAD_BYTES>) {
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if head[0] == HANDSHAKE {
                match hello::read(&bytes[at..]).map_err(|_| not_tls())? {
                    Some((second, _)) if second.name == first.name => return Ok(()),
                    Some((second, _)) => return Err(Ended::denied(&second, ConnectionDenied::NotListed)),
                    None => break,
                }
            }
            // Early data is sealed, and so a little longer than what it says.
            if !BETWEEN.contains(&head[0]) || length > RECORD_BYTES_MAX + 256 {
                return Err(not_tls());
            }
            if bytes.len() < at + RECORD_HEAD_BYTES + length {
                break;
            }
            at += RECORD_HEAD_BYTES + length;
        }
        if bytes.len() >= BETWEEN_BYTES_MAX + hello::HELLO_BYTES_MAX {
            return Err(not_tls());
        }
        bytes.reserve(4096);
        if cell.read_buf(bytes).await? == 0 {
            return Err(Ended::denied(first, ConnectionDenied::Silent));
        }
    }
}

/// Moves bytes both ways; an end of one way is passed on and the other goes on.
///
/// # Errors
/// It broke, or was idle for too long.
pub async fn both_ways(cell: &mut TcpStream, host: &mut TcpStream) -> io::Result<Relayed> {
    let moved = Moved { begin: Instant::now(), last_ms: AtomicU64::new(0) };
    let ((cell_in, cell_out), (host_in, host_out)) = (cell.split(), host.split());
    let both = async { tokio::try_join!(one_way(cell_in, host_out, &moved), one_way(host_in, cell_out, &moved)) };
    tokio::select! {
        done = both => done.map(|(sent, received)| Relayed { sent, received }),
        () = moved.idle() => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// When a byte was moved last.
struct Moved {
    begin: Instant,
    last_ms: AtomicU64,
}

impl Moved {
    fn now(&self) {
        let now_ms = u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Ordering::Relaxed);
    }

    async fn idle(&self) {
        loop {
            let until = self.begin + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + IDLE;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }
}

/// One way. There is a buffer only while there is something in it: most connections are silent most of the time.
async fn one_way(from: ReadHalf<'_>, mut to: WriteHalf<'_>, moved: &Moved) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        from.readable().await?;
        let mut buffer = Vec::with_capacity(QUANTUM_BYTES);
        loop {
            buffer.clear();
            match from.try_read_buf(&mut buffer) {
                Ok(0) => {
                    to.shutdown().await?;
                    return Ok(bytes);
                }
                Ok(length) => {
                    to.write_all(&buffer).await?;
                    moved.now();
                    bytes += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
    }
}
