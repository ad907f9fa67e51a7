//! One connection that is carried: two sockets, and a buffer each way.
//!
//! A side that ends its sending has that passed on; a side that breaks off breaks the other off. Bytes are never looked at.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

/// Bytes that wait in one direction; more are not read.
const BUFFER_BYTES: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// The cell's address.
    pub(super) cell: Ipv4Addr,
    inside: OwnedFd,
    outside: OwnedFd,
    /// Since when the destination is being dialled; `None` once it has answered.
    dialled: Option<Instant>,
    out: Way,
    back: Way,
}

/// What is on its way in one direction.
#[derive(Debug, Default)]
struct Way {
    waiting: Vec<u8>,
    /// The sender has ended.
    ended: bool,
    /// The receiver has been told so.
    told: bool,
}

/// One side has broken off.
struct Broken;

/// Breaks a connection off, so that its peer sees that it is broken and not that all was said.
pub(super) fn reset(socket: &OwnedFd) {
    let _broken_already = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

impl Connection {
    pub(super) fn new(cell: Ipv4Addr, inside: OwnedFd, outside: OwnedFd) -> Self {
        for socket in [&inside, &outside] {
            // However it ends before its orderly end, it ends at once and leaves nothing in the kernel.
            reset(socket);
        }
        Self { cell, inside, outside, dialled: Some(Instant::now()), out: Way::default(), back: Way::default() }
    }

    /// The two descriptors, and what is to be heard of each.
    pub(super) fn waits_for(&self) -> [PollFd<'_>; 2] {
        let (inside, outside) = match self.dialled {
            // What the cell says meanwhile waits with the kernel.
            Some(_) => (PollFlags::empty(), PollFlags::OUT),
            None => (self.out.reads() | self.back.writes(), self.back.reads() | self.out.writes()),
        };
        [PollFd::from_borrowed_fd(self.inside.as_fd(), inside), PollFd::from_borrowed_fd(self.outside.as_fd(), outside)]
    }

    /// Whether it has not waited in vain for its destination.
    pub(super) fn is_wanted(&self, now: Instant, dial_within: Duration) -> bool {
        self.dialled.is_none_or(|since| now.duration_since(since) < dial_within)
    }

    /// Carries what can be carried without waiting. False when it is over.
    pub(super) fn carry(&mut self) -> bool {
        if self.dialled.is_some() {
            match (sockopt::socket_error(&self.outside), rustix::net::getpeername(&self.outside)) {
                (Ok(Ok(())), Ok(Some(_))) => self.dialled = None,
                // Nothing has happened at the destination yet; if it has with the cell, it is over.
                (Ok(Ok(())), Err(Errno::NOTCONN) | Ok(None)) => return sockopt::socket_error(&self.inside).is_ok_and(|error| error.is_ok()),
                _ => return false,
            }
        }
        let Self { inside, outside, out, back, .. } = self;
        if out.carry(inside, outside).is_err() || back.carry(outside, inside).is_err() {
            return false;
        }
        let is_over = out.told && back.told;
        if is_over {
            // All was said and passed on: what the kernel still has to deliver it may.
            for socket in [inside, outside] {
                let _broken_already = sockopt::set_socket_linger(socket, None);
            }
        }
        !is_over
    }
}

impl Way {
    fn reads(&self) -> PollFlags {
        if self.waiting.is_empty() && !self.ended { PollFlags::IN } else { PollFlags::empty() }
    }

    fn writes(&self) -> PollFlags {
        if self.waiting.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
    }

    fn carry(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<(), Broken> {
        if self.waiting.is_empty() && !self.ended {
            let mut buffer = vec![0; BUFFER_BYTES];
            match recv(from, &mut buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => self.ended = true,
                Ok((length, _)) => {
                    buffer.truncate(length);
                    self.waiting = buffer;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err(Broken),
            }
        }
        if !self.waiting.is_empty() {
            match send(to, &self.waiting, SendFlags::NOSIGNAL) {
                Ok(length) => drop(self.waiting.drain(..length)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Err(Broken),
            }
        }
        if self.ended && self.waiting.is_empty() && !self.told {
            self.told = true;
            shutdown(to, Shutdown::Write).map_err(|_| Broken)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A connection between two peers, with the destination's address for its second half.
    fn carried() -> (TcpStream, TcpStream, Connection) {
        let pair = || {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let near = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
            near.set_nonblocking(true).expect("set");
            (near, listener.accept().expect("accepted").0)
        };
        let ((inside, cell), (outside, destination)) = (pair(), pair());
        (cell, destination, Connection::new(Ipv4Addr::LOCALHOST, inside.into(), outside.into()))
    }

    /// Carries until the connection is over, in the manner of the loop.
    fn carry_to_the_end(mut connection: Connection) {
        loop {
            let mut fds = connection.waits_for().to_vec();
            rustix::event::poll(&mut fds, None).expect("poll");
            drop(fds);
            if !connection.carry() {
                return;
            }
        }
    }

    #[test]
    fn all_that_is_said_arrives_both_ways_and_an_end_is_passed_on() {
        let (mut cell, mut destination, connection) = carried();
        let carrier = std::thread::spawn(move || carry_to_the_end(connection));
        let question: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        let asked = question.clone();
        let server = std::thread::spawn(move || {
            let mut heard = Vec::new();
            destination.read_to_end(&mut heard).expect("the end of the question");
            destination.write_all(b"after your end").expect("an answer");
            heard
        });
        cell.write_all(&asked).expect("asked");
        cell.shutdown(std::net::Shutdown::Write).expect("ended");
        let mut answer = String::new();
        cell.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "after your end");
        assert!(server.join().expect("a server") == question, "every byte in its place");
        carrier.join().expect("the connection is over");
    }

    #[test]
    fn a_connection_that_is_let_go_is_broken_off_and_does_not_look_ended() {
        let (mut cell, mut destination, mut connection) = carried();
        destination.write_all(b"first").expect("said");
        let mut heard = [0; 5];
        while connection.carry() {
            cell.set_nonblocking(true).expect("set");
            if cell.peek(&mut heard).is_ok() {
                break;
            }
        }
        cell.set_nonblocking(false).expect("set");
        cell.read_exact(&mut heard).expect("control: it is carried");
        drop(connection);
        let mut more = [0; 1];
        assert_eq!(cell.read(&mut more).map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
        assert_eq!(destination.read(&mut more).map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    }
}
