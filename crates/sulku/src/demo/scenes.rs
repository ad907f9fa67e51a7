//! The scenes, in the order in which they are played.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use sulku_stage::{ASTHMA, Daemon, Entry, Finished, MIRROR_NAME, Person, Running, STATINS, Stage, StageError, copy_folder, find_in, flip_in_entry};

use super::probe;
use super::report::{Report, Verdict};

/// The most that an entry may take to be found, or a session to end once it has to.
const SOON: Duration = Duration::from_secs(10);
/// What the session that others look for says of itself on its command line.
const MARK: &str = "a-session-of-her-own";
const CARE_REGISTER: &str = "/data/care-register/visits.csv";
const ASTHMA_REGISTER: &str = "/data/asthma-register/visits.csv";

/// What the scenes hand on to each other.
pub struct Play<'a> {
    stage: &'a Stage,
    report: &'a mut Report,
    /// Bo's session, which his permit's end will end.
    bo: Option<Running>,
    /// What the same probe, allowed, did for Bo.
    bo_reached_his_host: bool,
    bo_read_his_data: bool,
    /// Maija's session that the operator ends.
    second: Option<Running>,
    /// What Maija's analysis printed, to be found again in the recording.
    seen: String,
}

impl<'a> Play<'a> {
    /// Before the first scene.
    pub fn new(stage: &'a Stage, report: &'a mut Report) -> Self {
        Self { stage, report, bo: None, bo_reached_his_host: false, bo_read_his_data: false, second: None, seen: String::new() }
    }

    /// What runs, as whom, and what holds it.
    pub fn the_environment(&mut self) -> Result<(), StageError> {
        let stage = self.stage;
        self.report.scene("The environment");
        let is_machine = stage.ground().is_machine();
        let (sentence, users_wanted, rung_wanted) = if is_machine {
            ("ledger, warden and gateway are three processes of three users; the gateway has no capability", 3, "root")
        } else {
            ("on this rung: ledger, warden and gateway are three processes of one user; the gateway has no capability", 1, "rootless")
        };
        if !is_machine {
            self.report.say_all(&differences(stage)?);
        }
        self.report.expect(sentence, || {
            let facts: Vec<_> =
                Daemon::ALL.iter().filter_map(|daemon| stage.pid(*daemon)).map(|pid| (status(pid, "Uid:"), status(pid, "CapEff:"))).collect();
            let users: std::collections::BTreeSet<_> = facts.iter().map(|(uid, _)| uid).collect();
            let gateway = facts.get(2).map(|(_, capabilities)| capabilities.trim_start_matches('0').is_empty());
            let detail = format!("127.0.0.1:{}, TLS 1.3 and QUIC; permits {STATINS} and {ASTHMA}, 120 000 rows each", stage.port());
            Ok(Verdict::all(
                &[("as many users run them", users.len() == users_wanted), ("the gateway's capabilities are empty", gateway == Some(true))],
                detail,
            ))
        })?;
        self.report.expect("the ledger has their first entries: the walls that this kernel offers", || {
            let warden = stage.entry(&["--event", "warden.started"], SOON, |_| true)?;
            let gateway = stage.entry(&["--event", "gateway.started"], SOON, |_| true)?;
            let rung = text(&warden, "rung");
            let detail = format!(
                "rung {rung}, Landlock ABI {}, Linux {}; gateway: {}",
                warden.data("landlock_abi"),
                text(&warden, "kernel"),
                text(&gateway, "confinement")
            );
            Ok(Verdict::all(&[("the rung is the one expected", rung == rung_wanted)], detail))
        })
    }

