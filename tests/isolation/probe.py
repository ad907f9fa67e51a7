"""Tries, inside a cell, what would lead out of it. Each attempt runs in a process of its own; one line says what came of it.

Usage: probe.py ATTEMPT... ; what the test has prepared on the host is in /workspace/given.json.
An attempt that goes through says "done"; one that the kernel refuses, the error's name; one that is killed, the signal's.
"""
import ctypes, errno, fcntl, json, mmap, os, signal, socket, struct, sys, termios

libc = ctypes.CDLL(None, use_errno=True)
given = json.load(open('/workspace/given.json'))
HOST, OUTSIDE = '/host', '/host' + given['outside']
pid = given['pid']
NEWNS, NEWUSER, NEWNET = 0x20000, 0x10000000, 0x40000000


def syscall(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *[a if isinstance(a, (bytes, ctypes._SimpleCData, ctypes.Array)) or a is None else ctypes.c_long(a) for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), 'x')
    return result


def new_socket(family, kind, protocol):
    socket.socket(family, kind, protocol).close()


def connect(family, address):
    one = socket.socket(family)
    one.settimeout(5)
    one.connect(address)


def option(level, name, value):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(level, name, value)


def child():
    """A process that waits to be looked into."""
    here = os.fork()
    if here == 0:
        signal.pause()
        os._exit(0)
    return here


def with_child(do):
    other = child()
    try:
        return do(other)
    finally:
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)


def handle():
    name = ctypes.create_string_buffer(struct.pack('Ii', 64, 0) + bytes(64))
    mount = ctypes.c_int()
    open('/dev/shm/handle', 'w').close()
    syscall(303, -100, b'/dev/shm/handle', name, ctypes.cast(ctypes.byref(mount), ctypes.c_void_p).value, 0)
    at = os.open('/dev/shm', os.O_RDONLY)
    syscall(304, at, name, os.O_RDONLY)


def mtu():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    fcntl.ioctl(one, 0x8922, struct.pack('16si', b'eth0', 1400) + bytes(20))


def machine_code(code):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


def x32():
    result = machine_code(b'\xb8\x27\x00\x00\x40\x0f\x05\xc3')  # mov eax, getpid of x32; syscall; ret
    if result < 0:
        raise OSError(-result, 'x')


def clone3():
    arguments = ctypes.create_string_buffer(struct.pack('QQQQQQQQ', NEWUSER, 0, 0, 0, 17, 0, 0, 0))
    here = syscall(435, arguments, 64)
    if here == 0:
        os._exit(0)
    os.waitpid(here, 0)


def clone():
    here = syscall(56, NEWUSER | 17, 0, 0, 0, 0)
    if here == 0:
        os._exit(0)
    os.waitpid(here, 0)


def forks():
    children = []
    try:
        for _ in range(100):
            children.append(child())
    finally:
        for one in children:
            os.kill(one, signal.SIGKILL)
        for one in children:
            os.waitpid(one, 0)


def memory():
    for _ in range(300):
        given.setdefault('held', []).append(bytearray(b'x' * (1 << 20)))


def fill():
    try:
        with open('/tmp/full', 'wb', buffering=0) as file:
            for _ in range(200):
                file.write(bytes(1 << 20))
    finally:
        os.unlink('/tmp/full')


def look_into(other):
    there = ctypes.create_string_buffer(8)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(there), 8)
    syscall(310, other, local, 1, local, 1, 0)


def take_descriptor(other):
    syscall(438, os.pidfd_open(other), 0, 0)


def perf():
    attribute = ctypes.create_string_buffer(struct.pack('IIQ', 1, 64, 0) + bytes(48))
    syscall(298, attribute, -1, 0, -1, 0)


def fork_once():
    here = os.fork()
    if here == 0:
        os._exit(0)
    os.waitpid(here, 0)


def shared_memory():
    if libc.shmget(given['shm'], 16, 0) < 0:
        raise OSError(ctypes.get_errno(), 'x')


