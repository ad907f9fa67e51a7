//! A run from its beginning to its verdict.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::bail;
use sulku_stage::{Daemon, Interrupt, MIRROR_NAME, Options, PermitFile, Person, Stage};

use crate::auditor::Auditor;
use crate::checked::Checkers;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::fault::Fault;
use crate::holder::Hall;
use crate::hostile::Hostile;
use crate::keeper::{Keeper, Made, all, last_lines, profile};
use crate::load::{self, Load, STRICT, TAKEN, WINDOWED};
use crate::network::{GATEWAY, Network};
use crate::rest::Rest;
use crate::schedule::Schedule;
use crate::sinks::Sinks;
use crate::teller::Teller;
use crate::verdict::{self, Check};

/// Between two looks at everything.
const LOOK: Duration = Duration::from_millis(50);
/// It says how far it is so often.
const SAYS_EVERY: Duration = Duration::from_secs(60);
/// Whoever still has a session after the load has so long to leave: the patience of a holder, twice.
const LEAVE_WITHIN: Duration = Duration::from_secs(330);
/// Room for the ledger: what it prepares for itself, and some more for each minute.
const LEDGER_MIB: u64 = 512;
const LEDGER_MIB_A_MINUTE: u64 = 40;

/// What is to be run.
pub struct Settings {
    /// What decides.
    pub seed: u64,
    /// The longest that holders think between two commands, those of them who do.
    pub thought: Duration,
    /// How many work at the same time.
    pub holders: u64,
    /// What is done, and when.
    pub schedule: Schedule,
    /// Where the daemons' logs and the log's entries are kept.
    pub save: Option<PathBuf>,
}

/// Runs it and says what came of it.
///
/// # Errors
/// It could not be run to its end.
pub fn run(settings: Settings) -> anyhow::Result<ExitCode> {
    let Settings { seed, thought, holders, schedule, save } = settings;
    let teller = Teller::new();
    let interrupt = Interrupt::on_signals()?;
    teller.adds(format_args!(
        "sulku-soak, seed {seed}: {holders} holders for {:.1} minutes, {} faults; again with --seed {seed}",
        schedule.end.as_secs_f64() / 60.0,
        schedule.faults.len()
    ));
    let network = Network::lay(Dice::new(seed, 10))?;
    let (mut sinks, clock, stage) = raise(&interrupt, &schedule)?;
    sinks.start(&stage)?;
    let auditor = Auditor::of(&stage);
    let lasting = Arc::new(Mutex::new(Arc::new(profile(&stage.profile(Person::Tiina))?)));
    let operator = Arc::new(profile(&stage.profile(Person::Onni))?);
    let refused = [Person::Stranger, Person::Revoked, Person::Expired, Person::Forged, Person::Unlisted];
    let refused = refused.iter().map(|person| Ok(Arc::new(profile(&stage.profile(*person))?))).collect::<anyhow::Result<_>>()?;
    let (certificate, key) = stage.authority().files_of(Person::Maija.name());
    let hostile = Hostile {
        gateway: (GATEWAY, stage.port()).into(),
        refused,
        holder: [stage.authority().certificate(), certificate, key],
        tried: Arc::default(),
    };
    let tried = Arc::clone(&hostile.tried);
    let taken_permit = stage.folder().join("policies/permits/taken.toml");
    let mut keeper = Keeper::new(Made { stage, sinks, network, teller, hostile, clock, seed, taken_permit })?;
    let before = Rest::settled(&keeper.stage);
    teller.says("the environment stands, and holders come");

    let (checkers, told) = Checkers::begin(&auditor);
    // The run's time begins with its load.
    let teller = Teller::new();
    keeper.begins_at(teller);
    let hall = Hall { began: teller.began(), lasting, passing: keeper.passing(), told };
    let load = Load::begin(&keeper.network, hall, (holders, thought), seed)?;
    let driven = drive(&mut keeper, &load, &checkers, &schedule, &interrupt, teller);
    load.stop();
    let left = driven.and_then(|()| wait_for_holders(&mut keeper, &load, &interrupt));
    keeper.ends_all()?;
    if let Err(error) = left {
        if let Some(folder) = &save {
            keep(&keeper.stage, &auditor, folder)?;
        }
        for daemon in all() {
            teller.adds(format_args!("the {}: {}", daemon.name(), last_lines(&keeper.stage.log(daemon))));
        }
        return Err(error);
    }
    load.join()?;
    teller.says("the holders have left; what they were shown is played back");
    let outcomes = checkers.finish()?;

    let ended = load::tidy(&keeper.network, &operator)?;
    let (after, surplus) = before.again(&keeper.stage);
    let mut checks = vec![
        verdict::recorded(&outcomes, &keeper.done),
        verdict::explained(&outcomes, &keeper.done),
        verdict::recovered(&outcomes, &schedule),
        verdict::forgotten(&outcomes, &ended),
        Check { what: "nobody ended who need not", figures: String::new(), wrong: std::mem::take(&mut keeper.troubles) },
        panics(&keeper.stage),
        keeper.most.check(&before, &after, surplus),
        memory(&keeper),
    ];
    teller.says("the log is verified and read");
    let verified = auditor.asks(&["verify"]);
    let figures = verified.as_ref().map_or(String::new(), |said| said.split_whitespace().collect::<Vec<_>>().join(" "));
    checks.push(Check { what: "the log and every recording verify", figures, wrong: wrong(verified) });
    match auditor.reads() {
        Ok(book) => {
            checks.push(verdict::acknowledged(&outcomes, &book));
            checks.push(verdict::declared(&book));
            checks.push(verdict::gone(&outcomes, &book, &keeper.done));
            let cosigned = keeper.sinks.witness_is_content(&keeper.stage, book.entries);
            let figures = cosigned.as_ref().map_or(String::new(), |size| format!("{size} of {} entries cosigned", book.entries));
            checks.push(Check { what: "a witness saw the log grow and never change", figures, wrong: wrong(cosigned) });
            let arrived = wrong(keeper.sinks.have_all(&keeper.stage, book.entries));
            checks.push(Check {
                what: "every entry arrived at the file and at the syslog receiver",
                figures: format!("{} entries", book.entries),
                wrong: arrived,
            });
            let events = book.events.iter().map(|(event, count)| format!("{count} {event}")).collect::<Vec<_>>().join(", ");
            teller.adds(format_args!("\nentries: {events}"));
            teller.adds(format_args!("that say that something may be missing, or was counted: {}", book.declared.len()));
        }
        Err(error) => checks.push(Check { what: "the log can be read", figures: String::new(), wrong: vec![format!("{error:#}")] }),
    }
    let (passed, lost, overtaken) = {
        let counts = keeper.network.wire.counts();
        (counts.passed.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed), counts.overtaken.load(Ordering::Relaxed))
    };
    let taken_up: u32 = outcomes.iter().map(|outcome| outcome.taken_up).sum();
    let bytes: u64 = outcomes.iter().map(|outcome| outcome.bytes).sum();
    teller.adds(format_args!(
        "load: {} sessions begun, taken up again {taken_up} times, {:.1} MB shown; {passed} packets, {lost} lost, {overtaken} overtaken; {} hostile tries",
        outcomes.len(),
        bytes as f64 / 1e6,
        tried.load(Ordering::Relaxed)
    ));
    teller.adds(format_args!("done: {}", sums(&keeper.done)));
    if let Some(folder) = save {
        keep(&keeper.stage, &auditor, &folder)?;
    }
    let Keeper { stage, sinks, network, .. } = keeper;
    let left = stage.close();
    drop((sinks, network));
    checks.push(Check { what: "nothing is left of the environment", figures: String::new(), wrong: left.iter().map(ToString::to_string).collect() });
    teller.adds("");
    for check in &checks {
        teller.adds(check);
    }
    let failed: Vec<_> = checks.iter().filter(|check| !check.wrong.is_empty()).map(|check| check.what).collect();
    if failed.is_empty() {
        teller.adds(format_args!("\nPASS  seed {seed}, {} checks", checks.len()));
        return Ok(ExitCode::SUCCESS);
    }
    teller.adds(format_args!("\nFAIL  seed {seed}: not so: {}", failed.join("; ")));
    Ok(ExitCode::FAILURE)
}

