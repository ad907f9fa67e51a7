//! Netlink messages, as bytes: built, sent, answered, taken apart. No more of netlink than the warden needs.
//!
//! The kernel carries a request out inside the send call, so its answers are waiting when that returns: no waiting, no time-outs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::net::netlink::{AUDIT, NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// Asks something of the kernel.
pub const REQUEST: u16 = 1;
/// Wants an acknowledgement.
pub const ACK: u16 = 4;
/// Creates; fails if it exists.
pub const CREATE: u16 = 0x400 | EXCLUSIVE;
/// The part of [`CREATE`] that fails.
pub const EXCLUSIVE: u16 = 0x200;
/// Asks for all there is of a kind.
pub const DUMP: u16 = 0x300;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
const ERROR: u16 = 2;
const HEADER_BYTES: usize = 16;
/// The kernel sends no answer longer than this; a page is usual.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Room for what the kernel says while the warden does something else, and for a batch of every element of a session.
const BUFFER_BYTES: usize = 8 << 20;

/// A part of the kernel that speaks netlink.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// Links, addresses, routes.
    Links,
    /// nftables, conntrack, the packet log.
    Filter,
    /// The records of the host's audit.
    Audit,
}

/// A netlink socket in the network namespace in which it was opened, wherever the process goes after.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket to a part of the kernel, a member of the multicast groups in the mask.
    pub fn open(part: Part, groups: u32) -> io::Result<Self> {
        let protocol = match part {
            Part::Links => None,
            Part::Filter => Some(NETFILTER),
            Part::Audit => Some(AUDIT),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(fd))
    }

    /// The port by which the kernel tells this socket from others.
    pub fn port(&self) -> io::Result<u32> {
        Ok(SocketAddrNetlink::try_from(rustix::net::getsockname(&self.0)?)?.pid())
    }

    /// Makes room for bursts: beyond the host's usual limit as root, up to it otherwise. What finds no room is counted by its receiver.
    pub fn with_room(self) -> io::Result<Self> {
        use rustix::net::sockopt;
        match sockopt::set_socket_recv_buffer_size_force(&self.0, BUFFER_BYTES) {
            Err(rustix::io::Errno::PERM) => {
                sockopt::set_socket_recv_buffer_size(&self.0, BUFFER_BYTES)?;
                sockopt::set_socket_send_buffer_size(&self.0, BUFFER_BYTES)?;
            }
            forced => {
                forced?;
                sockopt::set_socket_send_buffer_size_force(&self.0, BUFFER_BYTES)?;
            }
        }
        Ok(self)
    }

    /// Sends the messages together and returns the kernel's answers to them.
    ///
    /// # Errors
    /// The first error among the answers; for a batch the kernel has then done nothing.
    pub fn request(&self, messages: &[Message]) -> io::Result<Vec<u8>> {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| message.finished()).collect();
        send(&self.0, &bytes, SendFlags::empty())?;
        let mut answers = Vec::new();
        while self.receive_into(&mut answers)? {}
        for (kind, body) in parsed(&answers) {
            let code = body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
            if kind == ERROR && code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
        }
        Ok(answers)
    }

    /// What the kernel has sent, if anything waits.
    pub fn receive(&self) -> io::Result<Option<Vec<u8>>> {
        let mut packet = Vec::new();
        Ok(self.receive_into(&mut packet)?.then_some(packet))
    }

    /// Puts what the kernel has sent behind what is there, if anything waits.
    fn receive_into(&self, packets: &mut Vec<u8>) -> io::Result<bool> {
        packets.reserve(ANSWER_BYTES_MAX);
        match recv(&self.0, spare_capacity(packets), RecvFlags::empty()) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message that is being built.
#[derive(Debug, Clone)]
pub struct Message(Vec<u8>);

impl Message {
    /// A message of a kind, with the fixed header of its family.
    pub fn new(kind: u16, flags: u16, family_header: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend_from_slice(family_header);
        Self(bytes)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.put(kind, value);
        self
    }

    /// Adds an attribute that is a name.
    #[must_use]
    pub fn with_name(self, kind: u16, name: &str) -> Self {
        let value: Vec<u8> = name.bytes().chain([0]).collect();
        self.with(kind, &value)
    }

    /// Adds an attribute that holds what `inside` puts there.
    #[must_use]
    pub fn with_nested(self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let Self(value) = inside(Self(Vec::new()));
        self.with(kind | NESTED, &value)
    }

    /// Adds bytes that are no attribute.
    #[must_use]
    pub fn with_raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn put(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("the warden's attributes are far below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finished(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        let length = u32::try_from(bytes.len()).expect("the warden's messages are far below 4 GiB");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }
}

/// A message of the kernel's.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// Its kind.
    pub kind: u16,
    /// The port of the socket that it is an answer to, or that made the change it tells of; 0 is the kernel itself.
    pub sender: u32,
    /// What follows its header.
    pub body: &'a [u8],
}

/// The messages in what the kernel sent. Stops at the first that is not whole.
pub fn heard(mut bytes: &[u8]) -> impl Iterator<Item = Heard<'_>> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<HEADER_BYTES>()?;
        let number = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = number(0) as usize;
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Heard { kind: u16::from_ne_bytes([header[4], header[5]]), sender: number(12), body })
    })
}

/// The same without senders: kind and what follows the header.
pub fn parsed(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    heard(bytes).map(|Heard { kind, body, .. }| (kind, body))
}

/// The attributes in a message's body: kind and value. Stops at the first that is not whole.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([header[2], header[3]]) & !(NESTED | 1 << 14), value))
    })
}

/// The value of the first attribute of that kind.
pub fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}
