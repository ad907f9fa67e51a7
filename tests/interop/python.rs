//! aics-tlog and aics-witness, from PyPI; they need Python 3.12, which not every machine has.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sulku_audit::source::{CHECKPOINT, Source, SourceError};
use sulku_audit::{Checkpoint, Hash, PublicKey};
use sulku_witness::https::{Https, Url};
use sulku_witness::{Answer, Client};

use crate::log::{ORIGIN, folder, root, signer, sizes};

/// How long a peer may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// A program of the peers' folder; `None`, and said, where `make` found no Python that can run them.
fn peer(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let peers = target.join("peers-tlog");
    let program = peers.join("bin").join(name);
    if program.exists() {
        return Some(program);
    }
    let absent = fs::read_to_string(peers.join("absent"));
    let reason = absent.unwrap_or_else(|_| panic!("{} is missing; run: make target/peers-tlog/installed", program.display()));
    eprintln!("not run: {}", reason.trim());
    None
}

#[test]
fn aics_tlog_verifies_every_size() {
    let Some(python) = peer("python3") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers/tlog.py");
    let output = Command::new(python).arg(script).arg(folder()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("verified {}", sizes().count()));
}

/// A witness that others wrote, ended with the test.
struct Witness {
    child: Child,
    url: String,
    key: PublicKey,
    _folder: tempfile::TempDir,
}

impl Witness {
    fn begin(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let run = |arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let said = run(&["init", "--name", "peer.example/witness", "--listen", &listen]);
        let key = said.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("no key in: {said}"));
        run(&["add-log", "--origin", ORIGIN, "--vkey", &signer().own_keys().keys()[0].to_string()]);
        let mut serve = Command::new(program);
        serve.arg("serve").current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let witness = Self { child: serve.spawn().unwrap(), url: format!("http://{listen}/"), key, _folder: folder };
        let begun = Instant::now();
        while std::net::TcpStream::connect(&listen).is_err() {
            assert!(begun.elapsed() < BEGIN_MAX, "the witness does not begin");
            std::thread::sleep(Duration::from_millis(50));
        }
        witness
    }

    fn client(&self, seen: u64) -> Client {
        Client::new(Https::loopback(Url::parse(&self.url).unwrap()).unwrap(), vec![self.key.clone()], seen)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped_already = self.child.wait();
    }
}

/// The log on the disk as it was at a size.
struct At(u64);

impl Source for At {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let path = if path == CHECKPOINT { format!("sizes/{}", self.0) } else { path.to_owned() };
        Ok(fs::read(folder().join(path)).ok())
    }

    fn read_at(&mut self, _: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(None)
    }
}

fn note(size: u64) -> String {
    fs::read_to_string(folder().join(format!("sizes/{size}"))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn aics_witness_cosigns_what_our_client_brings_and_refuses_what_does_not_continue() {
    let Some(program) = peer("aics-witness") else { return };
    let witness = Witness::begin(&program);
    let mut client = witness.client(0);
    for size in [1, 2, 255, 256, 257, 600, 600, 65_535, 65_536, 65_537] {
        let answer = client.cosign(&note(size), &mut At(size)).await.unwrap();
        assert!(matches!(&answer, Answer::Cosigned(lines) if lines.contains("peer.example/witness")), "{size}: {answer:?}");
    }
    let mut newcomer = witness.client(0);
    assert!(matches!(newcomer.cosign(&note(65_537), &mut At(65_537)).await.unwrap(), Answer::Cosigned(_)), "409, then caught up");
    let mut put_back = witness.client(0);
    assert_eq!(put_back.cosign(&note(500), &mut At(500)).await.unwrap(), Answer::Ahead { size: 65_537 });
    let fork = Checkpoint { origin: ORIGIN.to_owned(), size: 65_537, root: Hash::from_bytes([7; 32]) };
    let answer = client.cosign(&signer().sign(&fork, 1), &mut At(65_537)).await.unwrap();
    assert!(matches!(answer, Answer::Forked { .. }), "{answer:?}");
    assert_ne!(fork.root, root(65_537), "the control");
}
