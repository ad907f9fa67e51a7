//! The command line at work: the real binary against a real TLS and QUIC gateway on loopback that plays a script.

use std::fs::File;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gateway::{Desk, Gateway, Options, Peer, Subject, welcome};
use rustix::process::{Pid, Signal as Kill, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use sulku_permit::RefusalCode;
use sulku_protocol::{Ask, ClosedFrame, NoticeFrame, NoticeKind, Purpose, RefusedFrame, SessionRow, Signal, Stay, Tell, quic_code};
use tokio::runtime::Runtime;

#[path = "../../client/src/tests/gateway.rs"]
#[allow(dead_code, reason = "the client's own tests use the rest")]
mod gateway;

/// Nothing here takes a tenth of this; a test that hangs must say so.
const PATIENCE: Duration = Duration::from_secs(20);
const END_OF_FILE: u8 = 0x04;

/// A gateway that plays a script, and a profile for it.
struct Scene {
    desk: Desk,
    profile: PathBuf,
    _gateway: Gateway,
    _runtime: Runtime,
}

impl Scene {
    fn new<F: Future<Output = ()> + Send + 'static>(script: impl Fn(Peer) -> F + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let desk = Desk::new();
        let gateway = {
            let _inside = runtime.enter();
            Gateway::start(&desk, Options::default(), script)
        };
        let profile = desk.profile(gateway.port, &desk.issue(Subject::Holder));
        Self { desk, profile, _gateway: gateway, _runtime: runtime }
    }

    fn sulku(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sulku"));
        command.args(args).env("SULKU_PROFILE", &self.profile).env("TERM", "xterm-test").env_remove("SULKU_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        finish(self.sulku(args).spawn().expect("started"))
    }
}

/// Waits for a process that must end soon.
fn finish(mut child: Child) -> Output {
    let ended = until(|| child.try_wait().expect("our child").map(drop));
    if ended.is_none() {
        child.kill().expect("our child");
    }
    let output = child.wait_with_output().expect("our child");
    assert!(ended.is_some(), "sulku did not end in time: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(seen) = look() {
            return Some(seen);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

async fn admit(peer: &mut Peer) -> Purpose {
    let Some(Ask::Hello(hello)) = peer.ask().await else { panic!("hello comes first") };
    peer.tell(&Tell::Welcome(welcome())).await.expect("sent");
    hello.purpose
}

async fn close(mut peer: Peer, reason: &str, exit_status: Option<i32>) {
    let closed = ClosedFrame { reason: reason.into(), message: format!("{reason}, in words"), exit_status };
    peer.tell(&Tell::Closed(closed)).await.expect("sent");
    peer.end(quic_code::DONE).await;
}

/// What came up to and with the first frame that the test waits for.
async fn collect(peer: &mut Peer, mut last: impl FnMut(&Ask) -> bool) -> Vec<Ask> {
    let mut asks = Vec::new();
    while let Some(ask) = peer.ask().await {
        let found = last(&ask);
        asks.push(ask);
        if found {
            break;
        }
    }
    asks
}

fn typed(asks: &[Ask]) -> Vec<u8> {
    asks.iter().filter_map(|ask| if let Ask::Input(bytes) = ask { Some(bytes.clone()) } else { None }).flatten().collect()
}

#[test]
fn a_commands_output_and_exit_status_come_through() {
    let scene = Scene::new(|mut peer| async move {
        let Purpose::Connect { permit, command, term, columns, rows, stay: Stay::Ends } = admit(&mut peer).await else {
            panic!("a session was asked for")
        };
        assert_eq!(permit.map(|permit| permit.to_string()).as_deref(), Some("DEMO/1/2026"));
        assert_eq!((command, term.as_str(), columns, rows), (Some(vec!["wc".into(), "-l".into()]), "xterm-test", 80, 24));
        peer.tell(&Tell::Output(b"42\r\n".to_vec())).await.expect("sent");
        close(peer, "exited", Some(7)).await;
    });
    for transport in ["auto", "quic", "tls"] {
        let output = scene.run(&["connect", "DEMO/1/2026", "--transport", transport, "--", "wc", "-l"]);
        let told = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"42\r\n".as_slice()), "{told}");
        let lines = ["DEMO/1/2026  Synthetic heart data", "this session is recorded: all output, and when you type", "off: clipboard, file transfer"];
        assert!(lines.iter().all(|line| told.lines().any(|told| told == *line)), "{told}");
        assert!(told.contains("maija in workspace demo-heart until 2999-01-01"), "{told}");
        assert!(told.ends_with(&format!("sulku: session {} is closed: exited, in words (exited)\n", welcome().session)), "{told}");
    }
}

#[test]
fn a_refusal_says_what_to_do_and_exits_with_three() {
    let scene = Scene::new(|mut peer| async move {
        peer.ask().await;
        let advice = RefusalCode::PermitExpired.advice().to_owned();
        peer.tell(&Tell::Refused(RefusedFrame { code: RefusalCode::PermitExpired, advice, choices: Vec::new(), sessions: Vec::new() }))
            .await
            .expect("sent");
        peer.end(quic_code::REFUSED).await;
    });
    for transport in ["quic", "tls"] {
        let output = scene.run(&["connect", "--transport", transport]);
        let expected = "sulku: the gateway refused (permit-expired); the permit has ended; apply for an extension with its issuer\n";
        assert_eq!((output.status.code(), text(&output.stderr).as_str(), text(&output.stdout).as_str()), (Some(3), expected, ""));
    }
}

#[test]
fn a_session_that_is_ended_from_the_other_side_is_a_failure() {
    let scene = Scene::new(|mut peer| async move {
        admit(&mut peer).await;
        close(peer, "revoked", None).await;
    });
    let output = scene.run(&["connect"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).ends_with("is closed: revoked, in words (revoked)\n"));
}

#[test]
fn a_warning_of_the_end_is_read_beside_the_output_and_not_in_it() {
    let scene = Scene::new(|mut peer| async move {
        admit(&mut peer).await;
        peer.tell(&Tell::Output(b"1 of 2\r\n".to_vec())).await.expect("sent");
        let text = "this session ends in 5 minutes: the permit ends then".to_owned();
        peer.tell(&Tell::Notice(NoticeFrame { kind: NoticeKind::Ending, text })).await.expect("sent");
        peer.tell(&Tell::Output(b"2 of 2\r\n".to_vec())).await.expect("sent");
        close(peer, "permit-ended", None).await;
    });
    for transport in ["quic", "tls"] {
        let output = scene.run(&["connect", "--transport", transport, "--", "run"]);
        assert_eq!(output.stdout, b"1 of 2\r\n2 of 2\r\n", "the command's output is as the command wrote it");
        let told = text(&output.stderr);
        assert!(told.lines().any(|line| line == "sulku: this session ends in 5 minutes: the permit ends then"), "{told}");
    }
}

#[test]
fn input_from_a_pipe_is_typed_and_ended_by_the_end_of_file_character() {
    let scene = Scene::new(|mut peer| async move {
        admit(&mut peer).await;
        let mut typing = Vec::new();
        while typing.last() != Some(&END_OF_FILE) || (typing.len() == 4 && !typing.contains(&b'\n')) {
            let Some(ask) = peer.ask().await else { break };
            typing.extend(typed(&[ask]));
        }
        peer.tell(&Tell::Output(typing)).await.expect("sent");
        close(peer, "exited", Some(0)).await;
    });
    for (input, expected) in [("a\nb\n", "a\nb\n\u{4}"), ("abc", "abc\u{4}"), ("", "\u{4}")] {
        let mut child = scene.sulku(&["connect", "--", "cat"]).stdin(Stdio::piped()).spawn().expect("started");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
        let output = finish(child);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with(expected), "{input:?} became {:?}", text(&output.stdout));
    }
}

