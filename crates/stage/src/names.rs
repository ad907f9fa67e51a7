//! A host's answers to questions for names (RFC 1035): the few that it is told, each with its own address; and what it was asked.
//!
//! It answers one question a packet or a connection, and leaves everything that is none unanswered.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::host::LOOK_INTERVAL;

/// Where it answers, over UDP and TCP.
pub(crate) const PORT: u16 = 53;
/// Questions that are kept.
const ASKED_MAX: usize = 10_000;
const HEADER_BYTES: usize = 12;
/// How long a connection may take for its question.
const ASK_WITHIN: Duration = Duration::from_secs(2);
/// Flags of an answer that recursion was asked and is offered for; the same with "no such name".
const ANSWER: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 0x8183;
/// A name that stands at the question's place; an address of the internet, good for a minute, in four bytes.
const ADDRESS: [u8; 12] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];

/// Answers until the host ends; the socket wakes it from time to time.
pub(crate) fn serve(socket: &UdpSocket, known: &[(&str, Ipv4Addr)], asked: &Mutex<Vec<String>>, ended: &AtomicBool) {
    let mut packet = [0; 512];
    while !ended.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        if let Some(answer) = packet.get(..length).and_then(|packet| heard(packet, known, asked)) {
            let _lost = socket.send_to(&answer, from);
        }
    }
}

/// The same over connections, of which each has one question, its length before it.
pub(crate) fn serve_connections(listener: &TcpListener, known: &[(&str, Ipv4Addr)], asked: &Mutex<Vec<String>>, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => drop(serve_connection(stream, known, asked)),
            Err(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

fn serve_connection(mut stream: TcpStream, known: &[(&str, Ipv4Addr)], asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ASK_WITHIN))?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet)?;
    let Some(answer) = heard(&packet, known, asked) else { return Ok(()) };
    let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
    stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat())
}

/// Remembers a question, and gives its answer.
fn heard(packet: &[u8], known: &[(&str, Ipv4Addr)], asked: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let (name, question) = question(packet)?;
    let address = known.iter().find(|(known, _)| *known == name).map(|(_, address)| *address);
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    if asked.len() < ASKED_MAX {
        asked.push(name);
    }
    drop(asked);
    let id = packet.first_chunk()?;
    Some(answer(*id, question, address))
}

/// The name and the bytes of a packet's one question.
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    let mut at = HEADER_BYTES;
    while let length @ 1.. = usize::from(*packet.get(at)?) {
        labels.push(String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    // The empty label, type and class.
    Some((labels.join("."), packet.get(HEADER_BYTES..at + 5)?))
}

fn answer(id: [u8; 2], question: &[u8], address: Option<Ipv4Addr>) -> Vec<u8> {
    let (flags, answers) = if address.is_some() { (ANSWER, 1) } else { (NO_SUCH_NAME, 0) };
    let mut packet = [&id[..], &u16::to_be_bytes(flags), &[0, 1, 0, answers, 0, 0, 0, 0], question].concat();
    if let Some(address) = address {
        packet.extend(ADDRESS);
        packet.extend(address.octets());
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06Mirror\x04demo\x00\x00\x01\x00\x01";

    #[test]
    fn a_question_is_read_whatever_its_letters_and_a_torn_one_is_none() {
        let (name, bytes) = question(QUESTION).expect("a question");
        assert_eq!((name.as_str(), bytes), ("mirror.demo", &QUESTION[12..]));
        assert!((0..QUESTION.len()).all(|length| question(&QUESTION[..length]).is_none()));
    }

    #[test]
    fn an_answer_has_the_address_or_says_that_there_is_no_such_name() {
        let known = answer([0x12, 0x34], &QUESTION[12..], Some(Ipv4Addr::new(10, 20, 30, 40)));
        assert_eq!((&known[..8], &known[known.len() - 4..]), (&[0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1][..], &[10, 20, 30, 40][..]));
        assert_eq!(answer([0x12, 0x34], &QUESTION[12..], None)[2..8], [0x81, 0x83, 0, 1, 0, 0]);
    }
}
