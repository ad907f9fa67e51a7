//! A resolver in the world, for the real one to ask: it knows a few names, and remembers every question.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, mpsc};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::World;

/// Where it answers. Not at port 53, which the world's other servers have.
pub const ADDRESS: &str = "198.18.0.53:5353";

pub struct Upstream(Arc<Mutex<Vec<String>>>);

impl Upstream {
    /// Serves these names, each with its one address and for a minute, from within the world. Ends with the process.
    pub fn serve(world: &World, known: &'static [(&'static str, [u8; 4])]) -> Self {
        Self::serve_for(world, known, 60)
    }

    /// The same, with answers that hold for so many seconds.
    pub fn serve_for(world: &World, known: &'static [(&'static str, [u8; 4])], ttl_s: u32) -> Self {
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let (memory, namespace) = (Arc::clone(&asked), world.namespace());
        let (ready, wait) = mpsc::channel();
        std::thread::spawn(move || {
            let namespace = File::open(namespace).expect("the world");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("to enter the world");
            let socket = UdpSocket::bind(ADDRESS).expect("a socket");
            let listener = TcpListener::bind(ADDRESS).expect("a listener");
            let remembers = Arc::clone(&memory);
            std::thread::spawn(move || over_tcp(&listener, known, ttl_s, &remembers));
            ready.send(()).expect("somebody waits");
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let Some(answer) = heard(&packet[..length], known, ttl_s, &memory) else { continue };
                let _ = socket.send_to(&answer, from);
            }
        });
        wait.recv().expect("it serves");
        Self(asked)
    }

    /// The names that it was asked for, in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.0.lock().expect("a lock").clone()
    }
}

/// Questions over TCP, with their length before them (RFC 1035 section 4.2.2), one a connection.
fn over_tcp(listener: &TcpListener, known: &[(&str, [u8; 4])], ttl_s: u32, memory: &Mutex<Vec<String>>) {
    for mut stream in listener.incoming().map_while(Result::ok) {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        let Some(answer) = stream.read_exact(&mut packet).ok().and_then(|()| heard(&packet, known, ttl_s, memory)) else { continue };
        let length = u16::try_from(answer.len()).expect("short");
        let _ = stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat());
    }
}

/// Remembers a question, and answers it.
fn heard(packet: &[u8], known: &[(&str, [u8; 4])], ttl_s: u32, memory: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let (name, question) = question(packet)?;
    let address = known.iter().find(|(known, _)| *known == name).map(|(_, address)| *address);
    memory.lock().expect("a lock").push(name);
    Some(answer(&packet[..2], question, address, ttl_s))
}

/// The name and the bytes of a packet's one question (RFC 1035 section 4.1.2).
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at + 1..at + 1 + length)?).to_ascii_lowercase());
        at += 1 + length;
    }
    Some((labels.join("."), packet.get(12..at + 5)?))
}

/// An answer with the address, or that there is no such name.
fn answer(id: &[u8], question: &[u8], address: Option<[u8; 4]>, ttl_s: u32) -> Vec<u8> {
    let flags: u16 = if address.is_some() { 0x8180 } else { 0x8183 };
    let mut packet = [id, &flags.to_be_bytes(), &[0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0], question].concat();
    if let Some(address) = address {
        // The question's name, an address of the internet.
        packet.extend([0xc0, 12, 0, 1, 0, 1]);
        packet.extend(ttl_s.to_be_bytes());
        packet.extend([0, 4]);
        packet.extend(address);
    }
    packet
}