    /// The other permit's holder: he is the control for the walls around Maija, and his permit will end while he works.
    pub fn bo_begins(&mut self) -> Result<(), StageError> {
        let stage = self.stage;
        self.report.scene(&format!("Bo holds {ASTHMA}, which will end in a few seconds"));
        let heard = stage.forbidden().arrivals().len();
        let script = format!(
            "wc -l {ASTHMA_REGISTER}; python3 -c \"$0\" {} 8080; echo ready; while sleep 1; do echo at work; done",
            stage.forbidden().address()
        );
        let mut bo = None;
        self.report.expect("he reads his data and reaches the host that his permit lists, and works on", || {
            let mut session = stage.connected(Person::Bo, &["--", "sh", "-c", &script, probe::FETCH])?;
            session.shows("at work", SOON)?;
            let out = session.out();
            let facts = [
                ("he sees 120 001 lines", out.contains("120001")),
                ("the host answered", out.contains("answered: HTTP/1.0 200")),
                ("its witness saw him arrive", stage.forbidden().arrivals().len() > heard),
            ];
            self.bo_read_his_data = facts[0].1;
            self.bo_reached_his_host = facts[1].1 && facts[2].1;
            bo = Some(session);
            Ok(Verdict::all(&facts, one_line(&out)))
        })?;
        self.bo = bo;
        Ok(())
    }

    /// Her ordinary work, over both transports.
    pub fn maija_works(&mut self) -> Result<(), StageError> {
        let stage = self.stage;
        self.report.scene(&format!("Maija holds {STATINS}"));
        for transport in ["quic", "tls"] {
            self.report.expect(&format!("she connects over {}", transport.to_uppercase()), || {
                let session = stage.connect(Person::Maija, &["--transport", transport, "--", "id"])?;
                let opened = stage.entry(&["--event", "session.opened", "--person", "maija"], SOON, |entry| entry.data("transport") == transport)?;
                let facts = [("the command succeeded", session.code() == Some(0)), ("she is herself inside", session.out.contains("(maija)"))];
                let detail = format!("{}, in {} ms, session {}", one_line(&session.out), session.took.as_millis(), opened.field("session"));
                Ok(Verdict::all(&facts, detail))
            })?;
        }
        let own = stage.folder().join("datasets/care-register/visits.csv").display().to_string();
        let mut seen = String::new();
        self.report.expect("she analyses her register with awk", || {
            let session = stage.connect(Person::Maija, &["--", "awk", "-F,", probe::AWK_ANALYSIS, CARE_REGISTER])?;
            seen = one_line(&session.out);
            let control = on_host("awk", "mawk", &["-F,", probe::AWK_ANALYSIS, &own], stage)?;
            Ok(same(&session, &control))
        })?;
        self.seen = seen;
        self.report.expect("she analyses it with python3", || {
            let session = stage.connect(Person::Maija, &["--", "python3", "-c", probe::PYTHON_ANALYSIS, CARE_REGISTER])?;
            let control = on_host("python3", "python3", &["-c", probe::PYTHON_ANALYSIS, &own], stage)?;
            Ok(same(&session, &control))
        })?;
        self.report.expect("she reaches the mirror that her permit lists", || {
            let heard = stage.mirror().arrivals().len();
            let session = fetch(stage, Person::Maija, &stage.mirror().address().to_string())?;
            let facts = [("the mirror answered", session.code() == Some(0)), ("its witness saw her arrive", stage.mirror().arrivals().len() > heard)];
            Ok(Verdict::all(&facts, one_line(&session.out)))
        })
    }

