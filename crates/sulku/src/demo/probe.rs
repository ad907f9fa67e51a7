//! What a curious researcher would try, as small programs that run in a workspace and, for control, where they are allowed.

/// Statin users and others over 60: visits, and how many of them for dementia. `awk`, one pass.
pub const AWK_ANALYSIS: &str = r#"NR > 1 && 2024 - $2 >= 60 { n[$7]++; if ($6 ~ /^G30/) d[$7]++ }
END { printf "statin %d of %d, other %d of %d\n", d[1], n[1], d[0], n[0] }"#;

/// The mean cost of a visit in each county. Python, standard library alone.
pub const PYTHON_ANALYSIS: &str = r#"
import csv, statistics, sys
costs = {}
for row in csv.DictReader(open(sys.argv[1])):
    costs.setdefault(row["county"], []).append(int(row["cost_eur"]))
print(", ".join(f"{county} {statistics.mean(values):.2f}" for county, values in sorted(costs.items())))
"#;

/// Fetches a page and prints its first line, or says why not. Exit status 0 means that something answered.
pub const FETCH: &str = r#"
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
try:
    with socket.create_connection((host, port), timeout=4) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        print("answered:", connection.makefile().readline().strip())
except OSError as error:
    print("no answer:", error)
    sys.exit(1)
"#;

/// Opens a raw socket. Exit status 0 means that it opened.
pub const RAW_SOCKET: &str = r#"
import socket, sys
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    print("opened")
except OSError as error:
    print("refused:", error)
    sys.exit(1)
"#;

/// Mounts an empty file system over /tmp. Exit status 0 means that it is mounted.
pub const MOUNT: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
    print("mounted")
else:
    print("refused:", os.strerror(ctypes.get_errno()))
    sys.exit(1)
"#;

/// Prints the command lines of all processes that it sees. Its own is always among them.
pub const PROCESSES: &str = r#"
import glob, sys
for path in sorted(glob.glob("/proc/[0-9]*/cmdline")):
    try:
        print(open(path).read().replace("\0", " ").replace("\n", " ")[:4000])
    except OSError:
        pass
sys.stdout.flush()
"#;
