//! Watches the files of revoked certificates: loads them anew when they change, says so when one grows old, and has open sessions judged
//! by them each time. Decides nothing itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use sulku_audit::event::{Draft, Event};

use crate::daemon::Shared;
use crate::readmission;
use crate::revocation::{Age, List};
use crate::tls::Trust;
use crate::warden::chain;

/// Files and ages are looked at this often, so that a revoked certificate's sessions end within a second of it.
const LOOK: Duration = Duration::from_millis(500);

/// Watches until the gateway drains.
pub async fn watch(shared: Arc<Shared>) {
    let files: Vec<PathBuf> = shared.config.issuer.iter().map(|issuer| issuer.crl.clone()).collect();
    let seen = || files.iter().map(|file| std::fs::metadata(file).and_then(|data| data.modified()).ok()).collect::<Vec<Option<SystemTime>>>();
    let (mut before, mut ages) = (seen(), ages(&shared.trust(), Timestamp::now()));
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = shared.reload.notified() => before.clear(),
            () = shared.drain.cancelled() => return,
        }
        let (looked, now) = (seen(), Timestamp::now());
        if looked != before {
            before = looked;
            match shared.trust().reload(&shared.config) {
                Ok(trust) => {
                    let drafts = drafts(&trust, now);
                    ages = self::ages(&trust, now);
                    shared.set_trust(trust);
                    readmission::readmit(&shared);
                    record(&shared, drafts).await;
                    continue;
                }
                // What was in force stays so; the file is read again when it changes again.
                Err(error) => tracing::error!(error = %chain(&error), "revocation lists not reloaded; those from before stay in force"),
            }
        }
        let trust = shared.trust();
        let older = self::ages(&trust, now);
        if older != ages {
            let grown = trust.lists().iter().zip(ages.iter().zip(&older)).filter(|(_, (before, after))| after > before);
            let drafts = grown.filter_map(|(list, _)| stale(list, now)).collect();
            ages = older;
            readmission::readmit(&shared);
            record(&shared, drafts).await;
        }
    }
}

/// What the ledger is to be told of lists that are put in force: each of them, and each that is old.
pub fn drafts(trust: &Trust, now: Timestamp) -> Vec<Draft> {
    let loaded = |list: &List| Draft::new(Event::CrlLoaded { file: list.file().display().to_string(), sha256: list.sha256().to_owned() });
    trust.lists().iter().flat_map(|list| std::iter::once(loaded(list)).chain(stale(list, now))).collect()
}

fn ages(trust: &Trust, now: Timestamp) -> Vec<Age> {
    trust.lists().iter().map(|list| list.age(now)).collect()
}

/// The entry of a list that is old; the operator's log has it, too.
fn stale(list: &List, now: Timestamp) -> Option<Draft> {
    let effect = match list.age(now) {
        Age::Fresh => return None,
        Age::Stale => "alarm",
        Age::TooOld => "refused",
    };
    let (file, made) = (list.file().display().to_string(), list.made());
    let age_s = u64::try_from(now.duration_since(made).as_secs()).unwrap_or_default();
    tracing::error!(file, age_s, effect, "a list of revoked certificates is old; put a new one in its place");
    Some(Draft::new(Event::CrlStale { file, made, age_s, effect: effect.to_owned() }))
}

async fn record(shared: &Shared, drafts: Vec<Draft>) {
    for draft in drafts {
        if let Err(error) = shared.ledger.append(draft).await {
            tracing::error!(%error, "revocation list in force, but not recorded");
        }
    }
}
