//! What the cells of one workspace share, and what a cell shares with the host: files, and nothing that leads from one's processes to
//! another's. Each way that is closed between cells is shown to be open inside one.

mod stage;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use stage::{Stage, eventually};

/// Opens every way into its own process that there is, then waits: a socket in a file, an abstract socket, memory of System V and of
/// POSIX, a file; and says under which ids.
const HOST_OF_WAYS: &str = r#"
import ctypes, mmap, os, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
a = socket.socket(socket.AF_UNIX); a.bind('\0sulku-way'); a.listen()
t = socket.socket(socket.AF_UNIX); t.bind('/tmp/way'); t.listen()
w = socket.socket(socket.AF_UNIX)
try: w.bind('/workspace/way'); print('socket in the workspace made')
except OSError as e: print('socket in the workspace', e.errno)
i = libc.shmget(0x51c0, 4096, 0o1666); print('shm', i >= 0)
open('/dev/shm/way', 'w').write('x')
l = socket.socket(); l.bind(('127.0.0.1', 7070)); l.listen()
open('/workspace/ids', 'w').write(f'{os.getpid()}')
print('ways are open', flush=True)
"#;

/// Tries those ways.
const VISITOR: &str = r#"
import ctypes, os, signal, socket
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, do):
    try: do(); print(what, 'open')
    except OSError as e: print(what, 'closed', e.errno)
def call(r):
    if r < 0: raise OSError(ctypes.get_errno(), 'x')
def unix(name):
    s = socket.socket(socket.AF_UNIX); s.connect(name)
def tcp():
    s = socket.socket(); s.connect(('127.0.0.1', 7070))
pid = int(open('/workspace/ids').read())
ways = [
  ('abstract', lambda: unix('\0sulku-way')), ('tmp', lambda: unix('/tmp/way')), ('shm', lambda: call(libc.shmget(0x51c0, 4096, 0o666))),
  ('posix-shm', lambda: open('/dev/shm/way')), ('loopback', tcp),
  ('proc', lambda: os.stat(f'/proc/{pid}/status') if os.path.exists(f'/proc/{pid}/fd/5') else call(-1)),
]
for what, do in ways: tried(what, do)
print('file', open('/workspace/ids').read() != '')
"#;

/// SE: holders of one permit share its files, never each other's processes.
#[test]
fn two_cells_of_a_workspace_share_files_and_no_way_into_each_others_processes() {
    let mut stage = Stage::new();
    let first = stage.launch("one.toml", Some(&["/usr/bin/python3", "-c", &format!("{HOST_OF_WAYS}\ntime.sleep(1000)")]));
    let opened = first.read_until("ways are open");
    assert!(opened.contains("shm True"), "control: {opened}");
    assert!(opened.contains("socket in the workspace 13"), "nobody makes a socket where others see it: {opened}");
    eventually("the first's ids", || stage.path("workspaces/ws-one/ids").metadata().ok().filter(|found| found.len() > 0));
    let (output, _) = stage.run("one.toml", &["/usr/bin/python3", "-c", VISITOR]);
    let ways = ["abstract", "tmp", "shm", "posix-shm", "loopback", "proc"];
    for way in ways {
        assert!(output.contains(&format!("{way} closed")), "{way} in {output}");
    }
    assert!(output.contains("file True"), "the file is shared: {output}");
    let processes = stage.cell_processes();
    stage.run("one.toml", &["/bin/bash", "-c", "sleep 1000 & kill -9 -1"]);
    assert_eq!(stage.cell_processes(), processes, "whoever is signalled by all that a cell can signal, the other cell's processes are not");
    stage.end(&first, "holder-left");
    let (inside, _) = stage.run("one.toml", &["/usr/bin/python3", "-c", &format!("{HOST_OF_WAYS}\n{VISITOR}")]);
    for way in ways {
        assert!(inside.contains(&format!("{way} open")), "control: {way} inside one cell: {inside}");
    }
}

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
