//! The fuzz targets, briefly and on the stable toolchain: random bytes, and good inputs with something changed.

use proptest::prelude::*;
use sulku_protocol::{Ask, HelloFrame, Purpose, Signal, Tell, encode};

const PERMIT: &str = include_str!("../../crates/permit/tests/good.toml");
const ENTRY: &str = r#"{"v":1,"t":"2026-11-23T08:00:00.000000Z","mono_ns":1,"boot":"b","by":"warden","permit":"THL/1","permit_seq":0,"session":"0123456789abcdef","session_seq":0,"code":"SLK3002I","event":"warden.stopped","data":{"reason":"SIGTERM"},"salt":"AAAAAAAAAAAAAAAAAAAAAA=="}"#;
const REVISION: &str = "sulku policy revision 1\nnumber 12\nprevious none\nmade 2026-11-25T01:00:00Z\nby onni\nreason Maija joins\nfile e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 permits/statins.toml\n\nsignature onni AQID\n";
const OPERATOR_KEY: &str =
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\n-----END PRIVATE KEY-----\n";
const LINES: &str =
    "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24}}\n[0.5,\"o\",\"shown \\u001b[31m\"]\n[1.0,\"r\",\"100x40\"]\n[0.1,\"x\",\"0\"]\n# end\n";
const ORDER: &str = r#"{"order":"signal","session":"0123456789abcdef","signal":"INT"}"#;

fn frames() -> Vec<u8> {
    let hello = HelloFrame { version: 1, client: "fuzz".into(), purpose: Purpose::ListSessions };
    let asks =
        [Ask::Hello(hello), Ask::Input(b"ls\n".to_vec()), Ask::Resize { columns: 80, rows: 24 }, Ask::Signal(Signal::Int), Ask::Shown(9), Ask::Leave];
    let mut bytes = Vec::new();
    for ask in &asks {
        encode(ask, &mut bytes).expect("short");
    }
    for tell in [Tell::Output(b"out".to_vec()), Tell::Sessions(Vec::new()), Tell::Done] {
        encode(&tell, &mut bytes).expect("short");
    }
    bytes
}

/// A cell's question for an address of `www.example.org`, with EDNS.
fn question() -> Vec<u8> {
    [b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01", QUERY, b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"].concat()
}

/// A resolver's answer: an alias, and two addresses of it.
fn answer() -> Vec<u8> {
    let alias = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03cdn\xc0\x10";
    let address = b"\xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x5d\xb8\x00\x01";
    [b"\x12\x34\x81\x80\x00\x01\x00\x03\x00\x00\x00\x00".as_slice(), QUERY, alias, address, address].concat()
}

const QUERY: &[u8] = b"\x03www\x07example\x03org\x00\x00\x01\x00\x01";

/// A ClientHello for `www.example.org`.
fn hello() -> Vec<u8> {
    let name = b"\x00\x00\x00\x14\x00\x12\x00\x00\x0fwww.example.org";
    let body = [b"\x03\x03".as_slice(), &[7; 32], b"\x00\x00\x02\x13\x01\x01\x00\x00\x18", name].concat();
    let length = u8::try_from(body.len()).expect("short");
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], body.as_slice()].concat()
}

fn changed(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    (Just(good), proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), any::<prop::sample::Index>()).prop_map(
        |(mut bytes, changes, end)| {
            for (place, byte) in changes {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
            }
            bytes.truncate(bytes.len() - end.index(bytes.len() + 1) / 4);
            bytes
        },
    )
}

