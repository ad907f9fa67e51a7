//! The rungs of isolation: which one this process stands on, and what is weaker there than on the strongest.
//!
//! Who starts the warden decides what there is to choose from. Root gets the rung `root` or none, so that a host that has lost something
//! is loud and not quietly weaker; anybody else gets the strongest of the others that the host gives. The configuration may fix one.

mod enter;

use std::path::Path;

use sulku_permit::Rung;

use crate::config::Config;
use crate::doctor::{self, Check};
use crate::relay::Relay;

pub use self::enter::{EnterError, user_namespace};

/// Where the warden stands.
#[derive(Debug)]
pub(crate) enum Standing {
    /// On a rung, whose namespaces it is in, with the process that it left outside where there is one.
    On(Rung, Option<Relay>),
    /// On none: what the host lacks, each with what to do about it.
    Unfit(Vec<String>),
}

/// Brings this process, which has one thread and has opened nothing yet, onto the strongest rung that the configuration and the host allow.
#[must_use]
pub(crate) fn stand(config: &mut Config) -> Standing {
    let root = rustix::process::geteuid().is_root();
    match config.rung {
        Some(Rung::Root) | None if root => on_if_fit(Rung::Root, None),
        Some(Rung::Root) => Standing::Unfit(vec!["the configuration asks for the rung root; start the warden as root".to_owned()]),
        wanted => match enter(wanted) {
            Ok(relay) => {
                // The same user, as seen from inside.
                config.gateway_uid = 0;
                match wanted {
                    Some(rung) => on_if_fit(rung, relay),
                    None => {
                        let (rung, checks) = doctor::below_root();
                        fit(rung, relay.filter(|_| rung != Rung::NoNetwork), checks)
                    }
                }
            }
            Err(missing) => Standing::Unfit(vec![missing]),
        },
    }
}

/// Goes into the namespaces of the rungs below root, and leaves the process outside that carries connections, unless there are to be none.
fn enter(wanted: Option<Rung>) -> Result<Option<Relay>, String> {
    let relay = match wanted {
        Some(Rung::NoNetwork) => None,
        // It stays outside, so it comes first.
        _ => Some(Relay::start().map_err(|error| format!("a process can't be started: {error}"))?),
    };
    user_namespace().map_err(|error| why_not(&error)).map(|()| relay)
}

fn on_if_fit(rung: Rung, relay: Option<Relay>) -> Standing {
    fit(rung, relay, doctor::examine(rung))
}

fn fit(rung: Rung, relay: Option<Relay>, checks: Vec<Check>) -> Standing {
    let missing: Vec<_> = checks.into_iter().filter_map(|check| check.missing).collect();
    if missing.is_empty() { Standing::On(rung, relay) } else { Standing::Unfit(missing) }
}

/// What is weaker on a rung than on `root`, each as a sentence; for the log and for `sulku-warden doctor`.
#[must_use]
pub const fn differences(rung: Rung) -> &'static [&'static str] {
    match rung {
        Rung::Root => &[],
        Rung::Rootless => &[
            "destinations are reached by TCP alone, over a relay: a connection stands before its destination has answered",
            "gateway, warden, ledger and cells run as one user of this host; whoever is that user can look into cells",
            "all workspaces belong to that user; mounts, not user ids, keep them apart",
            "there are no control groups: memory is limited for each process and not for a cell, processor time is not limited",
            "the resolver has a user namespace of its own and not a user, and asks upstream over TCP alone",
            "a workspace has no disk of its own: what its permit says of `disk` is not enforced",
            "permits whose system is an image are refused: only the host's root mounts one",
            "cells keep the user's supplementary groups, which only what is mounted in a cell could make use of",
        ],
        Rung::NoNetwork => &[
            "no cell has a network: nothing is reached, and permits that list destinations are refused",
            "gateway, warden, ledger and cells run as one user of this host; whoever is that user can look into cells",
            "all workspaces belong to that user; mounts, not user ids, keep them apart",
            "there are no control groups: memory is limited for each process and not for a cell, processor time is not limited",
            "a workspace has no disk of its own: what its permit says of `disk` is not enforced",
            "permits whose system is an image are refused: only the host's root mounts one",
            "cells keep the user's supplementary groups, which only what is mounted in a cell could make use of",
        ],
    }
}

/// Why there is no user namespace, in words, and what to do about it. The kernel gives one error number for all of these.
#[must_use]
pub fn why_not(error: &EnterError) -> String {
    let setting = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let reason = if setting("/proc/sys/user/max_user_namespaces") == "0" {
        "user namespaces are off; sysctl user.max_user_namespaces=65536"
    } else if setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "only root makes user namespaces here; sysctl kernel.unprivileged_userns_clone=1, or start the warden as root"
    } else if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "AppArmor keeps user namespaces from programs without a profile; give sulku-warden one that has `userns,`, or start the warden as root"
    } else if !Path::new("/proc/self/ns/user").exists() {
        "the kernel has no user namespaces; enable CONFIG_USER_NS"
    } else if setting("/proc/self/status").lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2')) {
        "a seccomp filter, as container runtimes load one, keeps user namespaces from this process; allow unshare and clone there, or start the warden outside"
    } else {
        "the kernel refuses a user namespace to this user; start the warden as root"
    };
    format!("{reason} ({})", crate::chain(error))
}
