//! The log as it grows: one thread reads it through the ledger's socket, and nothing leaves it unchecked.
//!
//! A head is a checkpoint that the log's key signed and that continues the head before it, the last one of the run before
//! included; it is on the disk before anybody sees it. A bundle is given out only when all its entries lead to a head's root. A log
//! that became smaller, or another, is a fault: the courier says so and gives out nothing newer, for ever.
//!
//! Holds a few bundles in memory and no more. Reading is pulled by whoever needs it, so nobody slow holds it up.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use sulku_audit::merkle::{self, Nodes, leaf_hash, verify_consistency, verify_inclusion};
use sulku_audit::policy::Trust;
use sulku_audit::source::{COSIGNED, ReadError, TileNodes, read_bundle, read_checkpoint};
use sulku_audit::tile::{TILE_HEIGHT, TILE_WIDTH, Tile, TileKind, perfect_root, split_entry};
use sulku_audit::{Checkpoint, Hash, Source};
use sulku_ledger::client::{self, Client, ClientError};
use tokio::sync::{oneshot, watch};

use crate::backoff::Backoff;
use crate::cursor::{read, replace};
use crate::metrics::TrailFigures;

/// How often the checkpoint is looked at: as often as a ledger publishes one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Requests that may wait for the reading thread: one of each sink and of each connection of a mirror, and some.
const REQUESTS_MAX: usize = 128;
/// Bundles kept at hand: sinks that are up to date want the same last one.
const BUNDLES_KEPT_MAX: usize = 4;
/// And no more of them than have this many bytes of entries.
const BUNDLES_KEPT_BYTES_MAX: usize = 24 << 20;
/// What is announced to the ledger, and so is an entry of the log.
const ANNOUNCED: &str = "the courier: every entry, for sinks and mirrors";
/// The last head that was seen, in the courier's folder.
const HEAD_FILE: &str = "head";

/// A checkpoint that was checked.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: Vec<u8>,
}

/// Entries that are in the log, one after the other.
#[derive(Debug)]
pub(crate) struct Bundle {
    first: u64,
    entries: Vec<Vec<u8>>,
}

impl Bundle {
    /// The entries from this number on, with their numbers.
    pub(crate) fn from(&self, number: u64) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first..).zip(self.entries.iter().map(Vec::as_slice)).filter(move |(index, _)| *index >= number)
    }

    fn bytes(&self) -> usize {
        self.entries.iter().map(Vec::len).sum()
    }
}

/// The log could not be read, or is not what it should be.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum TrailError {
    /// The ledger can't be reached or does not let the courier read.
    #[error("{0}")]
    Ledger(String),
    /// What was read is not the log that was seen before, or not what the log's key signed.
    #[error("{0}")]
    Fault(String),
    /// The reading thread has too much to do.
    #[error("{REQUESTS_MAX} requests wait for the log already")]
    Busy,
    /// The courier stops.
    #[error("the courier stops")]
    Stopping,
}

type Answer<T> = oneshot::Sender<Result<T, TrailError>>;

enum Request {
    Bundle { number: u64, head: Arc<Head>, answer: Answer<Arc<Bundle>> },
    File { path: String, answer: Answer<Option<Vec<u8>>> },
    Figures { answer: Answer<String> },
    Cosigned { note: String, answer: Answer<()> },
}

/// The log, to whoever follows it.
#[derive(Debug, Clone)]
pub(crate) struct Trail {
    requests: SyncSender<Request>,
    heads: watch::Receiver<Option<Arc<Head>>>,
}

/// Where and what the log is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The ledger's socket.
    pub(crate) socket: PathBuf,
    /// The log's key.
    pub(crate) key: Trust,
    /// The courier's folder.
    pub(crate) state: PathBuf,
}

