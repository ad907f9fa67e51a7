//! The courier as a process: a user of its own, behind Landlock, and still able to do its work.
//!
//! Needs root, to become somebody else. Without root this test fails and says so.
//!
//! This program is both: with a configuration as its argument it is the courier, which needs a process with one thread to begin with.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
#![allow(dead_code, unused_imports, reason = "these modules are the other tests' too, which use all of them")]

#[path = "../courier/authority.rs"]
mod authority;
#[path = "../courier/figures.rs"]
mod figures;
#[path = "../courier/receivers.rs"]
mod receivers;
#[path = "../courier/rsyslog.rs"]
mod rsyslog;
#[path = "../courier/support.rs"]
mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use crate::authority::Authority;
use crate::receivers::{await_all, syslog};
use crate::rsyslog::Rsyslog;
use crate::support::{Home, events, free_port, until};

/// A user id that nobody has here.
const COURIER: u32 = 64_009;

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

#[expect(clippy::print_stdout, reason = "this is what a harness would print")]
fn main() {
    match std::env::args().nth(1) {
        Some(config) if config.ends_with(".toml") => sulku_courier::run(config.as_ref()).unwrap(),
        Some(listing) if listing == "--list" => println!("a_confined_courier_without_root_carries_everything: test"),
        _ => {
            a_confined_courier_without_root_carries_everything();
            println!("test a_confined_courier_without_root_carries_everything ... ok");
        }
    }
}

fn a_confined_courier_without_root_carries_everything() {
    assert!(rustix::process::getuid().is_root(), "this test needs root");
    let home = Home::new();
    std::fs::set_permissions(home.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let authority = Authority::make(&home.path("authority"));
    let port = free_port();
    let mut receiver = Rsyslog::new(&home.path("rsyslog"), &authority, &authority, port);
    receiver.start();
    let ledger = home.ledger_with_courier(COURIER);
    let size = ledger.grow(300);
    for folder in ["courier", "lines"] {
        std::fs::create_dir(home.path(folder)).unwrap();
        std::os::unix::fs::chown(home.path(folder), Some(COURIER), Some(COURIER)).unwrap();
    }
    let lines = home.path("lines/ocsf.jsonl");
    // By name, which the C library looks up; the private key is root's alone.
    let by_name = syslog(port, &authority).replace("127.0.0.1", "localhost");
    std::fs::set_permissions(authority.files_of("client").1, std::fs::Permissions::from_mode(0o600)).unwrap();
    let words = format!(
        "run_as = {{ uid = {COURIER}, gid = {COURIER} }}\n{by_name}[[file]]\nname = \"lines\"\npath = {lines:?}\n[metrics]\nsocket = {:?}\n",
        home.path("figures.sock")
    );
    let config = home.path("courier.toml");
    std::fs::write(&config, home.text(&words)).unwrap();
    let child = Command::new(std::env::current_exe().unwrap()).arg(&config).stdin(Stdio::null()).spawn().unwrap();
    let mut process = Process(child);

    until("every line", || {
        assert!(process.0.try_wait().unwrap().is_none(), "the courier ended by itself");
        (events(&lines).len() as u64 >= size).then_some(())
    });
    await_all(&receiver, size);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!((field("Uid:"), field("CapEff:"), field("NoNewPrivs:")), (COURIER.to_string(), "0000000000000000".to_owned(), "1".to_owned()));

    let pid = rustix::process::Pid::from_child(&process.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = until("the courier's end", || process.0.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}