fn raise(interrupt: &Interrupt, schedule: &Schedule) -> anyhow::Result<(Sinks, Clock, Stage)> {
    let session = "[session]\nfrom_networks = [\"10.99.0.0/24\"]\nmax_per_person = 64\nmax_detached = \"10 min\"\n\n[recording]\n\
                   terminal = \"output-and-input-timing\"\nretention = \"5 y\"\n";
    let egress = format!(
        "\n[[egress]]\nname = \"package mirror\"\nto = \"{MIRROR_NAME}\"\ncheck = \"address-only\"\nwithin = [\"10.20.30.40/32\"]\nports = [\"8080/tcp\"]\n\
         reason = \"packages\"\n"
    );
    let own =
        |id, workspace, durability| PermitFile::bare(id, workspace, Person::Tiina, &format!("{session}durability = \"{durability}\"\n{egress}"));
    let permits = vec![own(STRICT, "strict", "strict"), own(WINDOWED, "windowed", "windowed"), own(TAKEN, "taken", "strict")];
    let program = std::env::current_exe()?;
    let sinks = Sinks::prepare(&program.parent().unwrap_or(Path::new("")).join("sulku"))?;
    let clock = Clock::make(sinks.folder())?;
    let minutes = schedule.end.as_secs() / 60 + 1;
    let options = Options {
        permits,
        courier: Some(sinks.config()?),
        listen: GATEWAY,
        ledger_disk_mib: Some(u32::try_from(LEDGER_MIB + LEDGER_MIB_A_MINUTE * minutes)?),
        daemon_env: clock.env().to_vec(),
        rows: 10,
        interrupt: interrupt.clone(),
        ..Options::default()
    };
    let stage = Stage::raise(&options)?;
    Ok((sinks, clock, stage))
}

