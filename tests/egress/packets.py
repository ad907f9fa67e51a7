"""Sends, as root and with no wall but the router, what no permit lists: whatever gets around a list of destinations elsewhere.

What arrives is for the world to say. Each attempt has a destination of its own, or a protocol and port of its own at the listed host. After
each line of its input it makes all attempts once and prints `round`.
"""
import socket, struct, sys

LISTED = '198.18.0.10'


def tried(name, do):
    try:
        do()
    except OSError as error:
        print(name, error.strerror, flush=True)


def connect(address, port, protocol=0):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as one:
        one.settimeout(0.3)
        one.connect((address, port))


def fast_open(address, port):
    with socket.socket() as one:
        one.settimeout(0.3)
        one.sendto(b'data in the first packet', 0x20000000, (address, port))


def datagram(address, port, protocol=0):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, protocol) as one:
        one.sendto(b'x' * 32, (address, port))


def raw(protocol, address, body):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol) as one:
        one.sendto(body, (address, 0))


def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def icmp(kind, address, payload):
    head = struct.pack('!BBHHH', kind, 0, 0, 7, 1)
    raw(1, address, struct.pack('!BBHHH', kind, 0, checksum(head + payload), 7, 1) + payload)


def packet(address, protocol, body, source=None, fragment=0, more=False, number=1, options=b''):
    """One packet with a header of ours: fragments, options, another's address. The kernel fills in what is left zero."""
    words, flags = 5 + len(options) // 4, fragment // 8 | (0x2000 if more else 0)
    source = socket.inet_aton(source or OWN)
    head = struct.pack('!BBHHHBBH4s4s', 0x40 | words, 0, words * 4 + len(body), number, flags, 64, protocol, 0, source, socket.inet_aton(address))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as one:
        one.sendto(head + options + body, (address, 0))


def udp(port, payload):
    return struct.pack('!HHHH', 4000, port, 8 + len(payload), 0) + payload


def fragments(address, port, number):
    whole = udp(port, bytes(40))
    packet(address, 17, whole[:16], more=True, number=number)
    packet(address, 17, whole[16:], fragment=16, number=number)


def late_ports(address, number):
    """The first fragment holds no whole header: the port comes with the second one."""
    whole = udp(53, bytes(40))
    packet(address, 17, whole[:8], more=True, number=number)
    packet(address, 17, whole[8:], fragment=8, number=number)


def own():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect((LISTED, 53))
        return one.getsockname()[0]


OWN = own()
ROUTER = socket.inet_ntoa(struct.pack('!I', struct.unpack('!I', socket.inet_aton(OWN))[0] - 1))
SOURCE_ROUTE = struct.pack('!BBB4sx', 131, 7, 4, socket.inet_aton('198.18.1.30'))
ATTEMPTS = {
    'doh-unlisted': lambda: connect('198.18.1.1', 443),
    'dot': lambda: connect(LISTED, 853),
    'quic': lambda: datagram(LISTED, 443),
    'address-literal': lambda: connect('198.18.1.2', 443),
    'other-port': lambda: connect(LISTED, 8080),
    'resolver-udp': lambda: datagram('198.18.1.3', 53),
    'resolver-tcp': lambda: connect('198.18.1.4', 53),
    'mptcp': lambda: connect('198.18.1.5', 443, 262),
    'fast-open': lambda: fast_open('198.18.1.6', 443),
    'udplite': lambda: datagram(LISTED, 53, 136),
    'fragments': lambda: fragments('198.18.1.8', 53, 8),
    'late-ports': lambda: late_ports('198.18.1.9', 9),
    'ping': lambda: icmp(8, LISTED, bytes(16)),
    'icmp-tunnel': lambda: icmp(8, '198.18.1.10', b'secret' * 200),
    'icmp-timestamp': lambda: icmp(13, '198.18.1.11', bytes(12)),
    'icmp-error': lambda: icmp(3, '198.18.1.12', bytes(64)),
    'gre': lambda: raw(47, '198.18.1.13', bytes(8)),
    'ipip': lambda: raw(4, '198.18.1.14', bytes(20)),
    'esp': lambda: raw(50, '198.18.1.15', bytes(16)),
    'sctp': lambda: raw(132, '198.18.1.16', struct.pack('!HHII', 4000, 443, 0, 0)),
    'source-route': lambda: packet('198.18.1.17', 17, udp(53, bytes(8)), options=SOURCE_ROUTE, number=17),
    'spoofed': lambda: packet('198.18.1.18', 17, udp(53, bytes(8)), source='10.210.77.77', number=18),
    'spoofed-to-listed': lambda: packet(LISTED, 17, udp(5353, bytes(8)), source='10.210.77.78', number=19),
    'metadata': lambda: connect('169.254.169.254', 80),
    'far-end': lambda: connect('10.211.0.2', 443),
    'router': lambda: connect('10.211.0.1', 22),
    'router-link': lambda: connect(ROUTER, 22),
    'resolvers-check': lambda: connect('169.254.0.53', 8443),
}

for line in sys.stdin:
    for name, do in ATTEMPTS.items():
        tried(name, do)
    # What the permit lists, last: when the world has heard this, it has heard all that came before.
    tried('listed', lambda: connect(LISTED, 443))
    tried('listed-udp', lambda: datagram(LISTED, 53))
    tried('listed-fragments', lambda: fragments(LISTED, 53, 99))
    print('round', flush=True)
