//! The kernel's audit, as far as it tells what Landlock denied in cells (`AUDIT_LANDLOCK_ACCESS`, `AUDIT_LANDLOCK_DOMAIN`, Linux 6.15).
//!
//! It is on for a whole host or off; the warden hears it where it is on, and switches nothing. Whose denial it is is told by the domain, which
//! the cell's first process made. What others on the host are denied is passed over.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sulku_permit::SessionId;

use crate::network::netlink::{Part, Socket};

/// The multicast group of all records, as a mask.
const READ_LOG: u32 = 1;
const ACCESS: u16 = 1423;
const DOMAIN: u16 = 1424;
const HEADER_BYTES: usize = 16;
/// Records that are read in one turn; the rest waits in the kernel.
const A_TURN: usize = 256;
/// Denials whose domain is not known yet: its record is the next one.
const PENDING_MAX: usize = 64;
/// Domains of cells.
const DOMAINS_MAX: usize = 8_192;

/// What Landlock denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Forbidden {
    /// The rights that were missing, as the kernel names them: `fs.read_file`.
    pub rights: String,
    /// The file, as the kernel names it; of what is no file there is none.
    pub path: Option<String>,
}

/// What is heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A denial in this session's cell.
    Denied(SessionId, Forbidden),
    /// The kernel could not keep records until they were read.
    Lost,
}

/// The stream of records.
#[derive(Debug)]
pub struct Audit {
    socket: Socket,
    domains: Domains,
}

#[derive(Debug, Default)]
struct Domains {
    known: HashMap<String, SessionId>,
    pending: VecDeque<(String, Forbidden)>,
}

impl Audit {
    /// Listens to it.
    ///
    /// # Errors
    /// The kernel has none, or does not let this process hear it.
    pub fn open() -> io::Result<Self> {
        Ok(Self { socket: Socket::open(Part::Audit, READ_LOG)?.with_room()?, domains: Domains::default() })
    }

    /// The descriptor to wait on.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What was denied since; `whose` tells which cell has this first process.
    pub fn hear(&mut self, whose: impl Fn(u32) -> Option<SessionId>) -> Vec<Heard> {
        let mut heard = Vec::new();
        for _ in 0..A_TURN {
            match self.socket.receive() {
                Ok(Some(packet)) => heard.extend(self.domains.take(&packet, &whose)),
                Ok(None) => break,
                Err(_) => heard.push(Heard::Lost),
            }
        }
        heard
    }

    /// A session of which no process is left.
    pub fn forget(&mut self, session: SessionId) {
        self.domains.known.retain(|_, of| *of != session);
    }
}

