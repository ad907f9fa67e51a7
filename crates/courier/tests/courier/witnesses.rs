//! A witness that this product brings, on loopback: its cosignatures reach the ledger, and without them no session opens.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use sulku_audit::key::Algorithm;
use sulku_audit::wire::Cause;
use sulku_audit::{Draft, Event, SecretKey};
use sulku_ledger::client::ClientError;
use sulku_ledger::config::WitnessSettings;
use sulku_witness::serve::{acceptor, serve};
use sulku_witness::service::Service;
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::figures::scrape;
use crate::mirrors;
use crate::support::{Home, free_port, until};

fn keys() -> Vec<SecretKey> {
    let key = |algorithm, seed| SecretKey::from_seed("authority.example/witness", algorithm, &[seed; 32]).unwrap();
    vec![key(Algorithm::Ed25519Cosignature, 3), key(Algorithm::MlDsa44, 4)]
}

/// A witness behind TLS; it ends when dropped.
struct Witness {
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Witness {
    fn start(home: &Home, authority: &Authority, port: u16) -> Self {
        let service = Service::open(&home.path("witness"), vec![home.key.clone()], keys()).unwrap();
        let (certificate, key) = authority.files_of("localhost");
        let acceptor = acceptor(&certificate, &key).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = (CancellationToken::new(), CancellationToken::new());
        let (of_thread, ends) = (stop.clone(), stopped.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = tokio::spawn(serve(listener, acceptor, service as Arc<_>, ends));
                of_thread.cancelled().await;
                stopped.cancel();
                serving.abort();
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.cancel();
        let _panicking_already = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn opened() -> Draft {
    let event = Event::SessionOpened {
        transport: "quic".to_owned(),
        at: "statins.toml:7".to_owned(),
        ends: "2027-01-01T00:00:00Z".parse().unwrap(),
        plan: "0".repeat(64),
        rung: "root".to_owned(),
        policy: "1 0".to_owned(),
        from: "192.0.2.7".parse::<std::net::IpAddr>().unwrap().into(),
        identity: "spiffe://example/maija".to_owned().into(),
        command: None.into(),
        client: "sulku 0.1.0".to_owned().into(),
        stays_s: None,
        certificates: None.into(),
    };
    let session = Some(sulku_permit::SessionId::from_random([7; 10]));
    Draft { permit: Some("THL/1/2026".parse().unwrap()), session, person: Some("maija".parse().unwrap()), event }
}

#[test]
fn a_witness_has_the_log_cosigned_and_without_it_no_session_opens() {
    let home = Home::new();
    let authority = Authority::make(&home.path("authority"));
    let (port, metrics) = (free_port(), free_port());
    let public: Vec<String> = keys().iter().map(|key| key.public().to_string()).collect();
    let asked = WitnessSettings {
        keys: keys().iter().map(|key| key.public().clone()).collect(),
        quorum: 1,
        no_new_sessions_after: Duration::from_secs(8),
        freeze_after: Duration::from_secs(600),
    };
    let ledger = home.witnessed_ledger(asked);
    let witness = Witness::start(&home, &authority, port);
    let words = format!(
        "[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n[[witness]]\nname = \"authority\"\nurl = \"https://localhost:{port}\"\nauthority = {:?}\nkeys = {public:?}\n",
        authority.certificate()
    );
    let door = free_port();
    let _courier = home.courier(&(words + &mirrors::serve(door, &authority, "client_certificates = \"not-asked\"")));
    let size = ledger.grow(300);
    let cosigned = home.path("log/cosigned");
    until("a cosigned checkpoint over all", || {
        let text = std::fs::read_to_string(&cosigned).ok()?;
        (text.lines().nth(1)?.parse::<u64>().ok()? >= size).then_some(())
    });
    let text = std::fs::read_to_string(&cosigned).unwrap();
    assert_eq!(text.matches("— authority.example/witness ").count(), 2, "both of its keys: {text}");
    let web = mirrors::Web::new(door, &authority, None);
    let fetched = until("the cosigned checkpoint at the door for mirrors", || web.get("cosigned").ok().filter(|(status, _)| *status == 200)).1;
    assert!(String::from_utf8(fetched).unwrap().contains("— authority.example/witness "));

    // Nothing new comes, and the cosignatures stay fresh.
    let beyond = std::time::Instant::now() + Duration::from_secs(10);
    until("a while without entries", || (std::time::Instant::now() > beyond).then_some(()));
    let figures = scrape(metrics).unwrap();
    assert!(figures.single("sulku_ledger_cosignature_age_seconds") < 8.0, "{figures:?}");
    assert_eq!(figures.single("sulku_ledger_witness_effect"), 0.0);
    let _opened = ledger.client().append(opened(), &[]).unwrap();

    drop(witness);
    until("no new sessions", || scrape(metrics).filter(|figures| figures.single("sulku_ledger_witness_effect") == 1.0));
    let refused = ledger.client().append(opened(), &[]).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { cause: Cause::Unwitnessed, .. }), "{refused}");

    let _witness = Witness::start(&home, &authority, port);
    until("sessions again", || scrape(metrics).filter(|figures| figures.single("sulku_ledger_witness_effect") == 0.0));
}
