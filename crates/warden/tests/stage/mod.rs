//! A stage for the warden: a real kernel, a real warden process, a world to reach in a network namespace of its own, and a ledger
//! that signs as the real one does and can be told to fail.
//!
//! The suites run on the rung `root`. The tests that are called `rootless` run the same suites once more, with a warden that is an ordinary
//! user's: what is expected to differ asks [`is_rootless`].
//!
//! Everything made here is unmade when the stage is dropped, also by a failing test. Needs root; says so otherwise.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, missing_docs, reason = "shared by several tests, each of which uses a part")]

pub mod ledger;
pub mod policy;
pub mod rules;
pub mod upstream;
pub mod world;

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use sulku_audit::{Draft, Event, Receipt};
use sulku_permit::{Permit, SessionId, Shared, SharedKind};
use sulku_plan::order::{ORDER_VERSION, TerminalSize};
use sulku_plan::{Order, Plan, Report};

use ledger::Ledger;
use policy::{By, Revisions};
use world::World;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const MAIJA: &str = "maija";
pub const SIZE: TerminalSize = TerminalSize { columns: 120, rows: 40 };

/// Names the layers that cells are to lack, for a test that is a warden of its own to show it.
pub const MISSING_LAYERS: &str = "SULKU_TEST_MISSING_LAYERS";

/// What holds the numbers that stages of this process were given. A number is never given again: what the last one left may still be dying.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A number that no other stage of this process has or had. The suites of the rung below bring a stage each into one process, and with it
/// statics of their own; a socket's name is the process's.
fn claim_number(process: u32) -> u32 {
    let claim = |number: &u32| {
        let name = SocketAddr::from_abstract_name(format!("sulku-test-stage-{process}-{number}")).expect("a name");
        UnixListener::bind_addr(&name).map(|claim| CLAIMS.lock().expect("a lock").push(claim)).is_ok()
    };
    (0..100).find(claim).expect("fewer than a hundred stages")
}

/// Whether these tests are those of a rung below `root`.
pub fn is_rootless() -> bool {
    rung() != "root"
}

/// The rung that the warden is expected to stand on.
pub fn rung() -> &'static str {
    match module_path!().split("::").next() {
        Some("rootless") => "rootless",
        Some("no_network") => "no-network",
        _ => "root",
    }
}

/// Polls until the answer is there.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub struct Stage {
    pub world: World,
    pub ledger: Ledger,
    pub folder: tempfile::TempDir,
    pub revisions: Revisions,
    pub instance: String,
    pub warden: Child,
    pub gateway: Gateway,
    missing: String,
    host: String,
    sessions: u32,
}

pub struct Options {
    pub grace_s: u64,
    pub egress: String,
    pub resources: String,
    /// What is kept ready for the next cells.
    pub pool: usize,
    /// Cells at once.
    pub cells_max: usize,
    /// What a shell does before it becomes the warden, in mounts that nobody else sees: the host that the warden finds.
    pub host: String,
    /// Layers that cells lack, comma-separated; the program that runs the test must then be a warden too.
    pub missing: String,
    /// Who answers questions for names, if somebody is to.
    pub resolver: Option<Resolving>,
    /// A filter through which the warden, and nobody else, sees what `nft` lists.
    pub nft: Option<String>,
    /// A file that the warden knows as the image `system`, in the stage's folder as `system.image`.
    pub image: Option<PathBuf>,
}

/// Who answers a cell's questions for names.
pub enum Resolving {
    /// A script with this table, which says what the table says, lies included.
    Scripted(String),
    /// The program that belongs to the warden.
    Real,
}

impl Default for Options {
    fn default() -> Self {
        let egress = "[[egress]]\nname = \"mirror\"\nto = \"198.18.0.10\"\nports = [\"443/tcp\", \"53/udp\"]\nreason = \"packages\"\n".to_owned();
        // A host where whatever is asked of `nft` fails gives no stronger rung than the one without a network.
        let (egress, host) = if rung() == "no-network" { (String::new(), "mount --bind /bin/false /usr/sbin/nft") } else { (egress, "") };
        let resources = "memory = \"256 MiB\"\nprocesses = 64\ncpus = 2.0".to_owned();
        Self {
            grace_s: 1,
            egress,
            resources,
            pool: 2,
            cells_max: 16,
            host: host.to_owned(),
            missing: String::new(),
            resolver: None,
            nft: None,
            image: None,
        }
    }
}

