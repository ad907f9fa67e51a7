//! A holder at work: she opens a session, types, is shown what she asked for, loses her connection and comes back, and leaves. What goes wrong she
//! bears as a person would: what was not answered she types again, and whoever does not answer at all she dials anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sulku_client::{DialError, Event, Profile, Session, Terminal, Transport, connect};
use sulku_permit::PermitId;
use sulku_protocol::Stay;
use sulku_stage::MIRROR_NAME;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::dice::Dice;
use crate::story::{End, Part, Plan, Story};

/// What is not shown within this is typed again, or the gateway is dialled again.
const QUIET: Duration = Duration::from_secs(10);
/// What was asked for is shown within this, whatever happens meanwhile, or its session ends.
const PATIENCE: Duration = Duration::from_secs(150);
/// Between two attempts to come back.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
const SIZE: (u16, u16) = (80, 24);

/// Whose profile a session is opened with, while certificates come and go.
pub type Credential = Arc<Mutex<Arc<Profile>>>;

/// What all holders share.
#[derive(Clone)]
pub struct Hall {
    /// When the run began.
    pub began: Instant,
    /// Her certificate that nobody withdraws.
    pub lasting: Credential,
    /// Her certificate that will be withdrawn.
    pub passing: Credential,
    /// Who hears of each session. While that waits, so does she.
    pub told: mpsc::Sender<Story>,
}

/// Which of a holder's certificates a session is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that nobody withdraws.
    Lasting,
    /// The one that will be.
    Passing,
}

impl Hall {
    /// Has one session. Gives how it ended.
    pub async fn attend(&self, plan: Plan, transport: Transport, which: Which, dice: &mut Dice) -> Story {
        let credential = match which {
            Which::Lasting => &self.lasting,
            Which::Passing => &self.passing,
        };
        let profile = Arc::clone(&credential.lock().unwrap_or_else(PoisonError::into_inner));
        let from = self.began.elapsed();
        let mut story =
            Story { from, until: from, plan: plan.clone(), session: None, parts: Vec::new(), taken_up: 0, end: End::NotOpened(String::new()) };
        let terminal = Terminal { term: "xterm".to_owned(), columns: SIZE.0, rows: SIZE.1 };
        let permit: Option<PermitId> = plan.permit.parse().ok();
        match connect(&profile, transport, permit, None, terminal, Stay::Stays).await {
            Err(error) => story.end = End::NotOpened(reason(&error)),
            Ok(session) => {
                story.session = Some(session.welcome.session.to_string());
                story.parts.push(Part::default());
                let mut visit = Visit { profile: &profile, transport, session, story: &mut story, dice };
                let end = match visit.works().await {
                    Ok(()) => visit.leaves().await,
                    Err(end) => end,
                };
                let screen = visit.session.screen;
                let _gone = timeout(QUIET, screen.close()).await;
                story.end = end;
            }
        }
        story.until = self.began.elapsed();
        story
    }
}

fn reason(error: &DialError) -> String {
    match error {
        DialError::Refused(refused) => refused.code.to_string(),
        error if error.may_pass() => "not-reached".to_owned(),
        error => format!("{error}"),
    }
}

struct Visit<'a> {
    profile: &'a Profile,
    transport: Transport,
    session: Session,
    story: &'a mut Story,
    dice: &'a mut Dice,
}

/// What she saw.
enum Saw {
    Something,
    Nothing,
    /// Her session, over another connection.
    Another,
}

/// What came of waiting.
enum Came {
    Shown,
    /// It may have been lost on the way to the terminal.
    Nothing,
}

