package forward

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// loopback is where a grant for the host's own loopback appears inside.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// assign gives every granted host an address of 127.1.0.0/16 that follows from
// its name, and that it keeps for as long as it is granted: before holds the
// addresses in use. "localhost" and loopback literals are themselves.
func assign(before map[string]netip.Addr, grants []link.Grant) map[string]netip.Addr {
	after := make(map[string]netip.Addr, len(grants))
	used := make(map[netip.Addr]bool, len(grants))
	hosts := make(map[string]bool, len(grants))
	for _, g := range grants {
		hosts[g.Host] = true
	}
	for host := range hosts {
		if addr, ok := before[host]; ok {
			after[host], used[addr] = addr, true
		}
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		if _, ok := after[host]; ok {
			continue
		}
		addr, ok := fixed(host)
		if !ok {
			addr = free(host, used)
		}
		after[host], used[addr] = addr, true
	}
	return after
}

// fixed returns the address of a host that stands for the host's loopback.
func fixed(host string) (netip.Addr, bool) {
	if host == "localhost" {
		return loopback, true
	}
	addr, err := netip.ParseAddr(host)
	return addr, err == nil
}

// free finds an address that is not in use, beginning with the one that the
// host's hash names. There are far more addresses than link.MaxGrants.
func free(host string, used map[netip.Addr]bool) netip.Addr {
	h := fnv.New32a()
	_, _ = h.Write([]byte(host))
	for n := h.Sum32(); ; n++ {
		low := uint16(n)
		addr := netip.AddrFrom4([4]byte{127, 1, byte(low >> 8), byte(low)})
		if low != 0 && low != 0xffff && !used[addr] {
			return addr
		}
	}
}
