//! What a cell is, what it gives its holder, and what stays behind it.

mod stage;

use std::fs;
use std::process::Command;

use stage::{Options, Stage, eventually};
use sulku_audit::{CloseReason, Event};
use sulku_plan::order::{Order, Report, Signal};

#[test]
fn a_command_runs_as_the_holder_in_her_workspace_with_her_data() {
    let mut stage = Stage::new();
    let script = "id -un; id -u; hostname; pwd; cat /data/one/rows.csv; ls /data; tty; echo kept > note; echo $SULKU_PERMIT $USER $HOME; \
                  echo t > /tmp/t && cat /tmp/t; touch /dev/shm/x && echo shm; python3 -c 'print(6 * 7)'";
    let (output, status) = stage.run("one.toml", &["/bin/bash", "-c", script]);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(
        lines,
        ["maija", "1000", "ws-one", "/workspace", "id,value", "1,2", "one", "/dev/pts/0", "THL/1/2026 maija /workspace", "t", "shm", "42"],
        "{output}"
    );
    assert_eq!(status, 0);
    assert_eq!(stage.shell("one.toml", "cat note").trim(), "kept", "the workspace outlives the cell");
    assert_eq!(stage.shell("two.toml", "ls -A | wc -l").trim(), "0", "another permit's workspace is another");
    let owners: Vec<_> = ["ws-one", "ws-two"]
        .map(|name| std::os::unix::fs::MetadataExt::uid(&fs::metadata(stage.path("workspaces").join(name)).expect("a folder")))
        .into();
    if stage::is_rootless() {
        let own = std::os::unix::fs::MetadataExt::uid(&fs::metadata(stage.path("workspaces")).expect("a folder"));
        assert_eq!(owners, [own, own], "the user who runs the warden owns all that is there");
    } else {
        assert_eq!(owners, [2_000_000, 2_000_001], "each workspace has a user id of its own");
    }
}

/// Bound on the host, and unbound again.
struct Bound(std::path::PathBuf);

impl Bound {
    fn over(place: &std::path::Path, shown: &std::path::Path) -> Self {
        let status = Command::new("/bin/mount").arg("--bind").args([shown, place]).status().expect("mount");
        assert!(status.success(), "mount {} over {}", shown.display(), place.display());
        Self(place.to_owned())
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let unbound = Command::new("/bin/umount").arg("--lazy").arg(&self.0).status();
        assert!(unbound.is_ok_and(|status| status.success()) || std::thread::panicking(), "{} stays bound", self.0.display());
    }
}

/// Half of a cell's root is made before its order. What the host has mounted or changed since is what the cell sees, and nothing of the host's is held meanwhile.
#[test]
fn what_the_host_has_changed_since_a_process_waits_is_in_its_cell() {
    if stage::is_rootless() {
        // The warden's mounts are its own there: nothing that the host mounts later is in them.
        return;
    }
    let mut stage = Stage::new();
    let waiting = || stage_waiting(&stage);
    eventually("all seats are taken", || (waiting().len() >= 2).then_some(()));
    let holds = |pid: u32, folder: &str| fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("its mounts").contains(folder);
    let folder = stage.path("data-one");
    let (data, text) = (stage.path("data-later"), stage.path("other.conf"));
    fs::create_dir(&data).expect("a folder");
    fs::write(data.join("rows.csv"), "later\n").expect("data");
    fs::write(&text, "# another\n").expect("a file");
    let mounted = Bound::over(&folder, &data);
    let changed = Bound::over("/etc/ld.so.conf".as_ref(), &text);
    assert!(waiting().into_iter().all(|pid| !holds(pid, "data-later")), "a process that waits holds what the host mounts");
    assert_eq!(stage.shell("one.toml", "cat /data/one/rows.csv /etc/ld.so.conf"), "later\r\n# another\r\n");
    drop((mounted, changed));
    assert_eq!(stage.shell("one.toml", "head -n 1 /data/one/rows.csv; grep -c another /etc/ld.so.conf"), "id,value\r\n0\r\n");
}

/// The processes that wait for their cells.
fn stage_waiting(stage: &Stage) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", stage.warden.id())).expect("children");
    let is_waiting = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/mountinfo")).is_ok_and(|mounts| !mounts.contains("/workspace") && mounts.contains(" /usr "))
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_waiting).collect()
}

