//! The world's ears: every packet that comes into it, of whatever protocol; and a door of the router's own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::stage::Stage;
use crate::stage::world::World;

const PROGRAM: &str = include_str!("oracle.py");
/// Opens port 22 at every address, and says at which of them somebody came in.
const DOOR: &str = "import socket; door = socket.create_server(('0.0.0.0', 22)); print('listens', flush=True)\n\
                    while True:\n one, who = door.accept()\n print(6, who[0], one.getsockname()[0], 22, flush=True)";

/// A packet, as the oracle says: protocol, destination, and the port there where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    pub protocol: String,
    pub to: String,
    pub port: u16,
}

pub struct Oracle {
    ears: Child,
    heard: Arc<Mutex<Vec<Arrival>>>,
}

impl Oracle {
    /// Listens in the world from now on.
    pub fn of(world: &World) -> Self {
        let mut ears = Command::new("/usr/bin/nsenter");
        ears.arg(format!("--net={}", world.namespace())).args(["/usr/bin/python3", "-c", PROGRAM]);
        Self::start(ears)
    }

    /// Hears who is let in at a port of the router itself, which nobody should be.
    pub fn at_the_routers_door(stage: &Stage) -> Self {
        Self::start(stage.command_in_router(&["/usr/bin/python3", "-c", DOOR]))
    }

    fn start(mut ears: Command) -> Self {
        let mut ears = ears.stdout(Stdio::piped()).spawn().expect("python");
        let mut lines = BufReader::new(ears.stdout.take().expect("its words")).lines();
        assert_eq!(lines.next().expect("a word").expect("text"), "listens");
        let heard = Arc::<Mutex<Vec<Arrival>>>::default();
        let memory = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let words: Vec<_> = line.split(' ').collect();
                let [protocol, _, to, port] = words[..] else { panic!("{line}") };
                let arrival = Arrival { protocol: protocol.to_owned(), to: to.to_owned(), port: port.parse().expect("a port") };
                memory.lock().expect("a lock").push(arrival);
            }
        });
        Self { ears, heard }
    }

    /// What has arrived, each once.
    pub fn heard(&self) -> Vec<Arrival> {
        let mut heard = self.heard.lock().expect("a lock").clone();
        heard.sort();
        heard.dedup();
        heard
    }

    /// Whether something has arrived.
    pub fn has_heard(&self, protocol: &str, to: &str, port: u16) -> bool {
        self.heard().iter().any(|arrival| (arrival.protocol.as_str(), arrival.to.as_str(), arrival.port) == (protocol, to, port))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _gone = self.ears.kill();
        let _gone = self.ears.wait();
    }
}
