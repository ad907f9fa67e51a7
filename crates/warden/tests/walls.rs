//! What holds a cell. Each "is refused" has a control beside it: the same attempt without the wall, or with what the wall lets by.

mod stage;

use std::process::Command;

use stage::{Options, Stage, eventually};
use sulku_audit::Event;

/// Tries a system call and prints its error number: 0 when it was allowed.
fn call(number: i64, arguments: &str) -> String {
    format!("perl -e '$p = \"/tmp/vda\"; $r = syscall({number}, {arguments}); print $r < 0 ? $!+0 : 0, \"\\n\";'")
}

/// What the attempt says outside any cell, as root.
fn outside(script: &str) -> String {
    String::from_utf8(Command::new("/bin/bash").args(["-c", script]).output().expect("bash").stdout).expect("text").trim().to_owned()
}

const EPERM: &str = "1";
const ENOSYS: &str = "38";

/// The kernel's tools for making and breaking walls are out of reach, although root outside may use them.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_cell_can_not_use_the_calls_that_dig_at_walls() {
    let mut stage = Stage::new();
    let attempts = [
        ("unshare(NEWUSER)", call(272, "0x10000000"), EPERM),
        ("unshare(NEWNET)", call(272, "0x40000000"), EPERM),
        ("clone(NEWUSER)", call(56, "0x10000011, 0, 0, 0, 0"), EPERM),
        ("clone3", call(435, "0, 0"), ENOSYS),
        ("mount", call(165, "0, 0, 0, 0, 0"), EPERM),
        ("umount", call(166, "0, 2"), EPERM),
        ("pivot_root", call(155, "0, 0"), EPERM),
        ("chroot", call(161, "0"), EPERM),
        ("fsopen", call(430, "0, 0"), EPERM),
        ("open_by_handle_at", call(304, "0, 0, 0"), EPERM),
        ("ptrace", call(101, "16, 1, 0, 0"), EPERM),
        ("process_vm_readv", call(310, "1, 0, 0, 0, 0, 0"), EPERM),
        ("bpf", call(321, "0, 0, 0"), EPERM),
        ("perf_event_open", call(298, "0, 0, 0, 0, 0"), EPERM),
        ("io_uring_setup", call(425, "1, 0"), EPERM),
        ("userfaultfd", call(323, "1"), EPERM),
        ("keyctl", call(250, "0, 0, 0, 0, 0"), EPERM),
        ("memfd_secret", call(447, "0"), EPERM),
        ("raw socket", call(41, "2, 3, 6"), EPERM),
        ("packet socket", call(41, "17, 3, 768"), EPERM),
        ("netlink socket", call(41, "16, 3, 0"), EPERM),
        ("vsock", call(41, "40, 1, 0"), EPERM),
        ("alg socket", call(41, "38, 5, 0"), EPERM),
        ("MPTCP", call(41, "2, 1, 262"), EPERM),
        ("ICMP socket", call(41, "2, 2, 1"), EPERM),
        ("personality", call(135, "0x0040000"), EPERM),
        ("TIOCSTI", call(16, "0, 0x5412, 0"), EPERM),
        ("sethostname", call(170, "0, 1"), EPERM),
        ("kexec_load", call(246, "0, 0, 0, 0"), EPERM),
        ("init_module", call(175, "0, 0, 0"), EPERM),
        ("mknod a device", call(133, "$p, 0x6180, 0xfe00"), "13"),
        ("setuid(0)", call(105, "0"), "22"),
        ("control: TCP socket", call(41, "2, 1, 6"), "0"),
        ("control: UDP socket", call(41, "2, 2, 0"), "0"),
        ("control: unix socket", call(41, "1, 1, 0"), "0"),
        ("control: getpid", call(39, ""), "0"),
    ];
    let script: Vec<_> = attempts.iter().map(|(_, script, _)| script.as_str()).collect();
    let output = stage.shell("one.toml", &script.join("\n"));
    let said: Vec<_> = output.lines().collect();
    assert_eq!(said.len(), attempts.len(), "{output}");
    for ((what, script, expected), said) in attempts.iter().zip(said) {
        assert_eq!(said, *expected, "{what}");
        // The same attempt succeeds, or fails for another reason, where no wall stands. What could harm the host is not tried there.
        if ["unshare", "raw", "packet", "netlink", "memfd", "userfault", "io_uring", "TCP", "UDP"].iter().any(|kind| what.contains(kind)) {
            let free = outside(script);
            assert!(what.starts_with("control") || free != EPERM, "{what} is refused outside too ({free}), so the cell's refusal shows nothing");
        }
    }
}

#[test]
fn a_cell_holds_no_capability_and_is_filtered() {
    let mut stage = Stage::new();
    let status = stage.shell("one.toml", "grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status; ulimit -c; cat /proc/self/uid_map");
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} is missing in {status}");
    }
    let outside = if stage::is_rootless() { "0" } else { "2000000" };
    assert!(status.lines().any(|line| line.split_whitespace().eq(["1000", outside, "1"])), "one user is mapped: {status}");
    let free = std::fs::read_to_string("/proc/self/status").expect("a status");
    assert!(!free.contains("CapEff:\t0000000000000000"), "control: this test itself has capabilities");
}

