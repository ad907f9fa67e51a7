//! The publishing thread: every second when there is something new, when asked, and at the end.
//!
//! A disk without room is waited for, and tried again each second; what is not published meanwhile is durable in the write-ahead log.
//! Any other failure sounds the alarm and ends the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sulku_audit::wire::{Cause, ResponseBody};

use crate::handover::{Bound, Handover};
use crate::ledger::Alarm;
use crate::metrics::Metrics;
use crate::publisher::{PublishError, Publisher, Written};
use crate::queue::Desk;
use crate::room::Room;
use crate::server::Reply;

/// How often a checkpoint is published when there is something new.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
/// How often the tree is grown and a spare segment made ready, when little comes.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The thread's parts.
pub(crate) struct Publishing {
    pub(crate) publisher: Publisher,
    pub(crate) handover: Arc<Handover>,
    pub(crate) room: Arc<Room>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) alarm: Alarm,
    /// Who waits for a checkpoint.
    pub(crate) asking: Vec<Reply>,
}

impl Publishing {
    /// Publishes until nothing more can come.
    pub(crate) fn run(mut self) {
        if let Err(error) = self.publish_until_done() {
            let reason = format!("the ledger can't publish: {error}");
            self.alarm.sound(reason.clone());
            // The writer hears the alarm and ends; what it had handed over is durable, and is published at the next start.
            let asking = self.handover.end();
            self.asking.drain(..).chain(asking).for_each(|reply| reply.refuse(Cause::Broken, reason.clone()));
            self.desk.nudge();
        }
    }

    fn publish_until_done(&mut self) -> Result<(), PublishError> {
        let mut last = Instant::now();
        loop {
            let given = self.handover.take(LOOK_EVERY);
            for contents in given.frames {
                self.publisher.push_contents(contents)?;
            }
            self.asking.extend(given.asking);
            let (is_due, is_full) = (last.elapsed() >= PUBLISH_EVERY, self.room.is_full());
            // While the disk is full, whoever asks waits for the next try.
            let is_tried = given.is_last || if is_full { is_due } else { !self.asking.is_empty() || (is_due && self.publisher.has_news()) };
            let mut outcome = if is_tried {
                last = Instant::now();
                self.publish()
            } else if self.publisher.should_write() && !is_full {
                self.publisher.write().map(|written| self.handover.done(written))
            } else {
                Ok(())
            };
            if given.is_last {
                return outcome;
            }
            if outcome.is_ok() && (is_tried || !is_full) {
                outcome = self.publisher.prepare().map_err(PublishError::from);
            }
            match outcome {
                Err(error) if error.is_full() => self.lack(&error),
                Ok(()) if is_full && is_tried => self.have(),
                outcome => outcome?,
            }
        }
    }

    fn publish(&mut self) -> Result<(), PublishError> {
        let mut written = Written::default();
        let published = self.publisher.publish(&mut written);
        self.handover.done(written);
        let size = published?;
        self.metrics.published(size);
        self.asking.drain(..).for_each(|reply| reply.send(ResponseBody::Published { size }));
        Ok(())
    }

    fn lack(&mut self, error: &PublishError) {
        let reason = format!("no checkpoint can be published until the disk has room: {error}");
        self.asking.drain(..).for_each(|reply| reply.refuse(Cause::Full, reason.clone()));
        if !self.room.is_full() {
            self.room.lack(error);
            self.handover.set_bound(Bound::Reserve);
            self.desk.nudge();
        }
    }

    fn have(&self) {
        self.room.have();
        self.handover.set_bound(Bound::Memory);
        self.desk.nudge();
    }
}