/// A session is a terminal: prompt, job control, signals, size.
#[test]
fn a_shell_on_a_terminal_has_a_prompt_job_control_and_hears_ctrl_c() {
    let mut stage = Stage::new();
    let shell = stage.launch("one.toml", None);
    shell.read_until("maija@ws-one:~$ ");
    shell.write("stty size; trap 'echo caught-usr1' USR1\n");
    shell.read_until("40 120");
    shell.write("sleep 1000 & jobs\n");
    shell.read_until("Running");
    shell.write("sleep 1002\n");
    stage.await_foreground("sleep");
    shell.write("\x03");
    shell.read_until("$ ");
    shell.write("echo status $?\n");
    shell.read_until("status 130");
    // A signal ordered by the gateway reaches the terminal's foreground processes.
    shell.write("sleep 1001; echo over $?\n");
    stage.await_foreground("sleep");
    stage.gateway.order(&Order::Signal { session: shell.session, signal: Signal::Term });
    shell.read_until("over 143");
    stage.end(&shell, "holder-left");
    assert_eq!(stage.ledger.count("warden.order-refused"), 0, "{:?}", stage.ledger.refusals());
}

/// SE-02: after its end nothing of a session is left, and the record says so.
#[test]
fn nothing_is_left_of_a_cell_after_its_end() {
    let mut stage = Stage::new();
    // Named network namespaces are no cell's, and others on the machine may make some meanwhile.
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("mounts").lines().filter(|line| !line.contains("/run/netns")).count();
    let links = || String::from_utf8(Command::new("/bin/ip").args(["-o", "link"]).output().expect("ip").stdout).expect("text").lines().count();
    let before = (mounts(), links());
    stage.await_groups(0);
    let shells: Vec<_> = (0..3).map(|_| stage.launch("one.toml", None)).collect();
    assert!(stage.cell_processes().len() >= 6, "control: processes run while the cells do");
    assert!(stage.cell_groups() >= 3 || stage::is_rootless(), "control: control groups are there while the cells are");
    for shell in &shells {
        shell.read_until("$ ");
        shell.write("(setsid sleep 1000 &) ; nohup sleep 1001 &\n");
        stage.end(shell, "holder-left");
    }
    assert_eq!((mounts(), links()), before);
    stage.await_groups(0);
    assert_eq!(stage.cell_processes(), Vec::<u32>::new());
    for shell in &shells {
        stage.ledger.entry("the cell's last entry", |draft| match &draft.event {
            Event::CellReaped { reason: CloseReason::HolderLeft, leftovers, memory_peak_bytes, .. } if draft.session == Some(shell.session) => {
                assert_eq!((leftovers.len(), *memory_peak_bytes > 0), (0, true));
                assert!(draft.permit.is_some() && draft.person.is_some());
                Some(())
            }
            _ => None,
        });
    }
}

/// A host may have parts of its system on file systems of their own. They are of the cell's system, and as little the cell's to change.
#[test]
fn what_the_host_has_mounted_below_its_system_is_shown_read_only() {
    let host = "mount -t tmpfs -o mode=0777 none /usr/src; echo mounted > /usr/src/note; chmod 666 /usr/src/note";
    let script = "cat /usr/src/note; echo x > /usr/src/note; touch /usr/src/y; grep ' /usr/src ' /proc/self/mounts | cut -d' ' -f4";
    for host in ["", host] {
        let mut stage = Stage::with(Options { host: host.to_owned(), ..Options::default() });
        let output = stage.shell("one.toml", script);
        if host.is_empty() {
            assert!(output.contains("/usr/src/note: No such file"), "control: what is not mounted is not there: {output}");
            continue;
        }
        assert!(output.starts_with("mounted"), "{output}");
        assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
        assert!(["ro", "nosuid", "nodev"].iter().all(|flag| output.lines().last().is_some_and(|last| last.contains(flag))), "{output}");
    }
}

#[test]
fn the_exit_status_of_the_command_is_reported() {
    let mut stage = Stage::new();
    assert_eq!(stage.run("one.toml", &["false"]).1, 1);
    assert_eq!(stage.run("one.toml", &["/bin/bash", "-c", "exit 42"]).1, 42);
    assert_eq!(stage.run("one.toml", &["/bin/bash", "-c", "kill -9 $$"]).1, 137);
}

#[test]
fn a_command_that_is_not_there_is_refused_and_leaves_nothing() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", Some(&["no-such-programme"]));
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&stage::launch(receipt));
    let reason = stage.gateway.refusal();
    assert!(reason.contains("No such file"), "{reason}");
    assert_eq!(stage.cell_processes(), Vec::<u32>::new());
    stage.await_groups(0);
}