    /// Everything that stops her, each with a control.
    pub fn the_walls(&mut self) -> Result<(), StageError> {
        let (stage, bo_reached, bo_read) = (self.stage, self.bo_reached_his_host, self.bo_read_his_data);
        self.report.scene("The walls around her workspace");
        self.report.expect("the host that her permit does not list stays silent, and the try is an entry", || {
            let heard = stage.forbidden().arrivals().len();
            let address = stage.forbidden().address().to_string();
            let session = fetch(stage, Person::Maija, &address)?;
            let denied = stage.entry(&["--event", "egress.denied", "--permit", STATINS], SOON, |entry| entry.data("destination") == &*address)?;
            let facts = [
                ("nothing answered", session.code() == Some(1)),
                ("no packet arrived there", stage.forbidden().arrivals().len() == heard),
                ("the entry names her and the port", denied.field("person") == "maija" && denied.data("port") == 8080),
                ("the same probe reached it from the workspace whose permit lists it", bo_reached),
            ];
            Ok(Verdict::all(&facts, format!("{}; entry {}", one_line(&session.out), denied.index())))
        })?;
        self.report.expect("the other permit's data is not there", || {
            let session = stage.connect(Person::Maija, &["--", "sh", "-c", &format!("ls /data; head -1 {CARE_REGISTER}; cat {ASTHMA_REGISTER}")])?;
            let facts = [
                ("it could not be read", session.code() == Some(1) && session.out.contains("No such file")),
                ("her own could", session.out.contains("pseudonym,")),
                ("its holder reads it", bo_read),
            ];
            Ok(Verdict::all(&facts, last_line(&session.out)))
        })?;
        self.report.expect("raw sockets are refused", || {
            let control = as_root("python3", "python3", &["-c", probe::RAW_SOCKET], stage)?;
            refused(&stage.connect(Person::Maija, &["--", "python3", "-c", probe::RAW_SOCKET])?, &control)
        })?;
        self.report.expect("mount is refused", || {
            let control = as_root("unshare", "util-linux", &["--mount", "/usr/bin/python3", "-c", probe::MOUNT], stage)?;
            refused(&stage.connect(Person::Maija, &["--", "python3", "-c", probe::MOUNT])?, &control)
        })?;
        let mut second = None;
        self.report.expect("another session's processes are out of sight, also of the same person", || {
            let program = format!("{}\nprint('seen to the end', flush=True)\nimport time\ntime.sleep(300)", probe::PROCESSES);
            let mut first = stage.connected(Person::Maija, &["--", "python3", "-c", &program, MARK])?;
            first.shows("seen to the end", SOON)?;
            let sees_itself = first.out().contains(MARK);
            let other = stage.connect(Person::Maija, &["--", "python3", "-c", probe::PROCESSES])?;
            let host_sees = stage.cell_processes().iter().any(|process| process.contains(MARK));
            second = Some(first);
            let facts = [
                ("the other session saw itself", other.code() == Some(0) && other.out.contains("glob.glob")),
                ("it did not see the first", !other.out.contains(MARK)),
                ("the first sees itself", sees_itself),
                ("the host sees the first", host_sees),
            ];
            Ok(Verdict::all(&facts, format!("{} of its own processes seen, none of the other's", other.out.lines().count())))
        })?;
        self.second = second;
        Ok(())
    }

    /// A permit that lists its host by name.
    pub fn hosts_by_name(&mut self) -> Result<(), StageError> {
        const UNLISTED: &str = "pseudonym-4711.leak.example";
        let stage = self.stage;
        self.report.scene(&format!("Tiina's permit {} lists a host by its name", super::BY_NAME));
        let asked = |name: &str| stage.mirror().asked().iter().any(|asked| asked == name);
        self.report.expect("she reaches it by that name", || {
            let session = fetch(stage, Person::Tiina, MIRROR_NAME)?;
            let facts = [("it answered", session.code() == Some(0)), ("its name server was asked for it", asked(MIRROR_NAME))];
            Ok(Verdict::all(&facts, format!("{MIRROR_NAME}, {}", one_line(&session.out))))
        })?;
        self.report.expect("a name that it does not list is asked of nobody, so that no question carries data out", || {
            let session = fetch(stage, Person::Tiina, UNLISTED)?;
            let denied = stage.entry(&["--event", "name.denied", "--permit", super::BY_NAME], SOON, |entry| entry.data("name") == UNLISTED)?;
            let facts = [
                ("nothing answered", session.code() == Some(1)),
                ("the name server heard nothing of it", !asked(UNLISTED)),
                ("the entry names her", denied.field("person") == "tiina"),
                ("it hears what is listed", asked(MIRROR_NAME)),
            ];
            Ok(Verdict::all(&facts, format!("{}; entry {}", one_line(&session.out), denied.index())))
        })
    }

