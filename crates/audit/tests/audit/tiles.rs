//! Tiles and bundles: their paths and their bytes.

use proptest::prelude::*;
use sulku_audit::tile::{Tile, TileKind, parse_hashes, push_entry, split_entry};

#[test]
fn paths_are_those_of_the_specification() {
    let path = |kind, number, width| Tile { kind, number, width }.to_string();
    assert_eq!(path(TileKind::Hashes(0), 0, 256), "tile/0/000");
    assert_eq!(path(TileKind::Hashes(3), 1_234_067, 256), "tile/3/x001/x234/067");
    assert_eq!(path(TileKind::Hashes(0), 1_234_067, 8), "tile/0/x001/x234/067.p/8");
    assert_eq!(path(TileKind::Entries, 1_000, 255), "tile/entries/x001/000.p/255");
    assert_eq!(Tile { kind: TileKind::Entries, number: 1_000, width: 3 }.partials_folder(), "tile/entries/x001/000.p");
}

#[test]
fn a_path_has_one_form_only() {
    for path in [
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/00/001",
        "tile/8/001",
        "tile/-1/001",
        "tile/+1/001",
        "tile/0/001.p/0",
        "tile/0/001.p/256",
        "tile/0/001.p/08",
        "tile/0/001.p/",
        "tile/0/001.p/1/",
        "tile/0/001/",
        "tile/0/+01",
        "tile/data/001",
        "tile/0/../001",
        "/tile/0/001",
        "tile/0/001\0",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "",
    ] {
        assert!(path.parse::<Tile>().is_err(), "{path:?}");
    }
    assert!("tile/0/x018/x446/x744/x073/x709/x551/615".parse::<Tile>().is_ok(), "the control: u64::MAX");
}

#[test]
fn a_tree_of_70000_entries_has_these_tiles() {
    let width = |kind, number| Tile::in_tree(kind, number, 70_000).map(|tile| tile.width);
    assert_eq!(width(TileKind::Entries, 272), Some(256));
    assert_eq!(width(TileKind::Entries, 273), Some(112));
    assert_eq!(width(TileKind::Hashes(0), 274), None);
    assert_eq!(width(TileKind::Hashes(1), 1), Some(17));
    assert_eq!(width(TileKind::Hashes(2), 0), Some(1));
    assert_eq!(width(TileKind::Hashes(3), 0), None);
    assert_eq!(width(TileKind::Hashes(7), u64::MAX), None);
}

proptest! {
    #[test]
    fn a_tiles_path_names_it(level in 0_u8..8, number: u64, width in 1_u16..=256, entries: bool) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
        let tile = Tile { kind, number, width };
        prop_assert_eq!(tile.to_string().parse(), Ok(tile));
    }

    #[test]
    fn no_path_makes_the_parser_panic(path in "tile/(entries|[0-9]|.)/[0-9x/.p]{0,40}|\\PC*") {
        if let Ok(tile) = path.parse::<Tile>() {
            prop_assert_eq!(tile.to_string(), path);
        }
    }

    #[test]
    fn a_bundle_gives_back_its_entries(entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let mut bundle = Vec::new();
        for entry in &entries {
            push_entry(&mut bundle, entry).unwrap();
        }
        let (mut rest, mut found) = (bundle.as_slice(), Vec::new());
        while let Some((entry, after)) = split_entry(rest) {
            found.push(entry.to_vec());
            rest = after;
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(found, entries);
    }

    #[test]
    fn no_bytes_make_a_tile_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), width in 0_u16..=256) {
        prop_assert_eq!(parse_hashes(&bytes, width).is_some(), bytes.len() == usize::from(width) * 32);
        let _may_be_one = split_entry(&bytes);
    }
}

#[test]
fn an_entry_of_65535_bytes_fits_a_bundle_and_a_longer_one_does_not() {
    let mut bundle = Vec::new();
    push_entry(&mut bundle, &[b'x'; 65_535]).unwrap();
    assert!(push_entry(&mut bundle, &[b'x'; 65_536]).is_err());
    assert_eq!(bundle.len(), 65_537, "what does not fit leaves nothing behind");
}
