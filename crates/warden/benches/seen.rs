//! What it costs a cell that its programmes, its datasets' files and its packets are seen: each beside the same without. Half a
//! minute, as root.
//!
//! Without: the same files through a copy of the cell's mounts that nobody watches, and the same connection from outside of the
//! warden's control group. Both go without the cell's seccomp and Landlock, so that the difference is the watch alone.
#![allow(clippy::print_stdout, reason = "it reports")]

#[path = "../tests/stage/mod.rs"]
mod stage;

use std::process::Command;

use stage::Stage;
use sulku_audit::Event;

const ROUNDS: usize = 7;
/// Prints the microseconds that one of each takes.
const RUN: &str = "import os, time\n\
    def once():\n  os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)\n\
    [once() for _ in range(20)]\nbegun = time.monotonic()\n[once() for _ in range(1000)]\nprint((time.monotonic() - begun) * 1000)";
const OPEN: &str = "import os, time\n\
    def once():\n  os.close(os.open('/data/one/rows.csv', os.O_RDONLY))\n\
    [once() for _ in range(20)]\nbegun = time.monotonic()\n[once() for _ in range(10000)]\nprint((time.monotonic() - begun) * 100)";
const READ: &str = "import os, time\n\
    def once():\n  f = os.open('/data/one/large', os.O_RDONLY); os.read(f, 1 << 20); os.close(f)\n\
    [once() for _ in range(20)]\nbegun = time.monotonic()\n[once() for _ in range(1000)]\nprint((time.monotonic() - begun) * 1000)";
const CONNECT: &str = "import socket, time\n\
    def once():\n  s = socket.socket()\n  s.connect_ex(('127.0.0.1', 9)); s.close()\n\
    [once() for _ in range(20)]\nbegun = time.monotonic()\n[once() for _ in range(5000)]\nprint((time.monotonic() - begun) * 200)";

fn main() {
    let mut stage = Stage::new();
    std::fs::write(stage.path("data-one/large"), vec![b'x'; 1 << 20]).expect("data");
    let running = stage.launch("one.toml", Some(&["/bin/sleep", "600"]));
    let pid = stage.ledger.entry("its first process", |draft| match &draft.event {
        Event::CellLaunched { pid, .. } if draft.session == Some(running.session) => Some(pid.to_string()),
        _ => None,
    });
    let inside = ["/usr/bin/nsenter", "-t", &pid, "--mount", "--root", "--wd", "--net"];
    let copy = ["/usr/bin/unshare", "--mount"];
    let python = ["/usr/bin/python3", "-c"];
    println!("{:<44} {:>12} {:>12}", "median of one, µs", "seen", "not seen");
    for (what, script) in [("run /bin/true and wait for it", RUN), ("open a dataset's file", OPEN), ("open it and read 1 MiB", READ)] {
        let (mut seen, mut unseen) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            seen.push(measured(&[&inside[..], &python, &[script]].concat(), None));
            unseen.push(measured(&[&inside[..], &copy, &python, &[script]].concat(), None));
        }
        report(what, seen, unseen);
    }
    let group = format!("/sys/fs/cgroup/unified/sulku-{}/cgroup.procs", stage.instance);
    let (mut seen, mut unseen) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        seen.push(measured(&[&inside[..], &python, &[CONNECT]].concat(), Some(&group)));
        unseen.push(measured(&[&inside[..], &python, &[CONNECT]].concat(), None));
    }
    report("try a TCP connection that is refused", seen, unseen);
    stage.end(&running, "holder-left");
}

/// What the command prints, run from the control group of this name if one is given.
fn measured(command: &[&str], group: Option<&str>) -> f64 {
    let mut whole = vec!["/bin/bash", "-c", "[ -z \"$0\" ] || echo $$ > \"$0\"; exec \"$@\"", group.unwrap_or_default()];
    whole.extend(command);
    let output = Command::new(whole[0]).args(&whole[1..]).output().expect("bash");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.parse().unwrap_or_else(|_| panic!("{command:?}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

fn report(what: &str, mut seen: Vec<f64>, mut unseen: Vec<f64>) {
    seen.sort_by(f64::total_cmp);
    unseen.sort_by(f64::total_cmp);
    let (with, without) = (seen[ROUNDS / 2], unseen[ROUNDS / 2]);
    println!("{what:<44} {with:>12.1} {without:>12.1}   {:.2} times", with / without);
}
