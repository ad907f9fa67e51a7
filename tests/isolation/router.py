"""Sends, as root and with no wall but the router, what no permit lists. What arrives is for the world outside to say."""
import os, socket, struct

LISTED = '198.18.0.10'


def tried(name, do):
    try:
        print(name, do() or 'sent', flush=True)
    except OSError as error:
        print(name, error.strerror, flush=True)


def tcp(address, port, protocol=0):
    one = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    one.settimeout(3)
    one.connect((address, port))
    return 'connected'


def fast_open():
    one = socket.socket()
    one.settimeout(3)
    one.sendto(b'x', 0x20000000, (LISTED, 8080))


def udp(address, port):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.settimeout(3)
    one.connect((address, port))
    one.send(b'x')
    return 'answered ' + one.recv(99).decode()


def spoofed():
    one = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    body = struct.pack('!HHHH', 1234, 53, 9, 0) + b'x'
    head = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(body), 1, 0, 64, 17, 0, socket.inet_aton('198.18.0.77'), socket.inet_aton(LISTED))
    one.sendto(head + body, (LISTED, 0))


def other_protocol():
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 47).sendto(bytes(8), (LISTED, 0))


def ping():
    one = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    one.settimeout(1)
    head = struct.pack('!BBHHH', 8, 0, 0, 1, 1)
    total = sum(struct.unpack('!4H', head))
    one.sendto(struct.pack('!BBHHH', 8, 0, ~total & 0xffff, 1, 1), (LISTED, 0))
    return 'echoed' if one.recv(99)[20] == 0 else 'refused'


tried('other-port', lambda: tcp(LISTED, 8080))
tried('other-host', lambda: tcp('198.18.0.11', 443))
tried('mptcp', lambda: tcp(LISTED, 8080, 262))
tried('fast-open', fast_open)
tried('quic', lambda: udp(LISTED, 443))
tried('other-resolver', lambda: udp('198.18.0.53', 53))
tried('spoofed', spoofed)
tried('other-protocol', other_protocol)
tried('ping', ping)
tried('router-itself', lambda: tcp('10.211.0.1', 22))
tried('uplink-far-end', lambda: tcp('10.211.0.2', 443))
tried('metadata', lambda: tcp('169.254.169.254', 80))
tried('listed', lambda: tcp(LISTED, 443))
tried('listed-udp', lambda: udp(LISTED, 53))
print('end')