    /// Who does not get in.
    pub fn bad_certificates(&mut self) -> Result<(), StageError> {
        let stage = self.stage;
        self.report.scene("Who does not get in");
        let cases = [
            (Person::Stranger, "a stranger's certificate is refused, also in her name", "certificate-unknown-issuer", "certificate.refused"),
            (Person::Expired, "her expired certificate is refused", "certificate-expired", "certificate.refused"),
            (Person::Revoked, "her revoked certificate is refused", "certificate-revoked", "certificate.refused"),
            (Person::Unlisted, "a good certificate that no permit lists is refused", "not-a-holder", "session.refused"),
        ];
        for (person, sentence, code, event) in cases {
            self.report.expect(sentence, || {
                let session = stage.connect(person, &["--", "id"])?;
                let entry = stage.entry(&["--event", event], SOON, |entry| entry.data("code") == code)?;
                let facts = [("nothing ran", session.out.is_empty()), ("the client failed as refused", session.code() == Some(3))];
                Ok(Verdict::all(&facts, format!("{code}, entry {}; she reads: {}", entry.index(), advice(&session.err))))
            })?;
        }
        Ok(())
    }

    /// An operator sees the open sessions and ends one.
    pub fn the_operator(&mut self) -> Result<(), StageError> {
        let (stage, second) = (self.stage, self.second.take());
        self.report.scene("Onni operates");
        self.report.expect("he ends Maija's session; it is over at once and nothing of it runs on", || {
            let Some(second) = second else { return Ok(Verdict::not_met("there is no session to end")) };
            let profile = stage.profile(Person::Onni).display().to_string();
            let listed = stage.run(&["sessions", "list", "--json", "--profile", &profile])?;
            let rows: Vec<serde_json::Value> = serde_json::from_str(&listed.out).unwrap_or_default();
            let row = rows.iter().find(|row| row["person"] == "maija");
            let id = row.and_then(|row| row["session"].as_str()).unwrap_or_default().to_owned();
            let began = Instant::now();
            let order = stage.run(&["sessions", "end", &id, "--profile", &profile])?;
            let session = second.finish(SOON)?;
            let took = began.elapsed();
            let closed = stage.entry(&["--event", "session.closed", "--session", &id], SOON, |_| true)?;
            let reaped = stage.entry(&["--event", "cell.reaped", "--session", &id], SOON, |_| true)?;
            let facts = [
                ("he saw two sessions", rows.len() == 2),
                ("his order was carried out", order.code() == Some(0)),
                ("her client ended", session.code() != Some(0)),
                ("the closing entry names the operator's act", closed.data("reason") == "operator"),
                ("the warden found nothing left", reaped.data("leftovers").as_array().is_some_and(Vec::is_empty)),
                ("no process of it runs", !stage.cell_processes().iter().any(|process| process.contains(MARK))),
            ];
            Ok(Verdict::all(&facts, format!("{} ms from his order to her prompt; she reads: {}", took.as_millis(), advice(&session.err))))
        })
    }

    /// Bo's permit runs out while he works.
    pub fn the_permit_ends(&mut self) -> Result<(), StageError> {
        let (stage, bo) = (self.stage, self.bo.take());
        self.report.scene("Bo's permit runs out while he works");
        self.report.expect("his session ends with it", || {
            let Some(bo) = bo else { return Ok(Verdict::not_met("he has no session")) };
            let session = bo.finish(super::ASTHMA_LASTS + SOON)?;
            let opened = stage.entry(&["--event", "session.opened", "--permit", ASTHMA], SOON, |_| true)?;
            let closed = stage.entry(&["--event", "session.closed", "--permit", ASTHMA], SOON, |_| true)?;
            let late = lateness(opened.data("ends").as_str(), closed.field("t"));
            let facts = [
                ("his client ended", session.code() != Some(0)),
                ("the closing entry says that the permit ended", closed.data("reason") == "permit-ended"),
                ("it was within two seconds of the permit's end", late.is_some_and(|late| (-0.1..2.0).contains(&late))),
            ];
            Ok(Verdict::all(
                &facts,
                format!("{:.0} ms after the permit's end; he reads: {}", late.unwrap_or(f64::NAN) * 1_000.0, advice(&session.err)),
            ))
        })?;
        self.report.expect("it does not open again", || {
            let session = stage.connect(Person::Bo, &["--", "id"])?;
            let facts = [("nothing ran", session.out.is_empty()), ("the reason is the permit", session.err.contains("permit-expired"))];
            Ok(Verdict::all(&facts, format!("he reads: {}", advice(&session.err))))
        })
    }

