//! Delivery over syslog: whole, across restarts of either end, and with an end that does not read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::authority::Authority;
use crate::figures::{Figures, scrape};
use crate::rsyslog::Rsyslog;
use crate::support::{Home, acted, events, free_port, number, until};

pub fn syslog(port: u16, authority: &Authority) -> String {
    let (certificate, key) = authority.files_of("client");
    format!(
        "[[syslog]]\nname = \"siem\"\naddress = \"127.0.0.1:{port}\"\nserver_name = \"localhost\"\nauthority = {:?}\ncertificate = {certificate:?}\n\
         private_key = {key:?}\nconfirm_every_s = 1\n",
        authority.certificate()
    )
}

/// How often each entry has come, by its number. Every time it was the same event.
fn come(receiver: &Rsyslog) -> BTreeMap<u64, usize> {
    let mut seen: BTreeMap<u64, (usize, Value)> = BTreeMap::new();
    for line in receiver.received() {
        let text = &line[line.find(" {").unwrap_or_else(|| panic!("no OCSF: {line}")) + 1..];
        // A receiver that is killed may cut its own file's last line short; the next run then goes on in it.
        let Ok(event) = serde_json::from_str::<Value>(text) else { continue };
        let number = number(&event);
        let hash = event["metadata"]["original_event_uid"].as_str().unwrap();
        assert!(line.contains(&format!("index=\"{number}\" hash=\"{hash}\"")), "{line}");
        let (count, first) = seen.entry(number).or_insert_with(|| (0, event.clone()));
        assert_eq!(*first, event, "the same entry is the same event");
        *count += 1;
    }
    seen.into_iter().map(|(number, (count, _))| (number, count)).collect()
}

fn missing(receiver: &Rsyslog, size: u64) -> Vec<u64> {
    let come = come(receiver);
    (0..size).filter(|number| !come.contains_key(number)).collect()
}

pub fn await_all(receiver: &Rsyslog, size: u64) {
    until(&format!("all of {size} entries"), || missing(receiver, size).is_empty().then_some(()));
}

#[test]
fn every_entry_reaches_rsyslog_across_restarts_of_it_and_of_the_courier() {
    let home = Home::new();
    let authority = Authority::make(&home.path("authority"));
    let port = free_port();
    let mut receiver = Rsyslog::new(&home.path("rsyslog"), &authority, &authority, port);
    receiver.start();
    let ledger = home.ledger();
    ledger.grow(700);
    let courier = home.courier(&syslog(port, &authority));
    await_all(&receiver, 700);

    // Killed in the middle: what its kernel had taken and it had not read is gone, and sent again.
    let ends = Instant::now() + Duration::from_secs(3);
    let mut killed = 0;
    while Instant::now() < ends {
        ledger.grow(150);
        receiver.kill();
        killed += 1;
        receiver.start();
    }
    assert!(killed >= 2, "the receiver was killed {killed} times");
    let size = ledger.grow(100);
    await_all(&receiver, size);

    // The courier stops while there is more to send, and goes on where it was.
    ledger.grow(400);
    drop(courier);
    let size = ledger.grow(50);
    let courier = home.courier(&syslog(port, &authority));
    await_all(&receiver, size);
    drop(courier);

    // A courier that is up to date sends nothing again: its cursor is where the log ends.
    let before = come(&receiver);
    let courier = home.courier(&syslog(port, &authority));
    let size = ledger.grow(1);
    await_all(&receiver, size);
    drop(courier);
    let again: Vec<_> = come(&receiver).into_iter().filter(|(number, count)| before.get(number).is_some_and(|old| old < count)).collect();
    assert!(again.is_empty(), "{again:?} were sent again without need");
}

/// What lies in a kernel's buffer is not received, however long it lies there.
#[test]
fn what_a_receiver_had_not_read_when_it_was_killed_is_sent_again() {
    let home = Home::new();
    let authority = Authority::make(&home.path("authority"));
    let (port, metrics) = (free_port(), free_port());
    let mut receiver = Rsyslog::new(&home.path("rsyslog"), &authority, &authority, port);
    receiver.start();
    let ledger = home.ledger();
    let _courier = home.courier(&format!("{}[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n", syslog(port, &authority)));
    let size = ledger.grow(20);
    let at_least = |name: &'static str, value: u64| until(name, || scrape(metrics).filter(|figures| figures.of(name, "siem") >= value as f64));
    at_least("sulku_courier_sink_cursor", size);
    await_all(&receiver, size);

    receiver.pause();
    let size = ledger.grow(50);
    at_least("sulku_courier_sink_sent_total", size);
    // Several times as long as entries may be unconfirmed.
    let stalled = at_least("sulku_courier_sink_lag_seconds", 4);
    assert!(stalled.of("sulku_courier_sink_cursor", "siem") < size as f64, "nothing was confirmed: {stalled:?}");
    assert!(!missing(&receiver, size).is_empty(), "the control: it has read nothing");
    receiver.kill();
    assert!(!missing(&receiver, size).is_empty(), "the control: what it had not read is gone");
    receiver.start();
    await_all(&receiver, size);
}

