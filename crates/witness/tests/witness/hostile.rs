//! Requests that no log sends, and bytes that are no requests.

use std::time::{Duration, Instant};

use sulku_audit::witness::REQUEST_BYTES_MAX;
use sulku_witness::https::{Https, Url};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Log, Served, keys, post, service};

#[test]
fn a_malformed_request_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let good = String::from_utf8(Log::of(777).request(0)).unwrap();
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    let long_note = good.clone() + &"\u{2014} x AAAAAAAA\n".repeat(101);
    for body in [
        String::new(),
        "old 0".to_owned(),
        good.replacen("old 0", "old 00", 1),
        good.replacen("old 0", "old +0", 1),
        good.replacen("old 0", "old -1", 1),
        good.replacen("old 0", "old 18446744073709551616", 1),
        good.replacen("old 0", "old  0", 1),
        good.replacen("old 0", "Old 0", 1),
        good.replacen("old 0\n", "", 1),
        good.replacen("old 0\n", &format!("old 0\n{}", hash.repeat(64)), 1),
        good.replacen("old 0\n", "old 0\nAAAA\n", 1),
        good.replacen("old 0\n", "old 0\r\n", 1),
        good.trim_end().to_owned(),
        good.replacen("777", "0777", 1),
        long_note,
    ] {
        assert_eq!(post(&service, body.as_bytes()).status, 400, "{body:.60}");
    }
    assert_eq!(post(&service, &[0xff; 300]).status, 400);
    // Any byte of the head, of the text or of a signature.
    for at in (0..good.len()).step_by(7) {
        let mut changed = good.clone().into_bytes();
        changed[at] ^= 0x20;
        let status = post(&service, &changed).status;
        assert!([400, 403, 404, 409].contains(&status), "byte {at}: {status}");
    }
    assert_eq!(service_method(&service, "GET", "/add-checkpoint"), 405);
    assert_eq!(service_method(&service, "POST", "/add-entries"), 404);
    assert_eq!(post(&service, good.as_bytes()).status, 200, "the control: nothing was cosigned so far");
}

fn service_method(service: &sulku_witness::Service, method: &str, path: &str) -> u16 {
    sulku_witness::service::Answers::answer(service, method, path, b"").status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_beyond_its_bound_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(service(folder.path())).await;
    let answered = served.https().post("/add-checkpoint", vec![b'x'; REQUEST_BYTES_MAX + 1], 1024).await.unwrap();
    assert_eq!(answered.status, 413);
    let answered = served.https().post("/add-checkpoint", Log::of(3).request(0), 64 * 1024).await.unwrap();
    assert_eq!(answered.status, 200, "the control");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_say_nothing_or_nonsense_keep_nobody_from_being_served() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::new(service(folder.path())).await;
    let mut silent = Vec::new();
    for number in 0..64_u8 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        }
        silent.push(stream);
    }
    let begun = Instant::now();
    let answered = served.https().post("/add-checkpoint", Log::of(3).request(0), 64 * 1024).await.unwrap();
    assert_eq!(answered.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5));
    let mut rest = Vec::new();
    let nonsense = &mut silent[0];
    let closed = tokio::time::timeout(Duration::from_secs(20), nonsense.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "who speaks no TLS is hung up on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_is_not_believed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (served, stranger) = (Served::new(service(folder.path())).await, Served::new(service(other.path())).await);
    let url = Url::parse(&format!("https://localhost:{}", served.address.port())).unwrap();
    let mut https = Https::new(url, &stranger.folder.path().join("cert.pem")).unwrap();
    assert!(https.get("/", 100).await.is_err());
    assert!(served.https().get("/", 100).await.is_ok(), "the control");
    let _keys_are_of_no_use_to_strangers = keys();
}

#[test]
fn an_address_is_https_or_this_hosts_own() {
    for good in
        ["https://a.example", "https://a.example:8443/", "https://a.example/w/1/", "https://[::1]:8443", "http://127.0.0.1:8080/", "http://[::1]"]
    {
        assert!(Url::parse(good).is_some(), "{good}");
    }
    for bad in [
        "",
        "a.example",
        "ftp://a.example",
        "http://a.example",
        "http://10.0.0.1",
        "https://",
        "https://a.example:x",
        "https://a.example:99999",
        "https://u@a.example",
        "https://a.example/../x",
        "https://a.example/?q",
        "https://a b.example",
        "https://[::1",
        "https://[::1]x",
    ] {
        assert!(Url::parse(bad).is_none(), "{bad}");
    }
}
