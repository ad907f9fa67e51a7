//! A client of the ledger's socket that waits for each answer: for commands and tests.
//!
//! The gateway, which has thousands of requests in flight, has its own. Trusts no answer: what was fetched is checked by
//! `sulku_audit::verify` and `sulku_audit::proof`.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use sulku_audit::wire::{self, Cause, Request, RequestBody, Response, ResponseBody, WireError};
use sulku_audit::{Draft, Receipt, Source, SourceError};
use sulku_permit::SessionId;

const READ_BYTES: usize = 256 << 10;

/// A request without the answer that it asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The ledger can't be reached.
    #[error("the ledger at {0} can't be reached; is it running, and is this its socket?")]
    Connect(PathBuf, #[source] io::Error),
    /// The connection broke.
    #[error("the connection to the ledger broke")]
    Io(#[from] io::Error),
    /// A frame can't be made or read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The ledger refused.
    #[error("the ledger refused: {reason}")]
    Refused {
        /// What the sender can go by.
        cause: Cause,
        /// Why, in words.
        reason: String,
    },
    /// The ledger answered something else.
    #[error("the ledger gave an answer to another question")]
    Confused,
}

/// A connection to the ledger.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    next: u64,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).map_err(|error| ClientError::Connect(socket.to_owned(), error))?;
        Ok(Self { stream, next: 1, buffer: Vec::new() })
    }

    /// Has an entry kept. When this returns it is durable.
    ///
    /// # Errors
    /// It was not kept, or it is not known whether it was.
    pub fn append(&mut self, draft: Draft, blob: &[u8]) -> Result<Receipt, ClientError> {
        match self.call(RequestBody::Append(draft), blob)? {
            (ResponseBody::Kept(receipt), _) => Ok(receipt),
            _ => Err(ClientError::Confused),
        }
    }

    /// Publishes a checkpoint over all that was appended; gives its size.
    ///
    /// # Errors
    /// It was not published.
    pub fn publish(&mut self) -> Result<u64, ClientError> {
        match self.call(RequestBody::Publish, &[])? {
            (ResponseBody::Published { size }, _) => Ok(size),
            _ => Err(ClientError::Confused),
        }
    }

    /// Hands in a checkpoint with its cosignatures, as the courier.
    ///
    /// # Errors
    /// The ledger is gone, or does not take it and says why.
    pub fn cosign(&mut self, note: &str) -> Result<(), ClientError> {
        match self.call(RequestBody::Cosign { note: note.to_owned() }, &[])? {
            (ResponseBody::Cosigned, _) => Ok(()),
            _ => Err(ClientError::Confused),
        }
    }

    /// Has an operator's way in kept, and waits until it is.
    ///
    /// # Errors
    /// This user may not, or it was not kept.
    pub fn break_glass(&mut self, reason: &str) -> Result<Receipt, ClientError> {
        self.kept(RequestBody::BreakGlass { reason: reason.to_owned() })
    }

    /// Has a recording deleted, and waits until it is gone.
    ///
    /// # Errors
    /// It is not deleted: its permit has it kept longer, there is none, or the ledger could not remove it.
    pub fn delete_recording(&mut self, session: SessionId) -> Result<Receipt, ClientError> {
        self.kept(RequestBody::DeleteRecording { session })
    }

    /// Has a key destroyed, and waits until it is gone.
    ///
    /// # Errors
    /// This user may not, it is too early, or there is no such key.
    pub fn destroy_key(&mut self, scope: &str) -> Result<Receipt, ClientError> {
        self.kept(RequestBody::DestroyKey { scope: scope.to_owned() })
    }

    fn kept(&mut self, body: RequestBody) -> Result<Receipt, ClientError> {
        match self.call(body, &[])? {
            (ResponseBody::Kept(receipt), _) => Ok(receipt),
            _ => Err(ClientError::Confused),
        }
    }

    /// Announces reading: the entry that says so is durable and published when this returns, and the log can be read.
    ///
    /// # Errors
    /// This user may not read, or the entry could not be kept.
    pub fn announce(mut self, what: &str) -> Result<Reader, ClientError> {
        match self.call(RequestBody::Announce { what: what.to_owned() }, &[])? {
            (ResponseBody::Kept(_), _) => {}
            _ => return Err(ClientError::Confused),
        }
        self.publish()?;
        Ok(Reader { client: self, last: None })
    }

    fn fetch(&mut self, path: &str, offset: u64) -> Result<Option<(u64, Vec<u8>)>, ClientError> {
        match self.call(RequestBody::Fetch { path: path.to_owned(), offset }, &[])? {
            (ResponseBody::File { total }, blob) => Ok(Some((total, blob))),
            (ResponseBody::NoFile, _) => Ok(None),
            _ => Err(ClientError::Confused),
        }
    }

    /// Asks and waits for the answer.
    fn call(&mut self, body: RequestBody, blob: &[u8]) -> Result<(ResponseBody, Vec<u8>), ClientError> {
        let id = self.next;
        self.next += 1;
        let sent = self.stream.write_all(&wire::encode(&Request { id, body }, blob)?);
        let mut chunk = vec![0; READ_BYTES];
        loop {
            if let Some((response, blob, length)) = wire::decode::<Response>(&self.buffer)? {
                let (response, blob): (Response, Vec<u8>) = (response, blob.to_vec());
                self.buffer.drain(..length);
                return match response.body {
                    // A connection that is refused as a whole hears it without having asked.
                    ResponseBody::Refused { cause, reason } if response.id == id || response.id == 0 => Err(ClientError::Refused { cause, reason }),
                    body if response.id == id => Ok((body, blob)),
                    _ => Err(ClientError::Confused),
                };
            }
            let count = self.stream.read(&mut chunk)?;
            if count == 0 {
                sent?;
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }
}

/// The log of a running ledger, after an announcement.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    /// The last piece that was fetched: chunks of a recording are smaller than what comes at once.
    last: Option<Piece>,
}