#[test]
fn a_cell_sees_nothing_of_the_host_nor_of_other_permits() {
    let mut stage = Stage::new();
    let secret = stage.path("secret");
    std::fs::write(&secret, "the host's").expect("a file");
    let other = stage.path("data-two").join("rows.csv");
    let script = format!(
        "for f in /etc/shadow /root /home {} {} /data/two /sys /proc/kcore /proc/kallsyms /proc/sysrq-trigger /proc/sys /dev/vda /dev/mem /dev/kmsg /dev/net/tun /dev/kvm /proc/1/root /proc/1/environ; \
         do ls -d $f > /tmp/out 2>&1 && echo \"seen $f\"; done; ls /proc | grep -c '^[0-9]'; echo x >> /usr/x; echo x >> /etc/passwd; echo x > /data/one/x; \
         cat /data/one/rows.csv | tail -1",
        secret.display(),
        other.display(),
    );
    let output = stage.shell("one.toml", &script);
    assert!(!output.contains("seen "), "{output}");
    let refused = output.matches("Read-only file system").count() + output.matches("Permission denied").count();
    assert_eq!(refused, 3, "{output}");
    assert!(output.lines().last() == Some("1,2"), "control: its own data is there: {output}");
    let processes: usize = output.lines().next().and_then(|line| line.parse().ok()).expect("a number");
    assert!(processes <= 4, "only its own processes are visible: {output}");
    assert!(secret.exists() && other.exists(), "control: what was looked for exists");
}

/// FS: a symlink that a holder plants in her workspace leads the warden nowhere.
#[test]
fn a_workspace_that_is_a_symlink_is_refused() {
    let mut stage = Stage::new();
    let target = stage.path("elsewhere");
    std::fs::create_dir(&target).expect("a folder");
    std::os::unix::fs::symlink(&target, stage.path("workspaces/ws-one")).expect("a symlink");
    let draft = stage.opening("one.toml", None);
    let receipt = stage.ledger.keep(&draft);
    stage.gateway.order(&stage::launch(receipt));
    assert!(stage.gateway.refusal().contains("workspace"));
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&target).expect("a folder")), 0, "its target was not touched");
    assert_eq!(stage.shell("two.toml", "echo fine").trim(), "fine", "control: a workspace that is a folder is opened");
}

fn tcp(address: &str, port: u16) -> String {
    format!("timeout 5 bash -c 'exec 3<>/dev/tcp/{address}/{port} && head -c 20 <&3' 2>&1 | tr '\\n' ' '; echo; ")
}

/// NW: what the permit lists is reached; all else is refused, recorded with person, permit, session and destination, and never arrives.
#[test]
fn a_cell_reaches_what_its_permit_lists_and_nothing_else() {
    let mut stage = Stage::new();
    let udp = |port: u16| {
        format!(
            "perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr => \"198.18.0.10\", PeerPort => {port}, Proto => \"udp\"); $s->send(\"x\"); $s->blocking(1); alarm 2; $s->recv($b, 99); print length($b) ? \"answered\" : \"refused: $!\", \"\\n\"'; "
        )
    };
    let script = [
        tcp("198.18.0.10", 443),
        tcp("198.18.0.10", 8080),
        tcp("198.18.0.11", 443),
        tcp("10.211.0.1", 22),
        tcp("10.211.0.2", 443),
        tcp("169.254.169.254", 80),
        udp(53),
        udp(443),
    ]
    .concat();
    let output = stage.shell("one.toml", &script);
    let said: Vec<_> = output.lines().collect();
    assert!(said[0].contains("hello from the world"), "the listed destination answers: {output}");
    for refused in &said[1..6] {
        assert!(refused.contains("refused") || refused.contains("rohibited") || refused.contains("unreachable"), "{refused:?} in {output}");
    }
    assert_eq!(said[6].starts_with("answered"), !stage::is_rootless(), "no datagram is carried from there, listed or not: {output}");
    assert!(!said[7].starts_with("answered"), "{output}");
    let arrived = stage.world.arrived();
    let listed = [("tcp".to_owned(), 443), ("udp".to_owned(), 53)];
    assert_eq!(arrived, if stage::is_rootless() { &listed[..1] } else { &listed[..] }, "only what is listed arrived");
    for (address, port, protocol) in
        [("198.18.0.10", 8080, 6), ("198.18.0.11", 443, 6), ("10.211.0.1", 22, 6), ("169.254.169.254", 80, 6), ("198.18.0.10", 443, 17)]
    {
        stage.ledger.entry(&format!("the denial of {address}:{port}"), |draft| match &draft.event {
            Event::EgressDenied { protocol: p, destination, port: n, .. }
                if (destination.to_string().as_str(), *n, *p) == (address, port, protocol) =>
            {
                assert!(draft.person.is_some() && draft.permit.is_some() && draft.session.is_some());
                Some(())
            }
            _ => None,
        });
    }
    stage.ledger.entry("the allowed flow with its bytes and its line", |draft| match &draft.event {
        Event::EgressAllowed { destination, port: 443, bytes_out, bytes_in, at, .. } if destination.to_string() == "198.18.0.10" => {
            assert!(*bytes_out > 100 && *bytes_in > 100 && at.contains("one.toml:"), "{draft:?}");
            Some(())
        }
        _ => None,
    });
}

