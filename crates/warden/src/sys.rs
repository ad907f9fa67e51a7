//! The system calls that neither std nor rustix offers safely. All `unsafe` of the crate is in this file.
//!
//! The warden has one thread, so a copy of it made by `clone3` may use the heap and every library before it runs another
//! programme. Nothing here decides anything.
#![allow(unsafe_code, reason = "the one file of this crate for calls that the type system can't check")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::cell::Instruction;

/// Which side of a process's duplication this is.
pub enum Side {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// The child, in the parent's counting.
        pid: Pid,
        /// A descriptor that means the child and never another.
        pidfd: OwnedFd,
    },
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn pid(raw: libc::c_long) -> Pid {
    i32::try_from(raw).ok().and_then(Pid::from_raw).expect("the kernel's process ids are positive and fit")
}

/// Duplicates this process into new namespaces: the flags are `CLONE_NEW*`.
pub fn clone_into_namespaces(namespaces: i32) -> io::Result<Side> {
    let mut pidfd: RawFd = -1;
    // SAFETY: all-zero is a valid clone_args: no stack, no TLS, no cgroup.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from((namespaces | libc::CLONE_PIDFD).cast_unsigned());
    arguments.pidfd = (&raw mut pidfd).addr() as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child gets a copy of the memory, as from fork; this process has one thread, so no lock is held
    // by another. `pidfd` outlives the call and is written before it returns.
    let result = checked(unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) })?;
    if result == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: CLONE_PIDFD made this descriptor for us alone.
    Ok(Side::Parent { pid: pid(result), pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// Duplicates this process. `None` is the child.
pub fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread, so its copy may go on as if nothing had happened.
    let result = checked(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok((result != 0).then(|| pid(result)))
}

/// How a process ended, and what it and the processes that it had waited for have used.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// Its exit status; 128 + n when signal n ended it.
    pub status: i32,
    /// Processor time, in milliseconds.
    pub cpu_ms: u64,
    /// The most memory that one of them had at once, in bytes.
    pub memory_peak_bytes: u64,
}

/// The end of a child, if it has ended. It is waited for with that: a second call is an error.
pub fn end_of(child: BorrowedFd<'_>) -> io::Result<Option<End>> {
    // SAFETY: all-zero is a valid siginfo_t and a valid rusage; both outlive the call.
    let (mut news, mut used): (libc::siginfo_t, libc::rusage) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
    let flags = libc::WEXITED | libc::WNOHANG;
    // SAFETY: as above. The C library's waitid does not tell what was used; the kernel's does.
    checked(unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, child.as_raw_fd(), &raw mut news, flags, &raw mut used) })?;
    // SAFETY: the kernel has filled these in for a child that ended, and left them zero for one that has not.
    let (pid, status) = unsafe { (news.si_pid(), news.si_status()) };
    let ms = |time: libc::timeval| u64::try_from(time.tv_sec * 1_000 + time.tv_usec / 1_000).unwrap_or(0);
    Ok((pid != 0).then(|| End {
        status: if news.si_code == libc::CLD_EXITED { status } else { 128 + status },
        cpu_ms: ms(used.ru_utime) + ms(used.ru_stime),
        memory_peak_bytes: u64::try_from(used.ru_maxrss).unwrap_or(0) * 1_024,
    }))
}

/// Leaves the namespaces named by the flags for new ones.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: only FILES is unsafe, as it would split the descriptor table between threads; there is one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Which mounts are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// One, and none below it.
    Alone,
    /// One and all below it.
    AllBelow,
}

/// Sets attributes (`MOUNT_ATTR_*`) of mounts, and makes them private. With a user namespace, they show the owners of files as that one maps
/// them; this can be done once for a mount that is attached nowhere.
pub fn mount_setattr(mount: BorrowedFd<'_>, extent: Extent, set: u64, owners: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let (set, owners) = owners.map_or((set, 0), |owners| (set | libc::MOUNT_ATTR_IDMAP, owners.as_raw_fd().unsigned_abs().into()));
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: owners };
    let flags = libc::AT_EMPTY_PATH | if extent == Extent::AllBelow { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the struct outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &raw const attributes, size_of::<libc::mount_attr>())
    };
    checked(result).map(drop)
}

