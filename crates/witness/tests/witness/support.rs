//! A log in memory that can be made to lie, and services on loopback.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use sulku_audit::key::Algorithm;
use sulku_audit::merkle::{consistency_proof, leaf_hash};
use sulku_audit::source::TileNodes;
use sulku_audit::tile::{self, TILE_WIDTH, Tile, TileKind, TiledTree};
use sulku_audit::witness::encode;
use sulku_audit::{Checkpoint, LogSigner, SecretKey, Source, SourceError, Trust};
use sulku_witness::https::{Https, Url};
use sulku_witness::serve::{acceptor, serve};
use sulku_witness::service::{Answers, Reply, Service};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub const ORIGIN: &str = "test.example/audit";
pub const TIME: u64 = 1_790_000_000;

pub fn signer() -> LogSigner {
    LogSigner::from_seeds(ORIGIN, &[1; 32], &[2; 32]).unwrap()
}

pub fn trust() -> Vec<Trust> {
    vec![signer().own_keys().into()]
}

pub fn keys() -> Vec<SecretKey> {
    let key = |algorithm, seed| SecretKey::from_seed("authority.example/witness", algorithm, &[seed; 32]).unwrap();
    vec![key(Algorithm::Ed25519Cosignature, 3), key(Algorithm::MlDsa44, 4)]
}

/// A log whose files are in memory. Entry `n` is `n` in decimal, or something else from where it lies on.
#[derive(Clone, Default)]
pub struct Log {
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Log {
    pub fn of(size: u64) -> Self {
        Self::lying(size, None)
    }

    /// The same key, other entries from `from` on.
    pub fn forked(size: u64, from: u64) -> Self {
        Self::lying(size, Some(from))
    }

    fn lying(size: u64, lies_from: Option<u64>) -> Self {
        let (mut files, mut tree, mut bundle) = (BTreeMap::new(), TiledTree::default(), Vec::new());
        for index in 0..size {
            let entry = if lies_from.is_some_and(|from| index >= from) { format!("lie {index}") } else { index.to_string() };
            tile::push_entry(&mut bundle, entry.as_bytes()).unwrap();
            tree.push(leaf_hash(entry.as_bytes()));
            if tree.size().is_multiple_of(TILE_WIDTH) {
                let tile = Tile::in_tree(TileKind::Entries, index / TILE_WIDTH, tree.size()).unwrap();
                files.insert(tile.to_string(), std::mem::take(&mut bundle));
            }
        }
        files.extend(tree.take_full().iter().map(|(tile, hashes)| (tile.to_string(), tile::encode_hashes(hashes))));
        files.extend(tree.partial().map(|(tile, hashes)| (tile.to_string(), tile::encode_hashes(hashes))));
        if let Some(tile) = Tile::in_tree(TileKind::Entries, size / TILE_WIDTH, size) {
            files.insert(tile.to_string(), bundle);
        }
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: tree.root() };
        files.insert("checkpoint".to_owned(), signer().sign(&checkpoint, TIME).into_bytes());
        Self { files }
    }

    pub fn note(&self) -> String {
        String::from_utf8(self.files["checkpoint"].clone()).unwrap()
    }

    pub fn size(&self) -> u64 {
        self.note().lines().nth(1).unwrap().parse().unwrap()
    }

    /// A request with the right proof from `old` on.
    pub fn request(&self, old: u64) -> Vec<u8> {
        let size = self.size();
        let proof = consistency_proof(&mut TileNodes::new(&mut self.clone(), size), old, size).unwrap();
        encode(old, &proof, &self.note()).into_bytes()
    }
}

impl Source for Log {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(self.files.get(path).cloned())
    }

    fn read_at(&mut self, _: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, SourceError> {
        Ok(None)
    }
}

/// Whatever files a map holds, by GET.
impl Answers for Log {
    fn body_bytes_max(&self) -> usize {
        0
    }

    fn answer(&self, _: &str, path: &str, _: &[u8]) -> Reply {
        let found = self.files.get(path.trim_start_matches('/'));
        found.map_or_else(|| Reply::text(404, "none"), |body| Reply { status: 200, content_type: "application/octet-stream", body: body.clone() })
    }
}

pub fn service(directory: &Path) -> Arc<Service> {
    Service::open(directory, trust(), keys()).unwrap()
}

pub fn post(service: &Service, body: &[u8]) -> Reply {
    service.answer("POST", "/add-checkpoint", body)
}

/// A service behind TLS on loopback; it ends with the token's guard.
pub struct Served {
    pub address: SocketAddr,
    pub folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Served {
    pub async fn new(service: Arc<dyn Answers>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        tokio::spawn(serve(listener, acceptor(&certificate, &key).unwrap(), service, stop.clone()));
        Self { address, folder, _stop: stop.drop_guard() }
    }

    pub fn https(&self) -> Https {
        let url = Url::parse(&format!("https://localhost:{}/", self.address.port())).unwrap();
        Https::new(url, &self.folder.path().join("cert.pem")).unwrap()
    }
}