    /// Onni revokes Maija's permit, by a revision that he signs.
    pub fn the_permit_is_revoked(&mut self) -> Result<(), StageError> {
        let stage = self.stage;
        self.report.scene("Onni revokes Maija's permit while she works");
        self.report.expect("her session ends, and no other opens", || {
            let mut session = stage.connected(Person::Maija, &["--", "sh", "-c", "while sleep 0.1; do echo at work; done"])?;
            session.shows("at work", SOON)?;
            stage.operate(&["permit", "revoke", STATINS], "withdrawn by its issuer")?;
            let signed = Instant::now();
            let session = session.finish(SOON)?;
            let took = signed.elapsed();
            let closed = stage.entry(&["--event", "session.closed", "--permit", STATINS], SOON, |entry| entry.data("reason") == "permit-revoked");
            let in_force = stage.entry(&["--event", "policy.activated"], SOON, |entry| entry.data("number") == 2)?;
            let again = stage.connect(Person::Maija, &["--", "id"])?;
            let facts = [
                ("her client ended", session.code() != Some(0)),
                ("the closing entry says why", closed.is_ok()),
                ("the revision is an entry with his name", in_force.data("approvers")[0] == "onni"),
                ("the reason is the permit", again.out.is_empty() && again.err.contains("permit-revoked")),
            ];
            Ok(Verdict::all(&facts, format!("{} ms from the signed revision to her prompt; she reads: {}", took.as_millis(), advice(&session.err))))
        })
    }

    /// Lists, replays, verifies, and sees through a forgery.
    pub fn the_auditor(&mut self) -> Result<(), StageError> {
        let (stage, seen) = (self.stage, std::mem::take(&mut self.seen));
        let (socket, key) = (stage.ledger_socket().display().to_string(), stage.ledger_key().display().to_string());
        let live = ["--ledger", &*socket, "--key", &*key];
        self.report.scene("The auditor proves it");
        self.report.expect("lists what was denied, with person, permit and destination", || {
            let listed = stage.run(&[&["audit", "list", "--denied"], &live[..]].concat())?;
            let address = stage.forbidden().address().to_string();
            let line = listed.out.lines().find(|line| line.contains(&address)).map(one_line);
            let facts = [("the list came", listed.code() == Some(0)), ("the forbidden host is in it", line.is_some())];
            Ok(Verdict::all(&facts, line.unwrap_or_else(|| listed.gist())))
        })?;
        self.report.expect("replays what Maija saw", || {
            let is_awk = |entry: &Entry| entry.data("command")[0] == "awk";
            let opened = stage.entry(&["--event", "session.opened", "--person", "maija"], SOON, is_awk)?;
            let identity = stage.auditor_identity().display().to_string();
            let play = ["audit", "play", opened.field("session"), "--no-wait"];
            let played = stage.run(&[&play[..], &["--identity", &identity], &live].concat())?;
            let locked = stage.run(&[&play[..], &live].concat())?;
            let facts = [
                ("it played", played.code() == Some(0)),
                ("it shows what she saw", !seen.is_empty() && one_line(&played.out).contains(&seen)),
                ("without the auditor's identity nothing opens it", locked.code() == Some(1) && locked.out.is_empty()),
            ];
            Ok(Verdict::all(&facts, one_line(&played.out)))
        })?;
        self.report.expect("verifies the whole ledger", || {
            let verified = stage.run(&[&["audit", "verify"], &live[..]].concat())?;
            Ok(Verdict::all(&[("it verifies", verified.code() == Some(0))], one_line(&verified.out)))
        })?;
        self.report.expect("sees through one flipped bit, and names the entry", || {
            let denied = stage.entry(&["--event", "egress.denied"], SOON, |_| true)?;
            let copy = stage.folder().join("copy").display().to_string();
            copy_folder(&stage.ledger_dir(), &PathBuf::from(&copy))?;
            let offline = ["audit", "verify", "--dir", &copy, "--key", &key];
            let untouched = stage.run(&offline)?;
            flip_in_entry(&PathBuf::from(&copy), denied.index())?;
            let flipped = stage.run(&offline)?;
            let named = format!("entry {}", denied.index());
            let facts = [
                ("the untouched copy verifies", untouched.code() == Some(0)),
                ("the other does not", flipped.code() == Some(1)),
                ("the entry is named", flipped.gist().contains(&named)),
            ];
            Ok(Verdict::all(&facts, advice(&flipped.err)))
        })
    }
}

