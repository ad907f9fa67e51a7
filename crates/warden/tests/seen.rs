//! What entries say of who did something in a cell: against a real kernel, a real warden and real processes.

#![expect(clippy::expect_used, reason = "in a test, a panic is the report")]

mod stage;

use sulku_audit::{Event, Process, WhyDenied};

use stage::{Running, Stage};

/// A programme that tries to reach an address, writes its own process id into a file of its workspace, and stays.
fn knock(protocol: &str, port: u16) -> String {
    format!(
        "use IO::Socket::INET; \
         $s = IO::Socket::INET->new(PeerAddr => '198.18.0.11', PeerPort => {port}, Proto => '{protocol}'); $s->send('x') if $s; \
         open F, '>', 'new-{port}'; print F $$; close F; rename 'new-{port}', '{port}'; sleep 600"
    )
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
    stage.end(&running, "holder-left");
}

/// A process that is gone before anybody asks is named by its number on the host, and its programme is unknown rather than guessed.
#[test]
fn a_flow_names_the_process_that_began_it_also_when_that_is_gone() {
    let mut stage = Stage::new();
    let script = "(exec 3<>/dev/tcp/198.18.0.10/443; head -c 20 <&3); echo over; sleep 600";
    let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
    running.read_until("over");
    stage.end(&running, "holder-left");
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
