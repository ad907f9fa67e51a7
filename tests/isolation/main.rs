//! What holds a cell, layer by layer. Each attempt to get out of one is made in cells that lack layers: in one that has them all, in one for each layer
//! that is to stop it, where that layer is the only one left of those, and in one where none of them is left, which shows that the attempt is real.
//!
//! The wardens of these cells are this program again: `sulku-warden` itself can't leave a layer out. Needs root.
#![allow(clippy::print_stdout, reason = "it shows the table")]

mod attempts;
#[path = "../../crates/warden/tests/stage/mod.rs"]
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use attempts::{Attempt, attempts};
use libtest_mimic::{Arguments, Failed, Trial};
use stage::{MISSING_LAYERS, Options, Stage};
use sulku_warden::config::Config;
use sulku_warden::layers::{Layer, Layers};

const PROBE: &str = include_str!("probe.py");
const ROUTER_PROBE: &str = include_str!("router.py");
/// More than the memory that a cell may have, so that a bomb is one.
const RESOURCES: &str = "memory = \"256 MiB\"\nprocesses = 64\ncpus = 2.0";

/// How attempts ended in the cell that lacks these layers.
type Ends = BTreeMap<BTreeSet<Layer>, BTreeMap<String, String>>;

fn main() -> ExitCode {
    if let Ok(missing) = std::env::var(MISSING_LAYERS) {
        return be_a_warden(&missing);
    }
    let arguments = Arguments::from_args();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&Arc::default())).exit_code();
    }
    let ends = Arc::new(collect());
    print_table(&ends);
    libtest_mimic::run(&arguments, trials(&ends)).exit_code()
}

/// A warden whose cells lack layers: `run --config FILE`, as the real one is started.
fn be_a_warden(missing: &str) -> ExitCode {
    let config = std::env::args().nth(3).expect("a configuration");
    let missing: Vec<Layer> = Layer::ALL.into_iter().filter(|layer| missing.split(',').any(|name| name == layer.name())).collect();
    match Config::read(Path::new(&config)).map_err(Into::into).and_then(|config| sulku_warden::run_without(config, Layers::without(&missing))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", sulku_warden::chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn landlock_abi() -> u32 {
    let checks = sulku_warden::doctor::examine(sulku_permit::Rung::Root);
    let found = checks.iter().find(|check| check.what == "landlock").and_then(|check| check.found.clone()).expect("Landlock");
    found.split(|letter: char| !letter.is_ascii_digit()).find_map(|word| word.parse().ok()).expect("its ABI")
}

/// How an attempt ended in the cell that lacks these layers.
fn end<'a>(ends: &'a Ends, missing: &BTreeSet<Layer>, attempt: &Attempt) -> &'a str {
    ends.get(missing).and_then(|said| said.get(attempt.name)).map_or("nothing", String::as_str)
}

/// The cells that an attempt is made in, by the layers that they lack.
fn cells(attempt: &Attempt) -> Vec<BTreeSet<Layer>> {
    let all: BTreeSet<Layer> = attempt.walls.iter().map(|(layer, _)| *layer).collect();
    let one_left = attempt.walls.iter().map(|(left, _)| all.iter().copied().filter(|layer| layer != left).collect());
    one_left.chain([BTreeSet::new(), all.clone()]).collect()
}

fn collect() -> Ends {
    let attempts = attempts(landlock_abi());
    let mut wanted: BTreeMap<BTreeSet<Layer>, BTreeSet<&str>> = BTreeMap::new();
    for attempt in &attempts {
        for cell in cells(attempt) {
            wanted.entry(cell).or_default().insert(attempt.name);
        }
    }
    wanted.into_iter().map(|(missing, names)| (missing.clone(), probe(&missing, &names))).collect()
}

