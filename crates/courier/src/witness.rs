//! Checkpoints to witnesses, and their cosignatures to the ledger.
//!
//! All witnesses are asked about the same head, and about the next one when they have answered or their time is up, so that cosignatures
//! meet on one checkpoint whatever each witness's pace. Each witness is asked by a task of its own: one that is slow is asked about the
//! newest head when it is done. A head that does not change is cosigned again, since a ledger counts how old cosignatures are.
//!
//! Judges no policy: how many are enough the ledger knows. Keeps nothing: what a witness saw last, it says itself.

use std::sync::Arc;
use std::time::Duration;

use sulku_audit::tile::Tile;
use sulku_audit::{Source, SourceError};
use sulku_witness::{Answer, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::metrics::WitnessFigures;
use crate::trail::{Head, Trail, chain};

/// How often a new head is offered: as often as there is one.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// How often the same head is.
const SAME_AGAIN_EVERY: Duration = Duration::from_secs(3);
/// How long a round waits for those who have not answered.
const ROUND_WITHIN: Duration = Duration::from_secs(5);
/// How long one witness may take, proof and connection included.
const ASK_WITHIN: Duration = Duration::from_secs(20);
/// What a witness may still say when nobody waits for it any more is bounded too.
const ANSWERS_MAX: usize = 64;

/// A witness to be asked.
pub(crate) struct Asked {
    pub(crate) name: String,
    pub(crate) client: Client,
    pub(crate) figures: Arc<WitnessFigures>,
}

/// What a witness said about a head: its cosignature lines, none if it did not cosign.
struct Said {
    head: Arc<Head>,
    lines: String,
}

/// Has each head cosigned until told to stop.
pub(crate) async fn have_cosigned(witnesses: Vec<Asked>, trail: Trail, stop: CancellationToken) {
    let (count, mut newest) = (witnesses.len(), trail.heads());
    let (offers, _) = watch::channel(None::<Arc<Head>>);
    let (said_in, mut said) = mpsc::channel(ANSWERS_MAX);
    // Dropped with this, and the tasks with it.
    let mut tasks = JoinSet::new();
    for witness in witnesses {
        tasks.spawn(ask(witness, offers.subscribe(), trail.clone(), said_in.clone()));
    }
    let mut rounds = Rounds { offered: None, complaint: String::new() };
    loop {
        let Some(head) = rounds.next(&mut newest, &stop).await else { return };
        let begun = Instant::now();
        offers.send_replace(Some(Arc::clone(&head)));
        let (mut answered, mut note, mut outcome) = (0, head.note.clone(), Err("no witness cosigned".to_owned()));
        while answered < count {
            let one = tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(begun + ROUND_WITHIN) => break,
                one = said.recv() => one,
            };
            let Some(Said { head: of, lines }) = one else { return };
            if !Arc::ptr_eq(&of, &head) {
                continue;
            }
            answered += 1;
            if !lines.is_empty() {
                note.extend_from_slice(lines.as_bytes());
                let text = String::from_utf8_lossy(&note).into_owned();
                outcome = outcome.or(trail.cosigned(text).await.map_err(|error| error.to_string()));
            }
        }
        rounds.tell(outcome);
        rounds.offered = Some((head, begun));
    }
}

/// The rounds one after the other.
struct Rounds {
    offered: Option<(Arc<Head>, Instant)>,
    complaint: String,
}

impl Rounds {
    /// The head of the next round, when it is due; `None` when the courier stops.
    async fn next(&self, newest: &mut watch::Receiver<Option<Arc<Head>>>, stop: &CancellationToken) -> Option<Arc<Head>> {
        loop {
            let head = newest.borrow_and_update().clone();
            let due = match (&head, &self.offered) {
                (Some(head), Some((last, begun))) => {
                    Some(*begun + if head.checkpoint.size > last.checkpoint.size { ROUND_EVERY } else { SAME_AGAIN_EVERY })
                }
                (Some(_), None) => Some(Instant::now()),
                (None, _) => None,
            };
            match (head, due) {
                // Another object than before, so that its answers are told from late ones.
                (Some(head), Some(at)) if at <= Instant::now() => {
                    return Some(Arc::new(Head { checkpoint: head.checkpoint.clone(), note: head.note.clone() }));
                }
                (_, due) => tokio::select! {
                    () = stop.cancelled() => return None,
                    changed = newest.changed() => changed.ok()?,
                    () = async { if let Some(at) = due { sleep_until(at).await } else { std::future::pending().await } } => {}
                },
            }
        }
    }

    /// Says how a round went, when it went otherwise than the one before.
    fn tell(&mut self, outcome: Result<(), String>) {
        let complaint = outcome.err().unwrap_or_default();
        if complaint != self.complaint {
            match complaint.as_str() {
                "" => tracing::info!("the log is cosigned again"),
                error => tracing::warn!(error, "the log is not cosigned as the ledger asks"),
            }
            self.complaint = complaint;
        }
    }
}

/// Asks one witness about the head that is on offer, again and again.
async fn ask(witness: Asked, mut offers: watch::Receiver<Option<Arc<Head>>>, trail: Trail, said: mpsc::Sender<Said>) {
    let Asked { name, mut client, figures } = witness;
    let mut backoff = Backoff::default();
    let mut not_before = Instant::now();
    while offers.changed().await.is_ok() {
        let Some(head) = offers.borrow_and_update().clone() else { continue };
        let mut lines = String::new();
        // A witness that fails is not asked about each head: it may be down for hours.
        if Instant::now() >= not_before {
            let note = String::from_utf8_lossy(&head.note).into_owned();
            let mut tiles = Tiles(trail.clone());
            let error = match timeout(ASK_WITHIN, client.cosign(&note, &mut tiles)).await {
                Ok(Ok(Answer::Cosigned(found))) => {
                    lines = found;
                    None
                }
                Ok(Ok(Answer::Ahead { size })) => {
                    Some(format!("it has seen {size} entries, and there are fewer: this log was put back, or another has its name"))
                }
                Ok(Ok(Answer::WentBack { size, before })) => {
                    Some(format!("it has seen {size} entries, and said {before} before: it was put back itself"))
                }
                Ok(Ok(Answer::Forked { says })) => Some(format!("it holds that this log shows two histories: {says}")),
                Ok(Ok(Answer::Refused { status, says })) => Some(format!("it refused with {status}: {says}")),
                Ok(Err(error)) => Some(chain(&error)),
                Err(_) => Some(format!("it took longer than {ASK_WITHIN:?}")),
            };
            match error {
                None => {
                    backoff.reset();
                    figures.cosigned(head.checkpoint.size);
                }
                Some(error) => {
                    figures.failed();
                    let wait = backoff.next();
                    not_before = Instant::now() + wait;
                    tracing::warn!(witness = name, error, again_in_ms = wait.as_millis(), "a witness did not cosign");
                }
            }
        }
        if said.send(Said { head, lines }).await.is_err() {
            return;
        }
    }
}

/// The log's tiles, to who reads them without waiting for it by turns: blocks the thread, of which the runtime makes another.
struct Tiles(Trail);

impl Source for Tiles {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| SourceError { path: path.to_owned(), cause };
        let tile: Tile = path.parse().map_err(|error: sulku_audit::tile::TilePathError| failed(error.into()))?;
        let read = self.0.file(tile);
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(read)).map_err(|error| failed(error.into()))
    }

    fn read_at(&mut self, path: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, SourceError> {
        Err(SourceError { path: path.to_owned(), cause: "a proof needs no part of a file".into() })
    }
}
