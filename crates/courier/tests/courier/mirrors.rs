//! The door for mirrors: a log fetched through it verifies whole, and nothing else comes through.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sulku_audit::{Recordings, Source, SourceError, verify};

use crate::authority::Authority;
use crate::support::{Home, free_port, until};

/// A log behind HTTPS, fetched with one connection a file.
pub struct Web {
    port: u16,
    tls: Arc<rustls::ClientConfig>,
}

impl Web {
    pub fn new(port: u16, authority: &Authority, identity: Option<&Authority>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority.certificate()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(issuer) => {
                let (certificate, key) = issuer.files_of("client");
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap()
            }
        };
        Self { port, tls: Arc::new(config) }
    }

    /// Status and body.
    pub fn get(&self, path: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let name = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", self.port))?);
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let (mut answer, mut piece) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let head_end = answer.windows(4).position(|window| window == b"\r\n\r\n");
            if let Some(end) = head_end {
                let head = String::from_utf8(answer[..end].to_vec()).unwrap();
                let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                let length: usize = header("Content-Length").unwrap().parse().unwrap();
                if answer.len() == end + 4 + length {
                    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                    return Ok((status, answer.split_off(end + 4)));
                }
            }
            match stream.read(&mut piece)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&piece[..count]),
            }
        }
    }
}

impl Source for Web {
    fn read(&mut self, path: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| SourceError { path: path.to_owned(), cause };
        match self.get(path).map_err(|error| failed(error.into()))? {
            (200, body) => Ok(Some(body)),
            (404, _) => Ok(None),
            (status, body) => Err(failed(format!("{status}: {}", String::from_utf8_lossy(&body)).into())),
        }
    }

    fn read_at(&mut self, path: &str, _: u64, _: u64) -> Result<Option<Vec<u8>>, SourceError> {
        panic!("{path} was asked for: recordings are not checked here")
    }
}

pub fn serve(port: u16, authority: &Authority, clients: &str) -> String {
    let (certificate, key) = authority.files_of("localhost");
    format!("[serve]\nlisten = \"127.0.0.1:{port}\"\ncertificate = {certificate:?}\nprivate_key = {key:?}\n{clients}\n")
}

#[test]
fn a_log_fetched_through_the_courier_verifies_whole() {
    let home = Home::new();
    let authority = Authority::make(&home.path("authority"));
    let port = free_port();
    let ledger = home.ledger();
    let size = ledger.grow(700);
    let required = format!("client_authority = {:?}", authority.certificate());
    let _courier = home.courier(&serve(port, &authority, &required));
    let mut web = Web::new(port, &authority, Some(&authority));
    until("a checkpoint", || web.get("checkpoint").ok().filter(|(status, _)| *status == 200));
    let verified = verify::verify(&mut web, &home.key, Recordings::Skip, |_, _, _| {}).unwrap();
    assert!(verified.entries() >= size, "{}", verified.entries());

    for elsewhere in
        ["", "metrics", "cosigned", "recordings/040g2081040g2081.rec", "keys/1", "signed-head", "tile/../signed-head", "tile/0/000/../000", "lock"]
    {
        assert_eq!(web.get(elsewhere).unwrap().0, 404, "{elsewhere}");
    }
    assert_eq!(web.get("tile/0/x001/000").unwrap().0, 404, "beyond the checkpoint");
}

#[test]
fn nobody_comes_in_without_a_certificate_unless_the_operator_says_so() {
    let home = Home::new();
    let (authority, other) = (Authority::make(&home.path("authority")), Authority::make(&home.path("other")));
    let (port, open) = (free_port(), free_port());
    let ledger = home.ledger();
    ledger.grow(10);
    let required = format!("client_authority = {:?}", authority.certificate());
    let courier = home.courier(&serve(port, &authority, &required));
    let known = Web::new(port, &authority, Some(&authority));
    until("the control: a mirror with a certificate", || known.get("checkpoint").ok().filter(|(status, _)| *status == 200));
    assert!(Web::new(port, &authority, None).get("checkpoint").is_err(), "without a certificate");
    assert!(Web::new(port, &authority, Some(&other)).get("checkpoint").is_err(), "with one of another authority");
    drop(courier);

    let _courier = home.courier(&serve(open, &authority, "client_certificates = \"not-asked\""));
    let anybody = Web::new(open, &authority, None);
    until("a mirror without a certificate", || anybody.get("checkpoint").ok().filter(|(status, _)| *status == 200));
}