pub struct Running {
    pub session: SessionId,
    pub master: OwnedFd,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests build namespaces: run them as root");
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
        let at = |name: &str| folder.path().join(name);
        for name in ["images", "permits", "workspaces", "data-one", "data-two"] {
            fs::create_dir(at(name)).expect("a folder");
        }
        fs::write(at("data-one/rows.csv"), "id,value\n1,2\n").expect("data");
        fs::write(at("data-two/rows.csv"), "another permit's\n").expect("data");
        fs::write(at("permits/one.toml"), permit_text("THL/1/2026", "ws-one", &at("data-one"), &options)).expect("a permit");
        fs::write(at("permits/two.toml"), permit_text("THL/2/2026", "ws-two", &at("data-two"), &options)).expect("a permit");
        let revisions = Revisions::new(folder.path());
        revisions.apply(By::Operator);
        let ledger = Ledger::serve(&at("ledger.sock"));
        fs::write(at("ledger.vkey"), format!("{}\n", ledger.verifier())).expect("a key");
        let world = World::new();
        let process = std::process::id() % 10_000;
        let number = claim_number(std::process::id());
        let instance = format!("t{process}x{number}");
        // No two stages share a user: what runs as this one is the warden, and what its cells are.
        let uid = if is_rootless() { 3_000_000 + process * 100 + number } else { 0 };
        let uplink = format!(
            "[[uplink]]\nname = \"world\"\nrouter_address = \"10.211.0.1/30\"\npeer_address = \"10.211.0.2/30\"\npeer_namespace = {:?}\n\
             routes = [\"198.18.0.0/16\"]\n",
            world.namespace()
        );
        let config = format!(
            "instance = \"{instance}\"\nsocket = {socket:?}\ngateway_uid = {uid}\nledger_socket = {ledger:?}\nledger_origin = \"{origin}\"\n\
             ledger_key = {key:?}\npolicy = {policy:?}\nworkspaces = {workspaces:?}\ncell_network = \"10.210.0.0/16\"\n\
             cell_uid_base = 2000000\ngateway_lost_grace_s = {grace}\npool = {pool}\ncells_max = {cells_max}\n{operators}\n\
             {uplink}",
            socket = at("warden.sock"),
            ledger = at("ledger.sock"),
            origin = ledger::ORIGIN,
            key = at("ledger.vkey"),
            policy = revisions.store,
            operators = revisions.config(),
            workspaces = at("workspaces"),
            grace = options.grace_s,
            pool = options.pool,
            cells_max = options.cells_max,
            uplink = if is_rootless() { "" } else { &uplink },
        );
        let resolver = options.resolver.as_ref().map(|resolving| {
            let Resolving::Scripted(table) = resolving else {
                let tests = std::env::current_exe().expect("this test's file");
                let real = tests.ancestors().nth(2).expect("the programs' folder").join("sulku-resolver");
                // Its user must get at it, wherever the programs are built.
                fs::copy(&real, at("sulku-resolver")).unwrap_or_else(|error| panic!("{}: {error}; cargo build --workspace --bins", real.display()));
                return format!("[resolver]\nprogram = {:?}\nuid = 64990\nupstream = [{:?}]\n", at("sulku-resolver"), upstream::ADDRESS);
            };
            let program = include_str!("resolver.py").replace("TABLE = {}", &format!("TABLE = {}", table.replace('\n', " ")));
            fs::write(at("resolver.py"), program).expect("a program");
            fs::set_permissions(at("resolver.py"), fs::Permissions::from_mode(0o755)).expect("a mode");
            format!("[resolver]\nprogram = {:?}\nuid = 64990\nupstream = [\"198.18.0.1:53\"]\n", at("resolver.py"))
        });
        let image = options.image.as_ref().map(|image| {
            fs::copy(image, at("system.image")).expect("an image");
            format!("[[image]]\nname = \"system\"\npath = {:?}\n", at("system.image"))
        });
        fs::write(at("warden.toml"), config + &resolver.unwrap_or_default() + &image.unwrap_or_default()).expect("a configuration");
        if is_rootless() {
            let owner = format!("{uid}:{uid}");
            assert!(Command::new("/bin/chown").args(["-R", &owner]).arg(folder.path()).status().expect("chown").success());
            fs::set_permissions(at("ledger.sock"), fs::Permissions::from_mode(0o777)).expect("a mode");
        }
        let (missing, mut host) = (options.missing, options.host);
        if let Some(words) = &options.nft {
            fs::copy("/usr/sbin/nft", at("real-nft")).expect("nft");
            let script = format!("#!/bin/bash\nset -o pipefail\n{} \"$@\" | {words}\n", at("real-nft").display());
            fs::write(at("nft"), script).expect("a script");
            fs::set_permissions(at("nft"), fs::Permissions::from_mode(0o755)).expect("a mode");
            host.push_str(&format!("\nmount --bind {} /usr/sbin/nft", at("nft").display()));
        }
        let warden = start(folder.path(), &world, &missing, &host);
        let socket = at("warden.sock");
        let mut stage = Self { world, ledger, folder, revisions, instance, warden, gateway: Gateway::unconnected(), missing, host, sessions: 0 };
        stage.gateway = eventually("the warden listens", || {
            assert!(stage.warden.try_wait().expect("a child").is_none(), "the warden ended at once");
            Gateway::connect(&socket)
        });
        stage.gateway.greet();
        if options.resolver.is_some() {
            eventually("the resolver serves", || stage.in_router(&["/usr/bin/ss", "-Hltun"]).contains("169.254.0.53:8443").then_some(()));
        }
        stage
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn permit(&self, file: &str) -> Permit {
        let path = self.path("permits").join(file);
        let images = self.revisions.files().into_iter().filter(|(path, _)| path.starts_with("images/"));
        let mut shared = Shared::default();
        images.for_each(|(path, text)| shared.add(SharedKind::Image, &path, &text).expect("a good image"));
        let text = fs::read_to_string(&path).expect("a permit");
        sulku_permit::parse_with(&format!("permits/{file}"), &text, &shared).expect("a good permit").permit
    }