/// Takes every capability out of the bounding set. Needs `CAP_SETPCAP`.
pub fn empty_bounding_set() -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: takes plain numbers.
        if let Err(error) = checked(libc::c_long::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) })) {
            // The kernel knows no capability of this number or above.
            return if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Gives every signal its default effect and blocks none. What a daemon ignores, its programmes would ignore too: a shell started
/// with SIGINT ignored never hears Ctrl-C.
pub fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is always valid; the kernel refuses KILL and STOP, which keep their effect anyway.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    block_no_signals();
}

/// Blocks no signal.
pub fn block_no_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks the signals and returns a descriptor that becomes readable when one is pending.
pub fn signals(which: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used; signalfd makes a descriptor for us alone.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in which {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = checked(libc::c_long::from(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)))?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).expect("descriptors fit")))
    }
}

/// Closes every descriptor but these.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<_> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut from = 0_u32;
    for until in keep.into_iter().map(Some).chain([None]) {
        let last = until.map_or(u32::MAX, |until| until.wrapping_sub(1));
        if until != Some(from) {
            // SAFETY: the caller runs on in this process with these descriptors alone; owners of the closed ones are never dropped,
            // since a child of the warden ends in exec or exit.
            checked(unsafe { libc::syscall(libc::SYS_close_range, from, last, 0_u32) })?;
        }
        from = until.map_or(u32::MAX, |until| until + 1);
    }
    Ok(())
}

/// Makes `fd` also known as `number`, which a programme inherits.
pub fn duplicate_as(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the numbers used are 0, 1 and 2, which nothing in the calling child owns.
    checked(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// Runs the programme in place of this process; returns only if that fails.
pub fn execute(programme: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<_> { strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect() };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end in null and point to C strings that the caller holds.
    unsafe { libc::execve(programme.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Sends a signal to every process but this one: from the first of a process namespace, to all others in it. The kernel does it in one
/// sweep, so that none can start another meanwhile.
pub fn signal_all_others(signal: i32) {
    // SAFETY: takes plain numbers. There may be none to send it to.
    unsafe { libc::kill(-1, signal) };
}

/// Ends this process at once, without running anything of its parent's.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Loads a seccomp programme for this process and all that it starts. Needs `no_new_privs`.
pub fn filter_calls(programme: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(programme.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let text = libc::sock_fprog { len, filter: programme.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
    // SAFETY: an instruction is laid out as a sock_filter; the kernel copies `len` of them from the slice, which outlives the call, and writes none.
    checked(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const text) }).map(drop)
}

/// The kernel's Landlock ABI version; 0 where there is none.
pub fn landlock_abi() -> u32 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel takes no struct.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Makes a pair of connected packet sockets, closed on exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// How a process ended, as wait(2) writes it: once its parent has asked, and where the kernel keeps it for others (Linux 6.15).
pub fn exit_of(process: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    const GET_INFO: libc::Ioctl = 0xc040_ff0b;
    const EXIT: u64 = 1 << 3;
    // The first version of struct pidfd_info (linux/pidfd.h), whose size is in the call's number.
    #[repr(C)]
    struct Info {
        mask: u64,
        group: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const { assert!(size_of::<Info>() == 64) };
    let mut info = Info { mask: EXIT, group: 0, ids: [0; 11], exit_code: 0 };
    // SAFETY: the kernel writes at most as many bytes as the call's number says, which the structure has.
    checked(unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO, &raw mut info) }.into())?;
    Ok((info.mask & EXIT != 0).then_some(info.exit_code))
}

/// Reads whether `fd` has something to say, waiting at most so long.
pub fn readable_within(fd: impl AsFd, milliseconds: i64) -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let wait = Timespec { tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000 };
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    Ok(poll(&mut fds, Some(&wait))? > 0)
}

/// Where the kernel runs a programme of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// As a TCP connection begins.
    TcpBegins,
    /// As a packet leaves.
    PacketLeaves,
}

/// One call of `bpf(2)`.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attributes are a whole struct of the size given; the pointers in it are to memory that the caller holds meanwhile.
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) })
}