#[test]
fn a_message_has_its_header_and_its_structured_data() {
    let home = Home::new();
    let authority = Authority::make(&home.path("authority"));
    let port = free_port();
    let mut receiver = Rsyslog::new(&home.path("rsyslog"), &authority, &authority, port);
    receiver.start();
    let ledger = home.ledger();
    let _courier = home.courier(&syslog(port, &authority));
    let size = ledger.grow(1);
    await_all(&receiver, size);
    let lines = receiver.received();
    let line = lines.iter().find(|line| line.contains("SLK2501I")).unwrap();
    // Facility 13, informational.
    assert!(line.starts_with("110 test-host sulku SLK2501I [entry@32473 origin=\"test.example/audit\" index=\""), "{line}");
}

#[test]
fn a_receiver_with_a_certificate_of_another_authority_gets_nothing() {
    let home = Home::new();
    let (authority, other) = (Authority::make(&home.path("authority")), Authority::make(&home.path("other")));
    let port = free_port();
    let mut receiver = Rsyslog::new(&home.path("rsyslog"), &authority, &other, port);
    receiver.start();
    let ledger = home.ledger();
    let metrics = free_port();
    let words = format!("{}[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n", syslog(port, &authority));
    let _courier = home.courier(&words);
    ledger.grow(10);
    until("two failures", || (scrape(metrics)?.of("sulku_courier_sink_errors_total", "siem") >= 2.0).then_some(()));
    assert!(receiver.received().is_empty());
}

/// A receiver that takes connections, shakes hands and never reads, as one that has hung does.
#[test]
fn a_receiver_that_never_reads_slows_neither_the_ledger_nor_another_sink() {
    let home = Home::new();
    let authority = Authority::make(&home.path("authority"));
    let stalled = Stalled::start(&authority);
    let ledger = home.ledger();
    let (lines, metrics) = (home.path("lines.jsonl"), free_port());
    let words =
        format!("{}[[file]]\nname = \"lines\"\npath = {lines:?}\n[metrics]\nlisten = \"127.0.0.1:{metrics}\"\n", syslog(stalled.port, &authority));
    let mut client = ledger.client();
    let time_appends = |client: &mut sulku_ledger::client::Client| {
        let begun = Instant::now();
        for number in 0..1500 {
            let _receipt = client.append(acted(number), &[]).unwrap();
        }
        begun.elapsed()
    };
    let alone = time_appends(&mut client);
    let _courier = home.courier(&words);
    let beside = time_appends(&mut client);
    // Enough that the kernel's buffers between the courier and the stalled receiver are full.
    for _ in 0..3 {
        time_appends(&mut client);
    }
    let size = client.publish().unwrap();
    until("every line of the other sink", || (events(&lines).len() as u64 >= size).then_some(()));
    let told = |figures: &Figures| {
        figures.of("sulku_courier_sink_lag_seconds", "siem") > 1.0 && figures.of("sulku_courier_sink_cursor", "lines") >= size as f64
    };
    let behind = until("the lag of one and not of the other", || scrape(metrics).filter(told));
    assert!(behind.of("sulku_courier_sink_lag_entries", "siem") >= size as f64, "the stalled sink has nothing confirmed");
    assert!(stalled.accepted() >= 1, "the control: the stalled receiver was connected to");
    // On a shared machine a run may take twice as long as another; a ledger that waits for the receiver takes for ever.
    assert!(beside < alone * 10 + Duration::from_secs(2), "{alone:?} alone, {beside:?} beside a stalled receiver");
}

/// Takes TLS connections and reads nothing after the handshake.
struct Stalled {
    port: u16,
    accepted: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    stop: tokio_util::sync::CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Stalled {
    fn start(authority: &Authority) -> Self {
        use rustls::pki_types::pem::PemObject as _;
        let (certificate, key) = authority.files_of("localhost");
        let chain = vec![rustls::pki_types::CertificateDer::from_pem_file(certificate).unwrap()];
        let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(tls));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (accepted, stop) = (std::sync::Arc::default(), tokio_util::sync::CancellationToken::new());
        let (counted, stopped): (std::sync::Arc<std::sync::atomic::AtomicUsize>, _) = (std::sync::Arc::clone(&accepted), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut held = Vec::new();
                loop {
                    tokio::select! {
                        () = stopped.cancelled() => return,
                        accept = listener.accept() => {
                            if let Ok(stream) = acceptor.accept(accept.unwrap().0).await {
                                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                                held.push(stream);
                            }
                        }
                    }
                }
            });
        });
        Self { port, accepted, stop, thread: Some(thread) }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.stop.cancel();
        let _panicking_already = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
