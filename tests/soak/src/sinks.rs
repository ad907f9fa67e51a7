//! Those outside to whom the courier carries the log: a receiver of syslog over TLS, which can be stopped in its tracks, a file, and a witness,
//! which cosigns only what continues what it has seen.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use memchr::memmem;
use rustix::process::{Pid, Signal, kill_process};
use sulku_stage::{Stage, find_in, poll};

/// What is on its way arrives within this.
const PATIENCE: Duration = Duration::from_secs(120);

/// All of them, until they are dropped.
pub struct Sinks {
    folder: tempfile::TempDir,
    ports: [u16; 2],
    running: Vec<Child>,
}

impl Sinks {
    /// Makes the witness's keys.
    ///
    /// # Errors
    /// There is no port, or `sulku` does not do it.
    pub fn prepare(sulku: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("sulku-soak-").tempdir()?;
        let port = || anyhow::Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
        let ports = [port()?, port()?];
        let key = folder.path().join("witness.key");
        let made = Command::new(sulku).args(["witness", "init", "--name", "soak.example/witness", "--out"]).arg(&key).output()?;
        ensure!(made.status.success(), "sulku witness init: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self { folder, ports, running: Vec::new() })
    }

    /// A folder that goes with them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What the courier is told of them.
    ///
    /// # Errors
    /// The witness's keys can't be read.
    pub fn config(&self) -> anyhow::Result<String> {
        let keys = fs::read_to_string(self.folder.path().join("witness.key.pub"))?;
        let keys: Vec<_> = keys.lines().map(|line| format!("{line:?}")).collect();
        let [syslog, witness] = self.ports;
        Ok(format!(
            "[[file]]\nname = \"lines\"\npath = \"{{root}}/courier/lines.jsonl\"\n\
             [[syslog]]\nname = \"siem\"\naddress = \"127.0.0.1:{syslog}\"\nserver_name = \"localhost\"\nauthority = \"{{root}}/authority/authority.pem\"\n\
             certificate = \"{{root}}/authority/maija.pem\"\nprivate_key = \"{{root}}/authority/maija.key\"\nconfirm_every_s = 1\n\
             [[witness]]\nname = \"witness\"\nurl = \"https://localhost:{witness}/\"\nauthority = \"{{root}}/authority/authority.pem\"\nkeys = [{}]\n",
            keys.join(", ")
        ))
    }

    /// Starts the receiver and the witness.
    ///
    /// # Errors
    /// One of them is missing or does not start.
    pub fn start(&mut self, stage: &Stage) -> anyhow::Result<()> {
        let (certificate, key) = stage.authority().files_of("gateway");
        let (folder, authority) = (self.folder.path(), stage.authority().certificate());
        let [syslog, witness] = self.ports;
        let config = format!(
            "global(workDirectory={folder:?} maxMessageSize=\"64k\" defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile={authority:?}\n\
               defaultNetstreamDriverCertFile={certificate:?} defaultNetstreamDriverKeyFile={key:?})\n\
             module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\")\n\
             input(type=\"imtcp\" port=\"{syslog}\" address=\"127.0.0.1\")\n\
             template(name=\"number\" type=\"string\" string=\"%msg:R,ERE,0,BLANK:\\\"sequence\\\":[0-9]+--end%\\n\")\n\
             action(type=\"omfile\" file={:?} template=\"number\" flushOnTXEnd=\"on\")\n",
            self.received(),
        );
        fs::write(folder.join("rsyslog.conf"), config)?;
        let mut receiver = Command::new(find_in("rsyslogd", "rsyslog and rsyslog-gnutls")?);
        receiver.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("pid"));
        let receiver = receiver.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        self.running.push(receiver);
        let config = format!(
            "key = {:?}\ndirectory = {:?}\nlisten = \"127.0.0.1:{witness}\"\ncertificate = {certificate:?}\ncertificate_key = {key:?}\n[[log]]\nkeys = {:?}\n",
            folder.join("witness.key"),
            folder.join("witness"),
            stage.ledger_key(),
        );
        fs::write(self.witness_config(), config)?;
        let log = fs::File::create(folder.join("witness.log"))?;
        let mut witness = stage.sulku(&["witness", "run", "--config"]);
        self.running.push(witness.arg(self.witness_config()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?);
        Ok(())
    }

    /// The receiver reads nothing from now on.
    pub fn stall(&self) {
        self.tell_receiver(Signal::STOP);
    }

    /// And goes on.
    pub fn go_on(&self) {
        self.tell_receiver(Signal::CONT);
    }

    fn tell_receiver(&self, signal: Signal) {
        if let Some(pid) = self.running.first().map(Pid::from_child) {
            let _gone = kill_process(pid, signal);
        }
    }

    /// Waits until entry after entry, so many from the first, has arrived at the file and at the receiver.
    ///
    /// # Errors
    /// One has not.
    pub fn have_all(&self, stage: &Stage, entries: u64) -> anyhow::Result<()> {
        let file = || files(&stage.courier_dir());
        let syslog = || vec![self.received()];
        for (name, files) in [("the file", &file as &dyn Fn() -> Vec<PathBuf>), ("the syslog receiver", &syslog)] {
            let mut missing = None;
            let all = poll(PATIENCE, || {
                missing = lacks(&files(), entries).err();
                if missing.is_some() {
                    std::thread::sleep(Duration::from_secs(1));
                }
                missing.is_none().then_some(())
            });
            if all.is_none() {
                bail!("{name}: {}", missing.map_or_else(String::new, |missing| format!("{missing:#}")));
            }
        }
        Ok(())
    }

    /// Whether the witness has cosigned that much, and has seen nothing that does not continue what it saw before.
    ///
    /// # Errors
    /// What it has seen, or that it has not seen enough.
    pub fn witness_is_content(&self, stage: &Stage, entries: u64) -> anyhow::Result<u64> {
        let mut evidence = stage.sulku(&["witness", "evidence", "--config"]);
        let evidence = evidence.arg(self.witness_config()).output()?;
        ensure!(evidence.status.success(), "the witness has seen the log lie: {}", String::from_utf8_lossy(&evidence.stdout));
        let cosigned = poll(PATIENCE, || self.cosigned().filter(|size| *size >= entries));
        cosigned.with_context(|| format!("the witness has cosigned {:?} of {entries} entries", self.cosigned()))
    }

    /// Entries that the witness has cosigned: the second line of the checkpoint that it keeps (C2SP tlog-checkpoint).
    fn cosigned(&self) -> Option<u64> {
        let logs = fs::read_dir(self.folder.path().join("witness/logs")).ok()?.flatten();
        logs.filter_map(|log| fs::read_to_string(log.path().join("cosigned")).ok()?.lines().nth(1)?.parse::<u64>().ok()).max()
    }

    fn received(&self) -> PathBuf {
        self.folder.path().join("received")
    }

    fn witness_config(&self) -> PathBuf {
        self.folder.path().join("witness.toml")
    }
}

impl Drop for Sinks {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ended_already = child.kill();
            let _reaped_already = child.wait();
        }
    }
}