    /// Puts a permit with other words in force; gives back its text from before.
    pub fn change_permit(&self, file: &str, from: &str, to: &str) -> String {
        let path = self.path("permits").join(file);
        let text = fs::read_to_string(&path).expect("a permit");
        assert!(text.contains(from), "{file} has {from}");
        self.put_permit(file, &text.replace(from, to));
        text
    }

    pub fn put_permit(&self, file: &str, text: &str) {
        self.write_permit(file, text);
        self.revisions.apply(By::Operator);
    }

    /// Changes the working copy alone.
    pub fn write_permit(&self, file: &str, text: &str) {
        fs::write(self.path("permits").join(file), text).expect("written");
    }

    /// What comes of a cell that nobody ordered to end.
    pub fn reaped(&self, running: &Running) -> String {
        loop {
            match self.gateway.report().0 {
                Report::Reaped { session, reason, leftovers } if session == running.session => {
                    assert_eq!(leftovers, Vec::<String>::new());
                    return reason;
                }
                Report::Exited { .. } => {}
                other => panic!("not reaped: {other:?}"),
            }
        }
    }

    pub fn next_session(&mut self) -> SessionId {
        self.sessions += 1;
        let mut bytes = [0; 10];
        bytes[..4].copy_from_slice(&self.sessions.to_be_bytes());
        bytes[4..8].copy_from_slice(&std::process::id().to_be_bytes());
        SessionId::from_random(bytes)
    }

    /// The opening of a session as the gateway drafts it.
    pub fn opening(&mut self, file: &str, command: Option<&[&str]>) -> Draft {
        let permit = self.permit(file);
        Draft {
            permit: Some(permit.id.clone()),
            session: Some(self.next_session()),
            person: Some(MAIJA.parse().expect("an id")),
            event: Event::SessionOpened {
                from: "127.0.0.1".parse::<std::net::IpAddr>().expect("an address").into(),
                transport: "quic".to_owned(),
                identity: "spiffe://spe.example.fi/person/maija".to_owned().into(),
                at: permit.holders[0].at.to_string(),
                command: command.map(|words| words.iter().map(|word| (*word).to_owned()).collect()).into(),
                ends: jiff::Timestamp::now() + jiff::SignedDuration::from_secs(600),
                plan: Plan::of(&permit).digest().to_string(),
                rung: rung().to_owned(),
                policy: "1 0".to_owned(),
                client: "test".to_owned().into(),
                stays_s: None,
                certificates: None.into(),
            },
        }
    }