impl Trail {
    /// Begins to follow the log, on a thread of its own that ends with the last clone of this.
    pub(crate) fn start(place: Place, figures: Arc<TrailFigures>) -> std::io::Result<Self> {
        let last = match read(&place.state.join(HEAD_FILE))? {
            None => None,
            Some(note) => {
                let opened = Checkpoint::open(&note, &place.key).map_err(|error| std::io::Error::other(format!("{HEAD_FILE}: {error}")))?;
                Some(Arc::new(Head { checkpoint: opened, note }))
            }
        };
        let (requests, requests_out) = sync_channel(REQUESTS_MAX);
        let (heads_in, heads) = watch::channel(None);
        let reader = Reader { place, figures, last, heads: heads_in, kept: VecDeque::new() };
        std::thread::Builder::new().name("trail".to_owned()).spawn(move || reader.run(&requests_out))?;
        Ok(Self { requests, heads })
    }

    /// The newest head, and word of newer ones. `None` before the first.
    pub(crate) fn heads(&self) -> watch::Receiver<Option<Arc<Head>>> {
        self.heads.clone()
    }

    /// The bundle of this number, as far as the head covers it.
    pub(crate) async fn bundle(&self, number: u64, head: &Arc<Head>) -> Result<Arc<Bundle>, TrailError> {
        let head = Arc::clone(head);
        self.ask(|answer| Request::Bundle { number, head, answer }).await
    }

    /// A tile's bytes as the ledger gives them: whoever asked checks them.
    pub(crate) async fn file(&self, tile: Tile) -> Result<Option<Vec<u8>>, TrailError> {
        self.ask(|answer| Request::File { path: tile.to_string(), answer }).await
    }

    /// The last checkpoint with its cosignatures, as the ledger keeps it; `None` where none is asked for.
    pub(crate) async fn last_cosigned(&self) -> Result<Option<Vec<u8>>, TrailError> {
        self.ask(|answer| Request::File { path: COSIGNED.to_owned(), answer }).await
    }

    /// The ledger's own figures, in Prometheus' text format.
    pub(crate) async fn ledger_figures(&self) -> Result<String, TrailError> {
        self.ask(|answer| Request::Figures { answer }).await
    }

    /// Hands a cosigned checkpoint to the ledger.
    pub(crate) async fn cosigned(&self, note: String) -> Result<(), TrailError> {
        self.ask(|answer| Request::Cosigned { note, answer }).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, TrailError> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(request(answer)).map_err(|error| match error {
            TrySendError::Full(_) => TrailError::Busy,
            TrySendError::Disconnected(_) => TrailError::Stopping,
        })?;
        answered.await.unwrap_or(Err(TrailError::Stopping))
    }
}

struct Reader {
    place: Place,
    figures: Arc<TrailFigures>,
    last: Option<Arc<Head>>,
    heads: watch::Sender<Option<Arc<Head>>>,
    kept: VecDeque<(Tile, Arc<Bundle>)>,
}

/// Why a connection is of no more use.
struct Lost;

