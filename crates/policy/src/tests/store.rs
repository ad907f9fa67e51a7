//! Which revision is in force.

use std::sync::Arc;

use super::{Memory, PERMIT, operators, tree};
use crate::store::{InForce, RevisionError, read};
use crate::{Digest, Operators, Signed, Tree, Unapproved};

const OTHER: &str = "permits/other.toml";

/// Texts of these tests are no permits, so here a tree is narrower that has fewer files, and perhaps a halt.
fn narrows(before: &Tree, after: &Tree) -> bool {
    after.iter().all(|(path, file)| path.as_str() == "halt.toml" || before.get(path.as_str()) == Some(file))
}

fn number(found: Result<Arc<InForce>, RevisionError>) -> u64 {
    found.expect("a revision in force").revision().number()
}

fn find(store: &Memory, operators: &Operators) -> Result<Arc<InForce>, RevisionError> {
    read(store, operators, narrows, None)
}

fn wide() -> Tree {
    tree(&[(PERMIT, "a"), (OTHER, "b")])
}

fn narrow() -> Tree {
    tree(&[(PERMIT, "a")])
}

#[test]
fn the_highest_revision_that_counts_is_in_force() {
    let one = operators(&["onni"], 1);
    let mut store = Memory::default();
    assert!(matches!(find(&store, &one), Err(RevisionError::Empty)));
    let first = store.apply(1, None, &narrow(), &[("onni", 1)]);
    store.apply(7, Some(first), &wide(), &[("onni", 1)]);
    let found = find(&store, &one).expect("in force");
    assert_eq!((found.revision().number(), found.tree(), found.approved().number()), (7, &wide(), 7));
    assert_eq!(found.approved().digest(), found.revision().digest());
    assert_eq!(&**found.tree().get(OTHER).expect("a file").text(), "b");
}

#[test]
fn a_revision_that_waits_for_a_second_signature_lets_the_old_one_stay() {
    let two = operators(&["onni", "aino"], 2);
    let mut store = Memory::default();
    let first = store.apply(1, None, &narrow(), &[("onni", 1)]);
    assert!(matches!(find(&store, &two), Err(RevisionError::Waiting { number: 1, .. })), "the first narrows nothing");
    store.apply(1, None, &narrow(), &[("onni", 1), ("aino", 2)]);
    store.apply(2, Some(first), &wide(), &[("aino", 2)]);
    assert_eq!(number(find(&store, &two)), 1);
    store.apply(2, Some(first), &wide(), &[("aino", 2), ("onni", 1)]);
    assert_eq!(number(find(&store, &two)), 2, "the control: with the second it counts");
}

#[test]
fn a_revision_that_only_narrows_counts_with_one_signature() {
    let two = operators(&["onni", "aino"], 2);
    let mut store = Memory::default();
    let first = store.apply(1, None, &wide(), &[("onni", 1), ("aino", 2)]);
    let second = store.apply(2, Some(first), &narrow(), &[("onni", 1)]);
    let found = find(&store, &two).expect("in force");
    assert_eq!((found.revision().number(), found.tree(), found.approved().approvers().len()), (2, &narrow(), 1));
    // One that narrows a narrowed one counts as well; one that takes the narrowing back does not.
    let third = store.apply(3, Some(second), &tree(&[(PERMIT, "a"), ("halt.toml", "")]), &[("aino", 2)]);
    assert_eq!(number(find(&store, &two)), 3);
    store.apply(4, Some(third), &wide(), &[("aino", 2)]);
    assert_eq!(number(find(&store, &two)), 3);
    // Also when the reader has what is in force already, and when it skips some.
    let old = read(&store, &two, narrows, None).expect("in force");
    store.apply(5, Some(third), &tree(&[("halt.toml", "")]), &[("onni", 1)]);
    assert_eq!(number(read(&store, &two, narrows, Some(&old))), 5);
    // It may narrow nothing that does not count itself: number 4 would let a person in again.
    let fourth = Signed::parse(&store.revisions[&4]).expect("a revision").revision.digest();
    store.apply(6, Some(fourth), &wide(), &[("onni", 1)]);
    assert_eq!(number(find(&store, &two)), 5);
    // Nor what the store does not have.
    store.apply(7, Some(Digest::of(b"?")), &tree(&[]), &[("onni", 1)]);
    assert_eq!(number(find(&store, &two)), 5);
}

#[test]
fn narrowing_is_no_way_for_who_is_no_operator() {
    let one = operators(&["onni"], 1);
    let mut store = Memory::default();
    let first = store.apply(1, None, &wide(), &[("onni", 1)]);
    store.apply(2, Some(first), &narrow(), &[("erkki", 9)]);
    assert!(matches!(find(&store, &one), Err(RevisionError::Unapproved { number: 2, source: Unapproved::Strangers { .. } })));
}