#[test]
fn a_permit_without_egress_reaches_nothing() {
    let mut stage = Stage::with(Options { egress: String::new(), ..Options::default() });
    let output = stage.shell("one.toml", &tcp("198.18.0.10", 443));
    assert!(output.contains("refused"), "{output}");
    assert_eq!(stage.world.arrived().len(), 0);
    stage::eventually("the denial's entry", || (stage.ledger.count("egress.denied") == 1).then_some(()));
}

/// One cell never reaches another, whatever its permit says, and cannot speak in another's name.
#[test]
fn cells_do_not_reach_each_other() {
    let egress = "[[egress]]\nname = \"wide\"\nto = \"10.210.0.0/16\"\nports = [\"9000/tcp\"]\nreason = \"too wide\"\n".to_owned();
    let mut stage = Stage::with(Options { egress, ..Options::default() });
    let server = stage.launch("two.toml", Some(&["/usr/bin/perl", "-MIO::Socket::INET", "-e", "$s = IO::Socket::INET->new(LocalPort => 9000, Listen => 1); print \"listening\\n\"; $c = IO::Socket::INET->new(PeerAddr => \"127.0.0.1\", PeerPort => 9000); print \"loopback works\\n\" if $c; sleep 100"]));
    server.read_until("loopback works");
    let address = stage.ledger.entry("the server's address", |draft| match &draft.event {
        Event::CellLaunched { address, .. } if draft.session == Some(server.session) => Some(*address),
        _ => None,
    });
    let output = stage.shell("one.toml", &tcp(&address.to_string(), 9000));
    assert!(output.contains("refused"), "{output}");
    stage.end(&server, "holder-left");
}

/// A fork bomb and a memory bomb hurt the cell that they go off in, and no other.
#[test]
fn bombs_hurt_only_their_own_cell() {
    let mut stage = Stage::with(Options { resources: "memory = \"64 MiB\"\nprocesses = 32\ncpus = 1.0".to_owned(), ..Options::default() });
    let bystander = stage.launch("two.toml", None);
    bystander.read_until("$ ");
    let (output, _) = stage.run(
        "one.toml",
        &["/usr/bin/perl", "-e", "for (1..100) { $p = fork; unless (defined $p) { print \"fork $_: $!\\n\"; last } unless ($p) { sleep 30; exit } }"],
    );
    assert!(output.contains("Resource temporarily unavailable"), "{output}");
    let (output, status) = stage
        .run("one.toml", &["/usr/bin/perl", "-e", "$| = 1; print \"filling\\n\"; @a = map { \"x\" x (1 << 20) . $_ } 1..1000; print \"filled\\n\""]);
    assert!(output.contains("filling") && !output.contains("filled"), "{output}");
    // Without a control group it is the process that has its limit, and it lives to say so.
    assert_eq!(status, if stage::is_rootless() { 1 } else { 137 }, "{output}");
    let (output, _) = stage.run("one.toml", &["/bin/bash", "-c", "head -c 200M /dev/zero > /tmp/full"]);
    assert!(output.contains("No space left"), "{output}");
    bystander.write("echo still $((40 + 2))\n");
    bystander.read_until("still 42");
    stage.end(&bystander, "holder-left");
}

/// A 32-bit call is not a way around the filter.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_of_a_foreign_architecture_kills() {
    let mut stage = Stage::new();
    // mov eax, 20 (getpid); int 0x80; ret
    let code = "import ctypes, mmap; m = mmap.mmap(-1, 4096, prot=7); m.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'); \
                f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m))); print('pid', f())";
    let free = Command::new("/usr/bin/python3").args(["-c", code]).output().expect("python");
    if !free.status.success() {
        // A kernel without 32-bit calls has nothing to filter; it says so with the same death.
        assert!(std::fs::read("/proc/config.gz").is_ok() || !free.status.success());
    }
    let (output, status) = stage.run("one.toml", &["/usr/bin/python3", "-c", code]);
    assert_eq!(status, 128 + 31, "{output}");
}

/// Two sessions of one workspace see each other's files and not each other's processes.
#[test]
fn two_sessions_of_a_workspace_are_two_cells() {
    let mut stage = Stage::new();
    let first = stage.launch("one.toml", Some(&["/bin/bash", "-c", "echo here > file; exec sleep 1000"]));
    eventually("the first writes", || stage.path("workspaces/ws-one/file").exists().then_some(()));
    let output = stage.shell("one.toml", "cat file; ls /proc | grep -c '^[0-9]'");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "here");
    assert!(lines[1].parse::<u32>().expect("a number") <= 4, "{output}");
    stage.end(&first, "holder-left");
}
