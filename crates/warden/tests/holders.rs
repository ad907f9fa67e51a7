//! What the cells of one workspace share: its files, and nothing that leads from one's processes to another's. Each way that is closed
//! between cells is shown to be open inside one.

mod stage;

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

/// Tries what leads into a process of which one knows the number: the numbers come as arguments.
const INTRUDER: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(what, do):
    try: do(); print(what, 'open')
    except OSError as e: print(what, 'closed', e.errno)
def call(r):
    if r < 0: raise OSError(ctypes.get_errno(), 'x')
class Piece(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
def memory(pid):
    room = ctypes.create_string_buffer(8)
    here, there = Piece(ctypes.addressof(room), 8), Piece(0x400000, 8)
    call(libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0))
for pid in map(int, sys.argv[1:]):
    tried('signal', lambda: os.kill(pid, 0))
    tried('descriptor', lambda: os.pidfd_open(pid))
    tried('priority', lambda: os.getpriority(os.PRIO_PROCESS, pid))
    tried('trace', lambda: call(libc.ptrace(16, pid, 0, 0)))
    tried('memory', lambda: memory(pid))
    tried('see', lambda: os.stat(f'/proc/{pid}'))
child = os.fork()
if child == 0:
    import time; time.sleep(1000)
print('own', end=' '); tried('signal', lambda: os.kill(child, 0))
print('own', end=' '); tried('descriptor', lambda: os.pidfd_open(child))
print('own', end=' '); tried('see', lambda: os.stat(f'/proc/{child}'))
os.kill(child, 9)
print('numbers', sum(name.isdigit() for name in os.listdir('/proc')))
"#;

/// SE: two holders of one permit are one user id in one folder, and neither reaches a process of the other's, whatever number she tries.
#[test]
fn a_holder_reaches_no_process_of_another_holder_of_her_permit() {
    let mut stage = Stage::new();
    let bo = "[[holder]]\nid = \"bo\"\nname = \"Bo B\"\ncertificate = { uri = \"spiffe://spe.example.fi/person/bo\" }\nroles = [\"analyst\"]\n\n[session]\n";
    stage.change_permit("one.toml", "[session]\n", bo);
    let hers = stage.launch("one.toml", Some(&["/bin/bash", "-c", "sleep 1000 & echo she works; wait"]));
    hers.read_until("she works");
    let processes = stage.cell_processes();
    assert!(processes.len() >= 2, "{processes:?}");
    let numbers: Vec<_> = processes.iter().map(u32::to_string).collect();
    let mut command = vec!["/usr/bin/python3", "-c", INTRUDER];
    command.extend(numbers.iter().map(String::as_str));
    let his = stage.launch_as("bo", "one.toml", Some(&command));
    let output = his.read_to_end();
    stage.end(&his, "shell-exited");
    for way in ["signal closed 3", "descriptor closed 3", "priority closed 3", "see closed 2", "trace closed", "memory closed"] {
        let tried = output.lines().filter(|line| line.starts_with(way)).count();
        assert_eq!(tried, processes.len(), "{way} in {output}");
    }
    for way in ["signal", "descriptor", "see"] {
        assert!(output.contains(&format!("own {way} open")), "control: {way} in {output}");
    }
    let seen = output.lines().find_map(|line| line.strip_prefix("numbers ")).and_then(|count| count.trim().parse::<u32>().ok());
    assert!(seen.is_some_and(|seen| seen <= 3), "his own alone: {output}");
    assert_eq!(stage.cell_processes(), processes, "hers run on");
    stage.end(&hers, "holder-left");
}
