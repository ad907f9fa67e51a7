"""Hears every packet that comes into the world, of whatever protocol, and prints `protocol source destination port` for each."""
import socket, struct, sys

OUTGOING = 4
EVERYTHING = 3
ears = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERYTHING))
ears.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
print('listens', flush=True)
while True:
    packet, (link, kind, direction, *_) = ears.recvfrom(65536)
    if link == 'lo' or direction == OUTGOING:
        continue
    if kind == 0x86DD:
        print(f'ipv6-{packet[6]}', socket.inet_ntop(socket.AF_INET6, packet[8:24]), socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0, flush=True)
    if kind != 0x0800:
        continue
    start, protocol = (packet[0] & 15) * 4, packet[9]
    first = struct.unpack('!H', packet[6:8])[0] & 0x1FFF == 0
    has_ports = first and protocol in (6, 17, 136, 132, 33) and len(packet) >= start + 4
    port = struct.unpack('!H', packet[start + 2:start + 4])[0] if has_ports else 0
    print(protocol, socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20]), port, flush=True)