    /// Opens a session in the ledger and orders its cell.
    pub fn launch(&mut self, file: &str, command: Option<&[&str]>) -> Running {
        self.launch_as(MAIJA, file, command)
    }

    /// The same for another of the permit's holders.
    pub fn launch_as(&mut self, holder: &str, file: &str, command: Option<&[&str]>) -> Running {
        let mut draft = self.opening(file, command);
        draft.person = Some(holder.parse().expect("an id"));
        if let Event::SessionOpened { identity, at, .. } = &mut draft.event {
            *identity = format!("spiffe://spe.example.fi/person/{holder}").into();
            let permit = self.permit(file);
            *at = permit.holders.iter().find(|listed| listed.id.as_str() == holder).expect("a holder").at.to_string();
        }
        let session = draft.session.expect("a session");
        let receipt = self.ledger.keep(&draft);
        self.gateway.order(&launch(receipt));
        match self.gateway.report() {
            (Report::Launched { session: launched }, Some(master)) if launched == session => Running { session, master },
            (other, _) => panic!("not launched: {other:?}"),
        }
    }

    /// Runs a command in a cell to its end; its output and status. The cell is reaped.
    pub fn run(&mut self, file: &str, command: &[&str]) -> (String, i32) {
        let running = self.launch(file, Some(command));
        let output = running.read_to_end();
        let status = match self.gateway.report() {
            (Report::Exited { status, .. }, _) => status,
            (other, _) => panic!("not exited: {other:?}"),
        };
        self.end(&running, "shell-exited");
        (output, status)
    }

    pub fn shell(&mut self, file: &str, script: &str) -> String {
        self.run(file, &["/bin/bash", "-c", script]).0
    }

    pub fn end(&mut self, running: &Running, reason: &str) {
        self.gateway.order(&Order::End { session: running.session, reason: reason.to_owned() });
        loop {
            match self.gateway.report().0 {
                Report::Reaped { session, leftovers, .. } if session == running.session => {
                    assert_eq!(leftovers, Vec::<String>::new());
                    return;
                }
                Report::Exited { .. } => {}
                other => panic!("not reaped: {other:?}"),
            }
        }
    }

    /// The gateway goes, and another comes; gives what that one hears of the cells that were left.
    pub fn change_gateways(&mut self) -> Vec<(Report, OwnedFd)> {
        let lost = self.ledger.count("warden.gateway-lost");
        self.gateway.leave();
        eventually("the loss is recorded", || (self.ledger.count("warden.gateway-lost") > lost).then_some(()));
        self.gateway = Gateway::connect(&self.path("warden.sock")).expect("a connection");
        self.gateway.greet_orphans()
    }

    /// The adoption of an opened session as the next gateway drafts it.
    pub fn adoption(&self, opened: &Draft, opening: u64, part: u32) -> Draft {
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(600);
        Draft { event: Event::SessionAdopted { opening, part, policy: "1 0".to_owned(), until }, ..opened.clone() }
    }

    /// Runs a command inside the router's network namespace, as a root of the host may who has found it.
    pub fn in_router(&self, command: &[&str]) -> String {
        let output = self.command_in_router(command).output().expect("nsenter");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// The same, to be run as the caller likes.
    pub fn command_in_router(&self, command: &[&str]) -> Command {
        let inside = |file: &Path, command: &[&str]| {
            let mut nsenter = Command::new("/usr/bin/nsenter");
            nsenter.arg(format!("--net={}", file.display())).args(command);
            nsenter
        };
        let has_uplinks = |file: &PathBuf| {
            let links = inside(file, &["/bin/ip", "-br", "link"]).output().expect("nsenter");
            // On the rung rootless there is no uplink, and cells' links, made ahead of them, are in no other network.
            ["up-", "cell"].iter().any(|link| String::from_utf8_lossy(&links.stdout).contains(link))
        };
        let is_network = |file: &PathBuf| fs::read_link(file).is_ok_and(|link| link.to_string_lossy().starts_with("net:["));
        let router = eventually("the router has links", || {
            let descriptors = fs::read_dir(format!("/proc/{}/fd", self.warden.id())).expect("the warden's descriptors");
            descriptors.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_network).find(has_uplinks)
        });
        inside(&router, command)
    }

