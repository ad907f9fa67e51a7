//! What holds for whatever bytes there are.

use proptest::prelude::*;

use super::{Memory, PERMIT, operators, tree};
use crate::store::read;
use crate::{Digest, Signed, narrows, verify};

fn store() -> Memory {
    let mut store = Memory::default();
    store.apply(12, None, &tree(&[(PERMIT, "id = \"THL/1\"\n"), ("halt.toml", "x")]), &[("onni", 1), ("aino", 2)]);
    store
}

/// Every byte of a revision's file: what is signed, and who signed it, and where one ends and the other begins.
#[test]
fn any_edit_of_one_byte_of_a_revision_is_refused() {
    let operators = operators(&["onni", "aino"], 2);
    let good = store().revisions[&12].clone();
    let judge = |bytes: &[u8]| Signed::parse(bytes).ok().is_some_and(|signed| verify(&signed, &operators).is_ok());
    assert!(judge(&good), "the control");
    for place in 0..good.len() {
        let mut bytes = good.clone();
        for flip in [1, 0x20, 0x80] {
            bytes[place] = good[place] ^ flip;
            assert!(!judge(&bytes), "byte {place}: {:?}", String::from_utf8_lossy(&bytes));
        }
        bytes.remove(place);
        assert!(!judge(&bytes), "byte {place} taken out");
        bytes.insert(place, b'\n');
        bytes.insert(place, good[place]);
        assert!(!judge(&bytes), "a line's end put in after byte {place}");
        assert!(!judge(&good[..place]), "cut off at {place}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(signed) = Signed::parse(&bytes) {
            prop_assert_eq!(signed.render().into_bytes(), bytes);
        }
    }

    #[test]
    fn what_was_changed_and_still_reads_renders_the_same(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = store().revisions[&12].clone();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(signed) = Signed::parse(&bytes) {
            prop_assert_eq!(signed.render().into_bytes(), bytes);
        }
    }

    #[test]
    fn any_edit_of_an_object_is_refused(place in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut store = store();
        let operators = operators(&["onni", "aino"], 2);
        prop_assert!(read(&store, &operators, narrows, None).is_ok());
        let object = store.objects.get_mut(&Digest::of(b"id = \"THL/1\"\n")).expect("it is there");
        let place = place.index(object.len());
        object[place] ^= flip;
        prop_assert!(read(&store, &operators, narrows, None).is_err());
    }

    #[test]
    fn a_line_that_says_anything_else_is_another_revision(reason in "[a-zäö ]{0,40}", number in any::<u64>()) {
        let draft = crate::Draft { reason: reason.clone(), number, ..super::draft(1, None, &tree(&[])) };
        if let Ok(revision) = crate::Revision::new(draft) {
            prop_assert_eq!((revision.reason(), revision.number()), (reason.as_str(), number));
        }
    }
}