impl Domains {
    fn take(&mut self, packet: &[u8], whose: impl Fn(u32) -> Option<SessionId>) -> Vec<Heard> {
        let kind = packet.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        let text = String::from_utf8_lossy(packet.get(HEADER_BYTES..).unwrap_or_default());
        let Some(domain) = field(&text, "domain") else { return Vec::new() };
        match kind {
            Some(ACCESS) => {
                let Some(rights) = field(&text, "blockers") else { return Vec::new() };
                let denied = Forbidden { rights, path: field(&text, "path").map(|path| super::processes::cut(&path)) };
                if let Some(session) = self.known.get(&domain) {
                    return vec![Heard::Denied(*session, denied)];
                }
                if self.pending.len() >= PENDING_MAX {
                    self.pending.pop_front();
                }
                self.pending.push_back((domain, denied));
                Vec::new()
            }
            Some(DOMAIN) if field(&text, "status").as_deref() == Some("allocated") => {
                let first = field(&text, "pid").and_then(|pid| pid.parse().ok());
                let session = first.and_then(whose).filter(|_| self.known.len() < DOMAINS_MAX);
                let (its, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.pending).into_iter().partition(|(of, _)| *of == domain);
                self.pending = others;
                let Some(session) = session else { return Vec::new() };
                self.known.insert(domain, session);
                its.into_iter().map(|(_, denied)| Heard::Denied(session, denied)).collect()
            }
            Some(DOMAIN) => {
                self.known.remove(&domain);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// The value of a field: bare, in quotes, or in hexadecimal where it has bytes that would end it.
fn field(text: &str, name: &str) -> Option<String> {
    let begin = text.match_indices(name).map(|(at, _)| at).find(|at| {
        let starts = *at == 0 || text.as_bytes()[at - 1] == b' ';
        starts && text.as_bytes().get(at + name.len()) == Some(&b'=')
    })?;
    let rest = &text[begin + name.len() + 1..];
    if let Some(quoted) = rest.strip_prefix('"') {
        return quoted.split('"').next().map(str::to_owned);
    }
    let bare = rest.split([' ', '\0']).next().unwrap_or_default();
    let bytes: Option<Vec<u8>> = bare.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    match (name, bytes) {
        ("path", Some(bytes)) if bare.len().is_multiple_of(2) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => Some(bare.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u16, text: &str) -> Vec<u8> {
        [&[0, 0, 0, 0][..], &kind.to_ne_bytes(), &[0; 10], format!("audit(1796087603.197:133): {text}").as_bytes()].concat()
    }

    #[test]
    fn a_denial_is_its_cells_whatever_else_the_host_says() {
        let ours = SessionId::from_random([1; 10]);
        let whose = |pid| (pid == 4740).then_some(ours);
        let mut domains = Domains::default();
        let denied = |rights: &str, path: Option<&str>| Heard::Denied(ours, Forbidden { rights: rights.to_owned(), path: path.map(str::to_owned) });
        let first = record(ACCESS, "domain=10964feb9 blockers=scope.signal opid=1 ocomm=\"path=x\"");
        assert_eq!(domains.take(&first, whose), [], "nobody knows yet whose that is");
        let other = record(ACCESS, "domain=99 blockers=fs.read_file path=\"/other\" dev=\"vda\" ino=1");
        assert_eq!(domains.take(&other, whose), []);
        assert_eq!(domains.take(&record(DOMAIN, "domain=99 status=allocated mode=enforcing pid=7 uid=0 exe=\"/x\""), whose), [], "another's");
        let named = record(DOMAIN, "domain=10964feb9 status=allocated mode=enforcing pid=4740 uid=0 exe=\"/x\" comm=\"python3\"");
        assert_eq!(domains.take(&named, whose), [denied("scope.signal", None)]);
        let file = record(ACCESS, "domain=10964feb9 blockers=fs.read_file,fs.write_file path=\"/etc/passwd\" dev=\"vda\" ino=1196143");
        assert_eq!(domains.take(&file, whose), [denied("fs.read_file,fs.write_file", Some("/etc/passwd"))]);
        let odd = record(ACCESS, "domain=10964feb9 blockers=fs.read_dir path=2F746D702F6120620A dev=\"vda\" ino=19");
        assert_eq!(domains.take(&odd, whose), [denied("fs.read_dir", Some("/tmp/a b\n"))]);
        assert_eq!(domains.take(&record(1300, "arch=c000003e syscall=257 domain=10964feb9 pid=4740"), whose), []);
        domains.take(&record(DOMAIN, "domain=10964feb9 status=deallocated denials=3"), whose);
        assert_eq!(domains.take(&file, whose), [], "it is over");
        assert!(domains.known.is_empty() && domains.pending.len() <= 2);
    }

    #[test]
    fn whatever_a_record_holds_it_is_read_without_panic_and_bounded() {
        let mut domains = Domains::default();
        for length in 0..40 {
            domains.take(&record(ACCESS, "domain=1 blockers=fs.read_file path=\"/x")[..length], |_| None);
        }
        for number in 0..1_000 {
            domains.take(&record(ACCESS, &format!("domain={number} blockers=a path=2F7")), |_| None);
        }
        assert_eq!(domains.pending.len(), PENDING_MAX);
    }
}