impl Visit<'_> {
    async fn works(&mut self) -> Result<(), End> {
        let Plan { number, commands, flood_lines, losses, thinks, reaches_out, .. } = self.story.plan;
        for command in 0..commands {
            // The echo of what is typed does not have what it makes.
            self.does(&format!("echo answer-$(({number}000 + {command}))"), &format!("answer-{}", number * 1000 + command)).await?;
            if command < losses {
                self.lets_go().await?;
            }
            let pause = self.dice.between(Duration::ZERO, thinks);
            self.thinks(pause).await?;
        }
        if reaches_out {
            let fetch = "exec 3<>/dev/tcp/$0/8080; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; echo fetched-$1-$(grep -c survival <&3)";
            self.does(&format!("timeout 8 bash -c '{fetch}' {MIRROR_NAME} {number}"), &format!("fetched-{number}-1")).await?;
            self.does(
                &format!("timeout 1 bash -c 'exec 3<>/dev/tcp/10.20.50.60/8080'; echo denied-{number}-$((2 - 1))"),
                &format!("denied-{number}-1"),
            )
            .await?;
        }
        self.does(&format!("seq -f 'flood-{number}-%.0f' {flood_lines}; echo over-$(({number} + 1))-"), &format!("over-{}-", number + 1)).await
    }

    /// Looks at her screen for so long.
    async fn thinks(&mut self, pause: Duration) -> Result<(), End> {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.sees(left).await?;
        }
        Ok(())
    }

    /// Types a command until what it makes is shown.
    async fn does(&mut self, line: &str, makes: &str) -> Result<(), End> {
        let began = Instant::now();
        let mut looked = self.shown_bytes();
        while began.elapsed() < PATIENCE {
            // Whatever was typed before and is not a whole line yet goes first.
            self.types(&format!("\x15{line}\r")).await;
            if matches!(self.waits_for(makes, &mut looked).await?, Came::Shown) {
                return Ok(());
            }
        }
        Err(End::Stuck(format!("no {makes:?} within {} s; the last shown is {:?}", PATIENCE.as_secs(), self.last())))
    }

    async fn types(&self, text: &str) {
        // While nothing is taken, typing waits; then what is not typed is typed again later.
        let _late = timeout(QUIET, self.session.keyboard.input(text.as_bytes())).await;
    }

    async fn waits_for(&mut self, text: &str, looked: &mut (usize, usize)) -> Result<Came, End> {
        let deadline = Instant::now() + QUIET;
        loop {
            if self.has_shown(text, looked) {
                return Ok(Came::Shown);
            }
            match self.sees(QUIET).await? {
                Saw::Something => {}
                // What was typed may have been lost with the connection.
                Saw::Another => return Ok(Came::Nothing),
                // A person who sees nothing for so long dials again, half of the time.
                Saw::Nothing => {
                    if self.dice.happens(500) {
                        self.comes_back().await?;
                    }
                    return Ok(Came::Nothing);
                }
            }
            // A flood takes as long as it takes.
            if Instant::now() >= deadline && !self.has_shown(text, looked) && !text.starts_with("over") {
                return Ok(Came::Nothing);
            }
        }
    }

    /// The next thing that is shown or said.
    async fn sees(&mut self, within: Duration) -> Result<Saw, End> {
        match timeout(within, self.session.screen.next()).await {
            Ok(Ok(Event::Output(bytes))) => self.shows(&bytes),
            Ok(Ok(Event::Notice(_))) => {}
            Ok(Ok(Event::Closed(closed))) => return Err(End::Closed(closed.reason)),
            Ok(Ok(Event::Detached(_)) | Err(_)) => {
                self.comes_back().await?;
                return Ok(Saw::Another);
            }
            Err(_) => return Ok(Saw::Nothing),
        }
        Ok(Saw::Something)
    }

    /// Leaves her connection without a word, and comes back over the other transport.
    async fn lets_go(&mut self) -> Result<(), End> {
        self.transport = if self.transport == Transport::Quic { Transport::Tls } else { Transport::Quic };
        self.comes_back().await
    }

    async fn comes_back(&mut self) -> Result<(), End> {
        let (began, mut pause) = (Instant::now(), PAUSES.0);
        loop {
            match self.session.screen.take_up(self.profile, self.transport, SIZE).await {
                Ok(taken) => {
                    let repeated = taken.welcome.resumed.map_or(0, |resumed| resumed.replay);
                    self.story.parts.push(Part { repeated: usize::try_from(repeated).unwrap_or(usize::MAX), bytes: Vec::new() });
                    self.story.taken_up += 1;
                    return Ok(());
                }
                Err(error) if !error.may_pass() => return Err(End::Gone(reason(&error))),
                Err(error) if began.elapsed() > PATIENCE => return Err(End::Stuck(format!("she can't come back: {error}"))),
                Err(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn leaves(&mut self) -> End {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            self.types("\x15exit\r").await;
            let mut looked = self.shown_bytes();
            // Nothing shows this: it waits for the end.
            if let Err(end) = self.waits_for("\0", &mut looked).await {
                return end;
            }
        }
        End::Stuck("the shell was left and the session is not closed".to_owned())
    }

    fn shows(&mut self, bytes: &[u8]) {
        self.session.screen.shown(bytes.len());
        if let Some(part) = self.story.parts.last_mut() {
            part.bytes.extend(bytes);
        }
    }

    /// The place behind the last byte that was shown: which connection, and where in it.
    fn shown_bytes(&self) -> (usize, usize) {
        let last = self.story.parts.len().saturating_sub(1);
        (last, self.story.parts.get(last).map_or(0, |part| part.bytes.len()))
    }

    /// Whether this was shown from that place on; the place moves to where the next look begins.
    fn has_shown(&self, text: &str, looked: &mut (usize, usize)) -> bool {
        while let Some(part) = self.story.parts.get(looked.0) {
            let rest = part.bytes.get(looked.1..).unwrap_or_default();
            if memchr::memmem::find(rest, text.as_bytes()).is_some() {
                return true;
            }
            if looked.0 + 1 == self.story.parts.len() {
                looked.1 = looked.1.max(part.bytes.len().saturating_sub(text.len()));
                return false;
            }
            *looked = (looked.0 + 1, 0);
        }
        false
    }

    fn last(&self) -> String {
        let bytes = self.story.parts.last().map_or(&[][..], |part| &part.bytes);
        String::from_utf8_lossy(bytes.get(bytes.len().saturating_sub(120)..).unwrap_or_default()).into_owned()
    }
}