    /// The processes in the cells' control groups of this warden; where there are none, those of its user that have their own numbers.
    pub fn cell_processes(&self) -> Vec<u32> {
        let mut found = if is_rootless() {
            numbered_apart(fs::metadata(self.folder.path()).expect("a folder").uid())
        } else {
            let root = Path::new("/sys/fs/cgroup");
            let trees = [root.join("pids"), root.to_path_buf()];
            let groups = trees.iter().flat_map(|tree| fs::read_dir(tree.join(format!("sulku-{}", self.instance))).into_iter().flatten().flatten());
            groups.flat_map(|group| processes_in(&group.path())).collect()
        };
        found.retain(|pid| !self.waits(*pid));
        found
    }

    /// Whether a process waits for a cell that it is to become: it has the warden's network and users until then.
    fn waits(&self, pid: u32) -> bool {
        let namespace = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
        ["net", "user"].iter().all(|kind| namespace(pid, kind).is_some_and(|own| namespace(self.warden.id(), kind) == Some(own)))
    }

    /// Waits until a programme of this name is in the foreground of a cell's terminal: before that, what is typed or sent is the shell's.
    pub fn await_foreground(&self, name: &str) {
        let is_foreground = |pid: &u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let Some((head, tail)) = stat.rsplit_once(") ") else { return false };
            // state, parent, process group, session, terminal, the terminal's foreground group: proc_pid_stat(5)
            let fields: Vec<_> = tail.split(' ').collect();
            head.ends_with(&format!("({name}")) && fields.get(2) == fields.get(5)
        };
        eventually(&format!("{name} is in the foreground"), || self.cell_processes().iter().any(is_foreground).then_some(()));
    }

    /// Folders of cells' control groups of this warden, and for a moment those of a process that is to wait for a cell.
    pub fn cell_groups(&self) -> usize {
        let trees = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        let is_a_cells = |group: &Path| {
            let inside = processes_in(group);
            inside.is_empty() || inside.into_iter().any(|pid| !self.waits(pid))
        };
        trees
            .map(|tree| tree.path().join(format!("sulku-{}", self.instance)))
            .flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten())
            .filter(|entry| entry.path().is_dir() && is_a_cells(&entry.path()))
            .count()
    }

    /// Waits until there are no more control groups of cells than so many.
    pub fn await_groups(&self, most: usize) {
        eventually("no control group of a cell is left", || (self.cell_groups() <= most).then_some(()));
    }

    /// The uplink goes with the router of a warden that was killed, a moment after it.
    pub fn await_uplinks_end(&self) {
        eventually("the uplink is gone", || {
            let links = Command::new("/usr/bin/nsenter")
                .arg(format!("--net={}", self.world.namespace()))
                .args(["/bin/ip", "-o", "link"])
                .output()
                .expect("nsenter");
            (!String::from_utf8_lossy(&links.stdout).contains("-world")).then_some(())
        });
    }

    /// Tells the warden to stop, and waits until it has.
    pub fn stop(&mut self) {
        let pid = rustix::process::Pid::from_raw(self.warden.id().cast_signed()).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
        assert!(self.warden.wait().expect("its end").success());
    }

    pub fn restart(&mut self) {
        self.warden = start(self.folder.path(), &self.world, &self.missing, &self.host);
        let socket = self.path("warden.sock");
        self.gateway = eventually("the warden listens again", || Gateway::connect(&socket));
        self.gateway.greet();
    }
}

/// The processes in a control group.
fn processes_in(group: &Path) -> Vec<u32> {
    fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect()
}

/// This user's processes in process namespaces other than this one's.
fn numbered_apart(uid: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").expect("proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let apart = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
        field("Uid:").first() == Some(&uid.to_string().as_str()) && field("NSpid:").len() > 1 && !field("State:").contains(&"Z")
    };
    pids.filter(apart).collect()
}

