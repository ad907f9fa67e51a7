//! A host in a network namespace of its own: a small web server, one for names where it is told some, and a witness that sees every
//! packet that arrives.
//!
//! The witness is what makes "is stopped" mean something: a probe that fails for another reason looks the same to the one who
//! probes, but only a wall leaves the witness silent while the same probe, allowed, makes it speak.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command::tool;
use crate::error::StageError;
use crate::ground::Ground;
use crate::names;

/// Arrivals that are kept; a flood needs no more to be proven.
const ARRIVALS_MAX: usize = 10_000;
/// The web server's port.
pub(crate) const PORT: u16 = 8080;
/// EtherType of IPv4, as a packet socket wants it: in network order.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
/// How long the threads sleep before they look whether they should end.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The longest that `/flow` flows.
const FLOW_TIME: Duration = Duration::from_secs(120);

/// A packet that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// The IP protocol's number.
    pub protocol: u8,
    /// Who sent it, as the host sees it.
    pub from: Ipv4Addr,
    /// The port it was for; 0 for protocols without.
    pub port: u16,
}

/// A host that lives as long as this value.
#[derive(Debug)]
pub struct Host {
    /// The name of its network namespace; without, it is an address where the stage stands.
    namespace: Option<String>,
    address: Ipv4Addr,
    arrivals: Arc<Mutex<VecDeque<Arrival>>>,
    asked: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a host listens on.
struct Sockets {
    listener: TcpListener,
    questions: Option<(UdpSocket, TcpListener)>,
    witness: rustix::fd::OwnedFd,
}

impl Host {
    /// Makes the namespace and starts to serve and to watch in it. Its interface comes later, from the warden. Who may not make one that has
    /// a name gets a host that is an address among her own.
    pub(crate) fn raise(namespace: &str, address: Ipv4Addr, known: &'static [(&'static str, Ipv4Addr)], ground: Ground) -> Result<Self, StageError> {
        let named = ground.is_machine().then(|| namespace.to_owned());
        let mut host =
            Self { namespace: named.clone(), address, arrivals: Arc::default(), asked: Arc::default(), ended: Arc::default(), threads: Vec::new() };
        match &named {
            Some(namespace) => {
                tool("ip", "iproute2", &["netns", "add", namespace])?;
                tool("ip", "iproute2", &["-n", namespace, "link", "set", "lo", "up"])?;
                tool("ip", "iproute2", &["-n", namespace, "address", "add", &format!("{address}/32"), "dev", "lo"])?;
            }
            None => ground.host(address)?,
        }
        let Sockets { listener, questions, witness } = host.sockets(!known.is_empty())?;
        let (ended, arrivals) = (Arc::clone(&host.ended), Arc::clone(&host.arrivals));
        host.threads.push(std::thread::spawn(move || watch(&witness, address, &arrivals, &ended)));
        let ended = Arc::clone(&host.ended);
        host.threads.push(std::thread::spawn(move || serve(&listener, &ended)));
        if let Some((packets, connections)) = questions {
            let (ended, asked) = (Arc::clone(&host.ended), Arc::clone(&host.asked));
            host.threads.push(std::thread::spawn(move || names::serve(&packets, known, &asked, &ended)));
            let (ended, asked) = (Arc::clone(&host.ended), Arc::clone(&host.asked));
            host.threads.push(std::thread::spawn(move || names::serve_connections(&connections, known, &asked, &ended)));
        }
        Ok(host)
    }

    /// The namespace's file, as the warden is told it, where it has one.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        self.namespace.as_ref().map(|namespace| format!("/run/netns/{namespace}"))
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where it serves, as in a browser.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{PORT}/", self.address)
    }

    /// Every packet that has arrived for this host so far.
    #[must_use]
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// Every name that it was asked for so far, in lower case.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A thread goes into the namespace to make the sockets, which then stay there; the thread ends, and no other ever was inside.
    fn sockets(&self, knows_names: bool) -> Result<Sockets, StageError> {
        let (path, address) = (self.namespace(), self.address);
        let (send, made) = mpsc::channel();
        let inside = move || {
            if let Some(path) = path {
                let namespace = File::open(&path).map_err(StageError::file("opening a network namespace", &path))?;
                move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))
                    .map_err(|source| StageError::System { what: "entering a network namespace", source: source.into() })?;
            }
            let listener = TcpListener::bind((address, PORT)).map_err(StageError::system("listening for web requests"))?;
            listener.set_nonblocking(true).map_err(StageError::system("listening for web requests"))?;
            let questions = || {
                let socket = UdpSocket::bind((address, names::PORT))?;
                socket.set_read_timeout(Some(LOOK_INTERVAL))?;
                let connections = TcpListener::bind((address, names::PORT))?;
                connections.set_nonblocking(true).map(|()| (socket, connections))
            };
            let questions = knows_names.then(questions).transpose().map_err(StageError::system("listening for questions for names"))?;
            Ok(Sockets { listener, questions, witness: witness()? })
        };
        std::thread::spawn(move || drop(send.send(inside())));
        made.recv().map_err(|source| StageError::System { what: "making a host's sockets", source: std::io::Error::other(source) })?
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        // Reported by the look for leftovers if it stays.
        if let Some(namespace) = &self.namespace {
            let _ = tool("ip", "iproute2", &["netns", "del", namespace]);
        }
    }
}

