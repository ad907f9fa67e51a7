//! Our side: a whole environment from throw-away parts, its daemons processes of their own, and its holder.

use std::sync::Arc;

use anyhow::Context as _;
use sulku_client::{Profile, Transport};
use sulku_permit::PermitId;
use sulku_stage::{Daemon, Options, PermitFile, Person, Stage};

use crate::side::Side;

/// A permit that shows what is durable.
pub const STRICT: &str = "TEST/strict/2026";
/// A permit that shows at once, within its window.
pub const WINDOWED: &str = "TEST/windowed/2026";
/// Sessions that each permit allows one person: the most that any may.
pub const SESSIONS_MAX: usize = 64;

/// An environment that runs.
pub struct Ours {
    /// It.
    pub stage: Stage,
    profile: Arc<Profile>,
}

impl Ours {
    /// Raises it.
    ///
    /// # Errors
    /// It does not stand; with what its daemons say.
    pub fn raise() -> anyhow::Result<Self> {
        let options = Options { rows: 10, permits: permits(), limits: "connections_per_address = 8000".to_owned(), ..Options::default() };
        let stage = Stage::raise(&options)?;
        let profile = Arc::new(Profile::load(&stage.profile(Person::Tiina))?);
        Ok(Self { stage, profile })
    }

    /// Its holder, over that transport, under that permit.
    ///
    /// # Errors
    /// The permit's id is none.
    pub fn side(&self, transport: Transport, permit: &str) -> anyhow::Result<Side> {
        let permit: PermitId = permit.parse().ok().context("a permit's id")?;
        Ok(Side::Ours(Arc::clone(&self.profile), transport, permit))
    }

    /// Who she is.
    #[must_use]
    pub fn profile(&self) -> Arc<Profile> {
        Arc::clone(&self.profile)
    }

    /// The process ids of gateway, ledger and warden.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn pids(&self) -> anyhow::Result<Vec<u32>> {
        Daemon::ALL.iter().map(|daemon| self.stage.pid(*daemon).with_context(|| format!("the {} has ended", daemon.name()))).collect()
    }
}

fn permits() -> Vec<PermitFile> {
    let tables = |durability| {
        format!(
            "[session]\nfrom_networks = [\"127.0.0.0/8\"]\nmax_per_person = {SESSIONS_MAX}\n\n[resources]\nmemory = \"1 GiB\"\nprocesses = 128\ncpus = 2.0\n\n\
             [recording]\nterminal = \"output-and-input-timing\"\ndurability = \"{durability}\"\nretention = \"5 y\"\n"
        )
    };
    let own = |id, workspace, durability| PermitFile::bare(id, workspace, Person::Tiina, &tables(durability));
    vec![own(STRICT, "strict", "strict"), own(WINDOWED, "windowed", "windowed")]
}