#[test]
fn within_a_line_the_end_of_file_character_is_typed_twice() {
    let scene = Scene::new(|mut peer| async move {
        admit(&mut peer).await;
        let mut typing = Vec::new();
        while !typing.ends_with(&[END_OF_FILE, END_OF_FILE]) {
            typing.extend(typed(&[peer.ask().await.expect("it goes on")]));
        }
        peer.tell(&Tell::Output(typing)).await.expect("sent");
        close(peer, "exited", Some(0)).await;
    });
    let mut child = scene.sulku(&["connect", "--", "cat"]).stdin(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(b"abc").expect("written");
    assert_eq!(text(&finish(child).stdout), "abc\u{4}\u{4}");
}

#[test]
fn a_signal_is_passed_on_before_the_session_is_left() {
    for (sent, passed_on, code) in [(Kill::TERM, Signal::Term, 143), (Kill::INT, Signal::Int, 130), (Kill::HUP, Signal::Hup, 129)] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&asked);
        let scene = Scene::new(move |mut peer| {
            let shared = Arc::clone(&shared);
            async move {
                admit(&mut peer).await;
                peer.tell(&Tell::Output(b"ready".to_vec())).await.expect("sent");
                *shared.lock().expect("nobody panicked") = collect(&mut peer, |ask| *ask == Ask::Leave).await;
                close(peer, "left", None).await;
            }
        });
        let mut child = scene.sulku(&["connect", "--", "sleep"]).spawn().expect("started");
        let mut ready = [0; 5];
        child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("the session is open");
        kill_process(pid(&child), sent).expect("our child");
        let output = finish(child);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        let asks = asked.lock().expect("nobody panicked");
        let places = [Ask::Signal(passed_on), Ask::Leave].map(|ask| asks.iter().position(|asked| *asked == ask));
        assert!(places[0].is_some() && places[0] < places[1], "{asks:?}");
    }
}