fn descriptor(raw: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us alone.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(raw).expect("descriptors fit")) }
}

/// Makes a map of the kernel's that forgets what was used least recently.
pub fn lru_map(key_bytes: usize, value_bytes: usize, entries: u32) -> io::Result<OwnedFd> {
    const MAP_CREATE: libc::c_int = 0;
    const LRU_HASH: u32 = 9;
    #[repr(C)]
    struct Attributes {
        kind: u32,
        key_bytes: u32,
        value_bytes: u32,
        entries: u32,
        flags: u32,
    }
    let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let attributes = Attributes { kind: LRU_HASH, key_bytes: size(key_bytes)?, value_bytes: size(value_bytes)?, entries, flags: 0 };
    bpf(MAP_CREATE, &attributes).map(descriptor)
}

/// The value under a key of such a map, if there is one. The arrays have the sizes that the map was made with.
pub fn map_value<const KEY: usize, const VALUE: usize>(map: &OwnedFd, key: &[u8; KEY]) -> Option<[u8; VALUE]> {
    const MAP_LOOKUP: libc::c_int = 1;
    #[repr(C)]
    struct Attributes {
        map: u32,
        padding: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let mut value = [0; VALUE];
    let attributes = Attributes {
        map: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: key.as_ptr().addr() as u64,
        value: value.as_mut_ptr().expose_provenance() as u64,
        flags: 0,
    };
    bpf(MAP_LOOKUP, &attributes).ok().map(|_| value)
}

/// Loads a programme and has the kernel run it for all processes of a control group, until the descriptor is closed.
pub fn attach<T>(hook: Hook, programme: &[T], group: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PROGRAMME_LOAD: libc::c_int = 5;
    const LINK_CREATE: libc::c_int = 28;
    const INSTRUCTION_BYTES: usize = 8;
    #[repr(C)]
    struct Programme {
        kind: u32,
        instructions: u32,
        first: u64,
        licence: u64,
        log_level: u32,
        log_bytes: u32,
        log: u64,
        kernel: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach: u32,
    }
    #[repr(C)]
    struct Link {
        programme: u32,
        group: u32,
        attach: u32,
        flags: u32,
    }
    // Kinds of programmes and of places, by the numbers of linux/bpf.h.
    let (kind, place) = match hook {
        Hook::TcpBegins => (13, 3),
        Hook::PacketLeaves => (8, 1),
    };
    let count = size_of_val(programme) / INSTRUCTION_BYTES;
    let mut name = [0; 16];
    name[..5].copy_from_slice(b"sulku");
    let attributes = Programme {
        kind,
        instructions: u32::try_from(count).map_err(io::Error::other)?,
        first: programme.as_ptr().expose_provenance() as u64,
        licence: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_bytes: 0,
        log: 0,
        kernel: 0,
        flags: 0,
        name,
        interface: 0,
        attach: place,
    };
    let loaded = bpf(PROGRAMME_LOAD, &attributes).map(descriptor)?;
    let link = Link { programme: loaded.as_raw_fd().cast_unsigned(), group: group.as_raw_fd().cast_unsigned(), attach: place, flags: 0 };
    bpf(LINK_CREATE, &link).map(descriptor)
}

/// A file is opened to be run, and its opener waits (fanotify(7)).
pub const FAN_OPEN_EXEC_PERM: u64 = libc::FAN_OPEN_EXEC_PERM;
/// A file is opened, and its opener waits.
pub const FAN_OPEN_PERM: u64 = libc::FAN_OPEN_PERM;
/// Events were lost.
pub const FAN_Q_OVERFLOW: u64 = libc::FAN_Q_OVERFLOW;
/// The answer that lets the opener go on.
pub const FAN_ALLOW: u32 = libc::FAN_ALLOW;

/// A group that is asked before files are opened. Its queue has no bound of its own: whoever is in it waits.
pub fn fanotify() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_CONTENT
        | libc::FAN_CLOEXEC
        | libc::FAN_NONBLOCK
        | libc::FAN_UNLIMITED_QUEUE
        | libc::FAN_UNLIMITED_MARKS
        | libc::FAN_REPORT_TID;
    let files = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE | libc::O_NOATIME;
    // SAFETY: takes no pointer.
    checked(libc::c_long::from(unsafe { libc::fanotify_init(flags, files.cast_unsigned()) })).map(descriptor)
}

