//! The world beyond the uplink: a network namespace with servers on every address of 198.18.0.0/16, which remember who came.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use rustix::thread::UnshareFlags;

pub const TCP_PORTS: [u16; 3] = [443, 8080, 22];
pub const UDP_PORTS: [u16; 2] = [53, 443];
/// The address that permits of the tests list.
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);

pub struct World {
    thread: i32,
    arrived: Arc<Mutex<Vec<(String, u16)>>>,
    bytes: Arc<AtomicU64>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl World {
    pub fn new() -> Self {
        let arrived = Arc::<Mutex<Vec<(String, u16)>>>::default();
        let seen = Arc::clone(&arrived);
        let bytes = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&bytes);
        let stop = Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let (ready, wait) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY-free: this thread alone leaves for another network namespace.
            #[expect(deprecated, reason = "the safe form is enough for a network namespace")]
            rustix::thread::unshare(UnshareFlags::NEWNET).expect("a network namespace; run as root");
            for arguments in ["link set lo up", "route add local 198.18.0.0/16 dev lo"] {
                assert!(Command::new("/bin/ip").args(arguments.split(' ')).status().expect("ip").success(), "ip {arguments}");
            }
            for port in TCP_PORTS {
                let listener = TcpListener::bind(("0.0.0.0", port)).expect("a listener");
                let (seen, counter) = (Arc::clone(&seen), Arc::clone(&counter));
                std::thread::spawn(move || {
                    for mut stream in listener.incoming().map_while(Result::ok) {
                        seen.lock().expect("a lock").push(("tcp".to_owned(), port));
                        let counter = Arc::clone(&counter);
                        std::thread::spawn(move || {
                            let _ = stream.write_all(b"hello from the world\n");
                            let mut buffer = [0; 4096];
                            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                                counter.fetch_add(length as u64, Ordering::Relaxed);
                                if stream.write_all(b".").is_err() {
                                    break;
                                }
                            }
                        });
                    }
                });
            }
            // A socket that is bound to no address answers from another one than it was asked at, which no client takes for an answer.
            for (address, port) in UDP_PORTS.into_iter().flat_map(|port| [(LISTED, port), (Ipv4Addr::UNSPECIFIED, port)]) {
                let socket = udp(address, port);
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || {
                    let mut buffer = [0; 2048];
                    while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                        seen.lock().expect("a lock").push(("udp".to_owned(), port));
                        let _ = socket.send_to(b"datagram from the world\n", from);
                    }
                });
            }
            ready.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("somebody waits");
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::park_timeout(std::time::Duration::from_millis(200));
            }
        });
        Self { thread: wait.recv().expect("the world is made"), arrived, bytes, stop }
    }

    /// The file that stands for its network namespace.
    pub fn namespace(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", std::process::id(), self.thread)
    }

    /// Bytes that came over all TCP connections.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What has arrived: protocol and port.
    pub fn arrived(&self) -> Vec<(String, u16)> {
        self.arrived.lock().expect("a lock").clone()
    }
}

/// Two sockets may have one port: the one with the packet's address gets it.
fn udp(address: Ipv4Addr, port: u16) -> UdpSocket {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt::set_socket_reuseaddr};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    set_socket_reuseaddr(&socket, true).expect("an option");
    bind(&socket, &std::net::SocketAddrV4::new(address, port)).expect("an address");
    socket.into()
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