#[test]
fn a_command_that_heeds_the_signal_gives_its_own_exit_status() {
    let scene = Scene::new(|mut peer| async move {
        admit(&mut peer).await;
        peer.tell(&Tell::Output(b"ready".to_vec())).await.expect("sent");
        collect(&mut peer, |ask| matches!(ask, Ask::Signal(_))).await;
        close(peer, "exited", Some(5)).await;
    });
    let mut child = scene.sulku(&["connect", "--", "sleep"]).spawn().expect("started");
    let mut ready = [0; 5];
    child.stdout.as_mut().expect("piped").read_exact(&mut ready).expect("the session is open");
    kill_process(pid(&child), Kill::TERM).expect("our child");
    assert_eq!(finish(child).status.code(), Some(5));
}

/// A gateway that ignores the credit and a reader that does not read: the pipe and the windows fill, our memory does not. The
/// signal is heard all the same.
#[test]
fn output_that_nobody_reads_stays_out_of_memory() {
    const FLOOD_PIECE: usize = 32 * 1024;
    const MEMORY_KIB_MAX: u64 = 48 * 1024;
    for transport in ["quic", "tls"] {
        let scene = Scene::new(|mut peer| async move {
            admit(&mut peer).await;
            while peer.tell(&Tell::Output(vec![b'x'; FLOOD_PIECE])).await.is_ok() {}
        });
        let mut child = scene.sulku(&["connect", "--transport", transport]).spawn().expect("started");
        let mut first = [0; 1];
        child.stdout.as_mut().expect("piped").read_exact(&mut first).expect("the session is open");
        std::thread::sleep(Duration::from_millis(700));
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it lives");
        let most: u64 =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).expect("a figure");
        kill_process(pid(&child), Kill::TERM).expect("our child");
        // Once more, so that it does not wait for a command that will not hear.
        std::thread::sleep(Duration::from_millis(50));
        kill_process(pid(&child), Kill::TERM).expect("our child");
        // The pipe stays full: our end of it is read only after the process has gone.
        let output = finish(child);
        assert_eq!(output.status.code(), Some(143), "{}", text(&output.stderr));
        assert!(most < MEMORY_KIB_MAX, "over {transport}, {most} KiB at most");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_session() {
    let left = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&left);
    let scene = Scene::new(move |mut peer| {
        let shared = Arc::clone(&shared);
        async move {
            admit(&mut peer).await;
            peer.tell(&Tell::Output(b"ready".to_vec())).await.expect("sent");
            tokio::time::sleep(Duration::from_millis(200)).await;
            peer.tell(&Tell::Output(b"more".to_vec())).await.expect("sent");
            *shared.lock().expect("nobody panicked") = collect(&mut peer, |ask| *ask == Ask::Leave).await;
            close(peer, "left", None).await;
        }
    });
    let mut child = scene.sulku(&["connect", "--", "yes"]).spawn().expect("started");
    let mut out = child.stdout.take().expect("piped");
    let mut ready = [0; 5];
    out.read_exact(&mut ready).expect("the session is open");
    drop(out);
    assert_eq!(finish(child).status.code(), Some(1));
    assert!(until(|| left.lock().expect("nobody panicked").contains(&Ask::Leave).then_some(())).is_some());
}

