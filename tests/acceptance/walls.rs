//! The walls around a cell. Each has its control: the same probe where nothing is in its way.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sulku_stage::{Person, STATINS, Stage, find_in};
use sulku_tests::{SOON, shared};

const CALLS: &str = include_str!("probes/calls.py");
const REACH: &str = include_str!("probes/reach.py");
/// The answers of a wall. What a willing kernel says to the probes' wrong arguments is none of these.
const WALL: [&str; 2] = ["EPERM", "EACCES"];
/// The answer of a kernel that was built without the call: there is nothing to wall off.
const ABSENT: &str = "ENOSYS";

/// `name outcome` in each line.
fn outcomes(text: &str) -> BTreeMap<String, String> {
    text.lines().filter_map(|line| line.trim().split_once(' ')).map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect()
}

fn on_host(stage: &Stage, program: &str) -> anyhow::Result<BTreeMap<String, String>> {
    // A network namespace of its own, so that nothing the probe does can touch the host's; still root with every right.
    let mut command = Command::new(find_in("unshare", "util-linux")?);
    command.args(["--net", "--mount", "/usr/bin/python3", "-c", program]);
    let finished = stage.run_command(command)?;
    ensure!(finished.code() == Some(0), "{finished:?}");
    Ok(outcomes(&finished.out))
}

pub fn what_a_cell_may_not_call_is_refused() -> anyhow::Result<()> {
    let stage = shared()?;
    let inside = stage.connect(Person::Maija, &["--", "python3", "-c", CALLS])?;
    ensure!(inside.code() == Some(0), "{inside:?}");
    let (inside, outside) = (outcomes(&inside.out), on_host(&stage, CALLS)?);
    ensure!(inside.len() == outside.len(), "{inside:?} {outside:?}");
    let there: Vec<_> = inside.iter().filter(|(name, _)| outside[*name] != ABSENT).collect();
    ensure!(there.len() >= 30, "{outside:?}");
    for (name, outcome) in there {
        ensure!(WALL.contains(&&**outcome), "{name} in a cell: {outcome}");
        let control = &outside[name];
        ensure!(!WALL.contains(&&**control), "{name} as root on the host, the control: {control}");
    }
    Ok(())
}

/// IA-06, NW-03
pub fn a_cell_sees_nothing_of_the_host() -> anyhow::Result<()> {
    let stage = shared()?;
    let folder = stage.folder().display().to_string();
    let unseen = [
        "/etc/shadow".to_owned(),
        "/root".to_owned(),
        "/home".to_owned(),
        "/sys/kernel".to_owned(),
        "/proc/cmdline".to_owned(),
        "/proc/sys/kernel/core_pattern".to_owned(),
        "/proc/1/root".to_owned(),
        "/dev/mem".to_owned(),
        "/run/netns".to_owned(),
        "/data/asthma-register".to_owned(),
        format!("{folder}/workspaces"),
        format!("{folder}/authority/gateway.key"),
        format!("{folder}/datasets/asthma-register/visits.csv"),
        format!("{folder}/run/ledger.sock"),
        format!("{folder}/run/warden.sock"),
    ];
    let looks = unseen.iter().map(|path| format!("ls -d {path}/. {path} >/dev/null 2>&1 && echo seen {path}")).collect::<Vec<_>>().join("; ");
    let session = stage.connect(Person::Maija, &["--", "sh", "-c", &format!("{looks}; echo looked")])?;
    ensure!(session.out.contains("looked") && !session.out.contains("seen"), "{session:?}");
    for path in unseen.iter().filter(|path| !path.starts_with("/data") && !path.starts_with("/dev/mem")) {
        ensure!(std::fs::symlink_metadata(path).is_ok(), "the control: {path} is there on the host");
    }
    let writes = "for f in /usr/x /bin/x /etc/passwd /data/care-register/x /data/care-register/visits.csv /proc/self/oom_score_adj; do \
                  (echo x >> $f) 2>/dev/null && echo wrote $f; done; echo x > /workspace/x && echo x > /tmp/x && rm /workspace/x && echo allowed";
    let session = stage.connect(Person::Maija, &["--", "sh", "-c", writes])?;
    let wrote: Vec<_> = session.out.lines().filter(|line| line.starts_with("wrote") && !line.contains("oom_score_adj")).collect();
    ensure!(wrote.is_empty() && session.out.contains("allowed"), "{session:?}");
    let who =
        stage.connect(Person::Maija, &["--", "sh", "-c", "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls /proc/self/fd | wc -l"])?;
    let status: Vec<_> = who.out.split_whitespace().collect();
    for (field, value) in
        [("CapEff:", "0000000000000000"), ("CapBnd:", "0000000000000000"), ("CapAmb:", "0000000000000000"), ("NoNewPrivs:", "1"), ("Seccomp:", "2")]
    {
        ensure!(status.windows(2).any(|pair| pair == [field, value]), "{field} is not {value}: {}", who.out);
    }
    Ok(())
}