#[test]
fn a_forged_or_damaged_revision_is_refused_and_brings_nothing_older_back() {
    let one = operators(&["onni"], 1);
    let mut store = Memory::default();
    let first = store.apply(1, None, &wide(), &[("onni", 1)]);
    let old = find(&store, &one).expect("the control");
    store.apply(2, Some(first), &narrow(), &[("onni", 9)]);
    assert!(matches!(find(&store, &one), Err(RevisionError::Unapproved { number: 2, source: Unapproved::Forged { .. } })));
    store.revisions.insert(2, b"sulku policy revision 1\nnumber".to_vec());
    assert!(matches!(find(&store, &one), Err(RevisionError::Damaged { number: 2, .. })));
    let copy = store.revisions[&1].clone();
    store.revisions.insert(2, copy);
    assert!(matches!(find(&store, &one), Err(RevisionError::Renamed { number: 2, says: 1 })));
    // Also for a reader with a revision in force.
    assert!(matches!(read(&store, &one, narrows, Some(&old)), Err(RevisionError::Renamed { .. })));
    store.apply(2, Some(first), &narrow(), &[("onni", 1)]);
    assert_eq!(number(read(&store, &one, narrows, Some(&old))), 2);
}

#[test]
fn an_operator_who_left_takes_no_revision_back() {
    let mut store = Memory::default();
    let first = store.apply(1, None, &wide(), &[("onni", 1)]);
    store.apply(2, Some(first), &narrow(), &[("aino", 2)]);
    assert_eq!(number(find(&store, &operators(&["onni", "aino"], 1))), 2, "the control");
    let without = operators(&["onni"], 1);
    assert!(matches!(find(&store, &without), Err(RevisionError::Unapproved { number: 2, source: Unapproved::Strangers { .. } })));
    store.apply(2, Some(first), &narrow(), &[("aino", 2), ("onni", 1)]);
    assert_eq!(number(find(&store, &without)), 2, "who stays has signed it as well");
}

#[test]
fn numbers_only_grow() {
    let one = operators(&["onni"], 1);
    let mut store = Memory::default();
    let first = store.apply(1, None, &wide(), &[("onni", 1)]);
    store.apply(2, Some(first), &narrow(), &[("onni", 1)]);
    let second = find(&store, &one).expect("in force");
    let kept = store.revisions.remove(&2).expect("it was there");
    assert!(matches!(read(&store, &one, narrows, Some(&second)), Err(RevisionError::Gone { number: 2 })));
    store.apply(2, Some(first), &wide(), &[("onni", 1)]);
    assert!(matches!(read(&store, &one, narrows, Some(&second)), Err(RevisionError::Gone { number: 2 })), "another text under its number");
    store.revisions.insert(2, kept);
    assert!(Arc::ptr_eq(&read(&store, &one, narrows, Some(&second)).expect("the control"), &second));
}

#[test]
fn a_file_that_is_not_what_was_signed_is_refused() {
    let one = operators(&["onni"], 1);
    let mut store = Memory::default();
    store.apply(1, None, &wide(), &[("onni", 1)]);
    let place = Digest::of(b"b");
    for (contents, why) in [(&b"c"[..], "SHA-256"), (b"bb", "length"), (b"", "length")] {
        store.objects.insert(place, contents.to_vec());
        let error = find(&store, &one).expect_err("refused");
        assert!(matches!(error, RevisionError::Object { number: 1, .. }) && error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains(OTHER), "{error}");
    }
    store.objects.remove(&place);
    assert!(matches!(find(&store, &one), Err(RevisionError::Read { .. })));
    store.objects.insert(place, b"b".to_vec());
    assert_eq!(number(find(&store, &one)), 1, "the control");
}

#[test]
fn only_what_changed_is_read() {
    let one = operators(&["onni"], 1);
    let mut store = Memory::default();
    let names: Vec<_> = (0..200).map(|number| format!("permits/{number}.toml")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
    let first = store.apply(1, None, &tree(&files), &[("onni", 1)]);
    let before = find(&store, &one).expect("in force");
    assert_eq!(store.objects_read.take(), 200);
    let mut files = files;
    files[7].1 = "changed";
    store.apply(2, Some(first), &tree(&files), &[("onni", 1)]);
    let after = read(&store, &one, narrows, Some(&before)).expect("in force");
    assert_eq!((store.objects_read.take(), after.revision().number()), (1, 2));
    assert_eq!(after.tree(), &tree(&files));
}

#[test]
fn the_search_has_an_end() {
    let two = operators(&["onni", "aino"], 2);
    let mut store = Memory::default();
    for number in 1..=1_001 {
        store.apply(number, None, &wide(), &[("onni", 1)]);
    }
    assert!(matches!(find(&store, &two), Err(RevisionError::Bound)));
    store.revisions.remove(&1);
    assert!(matches!(find(&store, &two), Err(RevisionError::Waiting { number: 1_001, .. })), "the control: one fewer is looked through");
}