/// Makes the attempts in one cell that lacks these layers.
fn probe(missing: &BTreeSet<Layer>, names: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let missing: Vec<&str> = missing.iter().map(|layer| layer.name()).collect();
    let mut stage = Stage::with(Options { missing: missing.join(","), resources: RESOURCES.to_owned(), ..Options::default() });
    let prey = Prey::lay(&stage);
    let controls = ["control-read", "control-write", "control-socket", "control-fork", "control-own-socket"];
    let command: Vec<&str> = ["/usr/bin/python3", "/workspace/probe.py"].into_iter().chain(names.iter().copied()).chain(controls).collect();
    let running = stage.launch("one.toml", Some(&command));
    let output = running.read_to_end();
    assert!(output.trim_end().ends_with("end"), "the probe came to its end without {missing:?}: {output}");
    stage.end(&running, "shell-exited");
    drop(prey);
    output.lines().filter_map(|line| line.trim_end().split_once(' ')).map(|(name, said)| (name.to_owned(), said.to_owned())).collect()
}

/// What a cell could get at on the host if it were let: files, sockets, memory, a server, this process.
struct Prey {
    _sockets: Vec<UnixListener>,
    _server: std::net::TcpListener,
    memory: String,
}

impl Prey {
    fn lay(stage: &Stage) -> Self {
        use std::os::linux::net::SocketAddrExt;
        let outside = stage.path("outside");
        let workspace = stage.path("workspaces/ws-one");
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
        for folder in [&outside, &outside.join("closed"), &workspace] {
            fs::create_dir(folder).expect("a folder");
        }
        mode(&outside.join("closed"), 0o700);
        mode(&stage.path("data-one"), 0o777);
        for (name, bits) in [("secret", 0o600), ("settings", 0o644)] {
            fs::write(outside.join(name), "the host's").expect("written");
            mode(&outside.join(name), bits);
        }
        fs::write(workspace.join("left"), "the host's").expect("written");
        mode(&workspace.join("left"), 0o777);
        let name = format!("sulku-{}", stage.instance);
        let abstract_name = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let sockets = vec![
            UnixListener::bind(outside.join("service")).expect("a socket"),
            UnixListener::bind(workspace.join("service")).expect("a socket"),
            UnixListener::bind_addr(&abstract_name).expect("a socket"),
        ];
        mode(&outside.join("service"), 0o777);
        mode(&workspace.join("service"), 0o777);
        let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a server");
        let made = Command::new("/usr/bin/ipcmk").args(["--shmem", "4096", "--mode", "0666"]).output().expect("ipcmk");
        let memory = String::from_utf8_lossy(&made.stdout).split_whitespace().last().expect("an id").to_owned();
        let text = fs::read_to_string("/proc/sysvipc/shm").expect("the host's shared memory");
        let key = text.lines().find_map(|line| {
            let mut fields = line.split_whitespace();
            let key = fields.next()?;
            (fields.next()? == memory).then(|| key.to_owned())
        });
        let given = serde_json::json!({
            "outside": outside, "pid": std::process::id(), "abstract": name,
            "port": server.local_addr().expect("an address").port(), "shm": key.and_then(|key| key.parse::<i64>().ok()).expect("a key"),
        });
        fs::write(workspace.join("given.json"), given.to_string()).expect("written");
        fs::write(workspace.join("probe.py"), PROBE).expect("written");
        Self { _sockets: sockets, _server: server, memory }
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        let _gone = Command::new("/usr/bin/ipcrm").args(["--shmem-id", &self.memory]).status();
    }
}

