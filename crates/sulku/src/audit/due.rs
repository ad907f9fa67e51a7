//! `sulku audit due` and `delete-recording`: recordings whose retention is over, and the order to delete one.
//!
//! Lists what the entries say; the ledger checks the order again by itself, and records it before it deletes anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use sulku_audit::{Event, Recordings, Source, Trust};
use sulku_ledger::client::Client;
use sulku_permit::SessionId;

use super::words;
use crate::print::{amount, answer, table};

/// A recording, as its entries tell.
struct Kept {
    permit: String,
    until: Timestamp,
    chunks: u64,
    bytes: u64,
}

/// Lists the recordings that may be deleted at this time.
pub(super) fn list(source: &mut dyn Source, trust: &Trust, now: Timestamp) -> anyhow::Result<ExitCode> {
    let mut kept: BTreeMap<SessionId, Kept> = BTreeMap::new();
    let verified = sulku_audit::verify::verify(source, trust, Recordings::Skip, |_, entry, _| {
        let Some(session) = entry.session else { return };
        match &*entry.event {
            Event::RecordingBegun { keep_until, .. } => {
                let permit = entry.permit.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
                let recording = kept.entry(session).or_insert(Kept { permit, until: *keep_until, chunks: 0, bytes: 0 });
                recording.until = recording.until.max(*keep_until);
            }
            Event::RecordingChunk { length, .. } => {
                if let Some(recording) = kept.get_mut(&session) {
                    (recording.chunks, recording.bytes) = (recording.chunks + 1, recording.bytes + length);
                }
            }
            Event::RecordingDeleted { .. } => drop(kept.remove(&session)),
            _ => {}
        }
    })?;
    let all = kept.len();
    kept.retain(|_, recording| recording.until <= now);
    if !kept.is_empty() {
        let header = ["SESSION", "PERMIT", "KEPT UNTIL (UTC)", "CHUNKS", "SIZE"].map(str::to_owned).to_vec();
        let row = |(session, Kept { permit, until, chunks, bytes }): (&SessionId, &Kept)| {
            vec![session.to_string(), permit.clone(), words::time(*until), chunks.to_string(), amount(*bytes)]
        };
        answer(&table(&[header].into_iter().chain(kept.iter().map(row)).collect::<Vec<_>>()))?;
    }
    eprintln!("{} of {all} recordings may be deleted; {} entries, all verified", kept.len(), verified.entries());
    Ok(ExitCode::SUCCESS)
}

/// Has the ledger delete a recording.
pub(super) fn delete(ledger: &Path, session: SessionId) -> anyhow::Result<ExitCode> {
    let receipt = Client::connect(ledger)?.delete_recording(session)?;
    answer(&format!("the recording of session {session} is gone for good; entry {} says so\n", receipt.index()))?;
    Ok(ExitCode::SUCCESS)
}
