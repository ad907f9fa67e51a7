//! The system calls that a cell may not make: a deny-list over a kernel interface that grows.
//!
//! A list of what is allowed would break the programmes of researchers with every release of their languages. Namespaces without
//! capabilities, Landlock and nftables are the walls; this list takes away the parts of the kernel that would let a process dig
//! at them. A foreign architecture's calls (32-bit) end the process, whatever they are.

/// One kind of call, and how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The calls, by their names in `syscalls(2)`.
    pub calls: &'static [&'static str],
    /// When: any of these, each of which holds when all its tests hold. Empty means always.
    pub when: &'static [&'static [Test]],
    /// What the caller sees.
    pub answer: Answer,
    /// Why.
    pub why: &'static str,
}

/// A test of the low 32 bits of an argument, which is all that the kernel reads of those that are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// The argument (counted from 0) is the value.
    Is(u8, u32),
    /// The argument is not the value.
    IsNot(u8, u32),
    /// The argument's bits under the mask (second) are the value (third).
    Bits(u8, u32, u32),
}

/// What the caller of a denied call sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// "Operation not permitted".
    Eperm,
    /// "Function not implemented": the C library then takes an older call, whose arguments can be tested.
    Enosys,
}

const ALWAYS: &[&[Test]] = &[];

const fn never(calls: &'static [&'static str], why: &'static str) -> Denied {
    Denied { calls, when: ALWAYS, answer: Answer::Eperm, why }
}

/// Everything that is denied.
pub const DENIED: &[Denied] = &[
    Denied { calls: &["clone3"], when: ALWAYS, answer: Answer::Enosys, why: "its flags are in memory, where a filter can't read them" },
    Denied {
        calls: &["clone"],
        when: &[
            &[Test::Bits(0, 0x0002_0000, 0x0002_0000)],
            &[Test::Bits(0, 0x0200_0000, 0x0200_0000)],
            &[Test::Bits(0, 0x0400_0000, 0x0400_0000)],
            &[Test::Bits(0, 0x0800_0000, 0x0800_0000)],
            &[Test::Bits(0, 0x1000_0000, 0x1000_0000)],
            &[Test::Bits(0, 0x2000_0000, 0x2000_0000)],
            &[Test::Bits(0, 0x4000_0000, 0x4000_0000)],
        ],
        answer: Answer::Eperm,
        why: "a new user namespace gives back every capability, and with them most of the kernel",
    },
    never(&["unshare", "setns"], "as clone"),
    Denied {
        calls: &["socket"],
        when: &[
            &[Test::IsNot(0, 1), Test::IsNot(0, 2), Test::IsNot(0, 10)],
            &[Test::IsNot(2, 0), Test::IsNot(2, 6), Test::IsNot(2, 17)],
            &[Test::Bits(1, 0xf, 0)],
            &[Test::Bits(1, 0xc, 4)],
            &[Test::Bits(1, 0xf, 3)],
            &[Test::Bits(1, 0x8, 8)],
        ],
        answer: Answer::Eperm,
        why: "only streams and datagrams of unix, TCP and UDP: no raw, packet, netlink, vsock, alg, MPTCP, SCTP, ICMP",
    },
    Denied { calls: &["socketpair"], when: &[&[Test::IsNot(0, 1)]], answer: Answer::Eperm, why: "only unix sockets come in pairs" },
    Denied {
        calls: &["ioctl"],
        when: &[&[Test::Is(1, 0x5412)], &[Test::Is(1, 0x541c)]],
        answer: Answer::Eperm,
        why: "TIOCSTI and TIOCLINUX type into a terminal for its owner",
    },
    Denied {
        calls: &["personality"],
        when: &[&[Test::IsNot(0, 0), Test::IsNot(0, 0xffff_ffff)]],
        answer: Answer::Eperm,
        why: "other personalities turn off address randomisation",
    },
    never(&["ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp"], "no process looks into another"),
    never(&["io_uring_setup", "io_uring_enter", "io_uring_register"], "calls that no filter sees, and a history of holes"),
    never(&["userfaultfd", "memfd_secret"], "the tools of kernel exploits; memory that nobody can inspect"),
    never(&["keyctl", "add_key", "request_key"], "the kernel's keyrings are not of the cell"),
    never(&["bpf", "perf_event_open"], "programmes and probes in the kernel"),
    never(
        &[
            "mount",
            "umount2",
            "pivot_root",
            "chroot",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "open_tree",
            "move_mount",
            "mount_setattr",
            "name_to_handle_at",
            "open_by_handle_at",
            "fanotify_init",
            "quotactl",
            "quotactl_fd",
        ],
        "the file system is what the plan made it",
    ),
    never(
        &[
            "init_module",
            "finit_module",
            "delete_module",
            "kexec_load",
            "kexec_file_load",
            "reboot",
            "swapon",
            "swapoff",
            "acct",
            "syslog",
            "vhangup",
            "settimeofday",
            "clock_settime",
            "clock_adjtime",
            "adjtimex",
            "sethostname",
            "setdomainname",
            "migrate_pages",
            "move_pages",
            "lookup_dcookie",
            "nfsservctl",
        ],
        "the host is not the cell's to run",
    ),
    never(&["iopl", "ioperm", "modify_ldt", "uselib", "ustat", "sysfs", "_sysctl"], "old doors of x86"),
];

/// What is denied beside it on the rung `no-network`: there a cell has sockets to its own processes and no others.
pub const DENIED_WITHOUT_NETWORK: &[Denied] =
    &[Denied { calls: &["socket"], when: &[&[Test::IsNot(0, 1)]], answer: Answer::Eperm, why: "there is no network" }];