fn trials(ends: &Arc<Ends>) -> Vec<Trial> {
    let judged = attempts(landlock_abi()).into_iter().map(|attempt| {
        let ends = Arc::clone(ends);
        Trial::test(format!("each_layer_alone_stops::{}", attempt.name), move || each_layer_alone_stops(&attempt, &ends).map_err(Failed::from))
    });
    let (for_controls, for_descriptors) = (Arc::clone(ends), Arc::clone(ends));
    let controls = Trial::test("control::every_cell_lets_its_holder_work", move || {
        for (missing, said) in for_controls.iter() {
            for (name, end) in said.iter().filter(|(name, _)| name.starts_with("control-")) {
                if end != "done" {
                    return Err(format!("{name} ended with {end} without {}", names(missing)).into());
                }
            }
        }
        Ok(())
    });
    let descriptors = Trial::test("a_cells_programme_inherits_its_terminal_and_nothing_else", move || {
        // The fourth is that by which the probe reads the list.
        let said = &for_descriptors[&BTreeSet::new()]["descriptors"];
        if said == "0 1 2 3" { Ok(()) } else { Err(format!("it has {said}").into()) }
    });
    let router = Trial::test("the_router_alone_stops_what_the_permit_does_not_list", || {
        the_router_alone_stops_what_the_permit_does_not_list().map_err(Failed::from)
    });
    judged.chain([controls, descriptors, router]).collect()
}

/// Root with every power and no filter, in a cell's network: the router is the wall, and the world outside says what came through.
fn the_router_alone_stops_what_the_permit_does_not_list() -> Result<(), String> {
    let missing = [Layer::Users, Layer::Landlock, Layer::Seccomp, Layer::Owners, Layer::Limits].map(Layer::name).join(",");
    let mut stage = Stage::with(Options { missing, ..Options::default() });
    let (output, _) = stage.run("one.toml", &["/usr/bin/python3", "-c", ROUTER_PROBE]);
    // The world hears on several threads.
    let mut arrived = stage.world.arrived();
    arrived.sort();
    if !(output.contains("listed connected") && output.contains("listed-udp answered")) {
        return Err(format!("control: what is listed is reached, {arrived:?}: {output}"));
    }
    if arrived != [("tcp".to_owned(), 443), ("udp".to_owned(), 53)] {
        return Err(format!("only what is listed may arrive: {arrived:?} after {output}"));
    }
    // An echo is answered by the world's kernel, which keeps no list.
    if output.contains("ping echoed") { Err(format!("an echo came back: {output}")) } else { Ok(()) }
}

fn names(layers: &BTreeSet<Layer>) -> String {
    let names: Vec<_> = layers.iter().map(|layer| layer.name()).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn each_layer_alone_stops(attempt: &Attempt, ends: &Ends) -> Result<(), String> {
    let all: BTreeSet<Layer> = attempt.walls.iter().map(|(layer, _)| *layer).collect();
    let end = |missing: &BTreeSet<Layer>| end(ends, missing, attempt);
    let wrong = |missing: &BTreeSet<Layer>, should: &str| format!("without {} it ends with {}, not {should}", names(missing), end(missing));
    for (left, answer) in &attempt.walls {
        let missing: BTreeSet<Layer> = all.iter().copied().filter(|layer| layer != left).collect();
        if end(&missing) != *answer {
            return Err(wrong(&missing, answer));
        }
    }
    if !attempt.freed.split('|').any(|freed| freed == end(&all)) {
        return Err(wrong(&all, attempt.freed));
    }
    let none = BTreeSet::new();
    if !attempt.walls.iter().any(|(_, answer)| *answer == end(&none)) { Err(wrong(&none, "what one of its walls answers")) } else { Ok(()) }
}

/// For each attempt: how it ends in a whole cell, how each layer answers it alone, and how it ends where none of these is left.
fn print_table(ends: &Ends) {
    println!("{:<26} {:<14} {:<62} none of them", "attempt", "all layers", "each layer alone");
    for attempt in attempts(landlock_abi()) {
        let all: BTreeSet<Layer> = attempt.walls.iter().map(|(layer, _)| *layer).collect();
        let end = |missing: &BTreeSet<Layer>| end(ends, missing, &attempt);
        let alone: Vec<_> = attempt
            .walls
            .iter()
            .map(|(left, _)| format!("{} {}", left.name(), end(&all.iter().copied().filter(|layer| layer != left).collect())))
            .collect();
        println!("{:<26} {:<14} {:<62} {}", attempt.name, end(&BTreeSet::new()), alone.join(", "), end(&all));
    }
}
