//! One sink's task: reads from its cursor on, hands over, has it confirmed, moves the cursor. Whatever fails is tried again later
//! from the cursor, so that nothing is lost and something may come twice.
//!
//! Holds one bundle of entries at a time, whatever the sink does: a stalled sink costs the others nothing.

use std::sync::Arc;
use std::time::Duration;

use sulku_audit::ocsf;
use sulku_audit::tile::TILE_WIDTH;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::config::Begin;
use crate::cursor::{Cursor, CursorError};
use crate::metrics::SinkFigures;
use crate::sink::{Record, Sink, SinkError};
use crate::trail::{Head, Trail, TrailError, chain};

/// Entries that may be handed over before they are confirmed: what is sent twice after a failure stays bounded.
const UNCONFIRMED_ENTRIES_MAX: u64 = 16_384;
/// How long a sink that stops may take to confirm what it has sent.
const LAST_CONFIRM_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("the log can't be read: {0}")]
    Trail(#[from] TrailError),
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error("the cursor is at entry {next}, the log has {size}: it is not the log that was sent on before")]
    Ahead { next: u64, size: u64 },
    #[error("the courier stops")]
    Stopping,
}

/// A sink and how far it is.
pub(crate) struct Following<S> {
    pub(crate) name: String,
    pub(crate) sink: S,
    pub(crate) cursor: Cursor,
    pub(crate) begin: Begin,
    pub(crate) trail: Trail,
    pub(crate) figures: Arc<SinkFigures>,
    /// The first entry that was never handed over.
    pub(crate) fresh: u64,
}

impl<S: Sink> Following<S> {
    /// Follows the log until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.follow(&stop, &mut backoff).await {
                Ok(()) | Err(FollowError::Stopping) => break,
                Err(error) => error,
            };
            self.figures.failed();
            let wait = backoff.next();
            tracing::warn!(sink = self.name, error = chain(&error), again_in_ms = wait.as_millis(), "a sink failed; it is tried again");
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(wait) => {}
            }
        }
        tracing::info!(sink = self.name, next = self.cursor.next(), "a sink stopped");
    }

    async fn follow(&mut self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<(), FollowError> {
        let mut heads = self.trail.heads();
        let first = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            head = heads.wait_for(Option::is_some) => head.ok().and_then(|head| head.clone()).ok_or(FollowError::Stopping)?,
        };
        let next = self.begin(&first)?;
        let mut position = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = self.sink.open(next) => opened?,
        };
        self.figures.up(true);
        let mut unconfirmed: Option<(u64, Instant)> = None;
        loop {
            let head = heads.borrow_and_update().clone().unwrap_or_else(|| Arc::clone(&first));
            let size = head.checkpoint.size;
            if position > size {
                return Err(FollowError::Ahead { next: position, size });
            }
            let due = unconfirmed.map(|(from, since)| (position - from >= UNCONFIRMED_ENTRIES_MAX, since + self.sink.confirm_every()));
            if due.is_some_and(|(full, at)| full || Instant::now() >= at) {
                tokio::select! {
                    () = stop.cancelled() => break,
                    confirmed = self.sink.confirm() => confirmed?,
                }
                self.confirmed(position)?;
                unconfirmed = None;
                backoff.reset();
            } else if position < size {
                let records = records(&self.trail.clone(), position, &head).await?;
                // By construction there is none; counted from what is handed over, so that it would show.
                self.figures.gaps((position..).zip(&records).filter(|(expected, record)| *expected != record.index).count() as u64);
                tokio::select! {
                    // What was handed over in part can't be confirmed any more.
                    () = stop.cancelled() => return Ok(()),
                    delivered = self.sink.deliver(&records) => delivered?,
                }
                unconfirmed = unconfirmed.or(Some((position, Instant::now())));
                position += records.len() as u64;
                self.handed_over(position, records.len() as u64);
            } else {
                let confirm_at = due.map(|(_, at)| at);
                tokio::select! {
                    () = stop.cancelled() => break,
                    changed = heads.changed() => changed.map_err(|_| FollowError::Stopping)?,
                    () = async { if let Some(at) = confirm_at { sleep_until(at).await } else { std::future::pending().await } } => {}
                }
            }
        }
        if unconfirmed.is_some() && timeout(LAST_CONFIRM_WITHIN, self.sink.confirm()).await.is_ok_and(|confirmed| confirmed.is_ok()) {
            self.confirmed(position)?;
        }
        Ok(())
    }

    /// Where the cursor is; for a sink that has none yet, where it is to begin.
    fn begin(&mut self, head: &Head) -> Result<u64, FollowError> {
        let next = match (self.cursor.next(), self.begin) {
            (Some(next), _) => next,
            (None, Begin::Start) => 0,
            (None, Begin::Now) => {
                self.cursor.save(head.checkpoint.size)?;
                head.checkpoint.size
            }
        };
        self.figures.cursor(next);
        Ok(next)
    }

    fn handed_over(&mut self, position: u64, entries: u64) {
        let again = entries.min(self.fresh.saturating_sub(position - entries));
        self.figures.sent(entries, again);
        self.fresh = self.fresh.max(position);
    }

    fn confirmed(&mut self, position: u64) -> Result<(), FollowError> {
        self.cursor.save(position)?;
        self.figures.cursor(position);
        Ok(())
    }
}

/// The entries from `position` on to the end of its bundle, or of the head.
async fn records(trail: &Trail, position: u64, head: &Arc<Head>) -> Result<Vec<Record>, TrailError> {
    let bundle = trail.bundle(position / TILE_WIDTH, head).await?;
    let origin = &head.checkpoint.origin;
    Ok(bundle.from(position).map(|(index, entry)| ocsf::export(origin, index, entry)).collect())
}

impl<S> Drop for Following<S> {
    fn drop(&mut self) {
        self.figures.up(false);
    }
}
