//! The warden's end of the ledger's socket: entries go out as they happen, receipts come back in any order.
//!
//! It never waits for the ledger while cells run, never drops an entry silently, and never makes a receipt. What was sent and not
//! acknowledged is kept, and sent again to a ledger that comes back: an entry may then stand twice, but never be missing. What a ledger
//! refuses, one whose disk is full, is asked for again by itself, and what it keeps meanwhile is asked for once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sulku_audit::wire::{Request, RequestBody, Response, ResponseBody, WireError, decode, encode};
use sulku_audit::{Draft, Receipt};

/// Entries that may wait for their receipts: more means that the ledger does not keep up, and nothing may go on unrecorded.
const OUTSTANDING_MAX: usize = 8_192;
/// Beyond this many, what the router sees waits in the kernel, so that entries of launches and reaps have room.
const OUTSTANDING_BUSY: usize = 1_024;
const READ_BYTES: usize = 64 * 1024;
/// How long a single answer may take when the warden has nothing else to do but wait for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The warden's number for an entry that waits for its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pending(u64);

/// Why the ledger can't be relied on.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The connection could not be made or has ended.
    #[error("no connection to the ledger at {path}; is sulkud ledger running?")]
    Connection {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What came is not of the ledger's language.
    #[error("the ledger's answer can't be understood")]
    Wire(#[from] WireError),
    /// It would not keep an entry.
    #[error("the ledger refused an entry: {0}")]
    Refused(String),
    /// It does not keep up.
    #[error("{OUTSTANDING_MAX} entries wait for the ledger")]
    Behind,
    /// It did not answer in time.
    #[error("the ledger did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Slow,
}

/// The connection, and what waits on it.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    stream: Option<UnixStream>,
    waiting: BTreeMap<Pending, Draft>,
    /// Those that this connection's ledger would not keep, and why the last of them.
    refused: BTreeSet<Pending>,
    refusal: Option<String>,
    next: u64,
    out: Vec<u8>,
    into: Vec<u8>,
    tried: Instant,
}

impl Ledger {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(path: PathBuf) -> Result<Self, LedgerError> {
        let mut ledger = Self {
            path,
            stream: None,
            waiting: BTreeMap::new(),
            refused: BTreeSet::new(),
            refusal: None,
            next: 0,
            out: Vec::new(),
            into: Vec::new(),
            tried: Instant::now(),
        };
        ledger.reconnect()?;
        Ok(ledger)
    }

    /// Connects again, and sends again all that has no receipt.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn reconnect(&mut self) -> Result<(), LedgerError> {
        self.tried = Instant::now();
        let connection = |source| LedgerError::Connection { path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).map_err(connection)?;
        stream.set_nonblocking(true).map_err(connection)?;
        self.stream = Some(stream);
        self.out.clear();
        self.into.clear();
        self.refused.clear();
        for (pending, draft) in &self.waiting {
            self.out.extend(encode(&Request { id: pending.0, body: RequestBody::Append(draft.clone()) }, &[])?);
        }
        Ok(())
    }

    /// Asks again for what was refused, and for nothing else.
    ///
    /// # Errors
    /// The connection ended.
    pub fn ask_again(&mut self) -> Result<(), LedgerError> {
        self.tried = Instant::now();
        for pending in std::mem::take(&mut self.refused) {
            if let Some(draft) = self.waiting.get(&pending) {
                self.out.extend(encode(&Request { id: pending.0, body: RequestBody::Append(draft.clone()) }, &[])?);
            }
        }
        self.send()
    }

    /// Why the ledger would not keep something, if that has happened since this was last asked.
    pub fn take_refusal(&mut self) -> Option<String> {
        self.refusal.take()
    }

    /// When it last tried to connect, or asked again.
    #[must_use]
    pub const fn tried(&self) -> Instant {
        self.tried
    }

    /// Whether everything has its receipt.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives the connection up, and keeps what has no receipt.
    pub fn disconnect(&mut self) {
        self.stream = None;
    }

    /// Asks the ledger to keep an entry. [`Ledger::turn`] says when it has.
    ///
    /// # Errors
    /// [`LedgerError::Behind`], or an entry that is too long.
    pub fn append(&mut self, draft: Draft) -> Result<Pending, LedgerError> {
        if self.waiting.len() >= OUTSTANDING_MAX {
            return Err(LedgerError::Behind);
        }
        let pending = Pending(self.next);
        if self.stream.is_some() {
            self.out.extend(encode(&Request { id: pending.0, body: RequestBody::Append(draft.clone()) }, &[])?);
        }
        self.next += 1;
        self.waiting.insert(pending, draft);
        Ok(pending)
    }

    /// The descriptor to wait on, if connected.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.stream.as_ref().map(AsFd::as_fd)
    }

    /// Whether there is something to write.
    #[must_use]
    pub fn wants_to_write(&self) -> bool {
        self.stream.is_some() && !self.out.is_empty()
    }

    /// Whether so much waits that less important entries should.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.waiting.len() >= OUTSTANDING_BUSY
    }

    /// Writes what can be without waiting.
    ///
    /// # Errors
    /// The connection ended.
    pub fn send(&mut self) -> Result<(), LedgerError> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(source) => return Err(LedgerError::Connection { path: self.path.clone(), source }),
            }
        }
        Ok(())
    }

    /// Writes and reads what can be without waiting; returns the receipts that came. [`Ledger::take_refusal`] says whether an entry was refused.
    ///
    /// # Errors
    /// The connection ended, or made no sense.
    pub fn turn(&mut self) -> Result<Vec<(Pending, Receipt)>, LedgerError> {
        self.send()?;
        let Some(stream) = &mut self.stream else { return Ok(Vec::new()) };
        let connection = |source| LedgerError::Connection { path: self.path.clone(), source };
        let mut buffer = [0; READ_BYTES];
        match stream.read(&mut buffer) {
            Ok(0) => return Err(connection(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => self.into.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(connection(error)),
        }
        let mut receipts = Vec::new();
        while let Some((response, _, used)) = decode::<Response>(&self.into)? {
            match response.body {
                ResponseBody::Kept(receipt) => {
                    let pending = Pending(response.id);
                    self.waiting.remove(&pending);
                    receipts.push((pending, receipt));
                }
                ResponseBody::Refused { reason, .. } => {
                    self.refused.insert(Pending(response.id));
                    self.refusal = Some(reason);
                }
                other => return Err(LedgerError::Refused(format!("an answer to nothing: {other:?}"))),
            }
            self.into.drain(..used);
        }
        Ok(receipts)
    }

    /// Waits until everything sent has its receipt, and returns them. For the start and the end, when nothing else runs.
    ///
    /// # Errors
    /// As [`Ledger::turn`], [`LedgerError::Refused`] and [`LedgerError::Slow`].
    pub fn settle(&mut self) -> Result<Vec<(Pending, Receipt)>, LedgerError> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let until = Instant::now() + ANSWER_WITHIN;
        let mut receipts = Vec::new();
        while !self.waiting.is_empty() {
            receipts.extend(self.turn()?);
            if let Some(reason) = self.take_refusal() {
                return Err(LedgerError::Refused(reason));
            }
            let Some(stream) = &self.stream else { return Err(LedgerError::Slow) };
            if self.waiting.is_empty() {
                break;
            }
            if Instant::now() > until {
                return Err(LedgerError::Slow);
            }
            let mut fds = [PollFd::new(stream, PollFlags::IN | if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT })];
            let step = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            let _timed_out = poll(&mut fds, Some(&step));
        }
        Ok(receipts)
    }
}
