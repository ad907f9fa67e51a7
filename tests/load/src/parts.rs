//! The hot parts, each as one piece of work of a fixed size: what it needs is made before, what it does is what is counted.
//!
//! `cargo bench -p sulku-load --bench instructions` counts them under callgrind; a test does each once, and looks whether it does what it is to.

use std::hint::black_box;

use sulku_audit::merkle::leaf_hash;
use sulku_audit::tile::TiledTree;
use sulku_permit::{Admission, Credential, Identity, PermitSet, Request, admit, parse};
use sulku_plan::Plan;
use sulku_protocol::{Ask, Decoder, Tell, encode};
use sulku_session::Filter;

/// Permits among which one is looked for.
const PERMITS: usize = 100;
/// What a terminal is read in at most.
const QUANTUM_BYTES: usize = 16 * 1024;
/// Entries of a full tile.
const ENTRIES: usize = 256;
/// Around what an entry has.
const ENTRY_BYTES: usize = 280;

/// The permit of the plan's reviewed text.
const PERMIT: &str = include_str!("../../../crates/permit/tests/good.toml");

/// A hundred permits of one person each, and the certificate of one of them.
#[must_use]
pub fn permits() -> (PermitSet, Credential) {
    let person = |number: usize| format!("spiffe://spe.example.fi/person/p{number}");
    let one = |number: usize| {
        let text = format!(
            "schema = 1\n\n[permit]\nid = \"THL/{number}/2026\"\ntitle = \"A study\"\npurpose = \"research\"\nissuer = \"Findata\"\n\
             valid_from = 2026-01-01\nvalid_until = 2030-12-31\ntime_zone = \"Europe/Helsinki\"\n\n\
             [controller]\nname = \"University\"\ncontacts = [\"privacy@university.example\"]\n\n\
             [[holder]]\nid = \"p{number}\"\nname = \"Person {number}\"\ncertificate = {{ uri = \"{}\" }}\nroles = [\"analyst\"]\n\n\
             [workspace]\nname = \"study-{number}\"\n\n[session]\nfrom_networks = [\"192.0.2.0/24\"]\nallowed_hours = [\"Mon-Sun 00:00-24:00\"]\n",
            person(number)
        );
        parse("study.toml", &text).expect("a permit")
    };
    let set = PermitSet::new((0..PERMITS).map(one).collect()).expect("a set of permits");
    let identities = vec![Identity::Uri(person(PERMITS / 2))];
    let expires = "2030-01-01T00:00:00Z".parse().expect("a time");
    (set, Credential { identities, expires, assurance: None })
}

/// One person is admitted.
///
/// # Panics
/// She is refused.
pub fn admission((permits, credential): &(PermitSet, Credential)) -> Admission {
    let now = "2026-06-01T10:00:00Z".parse().expect("a time");
    let request = Request { credential, permit: None, from: [192, 0, 2, 7].into(), now, opened: None, rung: None };
    black_box(admit(permits, &request).expect("she is admitted"))
}

/// The text of a permit becomes one.
///
/// # Panics
/// It is none.
#[must_use]
pub fn permit_text(text: &str) -> sulku_permit::Permit {
    black_box(parse("good.toml", text).expect("a permit"))
}

/// The text of a permit.
#[must_use]
pub fn text() -> &'static str {
    PERMIT
}

/// A permit.
#[must_use]
pub fn permit() -> sulku_permit::Permit {
    permit_text(PERMIT)
}

/// Its plan, as text.
#[must_use]
pub fn plan(permit: &sulku_permit::Permit) -> String {
    black_box(Plan::of(permit).render())
}

/// Output of a program that colours its lines.
#[must_use]
pub fn output() -> Vec<u8> {
    let line = |number: usize| format!("\x1b[1;34msrc/file-{number}.rs\x1b[0m: some words, and ääkkösiä\r\n");
    (0..).map(line).flat_map(String::into_bytes).take(QUANTUM_BYTES).collect()
}

/// The filter passes it.
#[must_use]
pub fn filter(output: &[u8]) -> String {
    black_box(Filter::default().pass(output))
}

/// Output goes into a frame and out of it again.
///
/// # Panics
/// It does not.
#[must_use]
pub fn output_frame(output: Vec<u8>) -> Tell {
    let mut bytes = Vec::new();
    encode(&Tell::Output(output), &mut bytes).expect("it fits into a frame");
    let mut decoder = Decoder::<Tell>::default();
    decoder.feed(&bytes);
    black_box(decoder.next().expect("a frame").expect("a whole one"))
}

/// So does one key.
///
/// # Panics
/// It does not.
#[must_use]
pub fn key_frame(key: u8) -> Ask {
    let mut bytes = Vec::new();
    encode(&Ask::Input(vec![key]), &mut bytes).expect("it fits into a frame");
    let mut decoder = Decoder::<Ask>::default();
    decoder.feed(&bytes);
    black_box(decoder.next().expect("a frame").expect("a whole one"))
}

/// Entries of a full tile, no two alike.
#[must_use]
pub fn entries() -> Vec<Vec<u8>> {
    (0..ENTRIES).map(|number| number.to_le_bytes().into_iter().cycle().take(ENTRY_BYTES).collect()).collect()
}

/// They are hashed, one by one, and become part of a tree.
#[must_use]
pub fn tree(entries: &[Vec<u8>]) -> TiledTree {
    let mut tree = TiledTree::default();
    entries.iter().for_each(|entry| tree.push(leaf_hash(entry)));
    black_box(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_does_what_is_counted() {
        assert_eq!(admission(&permits()).holder().id.to_string(), "p50");
        assert!(plan(&permit()).lines().count() > 20);
        let output = output();
        assert_eq!(output.len(), QUANTUM_BYTES);
        assert!(filter(&output).contains("\x1b[1;34msrc/file-7.rs"));
        assert_eq!(output_frame(output.clone()), Tell::Output(output));
        assert_eq!(key_frame(b'a'), Ask::Input(vec![b'a']));
        assert_eq!(tree(&entries()).take_full().len(), 1);
    }
}
