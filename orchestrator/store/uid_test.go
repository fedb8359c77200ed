package store_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/plugin"
	"github.com/ocmt/ocmt/orchestrator/store"
)

func TestUIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	keys := []plugin.Key{{Tenant: "a", ID: "p"}, {Tenant: "b", ID: "p"}, {Tenant: "a", ID: "q"}}
	got := map[plugin.Key]uint32{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 4 { // the first callers race
		for _, key := range keys {
			wg.Go(func() {
				uid, err := s.UID(t.Context(), key)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if before, ok := got[key]; ok && before != uid {
					t.Errorf("%s has uid %d and %d", key, before, uid)
				}
				got[key] = uid
			})
		}
	}
	wg.Wait()
	seen := map[uint32]bool{}
	for key, uid := range got {
		if uid < store.FirstUID || seen[uid] {
			t.Errorf("%s has uid %d, want one of its own from %d", key, uid, store.FirstUID)
		}
		seen[uid] = true
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if uid, err := again.UID(t.Context(), keys[0]); err != nil || uid != got[keys[0]] {
		t.Errorf("after a restart: uid %d, %v; want %d", uid, err, got[keys[0]])
	}
}
