package audit

import (
	"crypto/sha256"
	"fmt"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// tree is an RFC 6962 tree that only grows: the roots of its full subtrees,
// the largest first, are all that appending and the root need.
type tree struct {
	size int64
	edge []tlog.Hash
}

// add appends a record by its leaf hash.
func (t *tree) add(leaf tlog.Hash) {
	t.edge = append(t.edge, leaf)
	for n := t.size; n&1 == 1; n >>= 1 {
		last := len(t.edge) - 1
		t.edge[last-1] = tlog.NodeHash(t.edge[last-1], t.edge[last])
		t.edge = t.edge[:last]
	}
	t.size++
}

// root is the tree's head.
func (t *tree) root() tlog.Hash {
	if len(t.edge) == 0 {
		return sha256.Sum256(nil)
	}
	h := t.edge[len(t.edge)-1]
	for i := len(t.edge) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.edge[i], h)
	}
	return h
}

func (t *tree) clone() tree { return tree{t.size, append([]tlog.Hash(nil), t.edge...)} }

// treeState is a tree as the first record of a segment holds it, so that a log
// is opened without reading all of it.
type treeState struct {
	Size int64       `json:"size"`
	Edge []tlog.Hash `json:"edge"`
}

func (t *tree) state() treeState { return treeState{t.size, t.edge} }

func (s treeState) tree() (tree, error) {
	if s.Size < 0 || bits.OnesCount64(uint64(s.Size)) != len(s.Edge) {
		return tree{}, fmt.Errorf("a tree of %d records does not have %d full subtrees", s.Size, len(s.Edge))
	}
	return tree{s.Size, s.Edge}, nil
}

// chain is what the next record of an epoch continues.
type chain struct {
	tree tree
	prev tlog.Hash
}

// add appends a line, given without its end.
func (c *chain) add(line []byte) {
	c.prev = tlog.RecordHash(line)
	c.tree.add(c.prev)
}
