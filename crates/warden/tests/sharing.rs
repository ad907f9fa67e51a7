//! What a cell shares with the host: what lies in its workspace's folder, and the programs that its permit lets it run.

mod stage;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use stage::Stage;

/// What a service of the host left in a workspace's folder leads nobody to it, whatever its mode says.
#[test]
fn a_socket_of_the_hosts_in_a_workspace_is_not_connected_to() {
    let mut stage = Stage::new();
    assert_eq!(stage.shell("one.toml", "echo made").trim(), "made");
    let path = stage.path("workspaces/ws-one/service");
    let service = UnixListener::bind(&path).expect("a socket");
    service.set_nonblocking(true).expect("a listener");
    let note = stage.path("workspaces/ws-one/note");
    std::fs::write(&note, "from the host").expect("written");
    for left in [&path, &note] {
        std::fs::set_permissions(left, std::fs::Permissions::from_mode(0o777)).expect("a mode");
    }
    let connect = "import socket; s = socket.socket(socket.AF_UNIX); s.connect({}); print('connected')";
    let inside = connect.replace("{}", "'/workspace/service'");
    let script = format!("python3 -c \"{inside}\" 2>&1 | tail -1; cat note; (echo x >> note) 2>&1; rm -f note 2>&1; echo own > own && cat own");
    let output = stage.shell("one.toml", &script);
    assert!(output.contains("PermissionError: [Errno 13]"), "{output}");
    assert!(service.accept().is_err(), "nobody came");
    assert!(output.contains("from the host"), "control: it can be read: {output}");
    assert!(output.contains("note: Permission denied"), "{output}");
    assert_eq!(std::fs::read_to_string(&note).expect("still there"), "from the host");
    assert!(output.ends_with("own\r\n") || output.ends_with("own\n"), "control: her own files are hers: {output}");
    // The same user id, outside of the cell, is let in by the socket's mode.
    let user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(stage.path("workspaces/ws-one")).expect("a folder"));
    let outside = connect.replace("{}", &format!("{:?}", path.display().to_string()));
    let python = Command::new("/usr/bin/setpriv")
        .args([&format!("--reuid={user}"), "--clear-groups", "/usr/bin/python3", "-c", &outside])
        .current_dir("/")
        .output()
        .expect("setpriv");
    assert!(String::from_utf8_lossy(&python.stdout).contains("connected"), "control: {}", String::from_utf8_lossy(&python.stderr));
}

/// Where a permit says so, a cell runs its system's programs and no others, from whatever memory or folder.
#[test]
fn a_permit_decides_whether_a_cell_runs_what_is_brought_in() {
    let script = "for d in /workspace /tmp /dev/shm; do cp /bin/true $d/brought && $d/brought 2>/dev/null && echo ran $d; done; \
        python3 -c \"
import os
def memory(flags):
    f = os.memfd_create('x', flags); os.write(f, open('/bin/true', 'rb').read())
    if os.fork() == 0:
        try: os.execve(f, ['x'], {})
        except OSError: os._exit(9)
    return os.wait()[1]
try: print('memory', memory(0))
except OSError as e: print('memory', e.errno)
try: print('sealed', os.memfd_create('x', 8) > 0)
except OSError as e: print('sealed', e.errno)
\"; echo 'echo a script runs' > s.sh; bash s.sh";
    for (programs, ran, memory) in [("anywhere", vec!["/workspace", "/tmp"], "memory 0"), ("image-only", vec![], "memory 2304")] {
        let mut stage = Stage::new();
        stage.change_permit("one.toml", "name = \"ws-one\"", &format!("name = \"ws-one\"\nprograms = \"{programs}\""));
        let output = stage.shell("one.toml", script);
        let said: Vec<_> = output.lines().filter_map(|line| line.strip_prefix("ran ")).collect();
        assert_eq!(said, ran, "{programs}: {output}");
        assert!(output.contains(memory), "{programs}: {output}");
        assert!(output.contains("sealed True"), "control: memory that is not for running is had by both: {output}");
        assert!(output.contains("a script runs"), "control: an interpreter of the system reads what it likes: {output}");
    }
}
