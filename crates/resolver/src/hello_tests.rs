//! The reader of hellos against another reader, and against bytes that are none.

use proptest::prelude::*;
use rustls::server::Acceptor;

use super::*;

/// A body's extensions, as they are written.
fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), listed(2, data).as_slice()].concat()
}

fn listed(length_bytes: usize, data: &[u8]) -> Vec<u8> {
    [&(data.len() as u32).to_be_bytes()[4 - length_bytes..], data].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &listed(2, &[&[0], listed(2, name).as_slice()].concat()))
}

/// What a server needs to take a hello: versions, groups, signatures, a key share.
fn usual() -> Vec<u8> {
    let share = [&[0, 0x1d], listed(2, &[9; 32]).as_slice()].concat();
    [extension(43, &listed(1, &[3, 4])), extension(10, &listed(2, &[0, 0x1d])), extension(13, &listed(2, &[4, 3])), extension(51, &listed(2, &share))]
        .concat()
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let body = [&[3, 3], [7; 32].as_slice(), &listed(1, &[1; 32]), &listed(2, &[0x13, 1]), &listed(1, &[0]), &listed(2, extensions)].concat();
    [&[CLIENT_HELLO], listed(3, &body).as_slice()].concat()
}

fn records(message: &[u8], cut: usize) -> Vec<u8> {
    message.chunks(cut).flat_map(|piece| [&[HANDSHAKE, 3, 1], listed(2, piece).as_slice()].concat()).collect()
}

fn record(extensions: &[u8]) -> Vec<u8> {
    records(&message(extensions), RECORD_BYTES_MAX)
}

fn name_in(bytes: &[u8]) -> Option<String> {
    let (hello, _) = read(bytes).ok()??;
    hello.name.map(|name| String::from_utf8_lossy(&name).into_owned())
}

/// What rustls reads: `None` for what is no hello to it.
fn by_rustls(bytes: &[u8]) -> Option<Option<String>> {
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &bytes[..]).ok()?;
    let accepted = acceptor.accept().ok()??;
    Some(accepted.client_hello().server_name().map(str::to_owned))
}

#[test]
fn a_name_is_read_from_one_record_or_several() {
    let message = message(&[server_name(b"www.example.org"), usual()].concat());
    for cut in [message.len(), 100, 20] {
        let bytes = records(&message, cut);
        let behind = [bytes.as_slice(), b"early data"].concat();
        let (hello, length) = read(&behind).expect("TLS").expect("whole");
        assert_eq!((hello.name.as_deref(), hello.hides, length), (Some(&b"www.example.org"[..]), Hides::Nothing, bytes.len()));
        for short in 0..bytes.len() {
            assert_eq!(read(&bytes[..short]), Ok(None), "{short} of {}", bytes.len());
        }
    }
    assert!(read(&records(&message, 3)).is_err(), "in more pieces than anybody makes");
}

#[test]
fn what_two_readers_could_read_differently_is_no_tls() {
    let good = server_name(b"www.example.org");
    let two_names = {
        let name = |name: &[u8]| [&[0], listed(2, name).as_slice()].concat();
        extension(SERVER_NAME, &listed(2, &[name(b"a.org"), name(b"b.org")].concat()))
    };
    for (what, extensions) in [
        ("the extension twice", [good.clone(), server_name(b"evil.org")].concat()),
        ("another extension twice", [good.clone(), extension(23, b""), extension(23, b"")].concat()),
        ("two names", two_names),
        ("an empty name", server_name(b"")),
        ("another kind of name", extension(SERVER_NAME, &listed(2, &[&[1], listed(2, b"a.org").as_slice()].concat()))),
        ("bytes after the name", extension(SERVER_NAME, &[listed(2, &[&[0], listed(2, b"a.org").as_slice()].concat()), vec![0]].concat())),
        ("an extension cut short", good[..good.len() - 1].to_vec()),
    ] {
        assert_eq!(read(&record(&extensions)), Err(NotTls), "{what}");
    }
    let message = message(&good);
    assert_eq!(read(&records(&[message.as_slice(), &message].concat(), RECORD_BYTES_MAX)), Err(NotTls), "two hellos in one record");
    for beginning in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n", b"\x80\x2e\x01\x03\x01", b"\x16\x02", b"\x17\x03\x03", b"\x16\x03\x01\x00\x00"]
    {
        assert_eq!(read(beginning), Err(NotTls), "{beginning:?}");
    }
    assert_eq!(read(&[HANDSHAKE, 3, 1, 0xff, 0xff]), Err(NotTls), "a record longer than any");
    assert_eq!(name_in(&record(&good)).as_deref(), Some("www.example.org"), "the control");
}

#[test]
fn hiding_is_seen_whether_it_is_real_or_not() {
    for kind in HIDING {
        let (hello, _) = read(&record(&[server_name(b"a.org"), extension(kind, &[0; 200])].concat())).expect("TLS").expect("whole");
        assert_eq!(hello.hides, Hides::Perhaps);
    }
}

#[test]
fn what_real_clients_send_is_read() {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let roots = rustls::RootCertStore::empty();
    let config = rustls::ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), "www.example.org".try_into().expect("a name")).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    assert_eq!(name_in(&bytes).as_deref(), Some("www.example.org"));
    assert_eq!(by_rustls(&bytes), Some(Some("www.example.org".to_owned())));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
        let _ = hello(&bytes);
        let _ = read(&record(&bytes));
    }

    /// Whatever passes here under a name is read under the same name by a server, or not at all.
    #[test]
    fn no_changed_hello_has_another_name_for_a_server(
        name in "[a-z]{1,12}\\.[a-z]{1,12}\\.(org|fi)",
        change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        cut in 16..300_usize,
    ) {
        let mut message = message(&[server_name(name.as_bytes()), usual()].concat());
        if let Some((place, byte)) = change {
            let place = place.index(message.len());
            message[place] = byte;
        }
        let bytes = records(&message, cut.max(message.len() / 10));
        if let Ok(Some((hello, length))) = read(&bytes) {
            prop_assert_eq!(length, bytes.len());
            if let Some(theirs) = by_rustls(&bytes) {
                let ours = hello.name.map(|name| String::from_utf8_lossy(&name).to_ascii_lowercase());
                // rustls takes a name that is no host's for none, and leaves out a dot at the end, which RFC 6066 section 3 forbids. So does a host's
                // name here when it is compared.
                let ours = ours.map(|name| name.strip_suffix('.').unwrap_or(&name).to_owned());
                prop_assert!(theirs.is_none() || theirs.map(|name| name.to_ascii_lowercase()) == ours);
            }
        }
        if change.is_none() {
            prop_assert_eq!(name_in(&bytes), Some(name.clone()));
            prop_assert_eq!(by_rustls(&bytes), Some(Some(name)));
        }
    }
}
