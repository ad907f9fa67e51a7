//! The attempts, and for each the layers that stop it, every one of them by itself.

use sulku_warden::layers::Layer::{self, Files, Ipc, Landlock, Limits, Network, Owners, Processes, Seccomp, Users};

/// An attempt to get out of a cell.
pub struct Attempt {
    /// Its name in `probe.py`.
    pub name: &'static str,
    /// The layers that stop it. Where this one is the only one of them that is left, the attempt ends so.
    pub walls: Vec<(Layer, &'static str)>,
    /// How it ends where none of them is left: it goes through, or gets as far as this kernel lets root; several ways apart by `|`.
    pub freed: &'static str,
}

fn attempt(name: &'static str, walls: &[(Layer, &'static str)], freed: &'static str) -> Attempt {
    Attempt { name, walls: walls.to_vec(), freed }
}

/// All of them. `landlock_abi` is this kernel's: newer ones add a wall to what leads over sockets in files.
pub fn attempts(landlock_abi: u32) -> Vec<Attempt> {
    let hidden = &[(Files, "ENOENT"), (Landlock, "EACCES"), (Users, "EACCES")];
    let power = &[(Seccomp, "EPERM"), (Users, "EPERM")];
    let call = &[(Seccomp, "EPERM")];
    let mounting = &[(Seccomp, "EPERM"), (Users, "EPERM"), (Landlock, "EPERM")];
    let foreign = &[(Seccomp, "SIGSYS")];
    let socket = |wall, answer| {
        let resolve = (landlock_abi >= 9).then_some((Landlock, "EACCES"));
        std::iter::once((wall, answer)).chain(resolve).collect::<Vec<_>>()
    };
    vec![
        attempt("host-file-read", hidden, "done"),
        // A rule of Landlock's holds for all below its folder, and the cell's root may be listed: Landlock is no wall here.
        attempt("host-folder-list", &[(Files, "ENOENT"), (Users, "EACCES")], "done"),
        attempt("host-file-write", hidden, "done"),
        attempt("host-device", hidden, "done"),
        attempt("host-socket", &socket(Files, "ENOENT"), "done"),
        attempt("data-write", &[(Files, "EROFS"), (Landlock, "EACCES"), (Owners, "EACCES")], "done"),
        attempt("passwd-write", &[(Files, "EROFS"), (Landlock, "EACCES"), (Users, "EACCES")], "done"),
        attempt("device-make", &[(Landlock, "EACCES"), (Users, "EPERM")], "done"),
        attempt("host-process-look", &[(Processes, "ENOENT"), (Landlock, "EACCES"), (Users, "EACCES")], "done"),
        attempt("kernel-setting", &[(Processes, "ENOENT"), (Landlock, "EACCES"), (Users, "EACCES")], "done"),
        attempt("open-by-handle", power, "done"),
        attempt("tmp-fill", &[(Limits, "ENOSPC")], "done"),
        attempt("fork-bomb", &[(Limits, "EAGAIN")], "done"),
        attempt("memory-bomb", &[(Limits, "SIGKILL")], "done"),
        attempt("user-namespace", call, "done"),
        attempt("network-namespace", power, "done"),
        attempt("mount-namespace", power, "done"),
        attempt("user-namespace-by-clone", call, "done"),
        attempt("user-namespace-by-clone3", &[(Seccomp, "ENOSYS")], "done"),
        attempt("enter-host-network", &[(Processes, "ENOENT"), (Landlock, "EACCES"), (Users, "EACCES"), (Seccomp, "EPERM")], "done"),
        attempt("mount", mounting, "done"),
        attempt("remount-writable", mounting, "done"),
        attempt("unmount", mounting, "done"),
        attempt("mount-context", power, "done"),
        attempt("mount-clone", power, "done"),
        attempt("chroot", power, "done"),
        attempt("become-root", &[(Users, "EINVAL")], "done"),
        attempt("become-another", &[(Users, "EINVAL")], "done"),
        attempt("host-name", power, "done"),
        attempt("priority", &[(Users, "EPERM")], "done"),
        attempt("ptrace-child", call, "done"),
        attempt("memory-of-child", call, "done"),
        attempt("descriptor-of-child", call, "done"),
        attempt("compare-processes", call, "done"),
        attempt("signal-host-process", &[(Processes, "ESRCH"), (Landlock, "EPERM"), (Users, "EPERM")], "done"),
        attempt("bpf-map", power, "done"),
        attempt("perf-event", &[(Seccomp, "EPERM"), (Users, "EACCES")], "done"),
        attempt("userfaultfd", call, "done"),
        attempt("io-uring", call, "done"),
        attempt("secret-memory", call, "done"),
        attempt("keyring", call, "done"),
        attempt("personality", call, "done"),
        attempt("swap-off", power, "ENOENT"),
        attempt("accounting", power, "done"),
        attempt("clock", power, "done"),
        attempt("reboot", power, "EINVAL"),
        attempt("foreign-call", foreign, "done"),
        attempt("x32-call", foreign, "done|ENOSYS"),
        attempt("type-into-terminal", call, "done|EIO"),
        attempt("console-command", call, "ENOTTY"),
        attempt("raw-socket", power, "done"),
        attempt("packet-socket", power, "done"),
        attempt("netfilter-socket", call, "done"),
        attempt("route-socket", call, "done"),
        attempt("vsock", call, "done|EAFNOSUPPORT"),
        attempt("crypto-socket", call, "done|EAFNOSUPPORT"),
        attempt("mptcp", call, "done|EPROTONOSUPPORT"),
        attempt("sctp", call, "done|EPROTONOSUPPORT|ESOCKTNOSUPPORT"),
        attempt("dccp", call, "done|EPROTONOSUPPORT|ESOCKTNOSUPPORT"),
        attempt("udplite", call, "done|EPROTONOSUPPORT"),
        attempt("icmp", call, "EACCES|done"),
        attempt("packet-mark", &[(Users, "EPERM")], "done"),
        attempt("transparent", &[(Users, "EPERM")], "done"),
        attempt("link-change", &[(Users, "EPERM")], "done"),
        attempt("host-abstract-socket", &[(Network, "ECONNREFUSED"), (Landlock, "EPERM")], "done"),
        attempt("host-loopback", &[(Network, "ECONNREFUSED")], "done"),
        attempt("host-shared-memory", &[(Ipc, "ENOENT")], "done"),
        attempt("workspace-host-socket", &socket(Owners, "EACCES"), "done"),
        attempt("workspace-host-file", &[(Owners, "EACCES")], "done"),
        attempt("workspace-own-socket", &[(Landlock, "EACCES")], "done"),
    ]
}
