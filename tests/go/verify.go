// Checks proofs and notes with golang.org/x/mod/sumdb, one JSON object a line; prints "ok" or "bad" for each.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Kind  string
	Size  int64
	Root  []byte
	Old   int64
	Hash  []byte
	Proof [][]byte
	Key   string
	Note  []byte
}

func hash(raw []byte) (h tlog.Hash) { copy(h[:], raw); return }

func holds(q question) bool {
	var proof []tlog.Hash
	for _, one := range q.Proof {
		proof = append(proof, hash(one))
	}
	switch q.Kind {
	case "inclusion":
		return tlog.CheckRecord(proof, q.Size, hash(q.Root), q.Old, hash(q.Hash)) == nil
	case "consistency":
		return tlog.CheckTree(proof, q.Size, hash(q.Root), q.Old, hash(q.Hash)) == nil
	}
	verifier, err := note.NewVerifier(q.Key)
	if err != nil {
		return false
	}
	_, err = note.Open(q.Note, note.VerifierList(verifier))
	return err == nil
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if holds(q) {
			fmt.Println("ok")
		} else {
			fmt.Println("bad")
		}
	}
}
