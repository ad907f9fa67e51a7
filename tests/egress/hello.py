"""Says hello by TLS in all the ways that hide or fake a name, and asks for addresses that nobody should get. Prints `name outcome` for each."""
import socket, ssl, struct, sys


def address(name):
    try:
        return socket.gethostbyname(name)
    except OSError as error:
        return type(error).__name__


def hello(to, name, port=443):
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    context.verify_mode = ssl.CERT_NONE if name is None else ssl.CERT_REQUIRED
    return lambda: context.wrap_socket(socket.create_connection((to, port), 10), server_hostname=name)


def raw(to, first):
    def say():
        with socket.create_connection((to, 443), 10) as one:
            one.sendall(first)
            one.settimeout(10)
            if not one.recv(1):
                raise ConnectionResetError
    return say


def client_hello(name):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(into, out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def encrypted(name):
    """The hello of `name` with an encrypted client hello beside it: type outer, a cipher suite, an id, an empty key, a payload."""
    record = client_hello(name)
    sealed = struct.pack('!BHHBH', 0, 1, 1, 7, 0) + struct.pack('!H', 64) + bytes(range(64))
    more = struct.pack('!HH', 0xFE0D, len(sealed)) + sealed
    at = 5 + 4 + 2 + 32
    at += 1 + record[at]
    at += 2 + struct.unpack('!H', record[at:at + 2])[0]
    at += 1 + record[at]
    extensions = record[at + 2:] + more
    body = record[9:at] + struct.pack('!H', len(extensions)) + extensions
    handshake = record[5:6] + struct.pack('!I', len(body))[1:] + body
    return record[:3] + struct.pack('!H', len(handshake)) + handshake


def tried(what, do):
    try:
        do()
        print(what, 'done', flush=True)
    except ssl.SSLError as error:
        print(what, error.reason, flush=True)
    except OSError as error:
        print(what, type(error).__name__, flush=True)


def no_ipv6(name):
    return [entry for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM) if entry[0] == socket.AF_INET6]


def over_ipv6():
    with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as one:
        one.settimeout(3)
        one.connect(('2001:db8::1', 443))


cran, cpan = address('cran.example.net'), address('cpan.example.net')
print('listed', cran, cpan)
print('unlisted', address('evil.example.com'))
print('tunnel', address('aa00112233445566778899aabbccddeeff00112233.example.net'))
print('rebound', address('rebound.example.net'))
print('metadata', address('metadata.example.net'))
print('ipv6', no_ipv6('cran.example.net'))
tried('over-ipv6', over_ipv6)
tried('other-name', hello(cran, 'evil.example.com'))
tried('no-name', hello(cran, None))
tried('other-listed-name', hello(cran, 'cpan.example.net'))
tried('hidden', raw(cran, encrypted('evil.example.com')))
tried('no-tls', raw(cran, b'GET / HTTP/1.1\r\nHost: cran.example.net\r\n\r\n'))
tried('rebound-address', hello('10.0.0.5', 'rebound.example.net'))
tried('own-name', hello(cran, 'cran.example.net'))
