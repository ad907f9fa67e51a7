//! Watches the policy's store, records what comes of it, and puts a revision in force once that is recorded.
//!
//! What counts is [`crate::policy`]'s to decide, what becomes of open sessions [`crate::readmission`]'s.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sulku_audit::event::{Draft, Event, Extent, HeldPermit};
use sulku_permit::PermitId;
use sulku_policy::diff;

use crate::daemon::Shared;
use crate::ledger::AppendError;
use crate::policy::{Current, Look, PolicyStore, Refused};
use crate::readmission;

/// The store is looked at this often, so that a revocation has ended its sessions within a second.
const LOOK: Duration = Duration::from_millis(250);
/// After a change the store is read so often more: the next change may come within the same tick of the file system's clock.
const LOOKS_AFTER_CHANGE: u8 = 2;
/// Of what is wrong or changes, so many bytes go into an entry: JSON may double them, sealed they are a third more, and an entry has 32 KiB.
const TOLD_BYTES_MAX: usize = 8 * 1024;
/// The longest line of them.
const LINE_CHARS_MAX: usize = 500;

/// What is in force when the gateway starts.
pub struct Start {
    /// The policy; empty if none could be put in force.
    pub current: Current,
    /// What the ledger is to be told before anybody is admitted by it.
    pub drafts: Vec<Draft>,
    /// What the store looked like before it was read, and what was refused in it.
    pub seen: Seen,
}

/// What is known of the store.
pub struct Seen {
    look: Look,
    refused: Option<Vec<String>>,
}

/// Reads the store for the first time.
#[must_use]
pub fn start(store: &PolicyStore) -> Start {
    let (look, none) = (store.look(), Current::default());
    match store.next(&none) {
        Ok(current) => {
            let current = current.unwrap_or_default();
            Start { drafts: activated(&none, &current), current, seen: Seen { look, refused: None } }
        }
        Err(error) => {
            let problems = complain(&error);
            Start { drafts: vec![refused(&none, problems.clone())], current: none, seen: Seen { look, refused: Some(problems) } }
        }
    }
}

/// Watches until the gateway drains.
pub async fn watch(shared: Arc<Shared>, seen: Seen) {
    let Seen { mut look, refused: mut told } = seen;
    let mut more = LOOKS_AFTER_CHANGE;
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.reload.notified() => more = LOOKS_AFTER_CHANGE,
            () = shared.drain.cancelled() => return,
        }
        let now = shared.store.look();
        if now != look {
            more = LOOKS_AFTER_CHANGE;
        } else if more == 0 {
            continue;
        } else {
            more -= 1;
        }
        look = now;
        let (store, before) = (Arc::clone(&shared.store), shared.policy());
        let Ok(next) = tokio::task::spawn_blocking(move || store.next(&before)).await else { return };
        match next {
            Ok(None) => told = None,
            Ok(Some(next)) => match put_in_force(&shared, next).await {
                Ok(()) => told = None,
                Err(error) => {
                    tracing::error!(%error, "a revision of the policy could not be recorded, and so is not in force; tried again");
                    more = LOOKS_AFTER_CHANGE;
                }
            },
            Err(error) => {
                let problems = refused_problems(&error);
                if told.as_ref() != Some(&problems) {
                    complain(&error);
                    if let Err(error) = shared.ledger.append(refused(&shared.policy(), problems.clone())).await {
                        tracing::error!(%error, "a refused revision of the policy could not be recorded");
                    }
                    told = Some(problems);
                }
            }
        }
    }
}

/// No record, no effect.
async fn put_in_force(shared: &Shared, next: Current) -> Result<(), AppendError> {
    let before = shared.policy();
    for draft in activated(&before, &next) {
        shared.ledger.append(draft).await?;
    }
    let next = Arc::new(next);
    shared.set_policy(Arc::clone(&next));
    tracing::info!(policy = next.name(), "a revision of the policy is in force");
    on_revision(shared);
    Ok(())
}

/// Another revision is in force: whoever it no longer admits is not to stay.
fn on_revision(shared: &Shared) {
    readmission::readmit(shared);
}

/// The operator's log has all problems; the ledger has those that an entry has room for.
fn complain(error: &Refused) -> Vec<String> {
    let problems = refused_problems(error);
    problems.iter().for_each(|problem| tracing::error!(problem, "the policy in the store is refused; what was in force stays so"));
    problems
}

fn refused_problems(error: &Refused) -> Vec<String> {
    fitting(error.problems())
}

fn refused(before: &Current, problems: Vec<String>) -> Draft {
    Draft::new(Event::PolicyRefused { in_force: before.number(), problems: problems.into() })
}

/// What the ledger is told of a revision that comes into force.
fn activated(before: &Current, next: &Current) -> Vec<Draft> {
    let Some(in_force) = next.in_force() else { return Vec::new() };
    let (revision, approvers) = (in_force.revision(), in_force.approved().approvers().to_vec());
    let event = Event::PolicyActivated {
        number: revision.number(),
        sha256: revision.digest().to_string(),
        before: before.number(),
        files: revision.files().len() as u64,
        signatures: approvers.len() as u64,
        approvers: approvers.into(),
        reason: revision.reason().to_owned().into(),
        changes: fitting(diff(before.meaning(), next.meaning()).iter().map(ToString::to_string).collect()).into(),
    };
    let mut drafts = vec![Draft { person: Some(revision.by().clone()), ..Draft::new(event) }];
    drafts.extend(holders(before, next, revision.number()));
    drafts
}

/// Who holds which permit, in as many entries as it takes: of all permits at start, of those that changed later.
fn holders(before: &Current, next: &Current, number: u64) -> Vec<Draft> {
    let extent = if before.in_force().is_some() { Extent::Changes } else { Extent::Whole };
    let held = |current: &Current, id: &PermitId| -> Vec<_> {
        current.permits().get(id).map(|permit| permit.holders.iter().map(|holder| holder.id.clone()).collect()).unwrap_or_default()
    };
    let all: BTreeSet<&PermitId> = before.permits().iter().chain(next.permits().iter()).map(|permit| &permit.id).collect();
    let mut parts: Vec<Vec<HeldPermit>> = vec![Vec::new()];
    let mut bytes = 0;
    for id in all {
        let holders = held(next, id);
        if extent == Extent::Changes && holders == held(before, id) {
            continue;
        }
        // Names, and what JSON puts around them.
        let more = id.as_str().len() + 32 + holders.iter().map(|holder| holder.as_str().len() + 3).sum::<usize>();
        if bytes + more > TOLD_BYTES_MAX && bytes > 0 {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push(HeldPermit { permit: id.clone(), holders });
        }
    }
    if extent == Extent::Changes && bytes == 0 {
        return Vec::new();
    }
    let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    (1..).zip(parts).map(|(part, permits)| Draft::new(Event::PolicyHolders { number, extent, part, parts: of, permits: permits.into() })).collect()
}

/// As many lines as there is room for, and how many more there are.
fn fitting(lines: Vec<String>) -> Vec<String> {
    let (mut told, mut bytes, all) = (Vec::new(), 0, lines.len());
    for line in lines {
        let line: String = line.chars().take(LINE_CHARS_MAX).collect();
        bytes += line.len() + 3;
        if bytes > TOLD_BYTES_MAX {
            told.push(format!("and {} more", all - told.len()));
            break;
        }
        told.push(line);
    }
    told
}
