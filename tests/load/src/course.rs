//! What one session does from its opening to its close, and what it was shown meanwhile.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sulku_client::{Event, Profile, Session, Terminal, Transport, connect, take_up};
use sulku_permit::{PermitId, SessionId};
use sulku_protocol::Stay;

/// What is waited for comes within this, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// What a session does.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// Commands that are typed, one after the other, each answered.
    pub commands: u32,
    /// Lines of each of two floods. The connection is lost in the middle of the second.
    pub flood_lines: u32,
    /// How often its connection is lost, and another takes the session up; beyond the first, at the prompt.
    pub losses: u32,
}

/// What one session was shown.
#[derive(Debug)]
pub struct Seen {
    /// Which.
    pub session: SessionId,
    /// What each of its connections was shown, in order.
    pub parts: Vec<Part>,
}

/// What one connection was shown.
#[derive(Debug, Default)]
pub struct Part {
    /// So many of its first bytes had been shown before.
    pub repeated: usize,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

impl Seen {
    /// All bytes that came, those that came again included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes.len()).sum()
    }
}

/// Runs a session over that course. `number` is its own, and shows in all that it is shown, so that no two sessions are shown the same.
/// The connections alternate between `transport` and the other one.
///
/// # Errors
/// It is refused, or something that it waits for does not come.
pub async fn walk(profile: &Profile, transport: Transport, permit: &PermitId, course: Course, number: u32) -> anyhow::Result<Seen> {
    let terminal = Terminal { term: "xterm".to_owned(), columns: COLUMNS, rows: ROWS };
    let session = connect(profile, transport, Some(permit.clone()), None, terminal, Stay::Stays).await.context("opening it")?;
    let mut walk = Walk { profile, transport, session, parts: vec![Part::default()] };
    walk.shown("$ ").await.context("its prompt")?;
    for command in 0..course.commands {
        // The echo of what is typed does not have what it makes.
        walk.types(&format!("echo answer-$(({number}000 + {command}))\r")).await?;
        walk.shown(&format!("answer-{}", u64::from(number) * 1000 + u64::from(command))).await.context("an answer")?;
    }
    let columns = COLUMNS + u16::try_from(number % 100)? + 1;
    walk.session.keyboard.resize(columns, ROWS).await?;
    walk.types("stty size\r").await?;
    walk.shown(&format!("{ROWS} {columns}\r")).await.context("its new size")?;
    walk.floods("first", number, course.flood_lines).await?;
    walk.shown(&format!("first-over-{}", number + 1)).await.context("the end of a flood")?;
    walk.floods("second", number, course.flood_lines).await?;
    if course.losses > 0 {
        // It has begun, and there is more of it than is ever on its way.
        walk.shown(&format!("second-{number}-10")).await?;
        walk = walk.loses_its_connection().await?;
    }
    walk.shown(&format!("second-over-{}", number + 1)).await.context("the end of a flood")?;
    for loss in 1..course.losses {
        walk = walk.loses_its_connection().await?;
        walk.types(&format!("echo back-$(({number}000 + {loss}))\r")).await?;
        walk.shown(&format!("back-{}", u64::from(number) * 1000 + u64::from(loss))).await.context("an answer after a loss")?;
    }
    walk.types("exit\r").await?;
    walk.closes().await
}

/// A session on its way.
struct Walk<'a> {
    profile: &'a Profile,
    transport: Transport,
    session: Session,
    parts: Vec<Part>,
}

impl Walk<'_> {
    async fn types(&self, text: &str) -> anyhow::Result<()> {
        Ok(tokio::time::timeout(PATIENCE, self.session.keyboard.input(text.as_bytes())).await.context("typing takes too long")??)
    }

    async fn floods(&self, name: &str, number: u32, lines: u32) -> anyhow::Result<()> {
        self.types(&format!("seq -f '{name}-{number}-%.0f' {lines}; echo {name}-over-$(({number} + 1))\r")).await
    }

    /// Waits until this was shown by this connection, for the first time since it stands.
    async fn shown(&mut self, text: &str) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut looked = 0;
        loop {
            let part = self.part();
            let rest = part.bytes.get(looked..).unwrap_or_default();
            if rest.windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
                return Ok(());
            }
            looked = part.bytes.len().saturating_sub(text.len());
            let next = tokio::time::timeout_at(deadline, self.session.screen.next()).await;
            match next.with_context(|| format!("no {text:?}; the last shown is {:?}", self.last()))?? {
                Event::Output(bytes) => {
                    self.session.screen.shown(bytes.len());
                    self.part().bytes.extend(bytes);
                }
                Event::Notice(_) => {}
                Event::Closed(closed) => bail!("closed before {text:?} was shown: {closed:?}; the last shown is {:?}", self.last()),
                Event::Detached(detached) => bail!("detached before {text:?} was shown: {detached:?}"),
            }
        }
    }

    /// The connection is gone from one moment to the next, and another one takes the session up.
    async fn loses_its_connection(self) -> anyhow::Result<Self> {
        let Self { profile, transport, session, mut parts } = self;
        let transport = if transport == Transport::Quic { Transport::Tls } else { Transport::Quic };
        let id = session.welcome.session;
        drop(session);
        let session = take_up(profile, transport, id, (COLUMNS, ROWS)).await.context("taking it up again")?;
        let resumed = session.welcome.resumed.context("a session that is taken up says what it repeats")?;
        parts.push(Part { repeated: usize::try_from(resumed.replay)?, bytes: Vec::new() });
        Ok(Self { profile, transport, session, parts })
    }

    async fn closes(mut self) -> anyhow::Result<Seen> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(deadline, self.session.screen.next()).await;
            match next.context("it is not closed")?? {
                Event::Output(bytes) => {
                    self.session.screen.shown(bytes.len());
                    self.part().bytes.extend(bytes);
                }
                Event::Notice(_) => {}
                Event::Closed(closed) => {
                    ensure!(closed.reason == "shell-exited", "{closed:?}");
                    let session = self.session.welcome.session;
                    self.session.screen.close().await;
                    return Ok(Seen { session, parts: self.parts });
                }
                Event::Detached(detached) => bail!("detached at its end: {detached:?}"),
            }
        }
    }

    fn part(&mut self) -> &mut Part {
        self.parts.last_mut().expect("there is a part for each connection, and a connection from the start")
    }

    fn last(&self) -> String {
        let bytes = self.parts.last().map_or(&[][..], |part| &part.bytes);
        String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(200)..).unwrap_or_default()).into_owned()
    }
}
