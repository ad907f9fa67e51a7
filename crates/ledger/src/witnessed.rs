//! Whether witnesses have seen the log of late, and what follows when they have not.
//!
//! A state machine: cosigned checkpoints and the time go in, effects and entries come out. Its clock is the monotonic one, so that
//! nobody makes the log look watched by setting a clock; a cosignature's own time only has to be recent by the wall clock, so that
//! nobody hands in old ones later. Asks no witness: that is the courier's work, whom nothing here trusts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sulku_audit::checkpoint::CheckpointError;
use sulku_audit::policy::TrustError;
use sulku_audit::source::COSIGNED;
use sulku_audit::{Checkpoint, Event, LogKeys, Trust};

use crate::config::WitnessSettings;
use crate::disk::RealDisk;
use crate::files::{FileError, replace};

/// How far a witness's clock may be ahead of this host's.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);

/// What follows from the age of the last cosignature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// All goes on.
    Nothing,
    /// `session.opened` is refused.
    NoNewSessions,
    /// Recordings' chunks are refused too, so sessions freeze and end.
    Freeze,
}

impl Effect {
    /// As `ledger.unwitnessed` says it.
    const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::NoNewSessions => "no-new-sessions",
            Self::Freeze => "frozen",
        }
    }
}

/// A cosigned checkpoint that is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCosigned {
    /// It lacks what the settings ask for.
    #[error("it is not cosigned as [witness] asks: {0}")]
    Trust(#[from] CheckpointError),
    /// The cosignatures are old, or from the future.
    #[error("the cosignatures are {0} s old by this host's clock; ask the witnesses again, and see that the clocks agree")]
    Stale(i64),
    /// The settings ask for none.
    #[error("no witness is asked for; name them in [witness] of the ledger's configuration")]
    NotAsked,
    /// It could not be kept.
    #[error("it could not be kept: {0}")]
    File(#[from] FileError),
    /// The witnesses have seen more than there is, or something else: this is not the log that they know.
    #[error(
        "the witnesses have cosigned {theirs} entries, this log has published {ours}: it was put back to an earlier state, or goes on \
         differently than what they have seen"
    )]
    Fork {
        /// Entries that they have cosigned.
        theirs: u64,
        /// Entries of this log's last checkpoint.
        ours: u64,
    },
}

/// What the witnesses have seen, and since when.
pub(crate) struct Witnessed {
    asked: Option<Asked>,
}

struct Asked {
    trust: Trust,
    settings: WitnessSettings,
    file: PathBuf,
    size: u64,
    /// On the monotonic clock: when the last cosigned checkpoint came, or the ledger started.
    since: Duration,
    /// The newest of its cosignatures' times, in seconds since 1970.
    newest: u64,
    effect: Effect,
}

impl Witnessed {
    /// Nothing has been seen since the start, at `now` on the monotonic clock.
    ///
    /// # Errors
    /// The settings' quorum can't be reached.
    pub(crate) fn new(keys: LogKeys, settings: Option<WitnessSettings>, directory: &Path, now: Duration) -> Result<Self, TrustError> {
        let asked = settings.map(|settings| {
            let trust = Trust::with_witnesses(keys, &settings.keys, settings.quorum)?;
            let file = directory.join(COSIGNED);
            Ok::<_, TrustError>(Asked { trust, settings, file, size: 0, since: now, newest: 0, effect: Effect::Nothing })
        });
        Ok(Self { asked: asked.transpose()? })
    }

    /// What follows at the moment, as of the last [`Witnessed::tick`] or [`Witnessed::accept`].
    pub(crate) fn effect(&self) -> Effect {
        self.asked.as_ref().map_or(Effect::Nothing, |asked| asked.effect)
    }

