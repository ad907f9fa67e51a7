//! The house as it is drawn: which crate may stand on which, what pure crates never touch, what the privileged process never links.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Every crate of ours, and the crates of ours that it may use. A crate that is not here does not belong to the design.
const MAY_USE: &[(&str, &[&str])] = &[
    ("sulku-permit", &[]),
    ("sulku-plan", &["sulku-permit"]),
    ("sulku-policy", &["sulku-permit"]),
    ("sulku-protocol", &["sulku-permit"]),
    ("sulku-audit", &["sulku-permit"]),
    ("sulku-recording", &["sulku-permit"]),
    ("sulku-session", &["sulku-permit", "sulku-plan", "sulku-audit", "sulku-protocol", "sulku-recording"]),
    ("sulku-ledger", &["sulku-permit", "sulku-audit"]),
    ("sulku-warden", &["sulku-permit", "sulku-plan", "sulku-policy", "sulku-audit"]),
    ("sulku-gateway", &["sulku-permit", "sulku-plan", "sulku-policy", "sulku-audit", "sulku-protocol", "sulku-recording", "sulku-session"]),
    ("sulku-resolver", &["sulku-permit", "sulku-plan"]),
    ("sulku-courier", &["sulku-audit", "sulku-ledger", "sulku-witness"]),
    ("sulku-client", &["sulku-permit", "sulku-protocol"]),
    ("sulku-witness", &["sulku-audit"]),
    ("sulku-stage", &[]),
    (
        "sulku",
        &[
            "sulku-permit",
            "sulku-plan",
            "sulku-policy",
            "sulku-audit",
            "sulku-protocol",
            "sulku-recording",
            "sulku-ledger",
            "sulku-client",
            "sulku-stage",
            "sulku-witness",
        ],
    ),
    ("sulkud", &["sulku-audit", "sulku-courier", "sulku-gateway", "sulku-ledger"]),
    ("sulku-tests", &["sulku-permit", "sulku-protocol", "sulku-stage"]),
    ("sulku-interop", &[]),
    ("sulku-load", &["sulku-permit", "sulku-plan", "sulku-audit", "sulku-protocol", "sulku-session", "sulku-client", "sulku-stage"]),
    ("sulku-soak", &["sulku-permit", "sulku-protocol", "sulku-client", "sulku-stage"]),
    ("sulku-fuzz", &["sulku-permit", "sulku-protocol", "sulku-audit", "sulku-plan", "sulku-policy", "sulku-recording", "sulku-resolver"]),
];
/// No I/O, no clock, no randomness: what they are given is all they know.
const PURE: &[&str] = &["permit", "plan", "policy", "protocol", "audit", "recording", "session"];
/// Crates that would bring I/O, a clock or randomness.
const IMPURE: &[&str] =
    &["tokio", "quinn", "rustls", "tokio-rustls", "rustix", "libc", "getrandom", "rand", "signal-hook", "tempfile", "mio", "async-std"];
/// Words that mean I/O, a clock or randomness in a source. Names that only describe, such as `IpAddr` and `Duration`, are not among them.
const TOUCHES_THE_WORLD: &[&str] = &[
    "std::fs",
    "std::process",
    "std::env",
    "std::thread",
    "std::os",
    "SystemTime",
    "Instant",
    "Timestamp::now",
    "Zoned::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "UnixDatagram",
    "stdin()",
    "stdout()",
    "println!",
    "eprintln!",
];

fn metadata() -> Metadata {
    MetadataCommand::new().exec().expect("cargo metadata describes this workspace")
}

/// The names of all packages that this one links, itself included, build scripts and tests left out.
fn linked(metadata: &Metadata, name: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("metadata with dependencies");
    let root = metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == name).expect("a package of ours").id.clone();
    let mut seen = BTreeSet::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == id).expect("every package is in the graph");
        let normal = |dependency: &&cargo_metadata::NodeDep| dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
        next.extend(node.deps.iter().filter(normal).map(|dependency| dependency.pkg.clone()));
    }
    seen.iter().map(|id: &PackageId| metadata[id].name.to_string()).collect()
}

fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).expect("a source");
            // Tests at a file's end may do what they like.
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            found.push((path.display().to_string(), code));
        }
    }
    found
}

fn crates() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

#[test]
fn dependencies_point_downwards_only() {
    let allowed: BTreeMap<_, BTreeSet<_>> = MAY_USE.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    let metadata = metadata();
    let ours: BTreeSet<String> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    for package in metadata.workspace_packages() {
        let may = allowed.get(package.name.as_str()).unwrap_or_else(|| panic!("{} is not in the design", package.name));
        let uses = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal && ours.contains(&dependency.name));
        for used in uses {
            assert!(may.contains(used.name.as_str()), "{} must not use {}", package.name, used.name);
        }
    }
    assert!(ours.len() >= 12, "the whole house was looked at, not a part: {ours:?}");
}

#[test]
fn pure_crates_touch_nothing_of_the_world() {
    let metadata = metadata();
    for name in PURE {
        let package =
            metadata.workspace_packages().into_iter().find(|package| package.name.as_str() == format!("sulku-{name}")).expect("a pure crate");
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal) {
            assert!(!IMPURE.contains(&dependency.name.as_str()), "sulku-{name} must not depend on {}", dependency.name);
        }
        let sources = sources(&crates().join(name).join("src"));
        assert!(sources.len() >= 2, "the sources of {name} were found");
        for (file, code) in sources {
            let lines = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
            for (number, line) in lines {
                for word in TOUCHES_THE_WORLD {
                    assert!(!line.contains(word), "{file}:{}: a pure crate says {word}", number + 1);
                }
            }
        }
    }
    // The control: the same look finds these words where they belong.
    assert!(sources(&crates().join("ledger/src")).iter().any(|(_, code)| TOUCHES_THE_WORLD.iter().any(|word| code.contains(word))));
}

