// Go's sumdb/note and sumdb/tlog over a log that we wrote: GO111MODULE=off GOPATH=/usr/share/gocode go run sumdb.go FOLDER MODE
// (Debian: golang-go, golang-golang-x-mod-dev). Takes every size in FOLDER/sizes with mode "log"; prints proofs with mode "proofs".
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// number writes a tile's number the way of tlog-tiles.
func number(n int64) string {
	text := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		text = fmt.Sprintf("x%03d/%s", n%1000, text)
	}
	return text
}

func read(folder, kind string, n int64, width int) []byte {
	path := filepath.Join(folder, "tile", kind, number(n))
	if width < 256 {
		if bytes, err := os.ReadFile(path + ".p/" + strconv.Itoa(width)); err == nil {
			return bytes
		}
	}
	bytes, err := os.ReadFile(path)
	must(err)
	return bytes
}

type tiles struct{ folder string }

func (t tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range wanted {
		data = append(data, read(t.folder, strconv.Itoa(tile.L), tile.N, tile.W)[:tile.W*tlog.HashSize])
	}
	return data, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// entries checks each entry of a tree from the first bundle on against the hash that the signed root vouches for.
func entries(folder string, from int64, tree tlog.Tree, reader tlog.HashReader) {
	for first := from / 256 * 256; first < tree.N; first += 256 {
		width := tree.N - first
		if width > 256 {
			width = 256
		}
		bundle := read(folder, "entries", first/256, int(width))
		var indexes []int64
		for i := int64(0); i < width; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, first+i))
		}
		hashes, err := reader.ReadHashes(indexes)
		must(err)
		for i := range hashes {
			length := int(binary.BigEndian.Uint16(bundle))
			if tlog.RecordHash(bundle[2:2+length]) != hashes[i] {
				log.Fatalf("entry %d of %d is not what was signed", first+int64(i), tree.N)
			}
			bundle = bundle[2+length:]
		}
	}
}

func verify(folder string) {
	text, err := os.ReadFile(filepath.Join(folder, "ed25519.pub"))
	must(err)
	verifier, err := note.NewVerifier(strings.TrimSpace(string(text)))
	must(err)
	names, err := os.ReadDir(filepath.Join(folder, "sizes"))
	must(err)
	var trees []tlog.Tree
	for _, name := range names {
		message, err := os.ReadFile(filepath.Join(folder, "sizes", name.Name()))
		must(err)
		opened, err := note.Open(message, note.VerifierList(verifier))
		must(err)
		lines := strings.Split(opened.Text, "\n")
		size, err := strconv.ParseInt(lines[1], 10, 64)
		must(err)
		hash, err := tlog.ParseHash(lines[2])
		must(err)
		tree := tlog.Tree{N: size, Hash: hash}
		trees = append(trees, tree)
		// This version gives the empty tree no hash; RFC 6962 does.
		if size == 0 {
			continue
		}
		reader := tlog.TileHashReader(tree, tiles{folder})
		root, err := tlog.TreeHash(size, reader)
		must(err)
		if root != hash {
			log.Fatalf("size %d has another root", size)
		}
		if size <= 600 {
			entries(folder, 0, tree, reader)
		} else {
			entries(folder, size-300, tree, reader)
		}
		record, err := tlog.ProveRecord(size, size/2, reader)
		must(err)
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, size/2)})
		must(err)
		must(tlog.CheckRecord(record, size, hash, size/2, hashes[0]))
	}
	largest := trees[0]
	for _, tree := range trees {
		if tree.N > largest.N {
			largest = tree
		}
	}
	reader := tlog.TileHashReader(largest, tiles{folder})
	for _, tree := range trees {
		if tree.N > 0 {
			proof, err := tlog.ProveTree(largest.N, tree.N, reader)
			must(err)
			must(tlog.CheckTree(proof, largest.N, largest.Hash, tree.N, tree.Hash))
		}
	}
	entries(folder, 0, largest, reader)
	fmt.Println("verified", len(trees))
}

type memory struct{ hashes []tlog.Hash }

func (m *memory) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		found = append(found, m.hashes[index])
	}
	return found, nil
}

func show(kind string, m, n int64, hashes []tlog.Hash) {
	var line bytes.Buffer
	fmt.Fprintf(&line, "%s %d %d", kind, m, n)
	for _, hash := range hashes {
		line.WriteString(" " + base64.StdEncoding.EncodeToString(hash[:]))
	}
	fmt.Println(line.String())
}

func proofs() {
	var kept memory
	for n := int64(1); n <= 130; n++ {
		hashes, err := tlog.StoredHashes(n-1, []byte(fmt.Sprintf("entry %d", n-1)), &kept)
		must(err)
		kept.hashes = append(kept.hashes, hashes...)
		root, err := tlog.TreeHash(n, &kept)
		must(err)
		show("root", n, n, []tlog.Hash{root})
		for m := int64(0); m < n; m++ {
			record, err := tlog.ProveRecord(n, m, &kept)
			must(err)
			show("inclusion", m, n, record)
			if m > 0 {
				tree, err := tlog.ProveTree(n, m, &kept)
				must(err)
				show("consistency", m, n, tree)
			}
		}
	}
}

func main() {
	if os.Args[2] == "proofs" {
		proofs()
	} else {
		verify(os.Args[1])
	}
}
