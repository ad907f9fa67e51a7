//! The environment that most tests share.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use sulku_stage::{Leftover, Options, PermitFile, Person, Stage};

/// Tiina's permit that closes idle sessions soon. She holds several, so she has to name one.
pub const IDLE: &str = "TEST/idle/2026";
/// Tiina's permit for short sessions.
pub const LONGEST: &str = "TEST/longest/2026";
/// Tiina's permit for one session at a time.
pub const SINGLE: &str = "TEST/single/2026";
/// Tiina's permit for sessions that she leaves and takes up again.
pub const AGAIN: &str = "TEST/again/2026";
/// And for such that nobody takes up again in time.
pub const ABANDONED: &str = "TEST/abandoned/2026";
/// And one that lists the mirror by its name.
pub const BY_NAME: &str = "TEST/by-name/2026";
/// And one for sessions from a single address.
pub const HERE_ALONE: &str = "TEST/here-alone/2026";
/// Seconds that Tiina may be idle with one permit, and that her longest session lasts with another.
pub const LIMIT_S: u64 = 3;

/// Where the tests connect from.
const SESSION: &str = "[session]\nfrom_networks = [\"127.0.0.0/8\"]\n";

static SHARED: Mutex<Option<Arc<Stage>>> = Mutex::new(None);

/// The shared environment, raised when it is first asked for.
///
/// # Errors
/// It can't be raised: the first test that asks says why, and so does every other.
pub fn shared() -> anyhow::Result<Arc<Stage>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(stage) = &*shared {
        return Ok(Arc::clone(stage));
    }
    let own = |id, workspace, tables: &str| PermitFile::bare(id, workspace, Person::Tiina, tables);
    let options = Options {
        permits: vec![
            own(IDLE, "idle", &format!("{SESSION}idle_disconnect = \"{LIMIT_S} s\"")),
            own(LONGEST, "longest", &format!("{SESSION}max_length = \"{LIMIT_S} s\"")),
            own(AGAIN, "again", &format!("{SESSION}max_per_person = 4\nidle_disconnect = \"2 min\"\nmax_detached = \"1 min\"")),
            own(ABANDONED, "abandoned", &format!("{SESSION}max_detached = \"{LIMIT_S} s\"")),
            own(HERE_ALONE, "here-alone", "[session]\nfrom_networks = [\"127.0.0.1/32\"]\nmax_detached = \"2 min\""),
            PermitFile::by_name(BY_NAME, "by-name", Person::Tiina),
            own(SINGLE, "single", &format!("{SESSION}max_per_person = 1")),
        ],
        ..Options::default()
    };
    let stage = Arc::new(Stage::raise(&options).context("the shared environment could not be raised")?);
    *shared = Some(Arc::clone(&stage));
    Ok(stage)
}

/// Takes the shared environment down, after the last test, and tells what is left of it.
pub fn close_shared() -> Vec<Leftover> {
    let stage = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
    stage.and_then(Arc::into_inner).map(Stage::close).unwrap_or_default()
}