/// NW-01, NW-02, LG-01
pub fn a_cell_reaches_its_destinations_and_nothing_else() -> anyhow::Result<()> {
    let stage = shared()?;
    let (mirror, other) = (stage.mirror().address().to_string(), stage.forbidden().address().to_string());
    let allowed = format!("tcp:{mirror}:8080");
    let denied = [
        format!("tcp:{other}:8080"),
        format!("fastopen:{other}:8080"),
        format!("udp:{other}:8080"),
        format!("udp:{other}:53"),
        format!("tcp:{mirror}:8081"),
        format!("udp:{mirror}:8080"),
        "tcp:10.211.0.1:22".to_owned(),
        "tcp:10.211.0.2:8080".to_owned(),
        "tcp:169.254.169.254:80".to_owned(),
        "udp:8.8.8.8:53".to_owned(),
        "tcp:10.210.0.2:8080".to_owned(),
        "tcp6:fe80::1:8080".to_owned(),
        "tcp6:2001:db8::1:8080".to_owned(),
    ];
    // The other permit's cell reaches that host with the same probe: it is there, it answers, and its witness is awake.
    let control = stage.connect(Person::Bo, &["--", "python3", "-c", REACH, &denied[0], &allowed])?;
    let control = outcomes(&control.out);
    ensure!(control[&denied[0]] == "answered" && control[&allowed] != "answered", "{control:?}");
    let heard = (stage.forbidden().arrivals().len(), stage.mirror().arrivals().len());
    ensure!(heard.0 > 0);

    let mut arguments = vec!["--", "python3", "-c", REACH];
    arguments.extend(denied.iter().map(String::as_str));
    arguments.push(&allowed);
    let session = stage.connect(Person::Maija, &arguments)?;
    let reached = outcomes(&session.out);
    ensure!(reached.get(&allowed).map(String::as_str) == Some("answered"), "the control: {session:?}");
    for what in &denied {
        ensure!(reached.get(what).is_some_and(|outcome| outcome.starts_with("no answer")), "{what}: {reached:?}");
    }
    ensure!(stage.forbidden().arrivals().len() == heard.0, "something arrived: {:?}", stage.forbidden().arrivals().last());
    let strange: Vec<_> =
        stage.mirror().arrivals().into_iter().skip(heard.1).filter(|arrival| (arrival.protocol, arrival.port) != (6, 8080)).collect();
    ensure!(strange.is_empty(), "{strange:?}");
    for (address, protocol, port) in [(&*other, 6, 8080), (&*other, 17, 53), (&*mirror, 6, 8081), ("169.254.169.254", 6, 80), ("8.8.8.8", 17, 53)] {
        let wanted =
            |entry: &sulku_stage::Entry| entry.data("destination") == address && entry.data("protocol") == protocol && entry.data("port") == port;
        let entry =
            stage.entry(&["--event", "egress.denied", "--permit", STATINS], SOON, wanted).with_context(|| format!("{address} {protocol} {port}"))?;
        ensure!(entry.field("person") == "maija" && entry.field("session").len() == 16, "{entry:?}");
    }
    let flow = stage.entry(&["--event", "egress.allowed", "--permit", STATINS], SOON, |entry| entry.data("destination") == &*mirror)?;
    ensure!(
        flow.data("bytes_in").as_u64() > Some(100) && flow.data("at").as_str().is_some_and(|at| at.contains("statins-and-dementia.toml:")),
        "{flow:?}"
    );
    Ok(())
}

/// NW-03
pub fn no_session_sees_anothers_processes() -> anyhow::Result<()> {
    const MARK: &str = "a-process-to-be-found";
    let stage = shared()?;
    let mut first =
        stage.connected(Person::Maija, &["--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; echo looked; sleep 60", MARK])?;
    first.shows("looked", SOON)?;
    ensure!(first.out().contains(MARK), "the control: it sees itself: {:?}", first.out());
    ensure!(stage.cell_processes().iter().any(|process| process.contains(MARK)), "the control: so does the host");
    for person in [Person::Maija, Person::Bo] {
        let other = stage.connect(person, &["--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; kill -9 -1; echo looked"])?;
        ensure!(!other.out.contains(MARK), "{other:?}");
    }
    ensure!(stage.cell_processes().iter().any(|process| process.contains(MARK)), "and killing everything in sight did not reach it");
    Ok(())
}

/// SE-06: processes and memory have a limit in each cell.
pub fn a_greedy_cell_hurts_itself_alone() -> anyhow::Result<()> {
    const BOMBS: [&str; 2] = [
        "import os, time\nn = 0\ntry:\n    while n < 4000:\n        if os.fork() == 0:\n            time.sleep(20)\n            os._exit(0)\n        n += 1\nexcept OSError as e:\n    print('stopped at', n, flush=True)\ntime.sleep(2)",
        "hoard = []\nwhile len(hoard) < 64:\n    hoard.append(bytearray(b'x') * (64 << 20))\n    print('holds', len(hoard) * 64, 'MiB', flush=True)",
    ];
    let stage = shared()?;
    for bomb in BOMBS {
        let greedy = stage.connected(Person::Maija, &["--", "python3", "-c", bomb])?;
        let other = stage.connect(Person::Bo, &["--", "echo", "at ease"])?;
        ensure!(other.code() == Some(0) && other.out.contains("at ease"), "{other:?}");
        let ended = greedy.finish(Duration::from_secs(60))?;
        if bomb.contains("fork") {
            let count = ended
                .out
                .split_once("stopped at ")
                .and_then(|(_, rest)| rest.split_whitespace().next())
                .and_then(|number| number.parse::<u32>().ok());
            ensure!(count.is_some_and(|count| (8..128).contains(&count)), "its permit allows 128 processes: {ended:?}");
        } else {
            ensure!(
                ended.code() != Some(0) && ended.out.contains("holds 64 MiB") && !ended.out.contains("holds 1088 MiB"),
                "its permit allows 1 GiB: {ended:?}"
            );
        }
    }
    let after = stage.connect(Person::Maija, &["--", "echo", "as before"])?;
    ensure!(after.code() == Some(0), "{after:?}");
    Ok(())
}