/// A terminal of 100 by 30, its own end first.
fn pty() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let own = openpt(flags).expect("a pseudoterminal");
    grantpt(&own).expect("ours");
    unlockpt(&own).expect("ours");
    let other = ioctl_tiocgptpeer(&own, flags).expect("its other end");
    tcsetwinsize(&own, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).expect("ours");
    (own, other)
}

fn is_raw(mode: &Termios) -> bool {
    !mode.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

fn same(one: &Termios, other: &Termios) -> bool {
    (one.local_modes, one.input_modes, one.output_modes) == (other.local_modes, other.input_modes, other.output_modes)
}

fn raw_until(end: impl Fn(&Child, &mut File)) -> (Vec<Ask>, Output) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&asked);
    let scene = Scene::new(move |mut peer| {
        let shared = Arc::clone(&shared);
        async move {
            let Purpose::Connect { columns, rows, .. } = admit(&mut peer).await else { panic!("a session was asked for") };
            assert_eq!((columns, rows), (100, 30));
            *shared.lock().expect("nobody panicked") = collect(&mut peer, |ask| *ask == Ask::Leave).await;
            close(peer, "left", None).await;
        }
    });
    let (own, other) = pty();
    let before = tcgetattr(&own).expect("a terminal");
    assert!(!is_raw(&before));
    let mut command = scene.sulku(&["connect"]);
    command.stdin(other.try_clone().expect("a terminal")).stdout(other.try_clone().expect("a terminal"));
    let child = command.spawn().expect("started");
    let watch = own.try_clone().expect("a terminal");
    let mut keys = File::from(own);
    let raw = until(|| is_raw(&tcgetattr(&watch).expect("a terminal")).then_some(()));
    end(&child, &mut keys);
    let output = finish(child);
    assert!(raw.is_some(), "the terminal was never raw: {}", text(&output.stderr));
    assert!(same(&before, &tcgetattr(&watch).expect("a terminal")), "the terminal was not put back");
    let asks = asked.lock().expect("nobody panicked").clone();
    drop((scene.desk, other));
    (asks, output)
}

#[test]
fn the_escape_leaves_and_the_terminal_is_as_before() {
    let (asks, output) = raw_until(|child, keys| {
        keys.write_all(b"x\x03\r").expect("typed");
        tcsetwinsize(&*keys, Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 }).expect("ours");
        kill_process(pid(child), Kill::WINCH).expect("our child");
        std::thread::sleep(Duration::from_millis(200));
        keys.write_all(b"~.").expect("typed");
    });
    assert_eq!(typed(&asks), b"x\x03\r", "keys pass untouched, and the escape does not");
    assert!(asks.contains(&Ask::Resize { columns: 132, rows: 50 }), "{asks:?}");
    assert!(!asks.iter().any(|ask| matches!(ask, Ask::Signal(_))), "{asks:?}");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("leave with exit, or with ~. on a new line"), "{}", text(&output.stderr));
}

