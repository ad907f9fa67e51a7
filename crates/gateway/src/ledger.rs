//! The gateway's end of the ledger's socket: requests go out as they come, receipts come back by number.

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use sulku_audit::wire::{self, Cause, Request, RequestBody, Response, ResponseBody};
use sulku_audit::{Draft, Receipt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Requests that may wait for the ledger; a sender beyond it waits, and its session with it.
const QUEUE_REQUESTS_MAX: usize = 1024;
/// Requests written to the socket at once.
const BATCH_REQUESTS_MAX: usize = 64;

/// The ledger did not keep it. Whoever needed the receipt must not go on.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The connection to the ledger is gone.
    #[error("the ledger is gone")]
    Gone,
    /// The ledger refused.
    #[error("the ledger refused: {reason}")]
    Refused {
        /// What the gateway can go by.
        cause: Cause,
        /// Why, in words.
        reason: String,
    },
}

/// A receipt that is on its way.
pub type Pending = oneshot::Receiver<Result<Receipt, AppendError>>;

/// Something to be kept, and where its receipt goes.
#[derive(Debug)]
pub struct Job {
    draft: Draft,
    chunk: Vec<u8>,
    answer: oneshot::Sender<Result<Receipt, AppendError>>,
}

impl Job {
    /// A draft to be kept, with the recording's chunk or key where it is about one, and the receipt to wait for.
    pub fn new(draft: Draft, chunk: Vec<u8>) -> (Self, Pending) {
        let (answer, pending) = oneshot::channel();
        (Self { draft, chunk, answer }, pending)
    }
}

/// The ledger, to append to.
#[derive(Debug, Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
}

impl Ledger {
    /// Connects. `lost` is cancelled when the connection breaks: then nothing can be kept, and the gateway must end.
    ///
    /// # Errors
    /// There is no ledger at that socket.
    pub async fn connect(socket: &Path, lost: CancellationToken) -> std::io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let (jobs, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (waiting_in, waiting) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let lost_too = lost.clone();
        tokio::spawn(async move {
            if let Err(error) = send(queue, writer, waiting_in).await {
                tracing::error!(%error, "connection to the ledger broke while sending");
            }
            lost.cancel();
        });
        tokio::spawn(async move {
            if let Err(error) = receive(reader, waiting).await {
                tracing::error!(%error, "connection to the ledger broke while receiving");
            }
            lost_too.cancel();
        });
        Ok(Self { jobs })
    }

    /// Hands jobs over, oldest first, as many as the queue has room for. With the connection they are gone, and their receipts fail.
    pub fn submit(&self, jobs: &mut VecDeque<Job>) {
        while let Some(job) = jobs.pop_front() {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(job)) => return jobs.push_front(job),
                Err(mpsc::error::TrySendError::Closed(job)) => drop(job),
            }
        }
    }

    /// Waits until the queue has room, or the ledger is gone.
    pub async fn has_room(&self) {
        drop(self.jobs.reserve().await);
    }

    /// Has a draft kept, and waits until it is. For entries whose receipt no later step needs.
    ///
    /// # Errors
    /// It is not kept.
    pub async fn append(&self, draft: Draft) -> Result<(), AppendError> {
        let (job, pending) = Job::new(draft, Vec::new());
        self.jobs.send(job).await.map_err(|_| AppendError::Gone)?;
        pending.await.unwrap_or(Err(AppendError::Gone)).map(|_receipt| ())
    }
}

type Waiting = (u64, oneshot::Sender<Result<Receipt, AppendError>>);

async fn send(mut queue: mpsc::Receiver<Job>, mut writer: OwnedWriteHalf, waiting: mpsc::Sender<Waiting>) -> std::io::Result<()> {
    let mut next = 0_u64;
    let mut batch = Vec::with_capacity(BATCH_REQUESTS_MAX);
    let mut bytes = Vec::new();
    while queue.recv_many(&mut batch, BATCH_REQUESTS_MAX).await > 0 {
        bytes.clear();
        for Job { draft, chunk, answer } in batch.drain(..) {
            match wire::encode(&Request { id: next, body: RequestBody::Append(draft) }, &chunk) {
                Ok(frame) => {
                    // The answer's place must be known before the answer can come.
                    if waiting.send((next, answer)).await.is_err() {
                        return Ok(());
                    }
                    bytes.extend_from_slice(&frame);
                    next += 1;
                }
                Err(error) => {
                    answer.send(Err(AppendError::Refused { cause: Cause::Malformed, reason: error.to_string() })).ok();
                }
            }
        }
        writer.write_all(&bytes).await?;
    }
    Ok(())
}

async fn receive(mut reader: OwnedReadHalf, mut waiting: mpsc::Receiver<Waiting>) -> std::io::Result<()> {
    let mut known = HashMap::new();
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut taken = 0;
        while let Some((response, _, used)) = wire::decode::<Response>(&buffer[taken..]).map_err(std::io::Error::other)? {
            taken += used;
            while let Ok((id, answer)) = waiting.try_recv() {
                known.insert(id, answer);
            }
            let Some(answer) = known.remove(&response.id) else {
                return Err(std::io::Error::other(format!("the ledger answered request {}, which nobody made", response.id)));
            };
            let result = match response.body {
                ResponseBody::Kept(receipt) => Ok(receipt),
                ResponseBody::Refused { cause, reason } => Err(AppendError::Refused { cause, reason }),
                other => Err(AppendError::Refused { cause: Cause::Malformed, reason: format!("an answer of another kind: {other:?}") }),
            };
            // A session that no longer waits has closed for another reason.
            answer.send(result).ok();
        }
        buffer.drain(..taken);
    }
}
