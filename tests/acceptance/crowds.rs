//! More peers than there are places for: holders with one certificate and many connections, strangers without number, no descriptor left.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use sulku_stage::{Daemon, Entry, Finished, Options, Person, Stage, find_in, poll};
use sulku_tests::{SOON, hello, openssl_held, quic, quic_held};

fn raised(limits: &str) -> anyhow::Result<Stage> {
    Ok(Stage::raise(&Options { rows: 100, limits: limits.to_owned(), ..Options::default() })?)
}

/// What a person gets who asks for her own sessions; an operator, for all.
fn asks(stage: &Stage, person: Person, transport: &str) -> anyhow::Result<Finished> {
    let profile = stage.profile(person).display().to_string();
    let list: &[&str] = if matches!(person, Person::Onni) { &["sessions", "list"] } else { &["sessions"] };
    Ok(stage.run(&[list, &["--profile", &profile, "--transport", transport]].concat())?)
}

/// LG-07, SE-06: beyond it she is refused in words, and what the ledger keeps of it does not grow with her tries.
pub fn a_holder_has_so_many_connections_without_a_session_and_no_more() -> anyhow::Result<()> {
    const MOST: usize = 4;
    let stage = raised(&format!("connections_per_holder = {MOST}\nhandshake_deadline_s = 120"))?;
    let mut refused = 0;
    for (transport, tries) in [("tls", 90), ("quic", 60)] {
        let hold = || if transport == "tls" { openssl_held(&stage, Person::Maija) } else { quic_held(&stage, Person::Maija) };
        ensure!(asks(&stage, Person::Maija, transport)?.code() == Some(0), "the control");
        let held: Vec<_> = (0..MOST).map(|_| hold()).collect::<Result<_, _>>()?;
        let mut full = || {
            let asked = asks(&stage, Person::Maija, transport).ok()?;
            asked.err.contains("too-many-connections").then(|| refused += 1)
        };
        poll(SOON, &mut full).with_context(|| format!("{transport}: she is never refused"))?;
        for _ in 0..tries {
            full().context("it is refused each time")?;
        }
        ensure!(asks(&stage, Person::Bo, transport)?.code() == Some(0), "control: another holder");
        ensure!(asks(&stage, Person::Onni, transport)?.code() == Some(0), "control: an operator");
        for held in held {
            // Over QUIC the end of a connection has to be said.
            if transport == "quic" {
                held.finish_input(SOON)?;
            }
        }
        let free = || asks(&stage, Person::Maija, transport).ok().filter(|asked| asked.code() == Some(0));
        // Those that came meanwhile and were not answered count, too.
        poll(SOON, || free().or_else(|| (refused += 1, None).1)).with_context(|| format!("{transport}: places that are free again are hers"))?;
    }
    let of_her = |entry: &&Entry| entry.data("code") == "too-many-connections" && entry.field("person") == "maija";
    let kept = || stage.entries(&["--event", "session.refused"]).map(|entries| entries.iter().filter(of_her).count());
    let counted = || {
        let entries = stage.entries(&["--event", "refusals.counted"]).ok()?;
        Some(entries.iter().filter_map(|entry| entry.data("sessions").as_u64()).sum::<u64>() as usize)
    };
    let all = poll(Duration::from_secs(30), || counted().filter(|counted| kept().is_ok_and(|kept| kept + counted == refused)));
    let (kept, counted) = (kept()?, counted());
    ensure!(all.is_some() && kept < refused, "{kept} entries and {counted:?} counted of {refused}");
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// A connection over TCP from this address.
fn stranger(port: u16, from: Ipv4Addr) -> anyhow::Result<TcpStream> {
    let stranger: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&stranger, &SocketAddrV4::new(from, 0))?;
    connect(&stranger, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    Ok(stranger.into())
}

fn descriptors(pid: u32) -> anyhow::Result<Vec<i32>> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(files.flatten().filter_map(|file| file.file_name().to_str()?.parse().ok()).collect())
}