ATTEMPTS = {
    'host-file-read': lambda: open(OUTSIDE + '/secret').read(),
    'host-folder-list': lambda: os.listdir(OUTSIDE + '/closed'),
    'host-file-write': lambda: open(OUTSIDE + '/settings', 'a'),
    'host-device': lambda: os.open(HOST + '/dev/loop-control', os.O_RDWR),
    'host-socket': lambda: connect(socket.AF_UNIX, OUTSIDE + '/service'),
    'data-write': lambda: open('/data/one/new', 'w'),
    'passwd-write': lambda: open('/etc/passwd', 'a'),
    'device-make': lambda: os.mknod('/tmp/node', 0o20666, os.makedev(1, 3)),
    'host-process-look': lambda: os.readlink(f'/proc/{pid}/exe'),
    'kernel-setting': lambda: os.open('/proc/sys/kernel/core_pattern', os.O_WRONLY),
    'open-by-handle': handle,
    'tmp-fill': fill,
    'fork-bomb': forks,
    'memory-bomb': memory,
    'user-namespace': lambda: syscall(272, NEWUSER),
    'network-namespace': lambda: syscall(272, NEWNET),
    'mount-namespace': lambda: syscall(272, NEWNS),
    'user-namespace-by-clone': clone,
    'user-namespace-by-clone3': clone3,
    'enter-host-network': lambda: syscall(308, os.open(f'/proc/{pid}/ns/net', os.O_RDONLY), NEWNET),
    'mount': lambda: syscall(165, b'none', b'/tmp', b'tmpfs', 0, None),
    'remount-writable': lambda: syscall(165, b'none', b'/usr', None, 0x1020, None),
    'unmount': lambda: syscall(166, b'/dev/shm', 2),
    'mount-context': lambda: syscall(430, b'tmpfs', 0),
    'mount-clone': lambda: syscall(428, -100, b'/usr', 1),
    'chroot': lambda: os.chroot('/tmp'),
    'become-root': lambda: os.setresuid(0, 0, 0),
    'become-another': lambda: os.setresuid(5, 5, 5),
    'host-name': lambda: syscall(170, b'x', 1),
    'priority': lambda: os.nice(-5),
    'ptrace-child': lambda: with_child(lambda other: syscall(101, 16, other, 0, 0)),
    'memory-of-child': lambda: with_child(look_into),
    'descriptor-of-child': lambda: with_child(take_descriptor),
    'compare-processes': lambda: syscall(312, os.getpid(), os.getpid(), 1, 0, 0),
    'signal-host-process': lambda: os.kill(pid, 0),
    'bpf-map': lambda: syscall(321, 0, ctypes.create_string_buffer(struct.pack('IIII', 2, 4, 4, 1) + bytes(112)), 128),
    'perf-event': perf,
    'userfaultfd': lambda: syscall(323, 1),
    'io-uring': lambda: syscall(425, 1, ctypes.create_string_buffer(120)),
    'secret-memory': lambda: syscall(447, 0),
    'keyring': lambda: syscall(248, b'user', b'x', b'x', 1, -2),
    'personality': lambda: syscall(135, 0x40000),
    'swap-off': lambda: syscall(168, b'/nonexistent'),
    'accounting': lambda: syscall(163, 0),
    'clock': lambda: syscall(164, 0, 0),
    'reboot': lambda: syscall(169, 0, 0, 0, 0),
    'foreign-call': lambda: machine_code(b'\xb8\x14\x00\x00\x00\xcd\x80\xc3'),  # mov eax, getpid of i386; int 0x80; ret
    'x32-call': x32,
    'type-into-terminal': lambda: fcntl.ioctl(0, termios.TIOCSTI, b'\n'),
    'console-command': lambda: fcntl.ioctl(0, 0x541C, b'\x0c'),
    'raw-socket': lambda: new_socket(socket.AF_INET, socket.SOCK_RAW, 6),
    'packet-socket': lambda: new_socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    'netfilter-socket': lambda: new_socket(socket.AF_NETLINK, socket.SOCK_RAW, 12),
    'route-socket': lambda: new_socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    'vsock': lambda: new_socket(40, socket.SOCK_STREAM, 0),
    'crypto-socket': lambda: new_socket(38, 5, 0),
    'mptcp': lambda: new_socket(socket.AF_INET, socket.SOCK_STREAM, 262),
    'sctp': lambda: new_socket(socket.AF_INET, socket.SOCK_STREAM, 132),
    'dccp': lambda: new_socket(socket.AF_INET, 6, 33),
    'udplite': lambda: new_socket(socket.AF_INET, socket.SOCK_DGRAM, 136),
    'icmp': lambda: new_socket(socket.AF_INET, socket.SOCK_DGRAM, 1),
    'packet-mark': lambda: option(socket.SOL_SOCKET, 36, 7),
    'transparent': lambda: option(0, 19, 1),
    'link-change': mtu,
    'host-abstract-socket': lambda: connect(socket.AF_UNIX, '\0' + given['abstract']),
    'host-loopback': lambda: connect(socket.AF_INET, ('127.0.0.1', given['port'])),
    'host-shared-memory': shared_memory,
    'workspace-host-socket': lambda: connect(socket.AF_UNIX, '/workspace/service'),
    'workspace-host-file': lambda: open('/workspace/left', 'a'),
    'workspace-own-socket': lambda: socket.socket(socket.AF_UNIX).bind('/workspace/own'),
    # What a cell may do: the probe itself is not blind.
    'control-read': lambda: open('/data/one/rows.csv').read(),
    'control-write': lambda: open('/tmp/own-file', 'w').write('x'),
    'control-socket': lambda: new_socket(socket.AF_INET, socket.SOCK_STREAM, 6),
    'control-fork': fork_once,
    'control-own-socket': lambda: socket.socket(socket.AF_UNIX).bind('/tmp/own'),
}


def tried(attempt):
    sys.stdout.flush()
    read, write = os.pipe()
    here = os.fork()
    if here == 0:
        os.close(read)
        signal.alarm(30)
        try:
            ATTEMPTS[attempt]()
            said = 'done'
        except OSError as error:
            said = errno.errorcode.get(error.errno, str(error.errno))
        except MemoryError:
            said = 'ENOMEM'
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    said = os.read(read, 100).decode()
    os.close(read)
    status = os.waitpid(here, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


for attempt in sys.argv[1:]:
    print(attempt, tried(attempt))
print('descriptors', ' '.join(sorted(os.listdir('/proc/self/fd'), key=int)))
print('end')
