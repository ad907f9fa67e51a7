"""aics-tlog (PyPI) over a log that we wrote: tlog.py FOLDER. Takes every size in FOLDER/sizes."""

import sys
from pathlib import Path

import aics_tlog as tlog

folder = Path(sys.argv[1])
key = tlog.parse_vkey((folder / "ed25519.pub").read_text().strip())
files = [path for path in (folder / "tile").rglob("*") if path.is_file()]
reader = tlog.MemoryTileReader({str(path.relative_to(folder)): path.read_bytes() for path in files})
trees = []
for path in (folder / "sizes").iterdir():
    note = tlog.parse_note(path.read_bytes())
    result = tlog.verify_checkpoint(note, key, expected_origin=key.name)
    assert result.ok, (path.name, result)
    size, root = result.size, result.root
    assert str(size) == path.name
    assert tlog.tree_root_from_tiles(reader, size) == root, size
    trees.append((size, root))
    for index in {0, size // 2, size - 1} if size else ():
        entry = tlog.read_entry(reader, index, size)
        assert entry == f"entry {index}".encode(), (index, size)
        proof = tlog.inclusion_proof_from_tiles(reader, index, size)
        assert tlog.verify_leaf_inclusion(entry, index, size, proof, root), (index, size)

largest, largest_root = max(trees)
for size, root in trees:
    if 0 < size < largest:
        proof = tlog.consistency_proof_from_tiles(reader, size, largest)
        assert tlog.verify_consistency(size, largest, root, largest_root, proof), size
print("verified", len(trees))
