#!/usr/bin/env python3
"""Sulku beside OpenSSH, on one machine, in one run: time to the first prompt, keystroke echo, memory per idle session.

Start an environment first (`sulku demo --stay` prints the profile), then, as root:

    tests/load/beside_openssh.py --sulku target/release/sulku --profile PROFILE --permit PERMIT

Both sides are measured through their real clients on a pseudo-terminal, in turn, A B A B. OpenSSH authenticates with a user
certificate, runs no sandbox and records nothing; Sulku builds a cell and records every byte before it is shown. Medians and
99th percentiles are printed with their ratio. The sshd is this script's own, on loopback, and ends with it.
"""

import argparse
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT = re.compile(rb"[$#] (\x1b\[[0-9;?]*[a-zA-Z])*$")
PATIENCE_S = 20


class Session:
    """One client on a pseudo-terminal."""

    def __init__(self, command):
        self.began = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm"
            os.execvp(command[0], command)
        self.seen = b""

    def read(self, until, patience=PATIENCE_S):
        """Reads until the output matches; returns the moment at which it did."""
        deadline = time.perf_counter() + patience
        while True:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.perf_counter()))
            if not ready:
                raise TimeoutError(f"no answer; seen: {self.seen[-300:]!r}")
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError as error:
                raise EOFError(f"the client ended; seen: {self.seen[-300:]!r}") from error
            if until(self.seen):
                return time.perf_counter()

    def prompt(self):
        return self.read(lambda seen: PROMPT.search(seen)) - self.began

    def key(self, byte):
        self.seen = b""
        began = time.perf_counter()
        os.write(self.fd, byte)
        return self.read(lambda seen: byte in seen) - began

    def close(self):
        try:
            os.write(self.fd, b"\x15exit\r")
            deadline = time.perf_counter() + 5
            while time.perf_counter() < deadline:
                ready, _, _ = select.select([self.fd], [], [], 0.5)
                if ready and not os.read(self.fd, 65536):
                    break
        except OSError:
            pass
        os.close(self.fd)
        try:
            os.kill(self.pid, signal.SIGHUP)
        except ProcessLookupError:
            pass
        os.waitpid(self.pid, 0)


class Sshd:
    """An sshd of this script's own: loopback, user certificates, no PAM."""

    def __init__(self, folder):
        self.folder = folder
        run = lambda *words: subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        for name in ("host", "authority", "user"):
            run("ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(folder / name))
        run("ssh-keygen", "-q", "-s", str(folder / "authority"), "-I", "bench", "-n", "root", "-V", "+1h", str(folder / "user.pub"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nTrustedUserCAKeys {folder}/authority.pub\n"
            f"PidFile {folder}/pid\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nStrictModes no\n"
            "MaxStartups 200\nMaxSessions 200\nPrintMotd no\nPrintLastLog no\n")
        os.makedirs("/run/sshd", exist_ok=True)
        self.process = subprocess.Popen([shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config")],
                                        stderr=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("sshd does not listen")

    def command(self):
        return ["ssh", "-tt", "-q", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o",
                "IdentitiesOnly=yes", "-i", str(self.folder / "user"), "-p", str(self.port), "root@127.0.0.1", "bash", "--norc", "-i"]

    def stop(self):
        self.process.terminate()
        self.process.wait()


def pss_kib(pids):
    total = 0
    for pid in pids:
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
        except (OSError, TypeError):
            pass
    return total


def named(name):
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(words[0].split(b" ")[0].rstrip(b":")) == name.encode():
            found.append(int(folder.name))
    return found


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def row(what, ours, theirs, unit, scale):
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        a, b = percentile(ours, share) * scale, percentile(theirs, share) * scale
        print(f"{what:28} {label}  sulku {a:9.2f} {unit}   openssh {b:9.2f} {unit}   ratio {a / b:6.3f}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sulku", required=True)
    arguments.add_argument("--profile", required=True)
    arguments.add_argument("--permit", required=True)
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--keys", type=int, default=400)
    arguments.add_argument("--idle", type=int, default=0, help="idle sessions for the memory figure; the permit must allow as many")
    options = arguments.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sulku-bench-"))
    sshd = Sshd(folder)
    ours = lambda transport: [options.sulku, "connect", "--profile", options.profile, "--transport", transport, options.permit]
    try:
        print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
        for transport in ("quic", "tls"):
            times = {"sulku": [], "ssh": []}
            for _ in range(options.rounds):
                for side, command in (("sulku", ours(transport)), ("ssh", sshd.command())):
                    session = Session(command)
                    times[side].append(session.prompt())
                    session.close()
            row(f"connect to prompt, {transport}", times["sulku"], times["ssh"], "ms", 1e3)
        for transport in ("quic", "tls"):
            a, b = Session(ours(transport)), Session(sshd.command())
            a.prompt(), b.prompt()
            echo = {a: [], b: []}
            for number in range(options.keys):
                for session in (a, b):
                    echo[session].append(session.key(b"abcdefghij"[number % 10:number % 10 + 1]))
                    if number % 40 == 39:
                        os.write(session.fd, b"\x15")
                        session.seen = b""
                        time.sleep(0.02)
                        select.select([session.fd], [], [], 0)
                time.sleep(0.004)
            row(f"keystroke echo, {transport}", echo[a], echo[b], "µs", 1e6)
            a.close(), b.close()
        if options.idle:
            # With each cell's first process: it is a copy of the warden and shares its pages, which PSS divides among both.
            daemons = lambda: named("sulkud") + named("sulku-warden")
            before = pss_kib(daemons())
            sessions = [Session(ours("tls")) for _ in range(options.idle)]
            [session.prompt() for session in sessions]
            time.sleep(1)
            mine = (pss_kib(daemons()) - before) / options.idle
            [session.close() for session in sessions]
            before = pss_kib(named("sshd"))
            sessions = [Session(sshd.command()) for _ in range(options.idle)]
            [session.prompt() for session in sessions]
            time.sleep(1)
            theirs = (pss_kib(named("sshd")) - before) / options.idle
            [session.close() for session in sessions]
            print(f"memory per idle session (PSS)     sulku {mine:9.0f} KiB  openssh {theirs:9.0f} KiB  ratio {mine / theirs:6.3f}")
    finally:
        sshd.stop()
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