    /// How long ago the last cosigned checkpoint came; `None` where none is asked for.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        self.asked.as_ref().map(|asked| now.saturating_sub(asked.since))
    }

    /// Time passes. Gives the entry that is due, once for each effect.
    pub(crate) fn tick(&mut self, now: Duration) -> Option<Event> {
        let asked = self.asked.as_mut()?;
        let age = now.saturating_sub(asked.since);
        let effect = match age {
            age if age >= asked.settings.freeze_after => Effect::Freeze,
            age if age >= asked.settings.no_new_sessions_after => Effect::NoNewSessions,
            _ => Effect::Nothing,
        };
        if effect <= asked.effect {
            return None;
        }
        asked.effect = effect;
        Some(Event::LedgerUnwitnessed { age_s: age.as_secs(), effect: effect.name().to_owned() })
    }

    /// A cosigned checkpoint comes. `published` is the last one that is out; `wall` is seconds since 1970. Keeps the note and gives the
    /// entry that is due.
    ///
    /// # Errors
    /// It is not taken. [`NotCosigned::Fork`] means that this log must not go on.
    pub(crate) fn accept(&mut self, note: &str, published: &Checkpoint, now: Duration, wall: u64) -> Result<Option<Event>, NotCosigned> {
        let asked = self.asked.as_mut().ok_or(NotCosigned::NotAsked)?;
        let opened = asked.trust.open(note.as_bytes())?;
        let Checkpoint { size, root, .. } = opened.checkpoint;
        // The log's own keys have signed it, so a larger tree, or another one of this size, was signed here and then lost.
        if size > published.size || size == published.size && root != published.root {
            return Err(NotCosigned::Fork { theirs: size, ours: published.size });
        }
        let times = opened.cosigned.iter().map(|(_, signed)| signed.time().unwrap_or(0));
        let (oldest, newest) = times.fold((u64::MAX, 0), |(oldest, newest), time| (oldest.min(time), newest.max(time)));
        let limit = asked.settings.no_new_sessions_after.as_secs().max(1);
        if oldest.saturating_add(limit) < wall || newest > wall.saturating_add(CLOCK_SKEW_MAX.as_secs()) {
            return Err(NotCosigned::Stale(wall.cast_signed().saturating_sub(oldest.cast_signed())));
        }
        // An answer that was overtaken, or comes again: not wrong, and nothing new.
        if (size, newest) <= (asked.size, asked.newest) {
            return Ok(None);
        }
        replace(&RealDisk, &asked.file, note.as_bytes())?;
        (asked.size, asked.newest, asked.since) = (size, newest, now);
        let before = std::mem::replace(&mut asked.effect, Effect::Nothing);
        Ok((before > Effect::Nothing).then_some(Event::LedgerWitnessed { size }))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

    use sulku_audit::key::Algorithm;
    use sulku_audit::{Hash, LogSigner, SecretKey};

    use super::*;

    const ORIGIN: &str = "test.example/audit";
    const WALL: u64 = 1_790_000_000;

    fn signer() -> LogSigner {
        LogSigner::from_seeds(ORIGIN, &[1; 32], &[2; 32]).unwrap()
    }

    fn witness() -> SecretKey {
        SecretKey::from_seed("w.example", Algorithm::MlDsa44, &[3; 32]).unwrap()
    }

    fn at(size: u64) -> Checkpoint {
        Checkpoint { origin: ORIGIN.to_owned(), size, root: Hash::from_bytes([u8::try_from(size).unwrap(); 32]) }
    }

    fn cosigned(checkpoint: &Checkpoint, time: u64) -> String {
        signer().sign(checkpoint, time) + &witness().sign(checkpoint, time)
    }

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn machine(folder: &Path) -> Witnessed {
        let settings =
            WitnessSettings { keys: vec![witness().public().clone()], quorum: 1, no_new_sessions_after: seconds(10), freeze_after: seconds(30) };
        Witnessed::new(signer().own_keys(), Some(settings), folder, seconds(100)).unwrap()
    }

    #[test]
    fn without_cosignatures_first_nothing_opens_and_then_all_freezes() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = machine(folder.path());
        assert_eq!((machine.tick(seconds(109)), machine.effect()), (None, Effect::Nothing));
        let said = machine.tick(seconds(110)).unwrap();
        assert_eq!(said, Event::LedgerUnwitnessed { age_s: 10, effect: "no-new-sessions".to_owned() });
        assert_eq!((machine.tick(seconds(111)), machine.effect()), (None, Effect::NoNewSessions), "said once");
        assert_eq!(machine.tick(seconds(130)), Some(Event::LedgerUnwitnessed { age_s: 30, effect: "frozen".to_owned() }));
        assert_eq!(machine.effect(), Effect::Freeze);
        let entry = machine.accept(&cosigned(&at(5), WALL), &at(5), seconds(131), WALL).unwrap();
        assert_eq!((entry, machine.effect()), (Some(Event::LedgerWitnessed { size: 5 }), Effect::Nothing));
        assert_eq!(machine.age(seconds(133)), Some(seconds(2)));
        assert_eq!(std::fs::read_to_string(folder.path().join(COSIGNED)).unwrap(), cosigned(&at(5), WALL));
    }

    #[test]
    fn a_quiet_log_stays_witnessed_by_new_cosignatures_and_not_by_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = machine(folder.path());
        let accept = |machine: &mut Witnessed, size, time, now, wall| machine.accept(&cosigned(&at(size), time), &at(9), seconds(now), wall);
        assert!(accept(&mut machine, 9, WALL, 105, WALL).unwrap().is_none());
        assert_eq!(machine.age(seconds(105)), Some(seconds(0)));
        assert!(accept(&mut machine, 9, WALL, 112, WALL + 7).unwrap().is_none());
        assert_eq!(machine.age(seconds(112)), Some(seconds(7)), "the same again is nothing new");
        assert!(accept(&mut machine, 8, WALL + 7, 112, WALL + 7).unwrap().is_none());
        assert_eq!(machine.age(seconds(112)), Some(seconds(7)), "nor is a smaller one");
        assert!(accept(&mut machine, 9, WALL + 7, 112, WALL + 7).unwrap().is_none());
        assert_eq!(machine.age(seconds(112)), Some(seconds(0)));
        let stash = accept(&mut machine, 9, WALL + 8, 140, WALL + 35);
        assert!(matches!(stash, Err(NotCosigned::Stale(27))), "what was held back counts no more");
        assert!(matches!(accept(&mut machine, 9, WALL + 200, 140, WALL + 35), Err(NotCosigned::Stale(_))), "nor the future");
        assert_eq!(machine.age(seconds(112)), Some(seconds(0)), "what was refused changed nothing");
    }

    #[test]
    fn a_log_that_was_put_back_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = machine(folder.path());
        let larger = machine.accept(&cosigned(&at(9), WALL), &at(5), seconds(101), WALL);
        assert!(matches!(larger, Err(NotCosigned::Fork { theirs: 9, ours: 5 })));
        let other = Checkpoint { root: Hash::from_bytes([77; 32]), ..at(5) };
        assert!(matches!(machine.accept(&cosigned(&other, WALL), &at(5), seconds(101), WALL), Err(NotCosigned::Fork { .. })));
    }

    #[test]
    fn what_the_policy_does_not_ask_for_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let mut machine = machine(folder.path());
        let bare = machine.accept(&signer().sign(&at(5), WALL), &at(5), seconds(101), WALL);
        assert!(matches!(bare, Err(NotCosigned::Trust(CheckpointError::Quorum(_)))));
        let stranger = SecretKey::from_seed("w.example", Algorithm::MlDsa44, &[4; 32]).unwrap();
        let by_stranger = signer().sign(&at(5), WALL) + &stranger.sign(&at(5), WALL);
        assert!(machine.accept(&by_stranger, &at(5), seconds(101), WALL).is_err());
        let another_log = LogSigner::from_seeds(ORIGIN, &[8; 32], &[9; 32]).unwrap();
        assert!(machine.accept(&(another_log.sign(&at(5), WALL) + &witness().sign(&at(5), WALL)), &at(5), seconds(101), WALL).is_err());
        assert!(!folder.path().join(COSIGNED).exists());
        let mut nobody = Witnessed::new(signer().own_keys(), None, folder.path(), seconds(0)).unwrap();
        assert_eq!((nobody.tick(seconds(u64::MAX)), nobody.effect(), nobody.age(seconds(1))), (None, Effect::Nothing, None));
        assert!(matches!(nobody.accept(&cosigned(&at(5), WALL), &at(5), seconds(1), WALL), Err(NotCosigned::NotAsked)));
    }
}