/// SE-06: whoever comes when strangers have every place has that of one of them.
pub fn strangers_at_every_place_keep_neither_operators_nor_holders_out() -> anyhow::Result<()> {
    const PLACES: usize = 1_024;
    let stage = raised("handshake_deadline_s = 120")?;
    let pid = stage.pid(Daemon::Gateway).context("a gateway")?;
    let before = descriptors(pid)?.len();
    let mut strangers = Vec::new();
    for number in 0..1_500_usize {
        let network = u8::try_from(number / 125 + 1)?;
        let mut stranger = stranger(stage.port(), Ipv4Addr::new(127, 0, network, 1))?;
        // Half of them say nothing, and half begin a handshake and do not go on.
        if number % 2 == 0 {
            stranger.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01])?;
        }
        strangers.push(stranger);
    }
    // A few descriptors come and go: files that are looked at again.
    let taken = poll(SOON, || descriptors(pid).ok().map(|now| now.len() - before).filter(|taken| (PLACES - 8..=PLACES + 8).contains(taken)));
    ensure!(taken.is_some(), "strangers have their places and no more: {:?}", descriptors(pid)?.len() - before);
    for transport in ["tls", "quic"] {
        let asked = asks(&stage, Person::Onni, transport)?;
        ensure!(asked.code() == Some(0), "an operator over {transport}: {asked:?}");
        let connected = stage.connect(Person::Maija, &["--transport", transport, "--", "echo", "at work"])?;
        ensure!(connected.out.contains("at work"), "a holder over {transport}: {connected:?}");
    }
    let mut first = strangers.first().context("there are some")?;
    first.set_read_timeout(Some(SOON))?;
    let read = first.read(&mut [0]);
    ensure!(matches!(read, Ok(0)) || read.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset), "{read:?}");
    drop(strangers);
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

/// Lets it have no descriptor of that number and beyond. As the user that it is, which takes no capability.
fn limit_descriptors(stage: &Stage, pid: u32, most: i32) -> anyhow::Result<()> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let id = |of: &str| status.lines().find_map(|line| line.strip_prefix(of)?.split_whitespace().next()?.parse().ok()).context("an id");
    let mut command = Command::new(find_in("prlimit", "util-linux")?);
    command.uid(id("Uid:")?).gid(id("Gid:")?).args(["--pid", &pid.to_string(), &format!("--nofile={most}:")]);
    let limited = stage.run_command(command)?;
    ensure!(limited.code() == Some(0), "{limited:?}");
    Ok(())
}

/// Processor time that it has had.
fn processor(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<_> = stat.rsplit(')').next().context("fields")?.split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// SE-06: without descriptors it neither ends nor spins; what is open goes on, operators are heard over QUIC, and then all is as before.
pub fn a_gateway_without_descriptors_ends_nothing_and_serves_again() -> anyhow::Result<()> {
    let stage = raised("")?;
    let mut open = stage.connected(Person::Maija, &["--transport", "tls"])?;
    open.type_line("echo be''fore")?;
    open.shows("before", SOON)?;
    let pid = stage.pid(Daemon::Gateway).context("a gateway")?;
    let used = descriptors(pid)?;
    let first_free = (0..).find(|number| !used.contains(number)).context("a number")?;
    let usual = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let usual = usual.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()).context("a limit")?;
    limit_descriptors(&stage, pid, first_free)?;
    let (begun, worked) = (Instant::now(), processor(pid)?);

    let mut waits = TcpStream::connect((Ipv4Addr::LOCALHOST, stage.port()))?;
    waits.write_all(b"x")?;
    let told = "no connection is accepted over TCP until there is room";
    poll(SOON, || stage.log(Daemon::Gateway).contains(told).then_some(())).context("it does not say what it lacks")?;
    let asked = asks(&stage, Person::Onni, "quic")?;
    ensure!(asked.code() == Some(0), "an operator is heard: {asked:?}");
    let answer = quic(&stage, Some(Person::Bo), &hello(&["true"])?)?;
    ensure!(!answer.welcomed(), "a terminal is a descriptor: {answer:?}");
    let opened = stage.entry(&["--event", "session.opened"], SOON, |entry| entry.field("person") == "bo")?;
    let id = opened.field("session").to_owned();
    stage.entry(&["--event", "cell.reaped", "--session", &id], SOON, |_| true).context("a cell that nobody has is ended")?;
    open.type_line("echo mean''while")?;
    open.shows("meanwhile", SOON).context("a session that is open goes on")?;
    ensure!(stage.log(Daemon::Gateway).matches(told).count() == 1, "it says so once");
    let (worked, lasted) = (processor(pid)?.saturating_sub(worked), begun.elapsed());
    ensure!(worked < lasted / 2, "{worked:?} of work in {lasted:?}");

    limit_descriptors(&stage, pid, usual)?;
    let connected = stage.connect(Person::Bo, &["--transport", "tls", "--", "echo", "as before"])?;
    ensure!(connected.out.contains("as before"), "{connected:?}");
    ensure!(stage.pid(Daemon::Gateway) == Some(pid), "it is the same gateway");
    open.type_line("echo af''ter; exit")?;
    open.shows("after", SOON)?;
    drop(open);
    let left = stage.close();
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}
