//! What the documents say of tests, against the tests: evidence that names a test which is not there is none.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents that name tests as evidence.
const DOCUMENTS: &[&str] = &["docs/requirements.md", "docs/security.md"];
/// A test's name is a sentence: names of fewer words in a document are something else.
const WORDS_MIN: usize = 4;

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The names of all functions in all sources of ours, and the names that tables of tests give.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            functions(&path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source");
            for line in text.lines() {
                let after = line.split_once("fn ").map(|(_, after)| after);
                found.extend(after.and_then(|after| after.split(['(', '<']).next()).map(ToOwned::to_owned));
            }
        }
    }
}

/// The tests that a text names, between back-quotes: with or without the module before them.
fn named(text: &str) -> Vec<String> {
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.filter_map(|quoted| quoted.rsplit("::").next()).filter(is_name);
    names.filter(|name| name.split('_').count() >= WORDS_MIN).map(ToOwned::to_owned).collect()
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut tests = BTreeSet::new();
    functions(&home().join("crates"), &mut tests);
    functions(&home().join("tests"), &mut tests);
    for document in DOCUMENTS {
        let text = fs::read_to_string(home().join(document)).expect("a document");
        let names = named(&text);
        assert!(names.len() > 20, "{document} names tests");
        let missing: Vec<_> = names.iter().filter(|name| !tests.contains(*name)).collect();
        assert!(missing.is_empty(), "{document} names tests that are not there: {missing:?}");
    }
}

#[test]
fn a_name_is_found_with_its_module_and_other_code_is_none() {
    let text = "shown by `walls::a_cell_sees_nothing_of_the_host`, not by `crates/warden`, `nf_conntrack`, `sulku doctor`";
    assert_eq!(named(text), ["a_cell_sees_nothing_of_the_host"]);
}