/// The record of a launch is durable before anything of the holder's runs.
#[test]
fn no_shell_runs_before_its_launch_is_recorded() {
    let mut stage = Stage::new();
    let draft = stage.opening("one.toml", Some(&["/bin/bash", "-c", "echo ran > ran; sleep 1000"]));
    let receipt = stage.ledger.keep(&draft);
    stage.ledger.be(stage::ledger::Manner::Silent);
    stage.gateway.order(&stage::launch(receipt));
    assert!(!stage.gateway.readable(std::time::Duration::from_millis(700)), "the warden reported a launch that has no receipt");
    assert!(!stage.path("workspaces/ws-one/ran").exists());
    let programme = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).expect("a programme");
    let programmes: Vec<_> = stage.cell_processes().into_iter().map(programme).collect();
    assert_eq!(programmes, vec![programme(stage.warden.id()); 2], "control: the cell is built, and what will be its shell waits");
    // The ledger hangs up and comes back: what it had not kept is sent again, and the cell runs.
    stage.ledger.be(stage::ledger::Manner::Away);
    stage.ledger.be(stage::ledger::Manner::Keeping);
    assert!(matches!(stage.gateway.report(), (Report::Launched { .. }, Some(_))));
    eventually("the command runs", || stage.path("workspaces/ws-one/ran").exists().then_some(()));
    assert_eq!(stage.ledger.count("cell.launched"), 1);
    let ruleset = stage.ledger.entry("the rules that its packets meet", |draft| match &draft.event {
        Event::CellLaunched { ruleset, .. } => ruleset.clone(),
        _ => None,
    });
    assert_eq!(ruleset, sulku_plan::ruleset::digest(), "each opening names them, not the warden's start alone");
}

/// What a session used stands in its last entry, also that it had no memory left.
#[test]
fn what_a_cell_used_stands_in_its_last_entry() {
    let mut stage = Stage::with(Options { resources: "memory = \"64 MiB\"\nprocesses = 64\ncpus = 1.0".to_owned(), ..Options::default() });
    let used = |stage: &mut Stage, script: &str| {
        let running = stage.launch("one.toml", Some(&["/bin/bash", "-c", script]));
        let output = running.read_to_end();
        assert!(matches!(stage.gateway.report().0, Report::Exited { .. }));
        stage.end(&running, "shell-exited");
        let of = |draft: &sulku_audit::Draft| draft.session == Some(running.session);
        let last = stage.ledger.entry("the cell's last entry", |draft| match draft.event {
            Event::CellReaped { processes_peak, oom_kills, bytes_out, bytes_in, .. } if of(draft) => {
                Some((processes_peak, oom_kills, bytes_out, bytes_in))
            }
            _ => None,
        });
        let flows = stage.ledger.entries().iter().filter(|draft| of(draft)).fold((0, 0), |(out, back), draft| match draft.event {
            Event::EgressAllowed { bytes_out, bytes_in, .. } => (out + bytes_out, back + bytes_in),
            _ => (out, back),
        });
        (output, last, flows)
    };
    let talk = "for n in 1 2 3 4 5; do sleep 1000 & done; exec 3<>/dev/tcp/198.18.0.10/443; head -c 10 <&3; echo 1234567890 >&3; head -c 11 <&3";
    let (output, (processes_peak, oom_kills, bytes_out, bytes_in), flows) = used(&mut stage, talk);
    assert_eq!((oom_kills, (bytes_out, bytes_in)), (0, flows), "{output}");
    assert!(bytes_out > 11 && bytes_in > 11, "{bytes_out} {bytes_in}: {output}");
    // The first process, the shell and five that sleep; where there are no control groups the kernel does not tell.
    assert!(if stage::is_rootless() { processes_peak == 0 } else { (7..=64).contains(&processes_peak) }, "{processes_peak}");
    let (output, (_, oom_kills, bytes_out, bytes_in), flows) = used(&mut stage, "head -c 200M /dev/zero | tail; echo tried");
    assert!(output.contains("tried"), "{output}");
    assert!(if stage::is_rootless() { oom_kills == 0 } else { oom_kills >= 1 }, "{oom_kills}: {output}");
    assert_eq!(((bytes_out, bytes_in), flows), ((0, 0), (0, 0)), "control: what reaches nothing has no bytes");
}
