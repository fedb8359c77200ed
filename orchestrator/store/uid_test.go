package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

func TestUIDs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(t.Context(), path)
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
		if uid < FirstUID || uid >= 1<<31 || seen[uid] {
			t.Errorf("%s has uid %d, want one of its own from %d", key, uid, FirstUID)
		}
		seen[uid] = true
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if uid, err := again.UID(t.Context(), keys[0]); err != nil || uid != got[keys[0]] {
		t.Errorf("after a restart: uid %d, %v; want %d", uid, err, got[keys[0]])
	}
}

// TestUIDsOfTenants gives out ids in a random order and looks at what blocks
// they are from: never one of two tenants, and as few as hold them.
func TestUIDsOfTenants(t *testing.T) {
	s := open(t)
	tenants := map[uint32]string{} // by block
	blocks, plugins := map[string]map[uint32]bool{}, map[string]int{}
	seen := map[uint32]bool{}
	check := func(tenant string, uid uint32, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		block := (uid - FirstUID) / uidsPerBlock
		if owner, known := tenants[block]; known && owner != tenant {
			t.Errorf("uid %d of %s is in a block of %s", uid, tenant, owner)
		}
		if uid < FirstUID || uid >= 1<<31 || seen[uid] {
			t.Errorf("uid %d is given out twice, or out of bounds", uid)
		}
		seen[uid], tenants[block] = true, tenant
		if blocks[tenant] == nil {
			blocks[tenant] = map[uint32]bool{}
		}
		blocks[tenant][block] = true
	}
	source := rand.New(rand.NewPCG(1, 2)) // the same order in every run
	own := map[string]bool{}
	for range 300 {
		tenant := fmt.Sprintf("t%d", source.IntN(7))
		if source.IntN(10) == 0 && !own[tenant] {
			own[tenant] = true
			uid, err := s.TenantUID(t.Context(), tenant)
			check(tenant, uid, err)
			continue
		}
		uid, err := s.UID(t.Context(), plugin.Key{Tenant: tenant, ID: fmt.Sprintf("p%d", plugins[tenant])})
		plugins[tenant]++
		check(tenant, uid, err)
	}
	for tenant, used := range blocks {
		if len(used) != 1 {
			t.Errorf("%s has ids in %d blocks for %d plugins", tenant, len(used), plugins[tenant])
		}
	}
}

