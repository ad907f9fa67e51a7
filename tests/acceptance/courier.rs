//! What a session does, as those see it who only get what the courier sends.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::Value;
use sulku_stage::{Daemon, Options, Person, Stage, find_in, poll};
use sulku_tests::{SOON, closed, session_id};

/// One entry follows the other within a second, and syslog is confirmed each second.
const ARRIVES: Duration = Duration::from_secs(30);

/// rsyslogd, ended when dropped.
struct Receiver(Child);

impl Receiver {
    fn start(stage: &Stage, port: u16) -> anyhow::Result<Self> {
        let folder = stage.folder().join("rsyslog");
        std::fs::create_dir_all(&folder)?;
        let (certificate, key) = stage.authority().files_of("gateway");
        let config = format!(
            "global(workDirectory={folder:?} maxMessageSize=\"64k\" defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile={:?}\n\
               defaultNetstreamDriverCertFile={certificate:?} defaultNetstreamDriverKeyFile={key:?})\n\
             module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"x509/certvalid\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"raw\" type=\"string\" string=\"%msg%\\n\")\n\
             action(type=\"omfile\" file={:?} template=\"raw\" flushOnTXEnd=\"on\")\n",
            stage.authority().certificate(),
            folder.join("received"),
        );
        std::fs::write(folder.join("rsyslog.conf"), config)?;
        let mut command = Command::new(find_in("rsyslogd", "rsyslog and rsyslog-gnutls")?);
        command.arg("-n").arg("-f").arg(folder.join("rsyslog.conf")).arg("-i").arg(folder.join("pid"));
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

/// Events of a session by their codes, in the file of lines.
fn events(file: &Path, session: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    let of_session = events.filter(|event| event["metadata"]["correlation_uid"] == session);
    of_session.filter_map(|event| Some((event["metadata"]["event_code"].as_str()?.to_owned(), event))).collect()
}

/// LG-04: stored apart
pub fn a_sessions_events_reach_the_file_and_the_syslog_receiver() -> anyhow::Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let sinks = format!(
        "[[file]]\nname = \"lines\"\npath = \"{{root}}/courier/lines.jsonl\"\n\
         [[syslog]]\nname = \"siem\"\naddress = \"127.0.0.1:{port}\"\nserver_name = \"localhost\"\nauthority = \"{{root}}/authority/authority.pem\"\n\
         certificate = \"{{root}}/authority/maija.pem\"\nprivate_key = \"{{root}}/authority/maija.key\"\nconfirm_every_s = 1\n"
    );
    let mut stage = Stage::raise(&Options { rows: 100, courier: Some(sinks), ..Options::default() })?;
    let receiver = Receiver::start(&stage, port)?;
    let session = stage.connect(Person::Maija, &["--", "echo", "carried out"])?;
    let id = session_id(&session.err)?;
    closed(&stage, &id)?;

    let files = [stage.courier_dir().join("lines.jsonl"), stage.folder().join("rsyslog/received")];
    for file in &files {
        let whole = poll(ARRIVES, || Some(events(file, &id)).filter(|events| events.contains_key("SLK2302I") && events.contains_key("SLK3102I")));
        let events = whole.with_context(|| format!("{}: the session's end did not come\n{}", file.display(), stage.log(Daemon::Courier)))?;
        let opened = events.get("SLK2301I").context("the session's opening came")?;
        let entry = stage.entry(&["--event", "session.opened", "--session", &id], SOON, |_| true)?;
        ensure!(opened["metadata"]["sequence"] == entry.index(), "{opened}");
        ensure!(opened["class_uid"] == 3002 && opened["user"]["uid"].is_string(), "{opened}");
        ensure!(events.contains_key("SLK3101I") && events.contains_key("SLK2402I"), "{:?}", events.keys());
        let text = std::fs::read_to_string(file)?;
        for private in ["maija", "carried out", "\"127.0.0.1\""] {
            ensure!(!text.contains(private), "{}: {private} was sent on", file.display());
        }
    }
    let ended = stage.kill(Daemon::Courier, Signal::TERM);
    ensure!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", stage.log(Daemon::Courier));
    drop(receiver);
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
