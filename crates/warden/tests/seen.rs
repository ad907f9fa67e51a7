//! What entries say of who did something in a cell: against a real kernel, a real warden and real processes.

#![expect(clippy::expect_used, reason = "in a test, a panic is the report")]

mod stage;

use stage::{Running, Stage};
use sulku_audit::{Event, Process, ProgramEnd, WhyDenied};
use sulku_plan::Report;

/// Ends a session and waits until the ledger has its last entry.
fn end(stage: &mut Stage, running: &Running, reason: &str) {
    stage.end(running, reason);
    let last = |draft: &sulku_audit::Draft| (draft.session == Some(running.session) && draft.event.name() == "cell.reaped").then_some(());
    stage.ledger.entry("the cell's last entry", last);
}

/// A programme that tries to reach an address, writes its own process id into a file of its workspace, and stays.
fn knock(protocol: &str, port: u16) -> String {
    format!(
        "use IO::Socket::INET; \
         $s = IO::Socket::INET->new(PeerAddr => '198.18.0.11', PeerPort => {port}, Proto => '{protocol}'); $s->send('x') if $s; \
         open F, '>', 'new-{port}'; print F $$; close F; rename 'new-{port}', '{port}'; sleep 600"
    )
}

/// What the gateway is told of it, for the holder to read.
#[test]
fn the_gateway_is_told_of_a_denial_and_of_few_among_many() {
    let mut stage = Stage::new();
    let scan = "for port in {1..100}; do (exec 3<>/dev/tcp/198.18.0.11/$port) 2>/dev/null; done; echo over; sleep 600";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", scan]));
    running.read_until("over");
    stage::eventually("the scan is in the ledger", || (stage.ledger.count("egress.denied") >= 64).then_some(()));
    let mut told = Vec::new();
    while stage.gateway.readable(std::time::Duration::ZERO) {
        match stage.gateway.any_report().0 {
            Report::Denied { session, denied } if session == running.session => told.push(denied),
            other => panic!("not a denial: {other:?}"),
        }
    }
    assert_eq!(told.len(), 10, "{told:?}");
    assert_eq!((told[0].port, told[0].protocol, told[0].reason.as_str(), told[0].more), (1, 6, "egress-not-listed", 0));
    end(&mut stage, &running, "holder-left");
}

struct Denied {
    process: Option<Process>,
    program: Option<String>,
    source_port: Option<u16>,
    reason: Option<WhyDenied>,
}

fn denied(stage: &Stage, of: &Running, to: (u8, u16)) -> Denied {
    stage.ledger.entry(&format!("the denial of {to:?}"), |draft| match &draft.event {
        Event::EgressDenied { protocol, port, source_port, reason, process, program, .. }
            if draft.session == Some(of.session) && (*protocol, *port) == to =>
        {
            Some(Denied { process: *process, program: program.known().cloned().flatten(), source_port: *source_port, reason: *reason })
        }
        _ => None,
    })
}

/// NW-04: a denied packet has the process that sent it and what that runs, by TCP and by UDP, whichever of two processes it was.
#[test]
fn a_denied_packet_names_the_process_that_sent_it() {
    let mut stage = Stage::new();
    let both = ["/bin/bash", "-c", "perl -e \"$1\" & perl -e \"$2\" & wait", "bash", &knock("tcp", 8080), &knock("udp", 5353)];
    let running = stage.launch("one.toml", Some(&both));
    let number = |port: &str| {
        let file = stage.path("workspaces/ws-one").join(port);
        stage::eventually("the process says its number", || std::fs::read_to_string(&file).ok()?.parse::<u32>().ok())
    };
    let (first, second) = (number("8080"), number("5353"));
    assert_ne!(first, second, "the control: they are two processes");
    let (tcp, udp) = (denied(&stage, &running, (6, 8080)), denied(&stage, &running, (17, 5353)));
    for (denied, in_cell) in [(&tcp, first), (&udp, second)] {
        let process = denied.process.expect("a process");
        assert_eq!(process.in_cell, Some(in_cell), "the cell's own number for it");
        assert!(stage.cell_processes().contains(&process.pid), "the host's number for it");
        assert!(denied.program.as_deref().is_some_and(|program| program.starts_with("/usr/bin/perl")), "{:?}", denied.program);
        assert_eq!(denied.reason, Some(WhyDenied::NotListed));
        assert!(denied.source_port.is_some());
    }
    end(&mut stage, &running, "holder-left");
}

/// A process that is gone before anybody asks is named by its number on the host, and its programme is unknown rather than guessed.
#[test]
fn a_flow_names_the_process_that_began_it_also_when_that_is_gone() {
    let mut stage = Stage::new();
    let script = "(exec 3<>/dev/tcp/198.18.0.10/443; head -c 20 <&3); echo over; sleep 600";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    running.read_until("over");
    end(&mut stage, &running, "holder-left");
    let (process, program, lasted) = stage.ledger.entry("the flow", |draft| match &draft.event {
        Event::EgressAllowed { port: 443, process, program, duration_ms, .. } if draft.session == Some(running.session) => {
            Some((*process, program.known().cloned().flatten(), *duration_ms))
        }
        _ => None,
    });
    assert!(process.is_some_and(|process| process.pid > 0 && process.in_cell.is_none()), "{process:?}");
    assert_eq!(program, None);
    assert!(lasted.is_some());
}

