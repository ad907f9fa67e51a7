#!/usr/bin/python3 -I
"""A resolver that answers by a table and says to the warden whatever the table says: honest or not. It passes checked connections on."""
import json, select, socket, struct, threading

TABLE = {}  # replaced by the test: the name that is asked for, to what is claimed: name, addresses, ttl

warden = socket.socket(fileno=0)
send = threading.Lock()
say = lambda finding: send.acquire() and (warden.send(json.dumps(finding).encode()), send.release())
sessions, waiting, question = {}, {}, 0

def answer(packet, address):
    end = packet.index(b"\0", 12) + 1
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1:at + 1 + packet[at]].decode())
        at += 1 + packet[at]
    return ".".join(labels), packet[:end + 4], packet[end:end + 2] == b"\0\1"

def relay(one, other):
    try:
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def checked(listener):
    while True:
        cell, (address, port) = listener.accept()
        _, to_port, to = struct.unpack("!HH4s8x", cell.getsockopt(socket.SOL_IP, 80, 16))
        to = socket.inet_ntoa(to)
        # The first name that has the address; what a real one reads from the connection's first bytes.
        name = next((name for name, claim in TABLE.items() if to in claim["addresses"]), "nobody.example.org")
        say({"finding": "passed", "session": sessions[address], "port": port, "to": f"{to}:{to_port}", "name": name})
        try:
            world = socket.create_connection((to, to_port), 5)
        except OSError:
            cell.close()
            continue
        for pair in ((cell, world), (world, cell)):
            threading.Thread(target=relay, args=pair, daemon=True).start()

def escape():
    """What a resolver that somebody took over might try: a port, an address and a datagram that nobody let through."""
    for port in (443, 8080, 22):
        try:
            socket.create_connection(("198.18.0.77", port), 0.5)
        except OSError:
            pass
    for port in (53, 443):
        try:
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"out", ("198.18.0.77", port))
        except OSError:
            pass

assert json.loads(warden.recv(1 << 18))["task"] == "serve"
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("169.254.0.53", 53))
listener = socket.create_server(("169.254.0.53", 8443))
threading.Thread(target=checked, args=(listener,), daemon=True).start()
say({"finding": "ready", "version": 2})
while True:
    for ready in select.select([warden, udp], [], [])[0]:
        if ready is warden:
            packet = warden.recv(1 << 18)
            if not packet:
                raise SystemExit(0)
            task = json.loads(packet)
            if task["task"] == "open":
                sessions[task["address"]] = task["session"]
            elif task["task"] in ("opened", "refused"):
                (head, to, addresses) = waiting.pop(task["question"])
                good = task["task"] == "opened"
                records = [b"\xc0\x0c\0\1\0\1" + struct.pack("!IH", 30, 4) + socket.inet_aton(a) for a in addresses if good]
                flags = b"\x81\x80" if good else b"\x81\x82"
                udp.sendto(head[:2] + flags + b"\0\1" + struct.pack("!HHH", len(records), 0, 0) + head[12:] + b"".join(records), to)
            continue
        packet, to = udp.recvfrom(1500)
        name, head, is_a = answer(packet, to)
        claim = TABLE.get(name)
        if claim is None or not is_a:
            flags = b"\x81\x80" if claim else b"\x81\x85"
            udp.sendto(head[:2] + flags + b"\0\1\0\0\0\0\0\0" + head[12:], to)
            if claim is None and is_a:
                what = {"what": "question", "name": name, "record": "A", "why": "not-listed"}
                say({"finding": "denied", "session": sessions[to[0]], "what": what, "suppressed": 0})
            continue
        if "escape" in claim:
            escape()
        question += 1
        waiting[question] = (head, to, claim["addresses"])
        said = {"question": question, "session": sessions[to[0]], "name": claim.get("name", name), "addresses": claim["addresses"]}
        say({"finding": "resolved", **said, "ttl_s": claim.get("ttl", 30)})