/// The file and those that were put aside.
fn files(folder: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

/// Whether one of these entries is in none of the files, from the first that they have on: a file sink keeps so many files and no more.
fn lacks(files: &[PathBuf], entries: u64) -> anyhow::Result<()> {
    let mut numbers = BTreeSet::new();
    for file in files {
        for line in BufReader::new(fs::File::open(file)?).split(b'\n') {
            numbers.extend(sequence(&line?));
        }
    }
    let first = *numbers.first().context("nothing arrived")?;
    ensure!(first == 0 || files.len() > 1, "the first that arrived is entry {first}");
    match (first..entries).find(|number| !numbers.contains(number)) {
        Some(missing) => bail!("entry {missing} of {entries} did not arrive; the last that did is {:?}", numbers.last()),
        None => Ok(()),
    }
}

/// The entry's number in an event or in what is kept of it.
fn sequence(line: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"\"sequence\":";
    let rest = line.get(memmem::find(line, NAME)? + NAME.len()..)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_did_not_arrive_is_found() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |numbers: &[u64]| {
            let lines: String = numbers.iter().map(|number| format!("{{\"metadata\":{{\"sequence\":{number},\"x\":1}}}}\n")).collect();
            fs::write(file.path(), lines).expect("written");
            lacks(&[file.path().to_owned()], 4)
        };
        assert!(write(&[0, 1, 1, 2, 3]).is_ok(), "one that came twice is no loss");
        assert!(write(&[0, 1, 3]).is_err());
        assert!(write(&[1, 2, 3]).is_err());
        assert!(write(&[0, 1, 2]).is_err());
        assert!(write(&[]).is_err());
    }
}
