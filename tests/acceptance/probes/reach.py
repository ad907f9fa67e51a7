"""Tries to reach what its arguments name, `tcp:ADDRESS:PORT`, `udp:ADDRESS:PORT`, `fastopen:…` or `tcp6:…`, and prints `what outcome` for each."""

import socket
import sys

SECONDS = 3


def tcp(family, address, port):
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(SECONDS)
        probe.connect((address, port))
        probe.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return "answered" if probe.recv(100) else "closed"


def udp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(1)
        probe.connect((address, port))
        probe.send(b"anybody there?")
        return "answered" if probe.recv(100) else "closed"


def fastopen(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(SECONDS)
        probe.sendto(b"GET / HTTP/1.0\r\n\r\n", 0x20000000, (address, port))
        return "answered" if probe.recv(100) else "closed"


for what in sys.argv[1:]:
    kind, rest = what.split(":", 1)
    address, port = rest.rsplit(":", 1)
    try:
        if kind == "udp":
            outcome = udp(address, int(port))
        elif kind == "fastopen":
            outcome = fastopen(address, int(port))
        else:
            outcome = tcp(socket.AF_INET6 if kind == "tcp6" else socket.AF_INET, address, int(port))
    except OSError as error:
        outcome = f"no answer ({error})"
    print(what, outcome, flush=True)
