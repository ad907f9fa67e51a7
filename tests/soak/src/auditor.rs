//! The auditor's program, as she runs it at the ledger's socket, and what its entries say of sessions.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sulku_stage::{Interrupt, Running, Stage};

/// A ledger that is checked entry by entry by a program without optimisation takes its time.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where everything is that she needs.
#[derive(Debug, Clone)]
pub struct Auditor {
    program: PathBuf,
    socket: String,
    key: String,
    /// Her identity, which opens recordings.
    pub identity: PathBuf,
    /// Where she puts what she exports.
    pub folder: PathBuf,
}

/// What the entries say of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    /// The permit.
    pub permit: String,
    /// The entry that opened it.
    pub opened: Option<u64>,
    /// Whether its cell was built.
    pub launched: bool,
    /// Gateways that took it over.
    pub adopted: u64,
    /// The entry that closed it, and why.
    pub closed: Option<(u64, String)>,
    /// Entries that say that its cell was taken down.
    pub reapings: u64,
    /// Why its cell was taken down.
    pub reaped: Option<String>,
    /// What its cell left behind.
    pub leftovers: u64,
}

/// What all entries together say.
#[derive(Debug, Default)]
pub struct Book {
    /// Entries.
    pub entries: u64,
    /// The last that a gateway began with.
    pub gateway_started: u64,
    /// By session.
    pub lives: BTreeMap<String, Life>,
    /// How many there are of each event.
    pub events: BTreeMap<String, u64>,
    /// Those that say that something may be missing.
    pub declared: Vec<String>,
}

impl Auditor {
    /// Of this stage.
    pub fn of(stage: &Stage) -> Self {
        Self {
            program: stage.programs().join("sulku"),
            socket: stage.ledger_socket().display().to_string(),
            key: stage.ledger_key().display().to_string(),
            identity: stage.auditor_identity(),
            folder: stage.folder().to_owned(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("audit").args(args).args(["--ledger", &self.socket, "--key", &self.key]).env("LC_ALL", "C.UTF-8").env("NO_COLOR", "1");
        command
    }

    /// Runs `sulku audit` to its end.
    ///
    /// # Errors
    /// It fails, and says why.
    pub fn asks(&self, args: &[&str]) -> anyhow::Result<String> {
        let finished = Running::start(self.command(args), &Interrupt::never())?.finish_input(PATIENCE)?;
        ensure!(finished.status.success(), "sulku audit {}: {}", args.join(" "), finished.gist());
        Ok(finished.out)
    }

    /// Writes all entries to a file, one a line.
    ///
    /// # Errors
    /// They can't be read or written.
    pub fn keeps(&self, file: &Path) -> anyhow::Result<()> {
        let status = self.command(&["list", "--all", "--json"]).stdin(Stdio::null()).stdout(std::fs::File::create(file)?).status()?;
        ensure!(status.success(), "sulku audit list ended with {status}");
        Ok(())
    }

    /// Reads the whole log.
    ///
    /// # Errors
    /// It can't be read, or does not prove.
    pub fn reads(&self) -> anyhow::Result<Book> {
        let mut child = self.command(&["list", "--all", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let mut book = Book::default();
        for line in lines {
            let line = line?;
            let value = serde_json::from_str(&line).with_context(|| format!("an entry: {line}"))?;
            book.takes(&value)?;
        }
        let status = child.wait()?;
        ensure!(status.success(), "sulku audit list ended with {status}");
        Ok(book)
    }
}

impl Book {
    fn takes(&mut self, value: &Value) -> anyhow::Result<()> {
        let (index, entry) = (value["index"].as_u64().context("an entry has a number")?, &value["entry"]);
        ensure!(index == self.entries, "entry {index} comes where {} should", self.entries);
        self.entries += 1;
        let event = entry["event"].as_str().context("an entry has an event")?;
        *self.events.entry(event.to_owned()).or_default() += 1;
        if event == "gateway.started" {
            self.gateway_started = index;
        }
        let data = |name: &str| value["opened"]["data"][name].as_str().or(entry["data"][name].as_str()).unwrap_or_default().to_owned();
        if matches!(event, "observation.lost" | "warden.gateway-lost" | "refusals.counted" | "ledger.full" | "ledger.clock-jumped") {
            self.declared.push(format!("entry {index}, {event}: {}", entry["data"]));
        }
        let Some(session) = entry["session"].as_str() else { return Ok(()) };
        let life = self.lives.entry(session.to_owned()).or_default();
        if let Some(permit) = entry["permit"].as_str() {
            permit.clone_into(&mut life.permit);
        }
        match event {
            "session.opened" => {
                ensure!(life.opened.replace(index).is_none(), "entry {index} opens session {session} a second time");
            }
            "cell.launched" => life.launched = true,
            "session.adopted" => life.adopted += 1,
            "session.closed" => {
                ensure!(life.closed.replace((index, data("reason"))).is_none(), "entry {index} closes session {session} a second time");
            }
            "cell.reaped" => {
                life.reaped = Some(data("reason"));
                life.reapings += 1;
                life.leftovers += entry["data"]["leftovers"].as_array().map_or(0, |left| left.len() as u64);
            }
            _ => {}
        }
        Ok(())
    }
}