#[test]
fn the_good_inputs_are_good() {
    sulku_permit::parse("good.toml", PERMIT).expect("a permit");
    sulku_policy::Signed::parse(REVISION.as_bytes()).expect("a revision");
    sulku_policy::SigningKey::from_pem(OPERATOR_KEY).expect("a key");
    sulku_audit::Entry::parse(ENTRY.as_bytes()).expect("an entry");
    assert_eq!(sulku_resolver::wire::Question::parse(&question()).expect("a question").name_text(), "www.example.org");
    assert!(sulku_resolver::hello::read(&hello()).expect("TLS").expect("whole").0.name.is_some_and(|name| name == b"www.example.org"));
    let (name, message) = (hickory_proto::rr::Name::from_ascii("www.example.org."), hickory_proto::op::Message::from_vec(&answer()));
    let found = sulku_resolver::upstream::reading::read(&message.expect("an answer"), &name.expect("a name"));
    assert!(matches!(found, sulku_resolver::upstream::reading::Found::Addresses(addresses, 60) if addresses.len() == 1), "the same twice is one");
    sulku_plan::order::decode::<sulku_plan::order::Order<sulku_audit::Receipt>>(ORDER.as_bytes()).expect("an order");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn no_bytes_break_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        use sulku_fuzz::{entries, exports, frames, names, orders, permits, recordings, revisions};
        for target in [frames, permits, entries, exports, orders, recordings, revisions, names] {
            target(&bytes);
        }
    }

    #[test]
    fn no_changed_frame_breaks_its_reader(bytes in changed(frames())) {
        sulku_fuzz::frames(&bytes);
    }

    #[test]
    fn no_changed_permit_breaks_its_reader(bytes in changed(PERMIT.as_bytes().to_vec())) {
        sulku_fuzz::permits(&bytes);
    }

    #[test]
    fn no_changed_revision_breaks_its_reader(bytes in changed(REVISION.as_bytes().to_vec())) {
        sulku_fuzz::revisions(&bytes);
    }

    #[test]
    fn no_changed_operators_key_breaks_its_reader(bytes in changed(OPERATOR_KEY.as_bytes().to_vec())) {
        sulku_fuzz::revisions(&bytes);
    }

    #[test]
    fn no_changed_entry_breaks_its_reader(bytes in changed(ENTRY.as_bytes().to_vec())) {
        sulku_fuzz::entries(&bytes);
    }

    #[test]
    fn no_changed_tile_path_breaks_its_reader(bytes in changed(b"tile/1/x001/234.p/17".to_vec())) {
        sulku_fuzz::entries(&bytes);
    }

    #[test]
    fn no_changed_order_breaks_its_reader(bytes in changed(ORDER.as_bytes().to_vec())) {
        sulku_fuzz::orders(&bytes);
    }
}

proptest! {
    // Each checks two signatures, or seals some chunks.
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_changed_chunk_opens(number in 0_usize..3, change in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (_, chunks) = sulku_fuzz::recording();
        let mut bytes = chunks[number].bytes.clone();
        sulku_fuzz::recordings(&bytes);
        *change.get_mut(&mut bytes) ^= 1 << bit;
        sulku_fuzz::recordings(&bytes);
    }

    #[test]
    fn no_changed_line_breaks_its_player(bytes in changed(LINES.as_bytes().to_vec())) {
        sulku_fuzz::recordings(&bytes);
    }

    #[test]
    fn no_changed_export_passes_for_another(bytes in changed(sulku_fuzz::export_of_one().1.clone().into_bytes())) {
        sulku_fuzz::exports(&bytes);
    }

    #[test]
    fn no_changed_line_passes_for_another(bytes in changed(sulku_fuzz::export_of_one().1.lines().last().unwrap_or_default().as_bytes().to_vec())) {
        sulku_fuzz::exports(&bytes);
    }

    #[test]
    fn no_changed_question_breaks_its_reader(bytes in changed(question())) {
        sulku_fuzz::names(&bytes);
    }

    #[test]
    fn no_changed_answer_breaks_its_reader(bytes in changed(answer())) {
        sulku_fuzz::names(&bytes);
    }

    #[test]
    fn no_changed_hello_breaks_its_reader(bytes in changed(hello())) {
        sulku_fuzz::names(&bytes);
    }
}