impl Reader {
    fn run(mut self, requests: &Receiver<Request>) {
        let mut backoff = Backoff::default();
        loop {
            let failed = match Client::connect(&self.place.socket).and_then(|client| client.announce(ANNOUNCED)) {
                Ok(mut log) => {
                    tracing::info!("the log is being followed");
                    self.figures.connected(true);
                    backoff.reset();
                    match self.serve(&mut log, requests) {
                        Ok(()) => return,
                        Err(Lost) => "the connection to the ledger was lost".to_owned(),
                    }
                }
                Err(error) => chain(&error),
            };
            self.figures.connected(false);
            let until = Instant::now() + backoff.next();
            tracing::warn!(error = failed, "the log can't be read; trying again");
            // Whoever asks meanwhile hears it at once, and asks again later.
            loop {
                match requests.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(request) => refuse(request, &TrailError::Ledger(failed.clone())),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Answers and looks for new heads until the connection is lost, or nobody asks any more.
    fn serve(&mut self, log: &mut client::Reader, requests: &Receiver<Request>) -> Result<(), Lost> {
        let mut look_at = Instant::now();
        loop {
            if Instant::now() >= look_at {
                self.look(log)?;
                look_at = Instant::now() + LOOK_EVERY;
            }
            match requests.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(Request::Bundle { number, head, answer }) => {
                    let (bundle, lost) = split(self.bundle(log, number, &head));
                    // Whoever does not wait any more has stopped.
                    let _gone = answer.send(bundle);
                    lost?;
                }
                Ok(Request::File { path, answer }) => {
                    let (file, lost) = split(log.read(&path).map_err(|error| ReadError::from(error).into()));
                    let _gone = answer.send(file);
                    lost?;
                }
                Ok(Request::Figures { answer }) => {
                    let (figures, lost) = answered(log.figures());
                    let _gone = answer.send(figures);
                    lost?;
                }
                Ok(Request::Cosigned { note, answer }) => {
                    let (taken, lost) = answered(log.cosign(&note));
                    let _gone = answer.send(taken);
                    lost?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// Reads the checkpoint, and takes it for the head when it continues the last one.
    fn look<S: Source>(&mut self, log: &mut S) -> Result<(), Lost> {
        let (continued, lost) = split(self.continued(log));
        match continued {
            Ok(None) => {
                self.figures.fault(false);
                if let (true, Some(last)) = (self.heads.borrow().is_none(), &self.last) {
                    self.heads.send_replace(Some(Arc::clone(last)));
                }
            }
            Ok(Some(head)) => {
                self.figures.fault(false);
                let file = self.place.state.join(HEAD_FILE);
                if let Err(error) = replace(&file, &head.note) {
                    tracing::error!(%error, file = %file.display(), "the head can't be kept, so nothing newer is given out");
                    return Ok(());
                }
                self.figures.head(head.checkpoint.size);
                self.last = Some(Arc::clone(&head));
                self.heads.send_replace(Some(head));
            }
            Err(error) => {
                self.figures.fault(true);
                tracing::error!(%error, "the log's newest checkpoint is not given out");
            }
        }
        lost
    }

    /// The checkpoint, if it is newer than the last head and continues it.
    fn continued<S: Source>(&self, log: &mut S) -> Result<Option<Arc<Head>>, Failure> {
        let (note, checkpoint) = match read_checkpoint(log, &self.place.key) {
            Err(ReadError::Missing(_)) if self.last.is_none() => return Ok(None),
            other => other?,
        };
        if let Some(last) = &self.last {
            let last = &last.checkpoint;
            if last.size == checkpoint.size && last.root == checkpoint.root {
                return Ok(None);
            }
            if checkpoint.size <= last.size {
                let what = if checkpoint.size < last.size { "fewer" } else { "other" };
                return Err(Failure::Fault(format!(
                    "the log has {what} entries ({}) than it had when the courier last looked ({}); it was cut back or written again; \
                     keep the courier's head file as evidence and tell the auditors",
                    checkpoint.size, last.size
                )));
            }
            let proof = merkle::consistency_proof(&mut TileNodes::new(log, checkpoint.size), last.size, checkpoint.size)?;
            let _continued = verify_consistency(last.size, &last.root, checkpoint.size, &checkpoint.root, &proof).map_err(|error| {
                Failure::Fault(format!(
                    "the log of {} entries does not continue the one of {} that the courier saw: {error}; keep the courier's head file as \
                     evidence and tell the auditors",
                    checkpoint.size, last.size
                ))
            })?;
        }
        Ok(Some(Arc::new(Head { checkpoint, note })))
    }

    fn bundle<S: Source>(&mut self, log: &mut S, number: u64, head: &Head) -> Result<Arc<Bundle>, Failure> {
        let missing = || Failure::Fault(format!("there is no bundle {number} in a log of {} entries", head.checkpoint.size));
        let tile = Tile::in_tree(TileKind::Entries, number, head.checkpoint.size).ok_or_else(missing)?;
        if let Some((_, bundle)) = self.kept.iter().find(|(kept, _)| *kept == tile) {
            return Ok(Arc::clone(bundle));
        }
        let bundle = Arc::new(checked_bundle(log, tile, &head.checkpoint)?);
        self.kept.push_back((tile, Arc::clone(&bundle)));
        let weight = |kept: &VecDeque<(Tile, Arc<Bundle>)>| kept.iter().map(|(_, bundle)| bundle.bytes()).sum::<usize>();
        while self.kept.len() > BUNDLES_KEPT_MAX || (self.kept.len() > 1 && weight(&self.kept) > BUNDLES_KEPT_BYTES_MAX) {
            self.kept.pop_front();
        }
        Ok(bundle)
    }
}

/// Reads a bundle, and checks that all its entries are where they should be in the checkpoint's tree.
fn checked_bundle<S: Source>(log: &mut S, tile: Tile, checkpoint: &Checkpoint) -> Result<Bundle, Failure> {
    let first = tile.number * TILE_WIDTH;
    let bytes = read_bundle(log, tile)?;
    let (mut rest, mut entries, mut leaves) = (bytes.as_slice(), Vec::new(), Vec::new());
    for index in (first..).take(usize::from(tile.width)) {
        let (entry, after) = split_entry(rest).ok_or_else(|| Failure::Fault(format!("entry {index}: its bundle ends before it does")))?;
        rest = after;
        leaves.push(leaf_hash(entry));
        entries.push(entry.to_vec());
    }
    let leaf = *leaves.first().ok_or_else(|| Failure::Fault(format!("the bundle of entry {first} is empty")))?;
    // The proof for the first leaf goes past all others of the bundle, whose hashes are those of the bytes at hand. That it leads to
    // the root therefore shows each of them in its place.
    let mut nodes = Grafted { first, leaves: &leaves, rest: TileNodes::new(log, checkpoint.size) };
    let proof = merkle::inclusion_proof(&mut nodes, first, checkpoint.size)?;
    let _included = verify_inclusion(&leaf, first, checkpoint.size, &checkpoint.root, &proof).map_err(|error| {
        Failure::Fault(format!("the entries from {first} on are not those that the checkpoint of {} covers: {error}", checkpoint.size))
    })?;
    Ok(Bundle { first, entries })
}

/// A tree whose nodes within one bundle are made of the leaves at hand.
struct Grafted<'a, S: ?Sized> {
    first: u64,
    leaves: &'a [Hash],
    rest: TileNodes<'a, S>,
}

impl<S: Source + ?Sized> Nodes for Grafted<'_, S> {
    type Error = ReadError;

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, ReadError> {
        let within = || {
            let begin = usize::try_from((index << level).checked_sub(self.first)?).ok()?;
            self.leaves.get(begin..begin + (1 << level))
        };
        match (level < TILE_HEIGHT).then(within).flatten() {
            Some(row) => Ok(perfect_root(row)),
            None => self.rest.node(level, index),
        }
    }
}

enum Failure {
    Read(ReadError),
    Fault(String),
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// What whoever asked is told, and whether the connection is of any more use.
fn split<T>(result: Result<T, Failure>) -> (Result<T, TrailError>, Result<(), Lost>) {
    match result {
        Ok(value) => (Ok(value), Ok(())),
        Err(Failure::Fault(what)) => (Err(TrailError::Fault(what)), Ok(())),
        Err(Failure::Read(error @ ReadError::Source(_))) => (Err(TrailError::Ledger(chain(&error))), Err(Lost)),
        Err(Failure::Read(error)) => (Err(TrailError::Fault(chain(&error))), Ok(())),
    }
}

/// The same of a request that is not about the log's files.
fn answered<T>(result: Result<T, ClientError>) -> (Result<T, TrailError>, Result<(), Lost>) {
    match result {
        Ok(value) => (Ok(value), Ok(())),
        Err(error @ ClientError::Refused { .. }) => (Err(TrailError::Ledger(chain(&error))), Ok(())),
        Err(error) => (Err(TrailError::Ledger(chain(&error))), Err(Lost)),
    }
}

fn refuse(request: Request, error: &TrailError) {
    match request {
        Request::Bundle { answer, .. } => drop(answer.send(Err(error.clone()))),
        Request::File { answer, .. } => drop(answer.send(Err(error.clone()))),
        Request::Figures { answer } => drop(answer.send(Err(error.clone()))),
        Request::Cosigned { answer, .. } => drop(answer.send(Err(error.clone()))),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

/// Whether a folder is the courier's to write.
pub(crate) fn prepare_state(state: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(state)?;
    replace(&state.join("writable"), b"")?;
    std::fs::remove_file(state.join("writable"))
}