/// Everything that a cell runs is an entry: which programme, as what, by which process.
#[test]
fn a_programme_that_is_run_has_an_entry_with_its_arguments() {
    let mut stage = Stage::new();
    let script = "printf '#!/bin/sh\\necho script ran\\n' > mine; chmod +x mine; ./mine 'two words' ä; /usr/bin/env -i /bin/true; echo $$";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    let output = running.read_to_end();
    assert!(output.contains("script ran"), "{output}");
    let shell: u32 = output.lines().last().and_then(|line| line.trim().parse().ok()).expect("a number");
    end(&mut stage, &running, "shell-exited");
    let runs = runs(&stage, &running);
    let of = |program: &str| runs.iter().filter(|run| run.program == program).map(|run| run.arguments.join("|")).collect::<Vec<_>>();
    assert_eq!(of("/workspace/mine"), ["./mine|two words|ä"], "{runs:?}");
    assert_eq!(of("/usr/bin/true"), ["/bin/true"], "{runs:?}");
    assert_eq!(of("/usr/bin/env"), ["/usr/bin/env|-i|/bin/true"], "{runs:?}");
    assert_eq!(of("/usr/bin/bash"), [format!("/bin/bash|-c|{script}")], "{runs:?}");
    assert!(runs.iter().any(|run| run.program == "/usr/bin/bash" && run.process.in_cell == Some(shell)), "{shell} in {runs:?}");
    assert!(!runs.iter().any(|run| run.program.contains("/ld-")), "the loader is nobody's programme: {runs:?}");
}

/// SATRE 2.2.14: which file of which dataset was opened, by whom; the first time at once, and each time once.
#[test]
fn a_file_of_a_dataset_that_is_opened_has_an_entry() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", "cat /data/one/rows.csv > /dev/null; for i in {1..20}; do cat /data/one/rows.csv; done; stat /data/one/other; cat /etc/passwd; echo over; sleep 600"]));
    stage.ledger.entry("the first open, while the session goes on", |draft| match &draft.event {
        Event::DatasetOpened { dataset, opens: 1, process: Some(_), file, program, .. } if draft.session == Some(running.session) => {
            assert_eq!((dataset.as_str(), file.known().map(String::as_str)), ("/data/one", Some("/data/one/rows.csv")));
            assert_eq!(program.known().cloned().flatten().as_deref(), Some("/usr/bin/cat"));
            assert!(draft.person.is_some() && draft.permit.is_some());
            Some(())
        }
        _ => None,
    });
    running.read_until("over");
    end(&mut stage, &running, "holder-left");
    let opens = |stage: &Stage| {
        stage.ledger.all(|draft| match &draft.event {
            Event::DatasetOpened { opens, .. } if draft.session == Some(running.session) => Some(*opens),
            _ => None,
        })
    };
    assert_eq!(opens(&stage), [1, 20], "the rest is counted, and nothing else is an open of a dataset's file");
    let other = stage.launch("two.toml", Some(&["/bin/bash", "-c", "cat /data/two/rows.csv; cat /data/one/rows.csv"]));
    other.read_to_end();
    end(&mut stage, &other, "shell-exited");
    assert_eq!(opens(&stage), [1, 20], "another session's opens are not this one's");
}

/// A cell that runs more than there is room for in entries: none goes uncounted, and it is not stopped.
#[test]
fn of_many_programmes_every_one_is_told_or_counted() {
    let mut stage = Stage::new();
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", "for i in {1..300}; do /bin/true; done; echo over"]));
    let output = running.read_to_end();
    assert!(output.contains("over"), "{output}");
    end(&mut stage, &running, "shell-exited");
    let entries = stage.ledger.all(|draft| match &draft.event {
        Event::ProgramRun { suppressed, .. } if draft.session == Some(running.session) => Some(suppressed + 1),
        _ => None,
    });
    assert_eq!(entries.iter().sum::<u64>(), 301);
    assert!(entries.len() < 150, "{} entries", entries.len());
}