#[derive(Debug)]
struct Piece {
    path: String,
    offset: u64,
    bytes: Vec<u8>,
}

impl Reader {
    /// The ledger's figures, in Prometheus' text format.
    ///
    /// # Errors
    /// This user may not have them.
    pub fn figures(&mut self) -> Result<String, ClientError> {
        match self.client.call(RequestBody::Metrics, &[])? {
            (ResponseBody::Figures, text) => String::from_utf8(text).map_err(|_| ClientError::Confused),
            _ => Err(ClientError::Confused),
        }
    }

    /// Hands over a checkpoint that witnesses cosigned.
    ///
    /// # Errors
    /// It is not cosigned as the ledger's settings ask, or this user may not.
    pub fn cosign(&mut self, note: &str) -> Result<(), ClientError> {
        self.client.cosign(note)
    }
}

impl Source for Reader {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |error: ClientError| SourceError { path: path.to_owned(), cause: error.into() };
        let Some((total, mut bytes)) = self.client.fetch(path, 0).map_err(failed)? else { return Ok(None) };
        if total > sulku_audit::tile::BUNDLE_BYTES_MAX as u64 {
            return Err(failed(ClientError::Confused));
        }
        while (bytes.len() as u64) < total {
            match self.client.fetch(path, bytes.len() as u64).map_err(failed)? {
                Some((again, more)) if again == total && !more.is_empty() => bytes.extend_from_slice(&more),
                _ => return Err(failed(ClientError::Confused)),
            }
        }
        Ok(Some(bytes))
    }

    fn read_at(&mut self, path: &str, offset: u64, length: u64) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |error: ClientError| SourceError { path: path.to_owned(), cause: error.into() };
        let length = usize::try_from(length).map_err(|_| failed(ClientError::Confused))?;
        let within = |piece: &Piece| {
            let begin = usize::try_from(offset.checked_sub(piece.offset)?).ok()?;
            Some(piece.bytes.get(begin..begin.checked_add(length)?)?.to_vec())
        };
        if let Some(bytes) = self.last.as_ref().filter(|piece| piece.path == path).and_then(within) {
            return Ok(Some(bytes));
        }
        let Some((_, bytes)) = self.client.fetch(path, offset).map_err(failed)? else { return Ok(None) };
        let wanted = bytes.get(..length).unwrap_or(&bytes).to_vec();
        self.last = Some(Piece { path: path.to_owned(), offset, bytes });
        Ok(Some(wanted))
    }
}