// TestUIDBlockIsFull has a tenant with more plugins than a block has ids.
func TestUIDBlockIsFull(t *testing.T) {
	s := open(t)
	own, err := s.TenantUID(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	neighbour := uidOf(t, s, "b", "p")
	fill(t, s, fmt.Sprintf(`INSERT INTO uids (uid, tenant, id) SELECT %d + n, 'a', 'filler-' || n FROM numbers WHERE n BETWEEN 1 AND %d`,
		own, uidsPerBlock-2))
	if last := uidOf(t, s, "a", "last"); last != own+uidsPerBlock-1 {
		t.Errorf("the last id of the block is %d, want %d", last, own+uidsPerBlock-1)
	}
	next := uidOf(t, s, "a", "next")
	if block := (next - FirstUID) / uidsPerBlock; block == (own-FirstUID)/uidsPerBlock || block == (neighbour-FirstUID)/uidsPerBlock {
		t.Errorf("uid %d is in the full block, or in the neighbour's", next)
	}
	if again, err := s.TenantUID(t.Context(), "a"); err != nil || again != own {
		t.Errorf("the tenant's own id was %d, and is %d, %v", own, again, err)
	}
}

// TestUIDsAreExhausted has given out all blocks but one.
func TestUIDsAreExhausted(t *testing.T) {
	s := open(t)
	fill(t, s, fmt.Sprintf(`INSERT INTO uid_blocks (n, first, tenant) VALUES (%d, 1, 'others')`, uidBlocks-2))
	uidOf(t, s, "a", "p")
	for what, call := range map[string]func(context.Context) (uint32, error){
		"a plugin": func(ctx context.Context) (uint32, error) { return s.UID(ctx, plugin.Key{Tenant: "b", ID: "p"}) },
		"a tenant": func(ctx context.Context) (uint32, error) { return s.TenantUID(ctx, "b") },
	} {
		if uid, err := call(t.Context()); !errdefs.IsResourceExhausted(err) || fault.Of(err).Code != "uids_exhausted" || fault.Of(err).Hint == "" {
			t.Errorf("%s: uid %d, %v", what, uid, err)
		}
	}
	uidOf(t, s, "a", "q") // whose tenant has a block
}

// TestUIDsFromBefore are those of plugins that were installed before tenants
// had blocks.
func TestUIDsFromBefore(t *testing.T) {
	s := open(t)
	first, err := uidBlock(s.HomeID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s, fmt.Sprintf(`INSERT INTO uids (uid, tenant, id) VALUES (%d, 'a', 'old'), (%d, 'b', 'old')`, first+1, first+uidsPerBlock-1))
	if uid := uidOf(t, s, "a", "old"); int64(uid) != first+1 {
		t.Errorf("the old plugin has uid %d, want %d as before", uid, first+1)
	}
	if uid := uidOf(t, s, "a", "new"); int64(uid) < first+uidsPerBlock && int64(uid) >= first {
		t.Errorf("uid %d is among those from before", uid)
	}
}

func TestUIDStaysAfterUninstall(t *testing.T) {
	s := open(t)
	key := put(t, s, installed("default", "p", "sha256:aa"))
	uid := uidOf(t, s, key.Tenant, key.ID)
	if err := s.DeletePlugin(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if next := uidOf(t, s, key.Tenant, "other"); next == uid {
		t.Errorf("another plugin has uid %d, whose state may be kept", uid)
	}
	put(t, s, installed("default", "p", "sha256:bb"))
	if again := uidOf(t, s, key.Tenant, key.ID); again != uid {
		t.Errorf("installed again it has uid %d, and had %d", again, uid)
	}
}

func TestUIDRefuses(t *testing.T) {
	s := open(t)
	if uid, err := s.TenantUID(t.Context(), "../x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("uid %d, %v", uid, err)
	}
	if uid, err := s.UID(t.Context(), plugin.Key{Tenant: "a", ID: "../x"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("uid %d, %v", uid, err)
	}
}

// TestUIDBlocks looks at where homes begin, and that no block is met twice.
func TestUIDBlocks(t *testing.T) {
	bases := map[int64]bool{}
	for i := range 1000 {
		first, err := uidBlock(fmt.Sprintf("%016x%016x", rand.Uint64(), i), 0)
		if err != nil || first < FirstUID || first+uidsPerBlock > 1<<31 || (first-FirstUID)%uidsPerBlock != 0 {
			t.Fatalf("block at %d, %v", first, err)
		}
		bases[first] = true
	}
	if len(bases) < 900 {
		t.Errorf("1000 homes begin at %d places", len(bases))
	}
	const home = "ffffffffffffffff0000000000000000"
	seen := make([]bool, uidBlocks)
	for n := range int64(uidBlocks) {
		first, err := uidBlock(home, n)
		at := (first - FirstUID) / uidsPerBlock
		if err != nil || seen[at] {
			t.Fatalf("block %d at %d, %v: met before", n, first, err)
		}
		seen[at] = true
	}
	if _, err := uidBlock("nonsense", 0); !errdefs.IsDataLoss(err) {
		t.Errorf("an id that is none: %v", err)
	}
}

func uidOf(t *testing.T, s *Store, tenant, id string) uint32 {
	t.Helper()
	uid, err := s.UID(t.Context(), plugin.Key{Tenant: tenant, ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// fill changes the database past the methods, with a table of numbers at hand.
func fill(t *testing.T, s *Store, statement string) {
	t.Helper()
	const numbers = `CREATE TEMP TABLE IF NOT EXISTS numbers AS
		WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 5000) SELECT n FROM n`
	for _, script := range []string{numbers, statement} {
		if _, err := s.write.ExecContext(t.Context(), script); err != nil {
			t.Fatal(err)
		}
	}
}