/// How what was run ended: with a status, by a signal, and what still ran at the session's end.
#[test]
fn a_programme_that_ends_has_its_status_or_its_signal_in_an_entry() {
    let mut stage = Stage::new();
    let script = "/bin/false; /usr/bin/perl -e 'exit 42'; /usr/bin/perl -e 'kill 9, $$'; exec /bin/sleep 600";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    stage.ledger.entry("the last of them begins", |draft| match &draft.event {
        Event::ProgramRun { program, .. } if program.known().is_some_and(|program| program == "/usr/bin/sleep") => Some(()),
        _ => None,
    });
    end(&mut stage, &running, "holder-left");
    let runs = runs(&stage, &running);
    let ends: Vec<ProgramEnd> = stage
        .ledger
        .all(|draft| match &draft.event {
            Event::ProgramsEnded { ends, unknown: 0 } if draft.session == Some(running.session) => Some(ends.clone()),
            _ => None,
        })
        .concat();
    let of = |program: &str, argument: &str| {
        let run = runs.iter().find(|run| run.program.starts_with(program) && run.arguments.concat().contains(argument)).expect("it ran");
        let of_it: Vec<_> = ends.iter().filter(|end| end.process == run.process).collect();
        let [end] = of_it[..] else { panic!("{program} ended {} times: {ends:?}", of_it.len()) };
        (end.status, end.signal)
    };
    assert_eq!(of("/usr/bin/false", ""), (Some(1), None));
    assert_eq!(of("/usr/bin/perl", "exit 42"), (Some(42), None));
    assert_eq!(of("/usr/bin/perl", "kill 9"), (None, Some(9)));
    assert_eq!(of("/usr/bin/sleep", "600"), (None, Some(9)), "it ran on until the cell was ended");
    assert_eq!(ends.len(), 4, "the shell became its last programme: {ends:?}");
}

/// Has the host's audit on, and afterwards as it was.
struct AuditOn(u32);

impl AuditOn {
    fn switched() -> Self {
        let on = Self(audit(None));
        audit(Some(1));
        assert_eq!(audit(None), 1, "the host's audit can be switched on");
        on
    }
}

impl Drop for AuditOn {
    fn drop(&mut self) {
        audit(Some(self.0));
    }
}

/// Whether the host's audit is on; sets it first, if it is to be set (`AUDIT_GET`, `AUDIT_SET`).
fn audit(set: Option<u32>) -> u32 {
    use rustix::net::netlink::{AUDIT, SocketAddrNetlink};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};
    const STATUS_BYTES: usize = 44;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(AUDIT)).expect("a socket");
    // A question has an answer; an order is acknowledged.
    let (kind, flags, words): (u16, u16, Vec<u32>) = match set {
        None => (1000, 1, Vec::new()),
        Some(enabled) => (1001, 5, [&[1, enabled][..], &[0; STATUS_BYTES / 4 - 2]].concat()),
    };
    let body: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let length = u32::try_from(16 + body.len()).expect("short");
    let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &1_u32.to_ne_bytes(), &0_u32.to_ne_bytes()].concat();
    sendto(&socket, &[head, body].concat(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).expect("sent; run as root");
    loop {
        let mut answer = [0; 1_024];
        let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty()).expect("an answer");
        let word = |at: usize| u32::from_ne_bytes(answer[at..at + 4].try_into().expect("four bytes"));
        match u16::from_ne_bytes([answer[4], answer[5]]) {
            1000 if length >= 24 => return word(20),
            2 => {
                assert_eq!(word(16), 0, "the kernel refused");
                return set.unwrap_or_default();
            }
            _ => {}
        }
    }
}

/// Where the host's audit is on, what Landlock denies in a cell is an entry with its session and the right that was missing, and a flood of it is a number.
#[test]
fn what_landlock_denies_is_an_entry_where_the_host_audits() {
    let _on = AuditOn::switched();
    let mut stage = Stage::new();
    let script = "for i in {1..50}; do mknod /workspace/device c 1 3; done 2> /dev/null; python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/workspace/s')\"; echo over; sleep 600";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    let output = running.read_until("over");
    assert!(output.contains("PermissionError"), "{output}");
    stage.ledger.entry("the denial, while the session goes on", |draft| match &draft.event {
        Event::AccessDenied { rights, path, .. } if draft.session == Some(running.session) && *rights == ["fs.make_sock"] => {
            assert!(draft.person.is_some() && path.known().is_some_and(Option::is_some), "{draft:?}");
            Some(())
        }
        _ => None,
    });
    end(&mut stage, &running, "holder-left");
    let counts: Vec<u64> = stage.ledger.all(|draft| match &draft.event {
        Event::AccessDenied { rights, suppressed, .. } if *rights == ["fs.make_char"] => Some(suppressed + 1),
        _ => None,
    });
    // Those for which the audit itself has no room nobody hears of.
    assert!(counts.len() <= 2 && (2..=50).contains(&counts.iter().sum::<u64>()), "{counts:?}");
}

#[derive(Debug)]
struct Ran {
    process: Process,
    program: String,
    arguments: Vec<String>,
}

fn runs(stage: &Stage, of: &Running) -> Vec<Ran> {
    stage.ledger.all(|draft| match &draft.event {
        Event::ProgramRun { process, program, arguments, .. } if draft.session == Some(of.session) => {
            Some(Ran { process: *process, program: program.known().cloned()?, arguments: arguments.known().cloned().flatten()? })
        }
        _ => None,
    })
}