/// Starts the warden: as root, or on the rung below as the folder's owner, with no group and no power, where the world is in reach.
fn start(folder: &Path, world: &World, missing: &str, host: &str) -> Child {
    let owner = fs::metadata(folder).expect("a folder").uid().to_string();
    let mut command = if is_rootless() {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg(format!("--net={}", world.namespace())).args(["/usr/bin/setpriv", "--reuid", &owner, "--regid", &owner, "--clear-groups"]);
        command.args(["--bounding-set", "-all", "--inh-caps", "-all", env!("CARGO_BIN_EXE_sulku-warden")]);
        command
    } else if missing.is_empty() {
        Command::new(env!("CARGO_BIN_EXE_sulku-warden"))
    } else {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(MISSING_LAYERS, missing);
        command
    };
    if !host.is_empty() {
        let warden = command;
        command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "--propagation", "private", "/bin/sh", "-ec", &format!("{host}\nexec \"$@\""), "sh"]);
        command.arg(warden.get_program()).args(warden.get_args());
        command.envs(warden.get_envs().filter_map(|(name, value)| Some((name, value?))));
    }
    command.args(["run", "--config"]).arg(folder.join("warden.toml")).stdin(Stdio::null()).spawn().expect("the warden starts")
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.warden.id().cast_signed())
            && matches!(self.warden.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + PATIENCE;
            while matches!(self.warden.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.warden.kill();
        let _ = self.warden.wait();
        for tree in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            for parent in [tree.path().join(format!("sulku-{}", self.instance)), Path::new("/sys/fs/cgroup").join(format!("sulku-{}", self.instance))]
            {
                for group in fs::read_dir(&parent).into_iter().flatten().flatten() {
                    let _ = fs::remove_dir(group.path());
                }
                let _ = fs::remove_dir(&parent);
            }
        }
    }
}

pub fn launch(receipt: Receipt) -> Order<Receipt> {
    Order::Launch { receipt, size: SIZE, term: "xterm-256color".to_owned() }
}

pub fn permit_text(id: &str, workspace: &str, data: &Path, options: &Options) -> String {
    let n = workspace.trim_start_matches("ws-");
    format!(
        "schema = 1\n\n[permit]\nid = \"{id}\"\ntitle = \"A study\"\npurpose = \"scientific research\"\nissuer = \"Findata\"\n\
         {isolation}valid_from = 2020-01-01\nvalid_until = 2099-12-31\ntime_zone = \"Europe/Helsinki\"\n\n\
         [controller]\nname = \"the tests\"\ncontacts = [\"tests@spe.example.fi\"]\n\n\
         [[holder]]\nid = \"{MAIJA}\"\nname = \"Maija M\"\ncertificate = {{ uri = \"spiffe://spe.example.fi/person/maija\" }}\nroles = [\"analyst\"]\n\n\
         [session]\nfrom_networks = [\"127.0.0.0/8\"]\n\n[workspace]\nname = \"{workspace}\"\n\n[[dataset]]\nname = \"{n}\"\npath = {data:?}\nmounted_at = \"/data/{n}\"\n\n{egress}\n\
         [resources]\n{resources}\n",
        isolation = if is_rootless() { format!("isolation = {:?}\n", rung()) } else { String::new() },
        egress = options.egress,
        resources = options.resources,
    )
}

pub struct Gateway {
    socket: Option<OwnedFd>,
    /// What it was told of cells that went while there was none.
    pub gone: Vec<Report>,
}

impl Gateway {
    fn unconnected() -> Self {
        Self { socket: None, gone: Vec::new() }
    }

    /// Connects as the user whom the socket belongs to.
    pub fn connect(path: &Path) -> Option<Self> {
        let owner = fs::symlink_metadata(path).ok()?.uid();
        let path = path.to_owned();
        // The thread alone becomes another user, and ends.
        std::thread::spawn(move || {
            if owner != 0 {
                let uid = rustix::thread::Uid::from_raw(owner);
                rustix::thread::set_thread_res_uid(uid, uid, uid).expect("become the gateway's user");
            }
            Self::connect_as_self(&path)
        })
        .join()
        .expect("a connection or none")
    }

    fn connect_as_self(path: &Path) -> Option<Self> {
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a socket");
        connect(&socket, &SocketAddrUnix::new(path).expect("a path")).ok()?;
        Some(Self { socket: Some(socket), gone: Vec::new() })
    }