#[test]
fn a_signal_puts_the_terminal_back_too() {
    let (asks, output) = raw_until(|child, _| kill_process(pid(child), Kill::TERM).expect("our child"));
    assert_eq!((asks.as_slice(), output.status.code()), ([Ask::Leave].as_slice(), Some(143)));
}

#[test]
fn an_operator_sees_sessions_as_a_table_and_as_json() {
    let row = SessionRow {
        session: welcome().session,
        permit: welcome().permit,
        person: welcome().person,
        from: "192.0.2.7".into(),
        transport: "quic".into(),
        opened: "2026-06-01T10:00:00Z".parse().expect("a time"),
        ends: "2026-06-01T22:00:00Z".parse().expect("a time"),
        idle_s: 240,
        bytes_out: 1536,
        detached_s: None,
    };
    let rows = vec![row];
    let (answer, id) = (Tell::Sessions(rows.clone()), welcome().session.to_string());
    let scene = Scene::new(move |mut peer| {
        let answer = answer.clone();
        async move {
            let Some(Ask::Hello(hello)) = peer.ask().await else { panic!("hello comes first") };
            let answer = if matches!(hello.purpose, Purpose::ListSessions | Purpose::ListOwn) { answer } else { Tell::Done };
            peer.tell(&answer).await.expect("sent");
            peer.end(quic_code::DONE).await;
        }
    });
    let table = scene.run(&["sessions", "list"]);
    let lines: Vec<_> = text(&table.stdout).lines().map(|line| line.split_whitespace().map(String::from).collect::<Vec<_>>()).collect();
    assert_eq!(lines.len(), 2, "{}", text(&table.stderr));
    assert_eq!(lines[0][..5], ["SESSION", "PERSON", "PERMIT", "FROM", "OVER"]);
    assert_eq!(lines[1][..5], [id.as_str(), "maija", "DEMO/1/2026", "192.0.2.7", "quic"]);
    assert_eq!(lines[1][lines[1].len() - 5..], ["4", "min", "–", "1.5", "KiB"]);
    let json = scene.run(&["sessions", "list", "--json"]);
    assert_eq!(serde_json::from_slice::<Vec<SessionRow>>(&json.stdout).expect("JSON"), rows);
    let own = scene.run(&["sessions", "--json"]);
    assert_eq!(own.stdout, json.stdout, "a holder's own, asked for without more words: {}", text(&own.stderr));
    let ended = scene.run(&["sessions", "end", &id]);
    assert_eq!((ended.status.code(), text(&ended.stdout)), (Some(0), format!("ended {id}\n")));
}

#[test]
fn a_wrong_command_line_exits_with_two_and_a_missing_profile_with_one() {
    let scene = Scene::new(|_| async {});
    assert_eq!(scene.run(&["connect", "--transport", "carrier-pigeon"]).status.code(), Some(2));
    assert_eq!(scene.run(&["sessions", "end", "no-id"]).status.code(), Some(2));
    let output = scene.run(&["connect", "--profile", "/nonexistent/profile.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.starts_with("sulku: the profile /nonexistent/profile.toml can't be read; ") && told.contains("\n  because: No such file"), "{told}");
}

#[test]
fn the_doctor_tells_of_a_profile_whose_key_others_can_read() {
    let scene = Scene::new(|_| async {});
    let good = text(&scene.run(&["doctor"]).stdout);
    assert!(good.contains("ok       certificate          valid until "), "{good}");
    let key = scene.desk.folder.path().join("me.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("mine");
    let bad = scene.run(&["doctor"]);
    assert!(text(&bad.stdout).contains("wrong    profile ") && text(&bad.stdout).contains("chmod 600 "), "{}", text(&bad.stdout));
    assert_ne!(bad.status.code(), Some(0));
}
