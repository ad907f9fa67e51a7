//! Keeps the daemons running as systemd would, and does to them what is planned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use sulku_client::Profile;
use sulku_stage::{Daemon, Person, Stage};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::{Filled, Slowed};
use crate::fault::Fault;
use crate::holder::Credential;
use crate::hostile::Hostile;
use crate::network::{Network, Weather};
use crate::rest::Most;
use crate::schedule::Due;
use crate::sinks::Sinks;
use crate::teller::Teller;
use crate::vitals::{SAMPLE_EVERY, Vitals};

/// As in the units: `RestartSec=1`.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// A daemon that can't be started for so long will not be.
const DOWN_MAX: Duration = Duration::from_secs(90);
/// Who holds the certificates that come and go.
const PERSON: Person = Person::Tiina;
/// Their serial numbers begin here, beyond those of the stage.
const SERIAL_FIRST: u64 = 50_000;

/// The daemons, and whoever keeps them.
pub struct Keeper {
    /// The environment.
    pub stage: Stage,
    /// Whom the courier carries the log to.
    pub sinks: Sinks,
    /// The network.
    pub network: Network,
    /// What daemons keep.
    pub vitals: Vitals,
    /// The most that there was of what must go with sessions.
    pub most: Most,
    /// What was done, and when it was over.
    pub done: Vec<(Duration, Duration, Fault)>,
    /// What nothing explains.
    pub troubles: Vec<String>,
    teller: Teller,
    hostile: Hostile,
    clock: Clock,
    seed: u64,
    passing: Credential,
    /// Certificates that were given, the newest of which is good.
    certificates: u64,
    taken_permit: PathBuf,
    down: BTreeMap<Daemon, Down>,
    under_way: Vec<UnderWay>,
    sampled: Instant,
}

struct Down {
    since: Instant,
    next: Instant,
}

/// Something that is being done.
struct UnderWay {
    began: Duration,
    until: Duration,
    fault: Fault,
    kept: Kept,
}

/// What has to be undone, or waited for.
enum Kept {
    Nothing,
    #[expect(dead_code, reason = "dropped, it frees the disk")]
    Filled(Filled),
    #[expect(dead_code, reason = "dropped, it lets the process go")]
    Slowed(Slowed),
    Stopped(u32),
    Hostile(JoinHandle<()>),
}

/// What a keeper is made from.
pub struct Made {
    pub stage: Stage,
    pub sinks: Sinks,
    pub network: Network,
    pub teller: Teller,
    pub hostile: Hostile,
    pub clock: Clock,
    pub seed: u64,
    /// The file of the permit that is revoked and given back.
    pub taken_permit: PathBuf,
}

impl Keeper {
    /// Takes it all over.
    ///
    /// # Errors
    /// A certificate can't be made.
    pub fn new(made: Made) -> anyhow::Result<Self> {
        let Made { stage, sinks, network, teller, hostile, clock, seed, taken_permit } = made;
        let passing = Arc::new(std::sync::Mutex::new(Arc::new(certified(&stage, 0)?)));
        Ok(Self {
            stage,
            sinks,
            network,
            vitals: Vitals::default(),
            most: Most::default(),
            done: Vec::new(),
            troubles: Vec::new(),
            teller,
            hostile,
            clock,
            seed,
            passing,
            certificates: 1,
            taken_permit,
            down: BTreeMap::new(),
            under_way: Vec::new(),
            sampled: Instant::now(),
        })
    }

    /// The run's time is counted from there.
    pub fn begins_at(&mut self, teller: Teller) {
        self.teller = teller;
    }

    /// The certificate that comes and goes.
    pub fn passing(&self) -> Credential {
        Arc::clone(&self.passing)
    }

    /// One look at everything: what has ended is started anew, what is over is undone.
    ///
    /// # Errors
    /// A daemon stays down.
    pub fn turn(&mut self, sessions: u64) -> anyhow::Result<()> {
        self.supervise()?;
        let now = self.now();
        for over in self.under_way.extract_if(.., |one| one.until <= now).collect::<Vec<_>>() {
            self.ends(over)?;
        }
        if self.sampled.elapsed() >= SAMPLE_EVERY {
            self.sampled = Instant::now();
            self.most.look(&self.stage);
            for daemon in all() {
                if let Some(pid) = self.stage.pid(daemon) {
                    self.vitals.sample(daemon, pid, now, sessions);
                }
            }
        }
        Ok(())
    }