/// The load, and what is done meanwhile.
fn drive(keeper: &mut Keeper, load: &Load, checkers: &Checkers, schedule: &Schedule, interrupt: &Interrupt, teller: Teller) -> anyhow::Result<()> {
    let began = teller.began();
    let (mut due, mut says, mut is_calm) = (schedule.faults.iter().peekable(), Instant::now(), false);
    while began.elapsed() < schedule.end {
        interrupt.check()?;
        keeper.turn(load.begun.load(Ordering::Relaxed))?;
        while let Some(next) = due.next_if(|due| due.at <= began.elapsed()) {
            keeper.does(next)?;
        }
        if !is_calm && began.elapsed() >= schedule.calm_from {
            is_calm = true;
            teller.says("from here on nothing is done to it any more");
        }
        if says.elapsed() >= SAYS_EVERY {
            says = Instant::now();
            let (checked, later) = checkers.so_far();
            teller.says(format_args!(
                "    {} sessions begun, {checked} played back, {later} to be looked at again",
                load.begun.load(Ordering::Relaxed)
            ));
        }
        if load.is_over() {
            bail!("the holders have left before their time");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn wait_for_holders(keeper: &mut Keeper, load: &Load, interrupt: &Interrupt) -> anyhow::Result<()> {
    let began = Instant::now();
    while !load.is_over() || !keeper.all_run() {
        interrupt.check()?;
        keeper.turn(load.begun.load(Ordering::Relaxed))?;
        if began.elapsed() > LEAVE_WITHIN {
            bail!("holders still wait after {} s", LEAVE_WITHIN.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// For whoever looks into it later.
fn keep(stage: &Stage, auditor: &Auditor, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for daemon in all() {
        std::fs::write(folder.join(format!("{}.log", daemon.name())), stage.log(daemon))?;
    }
    auditor.keeps(&folder.join("entries.jsonl"))
}

fn wrong<T>(result: anyhow::Result<T>) -> Vec<String> {
    result.err().map(|error| format!("{error:#}")).into_iter().collect()
}

fn panics(stage: &Stage) -> Check {
    let logs = all().flat_map(|daemon| {
        let log = stage.log(daemon);
        log.lines().filter(|line| line.contains("panicked at")).map(|line| format!("{}: {line}", daemon.name())).collect::<Vec<_>>()
    });
    Check { what: "nobody panicked", figures: String::new(), wrong: logs.collect() }
}

fn memory(keeper: &Keeper) -> Check {
    let (mut figures, mut wrong) = (Vec::new(), Vec::new());
    for daemon in all() {
        let (kib, descriptors) = keeper.vitals.most(daemon);
        let most = format!("{} at most {:.1} MiB and {descriptors} descriptors", daemon.name(), kib as f64 / 1024.0);
        match keeper.vitals.growth(daemon) {
            None => figures.push(format!("{most} (none lived long enough to compare)")),
            Some(growth) => {
                let (warm, end) = (growth.warm_kib as f64 / 1024.0, growth.end_kib as f64 / 1024.0);
                let shown =
                    format!("{most}, {warm:.1} MiB when warm, {end:.1} MiB after {} s and {} sessions", growth.over.as_secs(), growth.sessions);
                if !growth.is_bounded() {
                    wrong.push(format!("{shown}: it grows beyond {:.1} MiB", growth.bound_kib as f64 / 1024.0));
                }
                figures.push(shown);
            }
        }
    }
    Check { what: "memory is flat", figures: figures.join("; "), wrong }
}

fn sums(done: &[(Duration, Duration, Fault)]) -> String {
    let mut names: Vec<_> = done
        .iter()
        .map(|(.., fault)| match fault {
            Fault::Killed(Daemon::Gateway) => "gateway killed",
            Fault::Killed(Daemon::Warden) => "warden killed",
            Fault::Killed(Daemon::Ledger) => "ledger killed",
            Fault::Killed(Daemon::Courier) => "courier killed",
            Fault::GatewayRestarted => "gateway told to stop",
            Fault::DiskFull => "disk full",
            Fault::DiskSlow(_) => "disk slow",
            Fault::LedgerStopped => "ledger stopped",
            Fault::ClockSet(_) => "clock set and set back",
            Fault::SinkStalled => "sink stalled",
            Fault::BadWeather(_) => "packets lost, delayed, reordered",
            Fault::CutOff => "network cut",
            Fault::Moved => "address changed",
            Fault::CertificateRevoked => "certificate revoked",
            Fault::PermitRevoked => "permit revoked and given back",
            Fault::HalfOpen => "half-open connections",
            Fault::Garbage => "garbage",
            Fault::BadFrames => "bad frames",
            Fault::Strangers => "refused certificates",
        })
        .collect();
    names.sort_unstable();
    names.chunk_by(|one, other| one == other).map(|same| format!("{} × {}", same.len(), same[0])).collect::<Vec<_>>().join(", ")
}
