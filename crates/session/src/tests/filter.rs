use proptest::prelude::*;

use crate::Filter;

fn pass(bytes: &[u8]) -> (String, Vec<String>) {
    let mut filter = Filter::default();
    let text = filter.pass(bytes);
    (text, filter.take_removed().into_iter().map(|removed| removed.kind).collect())
}

#[test]
fn what_programmes_show_every_day_passes_unchanged() {
    for text in [
        "plain text\r\n",
        "ä ö å 漢字 🦀",
        "\u{1b}[1;31mred\u{1b}[0m",
        "\u{1b}[?1049h\u{1b}[2J\u{1b}[H",
        "\u{1b}]0;a title\u{7}",
        "\u{1b}]8;;https://example.org\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{1b}(B\u{1b}=\u{1b}>\u{1b}7\u{1b}8",
        "\u{1b}[6n\u{1b}P$qm\u{1b}\\",
        "50 * 2 ** 3",
    ] {
        let (shown, removed) = pass(text.as_bytes());
        assert_eq!((shown.as_str(), removed), (text, vec![]));
    }
}

/// Each channel out of the terminal: what a workspace sends, what is left of it, what the entry calls it.
const CHANNELS: &[(&[u8], &str, &str)] = &[
    (b"a\x1b]52;c;c2VjcmV0\x07b", "ab", "osc-52"),
    (b"a\x1b]52;c;c2VjcmV0\x1b\\b", "ab", "osc-52"),
    (b"a\x1b]052;c;c2VjcmV0\x07b", "ab", "osc-52"),
    (b"a\x1b]1337;File=name=eA==:aGVsbG8=\x07b", "ab", "osc-1337"),
    (b"a\x1b]5113;ac=send\x1b\\b", "ab", "osc-5113"),
    (b"a\x1b]5522;type=write\x1b\\b", "ab", "osc-5522"),
    (b"a\x1b]46;/home/me/.ssh/config\x07b", "ab", "osc-46"),
    (b"a\x1bPtmux;\x1b\x1b]52;c;eA==\x07\x1b\\b", "ab", "osc-52"),
    (b"a\x1bP\x1b]52;c;eA==\x07\x1b\\b", "ab", "osc-52"),
    (b"a\x1b_Gt=f;L2V0Yy9wYXNzd2Q=\x1b\\b", "ab", "apc"),
    (b"a\x1b[5ib", "ab", "media-copy"),
    (b"a**\x18B00000000000000b", "a**B00000000000000b", "zmodem"),
    (b"a\xc2\x9d52;c;eA==\x07b", "a52;c;eA==\x07b", "c1"),
];

#[test]
fn every_known_way_to_the_clipboard_or_to_files_is_taken_out_and_named() {
    for (bytes, left, kind) in CHANNELS {
        let (shown, removed) = pass(bytes);
        assert_eq!(shown, *left, "{kind}");
        assert!(removed.iter().any(|found| found == kind), "{kind}: {removed:?}");
    }
}

#[test]
fn bytes_that_are_no_utf8_are_shown_as_the_replacement_character() {
    assert_eq!(pass(b"a\x9d52;c;x\x07\xff\xfeb").0, "a\u{fffd}52;c;x\u{7}\u{fffd}\u{fffd}b");
}

#[test]
fn a_removed_string_that_never_ends_is_counted_and_bounded() {
    let mut filter = Filter::default();
    assert_eq!(filter.pass(b"\x1b]52;c;"), "");
    for _ in 0..100 {
        assert_eq!(filter.pass(&[b'A'; 1000]), "");
    }
    let removed = filter.take_removed();
    assert_eq!((removed[0].kind.as_str(), removed[0].bytes), ("osc-52", 5 + 2 + 100_000));
    assert_eq!(filter.pass(b"\x07seen"), "seen");
}

const CLIPBOARD: &str = "\u{1b}]52";

proptest! {
    #[test]
    fn where_the_bytes_are_cut_changes_nothing(pieces in proptest::collection::vec(prop_oneof![
        "\\PC{0,8}".prop_map(String::into_bytes),
        proptest::sample::select(CHANNELS).prop_map(|(bytes, ..)| bytes.to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ], 0..12), cut in 1_usize..9) {
        let bytes = pieces.concat();
        let mut filter = Filter::default();
        let cut: String = bytes.chunks(cut).map(|piece| filter.pass(piece)).collect();
        prop_assert_eq!(cut, Filter::default().pass(&bytes));
    }

    #[test]
    fn what_has_passed_passes_again_unchanged(bytes in proptest::collection::vec(prop_oneof![
        Just(0x1b_u8), Just(b']'), Just(b'P'), Just(b'['), Just(b';'), Just(7), Just(0x18), Just(b'*'), b'0'..=b'9', any::<u8>()
    ], 0..200)) {
        let (once, _) = pass(&bytes);
        let (twice, removed) = pass(once.as_bytes());
        prop_assert_eq!(&twice, &once);
        prop_assert_eq!(removed, Vec::<String>::new());
    }

    #[test]
    fn no_bytes_let_a_clipboard_sequence_through(before in proptest::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = before;
        bytes.extend_from_slice(b"\x1b]52;c;c2VjcmV0\x07");
        let (shown, _) = pass(&bytes);
        prop_assert!(!shown.contains(CLIPBOARD));
    }
}