    /// Ends what is still being done.
    ///
    /// # Errors
    /// It can't be undone.
    pub fn ends_all(&mut self) -> anyhow::Result<()> {
        for one in std::mem::take(&mut self.under_way) {
            self.ends(one)?;
        }
        Ok(())
    }

    /// Whether all daemons run.
    pub fn all_run(&self) -> bool {
        self.down.is_empty()
    }

    fn now(&self) -> Duration {
        self.teller.began().elapsed()
    }

    fn supervise(&mut self) -> anyhow::Result<()> {
        for daemon in all() {
            if self.stage.ended(daemon).is_some() {
                // It is told nothing: it has ended already, and this takes note of it.
                let status = self.stage.kill(daemon, Signal::TERM);
                let shown = status.map_or_else(|| "no status".to_owned(), |status| status.to_string());
                let now = self.now();
                let explained = self.faults_felt_at(now).any(|fault| fault.explains_end(daemon));
                if !explained || status.is_none_or(|status| status.code().is_none_or(|code| code == 101)) {
                    self.troubles.push(format!("{now:.1?}: the {} ended by itself, {shown}: {}", daemon.name(), last_lines(&self.stage.log(daemon))));
                }
                self.teller.says(format_args!("    the {} ended by itself ({shown})", daemon.name()));
                self.is_down(daemon);
            }
        }
        let due: Vec<_> = self.down.iter().filter(|(_, down)| down.next <= Instant::now()).map(|(daemon, _)| *daemon).collect();
        for daemon in due {
            match self.stage.start(daemon) {
                Ok(()) => {
                    let down = self.down.remove(&daemon).map_or(Duration::ZERO, |down| down.since.elapsed());
                    self.teller.says(format_args!("    the {} is back after {:.1} s", daemon.name(), down.as_secs_f64()));
                }
                Err(error) => {
                    let Some(down) = self.down.get_mut(&daemon) else { continue };
                    down.next = Instant::now() + RESTART_AFTER;
                    if down.since.elapsed() > DOWN_MAX {
                        return Err(error).with_context(|| format!("the {} stays down", daemon.name()));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_down(&mut self, daemon: Daemon) {
        let now = Instant::now();
        self.down.entry(daemon).or_insert(Down { since: now, next: now + RESTART_AFTER });
    }

    /// What was done so shortly before this moment, or is being done, that it may be felt.
    pub fn faults_felt_at(&self, moment: Duration) -> impl Iterator<Item = Fault> {
        let past = self.done.iter().filter(move |(from, until, _)| *from <= moment && moment <= *until + Fault::FELT_FOR).map(|(.., fault)| *fault);
        past.chain(self.under_way.iter().filter(move |one| one.began <= moment).map(|one| one.fault))
    }

    /// Does what is due.
    ///
    /// # Errors
    /// It can't be done.
    pub fn does(&mut self, due: &Due) -> anyhow::Result<()> {
        let Due { lasts, fault, .. } = *due;
        let time = if lasts.is_zero() { String::new() } else { format!(", for {:.1} s", lasts.as_secs_f64()) };
        self.teller.says(format_args!("{fault}{time}"));
        let began = self.now();
        let kept = self.begins(fault, lasts).with_context(|| fault.to_string())?;
        self.under_way.push(UnderWay { began, until: self.now() + lasts, fault, kept });
        Ok(())
    }

    fn begins(&mut self, fault: Fault, lasts: Duration) -> anyhow::Result<Kept> {
        let disk = || self.stage.ledger_disk().context("the ledger has a disk of its own");
        match fault {
            Fault::Killed(daemon) => {
                self.stage.kill(daemon, Signal::KILL);
                self.is_down(daemon);
            }
            // One that is being started anew can't be told anything.
            Fault::GatewayRestarted if self.stage.pid(Daemon::Gateway).is_none() => {}
            Fault::GatewayRestarted => {
                let status = self.stage.kill(Daemon::Gateway, Signal::TERM);
                if !status.is_some_and(|status| status.success()) {
                    self.troubles.push(format!("{:.1?}: the gateway did not stop in order: {status:?}", self.now()));
                }
                self.is_down(Daemon::Gateway);
            }
            Fault::DiskFull => return Ok(Kept::Filled(Filled::to_the_brim(disk()?)?)),
            Fault::DiskSlow(writes) => {
                if let Some(pid) = self.stage.pid(Daemon::Ledger) {
                    match Slowed::down(self.stage.instance(), pid, disk()?, writes) {
                        Ok(slowed) => return Ok(Kept::Slowed(slowed)),
                        Err(error) => self.teller.says(format_args!("    not done here: {error:#}")),
                    }
                }
            }
            Fault::LedgerStopped => {
                if let Some(pid) = self.stage.pid(Daemon::Ledger) {
                    signal(pid, Signal::STOP);
                    return Ok(Kept::Stopped(pid));
                }
            }
            Fault::ClockSet(seconds) => self.clock.is_ahead_by(seconds)?,
            Fault::SinkStalled => self.sinks.stall(),
            Fault::BadWeather(weather) => self.network.wire.is_now(weather),
            Fault::CutOff => self.network.wire.is_now(Weather::CUT),
            Fault::Moved => self.network.move_holders()?,
            Fault::CertificateRevoked => self.replaces_certificate()?,
            Fault::PermitRevoked => self.writes_permit("[permit]\n", "[permit]\nstatus = \"REVOKED\"\n")?,
            Fault::HalfOpen | Fault::Garbage | Fault::BadFrames | Fault::Strangers => {
                let (enter, hostile) = (self.network.enter()?, self.hostile.clone());
                let dice = Dice::new(self.seed, 1000 + self.done.len() as u64);
                let thread = std::thread::spawn(move || {
                    if enter().is_ok() {
                        hostile.does(fault, lasts, dice);
                    }
                });
                return Ok(Kept::Hostile(thread));
            }
        }
        Ok(Kept::Nothing)
    }

    fn ends(&mut self, over: UnderWay) -> anyhow::Result<()> {
        let UnderWay { began, fault, kept, .. } = over;
        match kept {
            Kept::Stopped(pid) => signal(pid, Signal::CONT),
            Kept::Hostile(thread) => drop(thread.join()),
            kept @ (Kept::Filled(_) | Kept::Slowed(_)) => drop(kept),
            Kept::Nothing => {}
        }
        match fault {
            Fault::ClockSet(_) => self.clock.is_ahead_by(0)?,
            Fault::SinkStalled => self.sinks.go_on(),
            Fault::BadWeather(_) | Fault::CutOff => self.network.wire.is_now(Weather::default()),
            Fault::PermitRevoked => self.writes_permit("[permit]\nstatus = \"REVOKED\"\n", "[permit]\n")?,
            _ => {}
        }
        self.done.push((began, self.now(), fault));
        Ok(())
    }

    /// Her new certificate first, so that nobody is without; then the old ones are withdrawn.
    fn replaces_certificate(&mut self) -> anyhow::Result<()> {
        let profile = Arc::new(certified(&self.stage, self.certificates)?);
        *self.passing.lock().unwrap_or_else(PoisonError::into_inner) = profile;
        let withdrawn: Vec<_> = (0..self.certificates).map(|number| SERIAL_FIRST + number).collect();
        self.certificates += 1;
        Ok(self.stage.authority().withdraw(&withdrawn)?)
    }

    fn writes_permit(&self, line: &str, instead: &str) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(&self.taken_permit)?;
        let beside = self.taken_permit.with_extension("next");
        std::fs::write(&beside, text.replace(line, instead))?;
        std::fs::rename(&beside, &self.taken_permit)?;
        self.stage.apply("soak")?;
        Ok(())
    }
}

/// Every daemon.
pub fn all() -> impl Iterator<Item = Daemon> {
    Daemon::ALL.iter().copied().chain([Daemon::Courier])
}

/// A profile with the person's certificate of that number.
fn certified(stage: &Stage, number: u64) -> anyhow::Result<Profile> {
    let name = format!("{}-{number}", PERSON.name());
    stage.authority().certify(PERSON, &name, SERIAL_FIRST + number)?;
    let lasting = stage.profile(PERSON);
    let text = std::fs::read_to_string(&lasting)?;
    let profile = lasting.with_file_name(format!("{name}.toml"));
    std::fs::write(&profile, text.replace(&format!("{}.", PERSON.name()), &format!("{name}.")))?;
    self::profile(&profile)
}

/// A profile as its holder's client reads it.
///
/// # Errors
/// What is wrong with it.
pub fn profile(profile: &Path) -> anyhow::Result<Profile> {
    Profile::load(profile).with_context(|| format!("{}", profile.display()))
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

/// The end of a log.
pub fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