fn fetch(stage: &Stage, person: Person, address: &str) -> Result<Finished, StageError> {
    stage.connect(person, &["--", "python3", "-c", probe::FETCH, address, "8080"])
}

/// What is weaker than with root, in the warden's own words.
fn differences(stage: &Stage) -> Result<Vec<String>, StageError> {
    let mut doctor = Command::new(stage.programs().join("sulku-warden"));
    doctor.arg("doctor").env("NO_COLOR", "1");
    let said = stage.run_command(doctor)?;
    Ok(said.out.lines().skip_while(|line| !line.starts_with("rung ")).map(|line| format!("  {}", line.trim_end())).collect())
}

/// The control for what needs power: the same program outside every wall, as root; where the stage is not the machine's root, in its own
/// namespaces.
fn as_root(program: &str, package: &str, args: &[&str], stage: &Stage) -> Result<Finished, StageError> {
    let mut command = Command::new(find_in(program, package)?);
    command.args(args);
    stage.run_with_powers(command)
}

/// The control: the same program outside every wall.
fn on_host(program: &str, package: &str, args: &[&str], stage: &Stage) -> Result<Finished, StageError> {
    let mut command = Command::new(find_in(program, package)?);
    command.args(args);
    stage.run_command(command)
}

fn same(session: &Finished, control: &Finished) -> Verdict {
    let (inside, outside) = (one_line(&session.out), one_line(&control.out));
    let facts =
        [("it succeeded", session.code() == Some(0)), ("it found something", !outside.is_empty()), ("the host finds the same", inside == outside)];
    Verdict::all(&facts, inside)
}

#[expect(clippy::unnecessary_wraps, reason = "it is the last expression of an expectation")]
fn refused(session: &Finished, control: &Finished) -> Result<Verdict, StageError> {
    let facts = [
        ("it was refused", session.code() == Some(1) && session.out.contains("refused:")),
        ("the same program is not refused to root outside", control.code() == Some(0)),
    ];
    Ok(Verdict::all(&facts, one_line(&session.out)))
}

fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

fn text(entry: &Entry, field: &str) -> String {
    entry.data(field).as_str().unwrap_or_default().to_owned()
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// What a client tells its holder at the end, without its own name and the session's.
fn advice(err: &str) -> String {
    let line = last_line(err);
    let line = line.strip_prefix("sulku: ").unwrap_or(&line);
    let said = [" is closed: ", "); "].iter().find_map(|mark| line.split_once(mark)).map_or(line, |(_, rest)| rest);
    said.to_owned()
}

/// Seconds from the first time to the second.
fn lateness(ends: Option<&str>, closed: &str) -> Option<f64> {
    let (ends, closed): (jiff::Timestamp, jiff::Timestamp) = (ends?.parse().ok()?, closed.parse().ok()?);
    Some(closed.duration_since(ends).as_secs_f64())
}
