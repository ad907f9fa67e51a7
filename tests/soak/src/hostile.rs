//! Peers that are up to no good, from an address of their own: each of them bounded in how much of it there is at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use sulku_client::{Profile, Terminal, Transport};
use sulku_protocol::Stay;
use sulku_stage::find_in;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::network::HOSTILE;

/// Connections that are open at once and say nothing.
const HALF_OPEN: usize = 200;
/// A peer that is not answered goes on.
const IMPATIENCE: Duration = Duration::from_millis(500);
/// Between two rounds: it is the gateway that is tried, not the machine.
const PAUSE: Duration = Duration::from_millis(20);
/// Refused certificates at once.
const STRANGERS: usize = 8;
/// A frame's head that announces more than any frame may have.
const OVERSIZE: &[u8] = &[0xff; 64];

/// Who they are, and against whom.
#[derive(Clone)]
pub struct Hostile {
    /// The gateway.
    pub gateway: SocketAddr,
    /// Profiles whose certificates are refused.
    pub refused: Vec<Arc<Profile>>,
    /// Authority, certificate and key of a holder whose client breaks the protocol.
    pub holder: [PathBuf; 3],
    /// How often something was tried.
    pub tried: Arc<AtomicU64>,
}

impl Hostile {
    /// Does what this fault is for so long. Runs on a thread that is where they are.
    pub fn does(&self, fault: Fault, lasts: Duration, mut dice: Dice) {
        let until = Instant::now() + lasts;
        match fault {
            Fault::HalfOpen => self.half_open(until),
            Fault::Garbage => self.garbage(until, &mut dice),
            Fault::BadFrames => self.bad_frames(until, &mut dice),
            Fault::Strangers => self.strangers(until),
            _ => {}
        }
    }

    fn count(&self) {
        self.tried.fetch_add(1, Ordering::Relaxed);
    }

    fn half_open(&self, until: Instant) {
        let mut open = std::collections::VecDeque::new();
        while Instant::now() < until {
            self.count();
            open.extend(self.dial());
            if open.len() > HALF_OPEN {
                open.pop_front();
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn garbage(&self, until: Instant, dice: &mut Dice) {
        let datagrams = UdpSocket::bind((HOSTILE, 0));
        while Instant::now() < until {
            self.count();
            let mut bytes: Vec<u8> = (0..1200).map(|_| u8::try_from(dice.below(256)).unwrap_or_default()).collect();
            if let Ok(datagrams) = &datagrams {
                // What looks like the first packet of a connection, in a version that there is not or with a body that is none.
                bytes[..5].copy_from_slice(&[0xc0, 0, 0, 0, u8::from(dice.happens(500))]);
                let _lost = datagrams.send_to(&bytes, self.gateway);
            }
            if let Some(mut stream) = self.dial() {
                // What looks like a record of a handshake.
                bytes[..5].copy_from_slice(&[0x16, 3, 1, 4, 0]);
                let _refused = stream.write_all(&bytes).and_then(|()| stream.read(&mut bytes));
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn bad_frames(&self, until: Instant, dice: &mut Dice) {
        let Ok(openssl) = find_in("openssl", "openssl") else { return };
        let [authority, certificate, key] = &self.holder;
        while Instant::now() < until {
            self.count();
            let mut command = Command::new(&openssl);
            command.args(["s_client", "-connect", &self.gateway.to_string(), "-bind", &format!("{HOSTILE}:0"), "-servername", "localhost"]);
            command.args(["-alpn", "sulku/1", "-nocommands", "-ign_eof", "-quiet", "-CAfile"]).arg(authority);
            command.arg("-cert").arg(certificate).arg("-key").arg(key);
            let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let Ok(mut child) = child else { return };
            let frame: Vec<u8> =
                if dice.happens(500) { OVERSIZE.to_vec() } else { (0..300).map(|_| u8::try_from(dice.below(256)).unwrap_or_default()).collect() };
            if let Some(input) = &mut child.stdin {
                let _gone = input.write_all(&frame).and_then(|()| input.flush());
            }
            let ended = sulku_stage::poll(4 * IMPATIENCE, || child.try_wait().ok().flatten());
            if ended.is_none() {
                let _ended = child.kill();
            }
            let _reaped = child.wait();
        }
    }

    fn strangers(&self, until: Instant) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut at_once = tokio::task::JoinSet::new();
            let mut number = 0;
            while Instant::now() < until {
                while at_once.len() < STRANGERS {
                    self.count();
                    let Some(profile) = self.refused.get(number % self.refused.len().max(1)).cloned() else { return };
                    let transport = if number.is_multiple_of(2) { Transport::Quic } else { Transport::Tls };
                    number += 1;
                    at_once.spawn_local(async move {
                        let terminal = Terminal { term: "xterm".to_owned(), columns: 80, rows: 24 };
                        let opened = sulku_client::connect(&profile, transport, None, None, terminal, Stay::Ends);
                        tokio::time::timeout(4 * IMPATIENCE, opened).await.is_ok_and(|opened| opened.is_ok())
                    });
                }
                at_once.join_next().await;
            }
            at_once.shutdown().await;
        });
    }

    /// A connection from their address.
    fn dial(&self) -> Option<std::net::TcpStream> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
        bind(&socket, &SocketAddr::from((HOSTILE, 0))).ok()?;
        let patience = Some(IMPATIENCE);
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, patience).ok()?;
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, patience).ok()?;
        connect(&socket, &self.gateway).ok()?;
        Some(socket.into())
    }
}