/// The privileged process stays small, and what faces the network is no part of it.
#[test]
fn the_warden_links_no_network_stack_and_no_runtime() {
    let metadata = metadata();
    let warden = linked(&metadata, "sulku-warden");
    for name in [
        "tokio",
        "rustls",
        "quinn",
        "hyper",
        "x509-parser",
        "aws-lc-rs",
        "ring",
        "rcgen",
        "sulku-gateway",
        "sulku-protocol",
        "sulku-session",
        "sulku-recording",
        "sulku-ledger",
        "zstd",
        "age",
    ] {
        assert!(!warden.contains(name), "the warden must not link {name}");
    }
    assert!(linked(&metadata, "sulku-gateway").contains("rustls"), "the control: the gateway does link it");
}

#[test]
fn warden_and_gateway_share_pure_crates_only() {
    let metadata = metadata();
    let ours = |name: &str| linked(&metadata, name).into_iter().filter(|name| name.starts_with("sulku")).collect::<BTreeSet<_>>();
    let shared: BTreeSet<_> = ours("sulku-warden").intersection(&ours("sulku-gateway")).cloned().collect();
    let pure: BTreeSet<_> = PURE.iter().map(|name| format!("sulku-{name}")).collect();
    assert!(shared.is_subset(&pure), "{shared:?}");
    assert!(!shared.is_empty());
}

/// What makes certificates for the demo is no part of any daemon.
#[test]
fn no_daemon_links_the_stage() {
    let metadata = metadata();
    for daemon in ["sulkud", "sulku-warden"] {
        let linked = linked(&metadata, daemon);
        assert!(!linked.contains("sulku-stage") && !linked.contains("rcgen"), "{daemon} must not link the stage or what it stands on");
    }
}

#[test]
fn every_licence_is_permissive() {
    const PERMISSIVE: &[&str] = &[
        "MIT",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "Zlib",
        "0BSD",
        "Unicode-3.0",
        "CC0-1.0",
        "Unlicense",
        "BSL-1.0",
        "NCSA",
        "MIT-0",
        "OpenSSL",
        "Apache-2.0 WITH LLVM-exception",
        "CDLA-Permissive-2.0",
    ];
    /// An expression of `AND`, `OR` and parentheses holds when it can be met with permissive licences alone.
    fn permissive(expression: &str) -> bool {
        let expression = expression.trim().replace('/', " OR ");
        let mut depth = 0_i32;
        for word in [" AND ", " OR "] {
            let mut parts = Vec::new();
            let mut start = 0;
            for (at, character) in expression.char_indices() {
                match character {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && expression[at..].starts_with(word) {
                    parts.push(&expression[start..at]);
                    start = at + word.len();
                }
            }
            if !parts.is_empty() {
                parts.push(&expression[start..]);
                return if word == " AND " { parts.iter().all(|part| permissive(part)) } else { parts.iter().any(|part| permissive(part)) };
            }
        }
        match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
            Some(inner) => permissive(inner),
            None => PERMISSIVE.contains(&expression.trim()),
        }
    }
    assert!(permissive("(MIT OR GPL-3.0) AND ISC") && !permissive("MIT AND GPL-3.0") && !permissive("LGPL-3.0-only"), "the control");
    let metadata = metadata();
    let bad: Vec<_> = metadata
        .packages
        .iter()
        .filter(|package| !package.license.as_deref().is_some_and(permissive))
        .map(|package| (&package.name, &package.license))
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(metadata.packages.len() > 50, "the whole graph was looked at");
}

#[test]
fn unsafe_code_stands_in_one_file_of_a_crate_at_most() {
    let mut allowed = 0;
    for entry in fs::read_dir(crates()).expect("the crates").flatten() {
        let files: Vec<_> =
            sources(&entry.path().join("src")).into_iter().filter(|(_, code)| code.contains("allow(unsafe_code")).map(|(file, _)| file).collect();
        assert!(files.len() <= 1, "{files:?}");
        allowed += files.len();
    }
    assert!(allowed > 0, "the control: there is one, in the warden");
}

/// A warden that leaves a layer out exists in two tests and in no program that anybody runs.
#[test]
fn only_tests_of_walls_build_cells_that_lack_a_layer() {
    let root = crates();
    let root = root.parent().expect("the checkout");
    let mut callers = Vec::new();
    for folder in ["crates", "tests", "fuzz"] {
        callers.extend(sources(&root.join(folder)).into_iter().filter(|(_, code)| code.contains("run_without(")).map(|(file, _)| file));
    }
    let places = ["tests/isolation/main.rs", "tests/egress/main.rs", "warden/src/daemon/mod.rs", "tests/architecture.rs"];
    let place = |file: &String| !places.iter().any(|place| file.ends_with(place));
    let others: Vec<_> = callers.iter().filter(|file| place(file)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(callers.len() >= 2, "control: the test and the library were looked at: {callers:?}");
}