fn witness() -> Result<rustix::fd::OwnedFd, StageError> {
    let refused = |source: rustix::io::Errno| StageError::System { what: "opening a packet socket for the witness", source: source.into() };
    let protocol = NonZeroU32::new(IPV4).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol).map_err(refused)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(LOOK_INTERVAL)).map_err(refused)?;
    Ok(socket)
}

fn watch(socket: &rustix::fd::OwnedFd, address: Ipv4Addr, arrivals: &Mutex<VecDeque<Arrival>>, ended: &AtomicBool) {
    let mut packet = [0_u8; 128];
    while !ended.load(Ordering::Relaxed) {
        let Ok((filled, _)) = recv(socket, packet.as_mut_slice(), RecvFlags::empty()) else {
            continue;
        };
        if let Some(arrival) = packet.get(..filled.min(packet.len())).and_then(|packet| arrival(packet, address)) {
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            if arrivals.len() < ARRIVALS_MAX {
                arrivals.push_back(arrival);
            }
        }
    }
}

/// An IPv4 packet (RFC 791) for this host; `None` for what it sends itself.
fn arrival(packet: &[u8], address: Ipv4Addr) -> Option<Arrival> {
    let octets = |at: usize| packet.get(at..at + 4)?.try_into().ok().map(|octets: [u8; 4]| Ipv4Addr::from(octets));
    let (from, to) = (octets(12)?, octets(16)?);
    let protocol = *packet.get(9)?;
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let port = match protocol {
        6 | 17 => u16::from_be_bytes([*packet.get(header + 2)?, *packet.get(header + 3)?]),
        _ => 0,
    };
    (to == address && from != address).then_some(Arrival { protocol, from, port })
}

fn serve(listener: &TcpListener, ended: &Arc<AtomicBool>) {
    while !ended.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((connection, _)) => {
                let ended = Arc::clone(ended);
                // Not joined: each ends with its connection, within a second of the host's end, and holds nothing else.
                std::thread::spawn(move || drop(answer(connection, &ended)));
            }
            Err(_) => std::thread::sleep(LOOK_INTERVAL),
        }
    }
}

/// `/flow` flows until somebody stops it; every other path is a small page.
fn answer(mut connection: TcpStream, ended: &AtomicBool) -> std::io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;
    connection.set_write_timeout(Some(Duration::from_secs(1)))?;
    let mut request = [0; 1024];
    let read = connection.read(&mut request)?;
    if request.get(..read).is_some_and(|request| request.starts_with(b"GET /flow")) {
        connection.write_all(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n")?;
        let begun = Instant::now();
        while !ended.load(Ordering::Relaxed) && begun.elapsed() < FLOW_TIME {
            connection.write_all(b"tick\n")?;
            std::thread::sleep(LOOK_INTERVAL);
        }
        return Ok(());
    }
    let page = "Package: survival\nVersion: 3.8-3\nPackage: data.table\nVersion: 1.17.8\n";
    write!(connection, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{page}", page.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_for_another_is_no_arrival() {
        let mut packet = [0_u8; 40];
        packet[0] = 0x45;
        packet[9] = 6;
        packet[12..16].copy_from_slice(&[10, 0, 0, 1]);
        packet[16..20].copy_from_slice(&[10, 0, 0, 2]);
        packet[22..24].copy_from_slice(&443_u16.to_be_bytes());
        let to = Ipv4Addr::new(10, 0, 0, 2);
        assert_eq!(arrival(&packet, to), Some(Arrival { protocol: 6, from: Ipv4Addr::new(10, 0, 0, 1), port: 443 }));
        assert_eq!(arrival(&packet, Ipv4Addr::new(10, 0, 0, 3)), None);
        assert_eq!(arrival(&packet[..15], to), None, "a torn packet");
    }
}