    pub fn leave(&mut self) {
        self.socket = None;
    }

    pub fn greet(&mut self) {
        assert!(self.greet_orphans().is_empty(), "no cell was left");
    }

    /// Greets, and hears of the cells that another gateway left.
    pub fn greet_orphans(&mut self) -> Vec<(Report, OwnedFd)> {
        self.order(&Order::<Receipt>::Hello { version: ORDER_VERSION });
        match self.report().0 {
            Report::Ready { version: ORDER_VERSION, rung, missing, orphans, gone } => {
                assert_eq!((rung.as_str(), missing), (self::rung(), Vec::new()));
                let orphan = |_| match self.report() {
                    (report @ Report::Orphan { .. }, Some(master)) => (report, master),
                    (other, _) => panic!("no orphan: {other:?}"),
                };
                let orphans = (0..orphans).map(orphan).collect();
                self.gone = (0..gone).map(|_| self.report().0).collect();
                assert!(self.gone.iter().all(|report| matches!(report, Report::Gone { .. })), "{:?}", self.gone);
                orphans
            }
            other => panic!("not ready: {other:?}"),
        }
    }

    pub fn order(&self, order: &Order<Receipt>) {
        self.packet(&sulku_plan::order::encode(order).expect("an order"));
    }

    pub fn packet(&self, packet: &[u8]) {
        let socket = self.socket.as_ref().expect("connected");
        rustix::net::send(socket, packet, rustix::net::SendFlags::NOSIGNAL).expect("sent");
    }

    pub fn readable(&self, within: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let socket = self.socket.as_ref().expect("connected");
        let wait = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&wait)).expect("poll") > 0
    }

    /// The next report that is not about a denial.
    pub fn report(&self) -> (Report, Option<OwnedFd>) {
        loop {
            match self.any_report() {
                (Report::Denied { .. }, _) => {}
                other => return other,
            }
        }
    }

    pub fn any_report(&self) -> (Report, Option<OwnedFd>) {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        assert!(self.readable(PATIENCE), "no report came");
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffer = vec![0; 160 * 1024];
        let socket = self.socket.as_ref().expect("connected");
        let got = recvmsg(socket, &mut [std::io::IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC).expect("a report");
        assert!(got.bytes > 0, "the warden hung up");
        let master = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        (sulku_plan::order::decode(&buffer[..got.bytes]).expect("a report"), master)
    }

    /// The reason of the refusal that must come now.
    pub fn refusal(&self) -> String {
        self.refusal_of().0
    }

    /// The same, and the session that it is about.
    pub fn refusal_of(&self) -> (String, Option<SessionId>) {
        match self.report().0 {
            Report::Refused { reason, session } => (reason, session),
            other => panic!("not refused: {other:?}"),
        }
    }
}

impl Running {
    pub fn read_to_end(&self) -> String {
        let mut output = Vec::new();
        let mut file = fs::File::from(self.master.try_clone().expect("a descriptor"));
        let mut buffer = [0; 4096];
        loop {
            assert!(self.readable(PATIENCE), "no output and no end after: {}", String::from_utf8_lossy(&output));
            // EIO: the last process has let go of the terminal.
            match file.read(&mut buffer) {
                Ok(0) | Err(_) => return String::from_utf8_lossy(&output).into_owned(),
                Ok(length) => output.extend_from_slice(&buffer[..length]),
            }
        }
    }

    pub fn read_until(&self, text: &str) -> String {
        let mut output = String::new();
        let mut file = fs::File::from(self.master.try_clone().expect("a descriptor"));
        let mut buffer = [0; 4096];
        while !output.contains(text) {
            assert!(self.readable(PATIENCE), "{text:?} did not come after: {output}");
            let length = file.read(&mut buffer).unwrap_or_else(|error| panic!("{error} after: {output}"));
            output.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        output
    }

    pub fn readable(&self, within: Duration) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let wait = Timespec { tv_sec: within.as_secs().cast_signed(), tv_nsec: within.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.master.as_fd(), PollFlags::IN)], Some(&wait)).expect("poll") > 0
    }

    pub fn write(&self, text: &str) {
        rustix::io::write(&self.master, text.as_bytes()).expect("written");
    }
}
