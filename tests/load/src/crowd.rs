//! An environment for more sessions than a small machine has room for cells, and that many sessions.

use std::sync::Arc;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use sulku_client::{Profile, Session, Terminal, Transport, connect};
use sulku_permit::PermitId;
use sulku_protocol::Stay;
use sulku_stage::{Daemon, Options, PermitFile, Person, Stage};

use crate::played::{Shows, Warden};

/// Sessions that a permit lets one person have.
const PER_PERMIT: usize = 64;

/// An environment in which so many sessions may be open, all of one person.
pub struct Crowd {
    /// It.
    pub stage: Stage,
    /// Whose cells are played, if they are.
    playing: Option<Warden>,
    permits: Vec<String>,
}

/// Who builds the cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// The real warden.
    Real,
    /// One that plays them.
    Played(Shows),
}

impl Crowd {
    /// Raises it. The daemons may have as many descriptors as the kernel lets this process have.
    ///
    /// # Errors
    /// It does not stand.
    pub fn raise(sessions: usize, cells: Cells) -> anyhow::Result<Self> {
        // A thousand connections and as many terminals are beyond what shells set.
        let most = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
        let workspaces: Vec<_> = (0..sessions.div_ceil(PER_PERMIT)).map(|number| format!("load-{number}")).collect();
        let permits: Vec<_> = workspaces.iter().map(|workspace| format!("TEST/{workspace}/2026")).collect();
        let limits = format!("[session]\nmax_per_person = {PER_PERMIT}\nfrom_networks = [\"127.0.0.0/8\"]\nmax_length = \"12 h\"\n");
        let files = permits.iter().zip(&workspaces).map(|(id, workspace)| PermitFile::bare(id, workspace, Person::Tiina, &limits)).collect();
        // Some end while others of the next round begin.
        let limits = format!("connections_per_address = {0}\nsessions = {0}", sessions + sessions / 2 + 100);
        let mut stage = Stage::raise(&Options { rows: 10, permits: files, limits, ..Options::default() })?;
        let playing = match cells {
            Cells::Real => None,
            Cells::Played(shows) => {
                stage.kill(Daemon::Gateway, Signal::TERM).context("the gateway ends")?;
                stage.kill(Daemon::Warden, Signal::TERM).context("the warden ends")?;
                let playing = Warden::at(&stage.warden_socket(), shows)?;
                stage.start(Daemon::Gateway)?;
                Some(playing)
            }
        };
        Ok(Self { stage, playing, permits })
    }

    /// The files of its permits, in the folder that operators write.
    pub fn permit_files(&self) -> impl Iterator<Item = std::path::PathBuf> {
        let folder = self.stage.folder().join("policies/permits");
        (0..self.permits.len()).map(move |number| folder.join(format!("load-{number}.toml")))
    }

    /// Its holder.
    ///
    /// # Errors
    /// Her profile can't be read.
    pub fn profile(&self) -> anyhow::Result<Arc<Profile>> {
        Ok(Arc::new(Profile::load(&self.stage.profile(Person::Tiina))?))
    }

    /// Opens the session of that number, in the permit that has room for it, with this command.
    ///
    /// # Errors
    /// It is refused.
    pub async fn open(&self, profile: &Profile, number: usize, transport: Transport, command: &[&str]) -> anyhow::Result<Session> {
        let permit = self.permits.get(number / PER_PERMIT).context("there are permits for as many sessions as were said")?;
        let permit: PermitId = permit.parse().map_err(|_| anyhow::anyhow!("{permit} is no permit's id"))?;
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let terminal = Terminal { term: "xterm".to_owned(), columns: 80, rows: 24 };
        connect(profile, transport, Some(permit), Some(command), terminal, Stay::Ends).await.with_context(|| format!("session {number}"))
    }

    /// Takes it down and tells what is left.
    ///
    /// # Errors
    /// Something is.
    pub fn close(self) -> anyhow::Result<()> {
        drop(self.playing);
        let left = self.stage.close();
        anyhow::ensure!(left.is_empty(), "something is left: {left:?}");
        Ok(())
    }
}

/// Half of the sessions come over QUIC, half over TLS.
#[must_use]
pub fn transport_of(number: usize) -> Transport {
    if number.is_multiple_of(2) { Transport::Quic } else { Transport::Tls }
}
