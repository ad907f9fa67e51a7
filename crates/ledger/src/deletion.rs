//! Deleting a recording: its wrapped key is overwritten and removed, then the recording itself, so that nothing opens it any more.
//!
//! Only on a recorded order, whose entry is durable before anything is touched; that the permit's retention is over is checked here, by what
//! the log says. The entries stay, and verification knows by them that the recording is gone. What copies and backups still hold, and what a
//! file system keeps of overwritten bytes, this can't reach.

use std::path::Path;

use jiff::Timestamp;
use sulku_audit::counters::{Counters, Deletion, Part};
use sulku_audit::entry::time_text;
use sulku_audit::wire::BLOB_BYTES_MAX;
use sulku_audit::{Event, Recorded};
use sulku_permit::SessionId;

use crate::disk::{Disk, Open};
use crate::files::{FileError, at};

/// The entry of an order to delete a recording, if it may be deleted now; otherwise why not, for whoever ordered it.
pub(crate) fn order(counters: &Counters, session: &SessionId, uid: u32, now: Timestamp) -> Result<Event, String> {
    match counters.recording(session) {
        None => Err(format!("the log has no recording of session {session}; see sulku audit due")),
        Some(Recorded { deletion: Deletion::Deleted, .. }) => Err(format!("the recording of session {session} was deleted already")),
        Some(Recorded { keep_until: Some(until), .. }) if now < until => {
            Err(format!("the recording of session {session} is kept until {}, as its permit says", time_text(until)))
        }
        Some(Recorded { keep_until: None, .. }) => {
            Err(format!("nothing says for how long the recording of session {session} is kept, so it is kept"))
        }
        Some(Recorded { chunks, bytes, .. }) => Ok(Event::RecordingDeleted { uid, chunks, bytes }),
    }
}

/// Destroys a recording, up to its last part, whose deletion is in the log. Does nothing the second time.
pub(crate) fn destroy(disk: &dyn Disk, directory: &Path, session: &SessionId, last_part: u32) -> Result<(), FileError> {
    // The keys first: without them nothing opens what is left, should this end in between.
    (0..=last_part).try_for_each(|number| destroy_key(disk, &directory.join(Part::Key.path(session, number))))?;
    for number in 0..=last_part {
        let chunks = directory.join(Part::Chunks.path(session, number));
        if disk.exists(&chunks).map_err(at(&chunks))? {
            remove(disk, &chunks)?;
        }
    }
    Ok(())
}

fn destroy_key(disk: &dyn Disk, key: &Path) -> Result<(), FileError> {
    let key = key.to_owned();
    if disk.exists(&key).map_err(at(&key))? {
        let file = disk.open(&key, Open::Existing).map_err(at(&key))?;
        let length = usize::try_from(file.length().map_err(at(&key))?).unwrap_or(BLOB_BYTES_MAX).min(BLOB_BYTES_MAX);
        file.write_at(&vec![0; length], 0).and_then(|()| file.sync()).map_err(at(&key))?;
        drop(file);
        remove(disk, &key)?;
    }
    Ok(())
}

/// Removes a file for good: its name does not come back after a crash.
fn remove(disk: &dyn Disk, path: &Path) -> Result<(), FileError> {
    disk.remove(path).map_err(at(path))?;
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder).map_err(at(folder)))
}