/// Has the group asked about this event on the mount at a path below a folder.
pub fn fanotify_mount(group: &OwnedFd, event: u64, folder: BorrowedFd<'_>, path: &std::path::Path) -> io::Result<()> {
    let path = CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())).map_err(io::Error::other)?;
    let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_MOUNT;
    // SAFETY: the path is a C string that outlives the call.
    let result = unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, event, folder.as_raw_fd(), path.as_ptr()) };
    checked(libc::c_long::from(result)).map(drop)
}

/// One event of a fanotify group.
#[derive(Debug)]
pub struct FanotifyEvent {
    /// The file, unless events were lost.
    pub file: Option<OwnedFd>,
    /// What happened.
    pub mask: u64,
    /// Which thread it was, as this process's namespace counts.
    pub thread: u32,
}

/// The events in what was read from a fanotify group, each once: the descriptors in them become the caller's.
pub fn fanotify_events(mut bytes: &[u8]) -> Vec<FanotifyEvent> {
    const METADATA_BYTES: usize = size_of::<libc::fanotify_event_metadata>();
    let mut events = Vec::new();
    while let Some(head) = bytes.get(..METADATA_BYTES) {
        // SAFETY: the slice has the struct's length, and any bytes are a valid one.
        let event: libc::fanotify_event_metadata = unsafe { std::ptr::read_unaligned(head.as_ptr().cast()) };
        // SAFETY: the kernel opened the descriptor for this event, and this is the one place that takes it.
        let file = (event.fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(event.fd) });
        events.push(FanotifyEvent { file, mask: event.mask, thread: event.pid.cast_unsigned() });
        bytes = bytes.get(event.event_len as usize..).filter(|_| event.event_len as usize >= METADATA_BYTES).unwrap_or_default();
    }
    events
}

/// A block device whose content is a file's (loop(4)), which goes as soon as nothing is mounted from it and nobody has it open.
pub fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, name: &str, access: LoopAccess) -> io::Result<()> {
    const CONFIGURE: libc::c_ulong = 0x4C0A;
    const READ_ONLY: u32 = 1;
    const AUTOCLEAR: u32 = 4;
    const DIRECT_IO: u32 = 16;
    #[repr(C)]
    struct Info {
        device: u64,
        inode: u64,
        rdevice: u64,
        offset: u64,
        size_limit: u64,
        number: u32,
        encrypt_type: u32,
        encrypt_key_size: u32,
        flags: u32,
        file_name: [u8; 64],
        crypt_name: [u8; 64],
        encrypt_key: [u8; 32],
        init: [u64; 2],
    }
    #[repr(C)]
    struct Config {
        file: u32,
        block_bytes: u32,
        info: Info,
        reserved: [u64; 8],
    }
    // SAFETY: all-zero is a valid loop_config: no offset, no limit, no encryption.
    let mut config: Config = unsafe { std::mem::zeroed() };
    config.file = file.as_raw_fd().cast_unsigned();
    config.info.flags = AUTOCLEAR
        | match access {
            LoopAccess::Read => READ_ONLY,
            // Written through: the file's pages are not kept a second time.
            LoopAccess::Write => DIRECT_IO,
        };
    let length = name.len().min(config.info.file_name.len() - 1);
    config.info.file_name[..length].copy_from_slice(&name.as_bytes()[..length]);
    // SAFETY: the kernel reads a loop_config, which outlives the call.
    checked(libc::c_long::from(unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, &raw const config) })).map(drop)
}

/// What may be done to a loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopAccess {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// The number of a loop device that nobody uses at this moment.
pub fn loop_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    const GET_FREE: libc::c_ulong = 0x4C82;
    // SAFETY: takes no pointer.
    let number = checked(libc::c_long::from(unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) }))?;
    u32::try_from(number).map_err(io::Error::other)
}
