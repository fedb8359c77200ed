package forward

import (
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

const (
	// maxOnDemand bounds the names that are held because a program asked for
	// them and a wildcard covers them.
	maxOnDemand = 512
	// maxOnDemandDoors bounds the listeners for those names. Each is a
	// descriptor, of which a plugin's container has 1024 for each process.
	maxOnDemandDoors = 512
)

const localhost = "localhost"

// loopback is where a grant for the host's own loopback appears inside.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// name is a host that can be reached, with its addresses inside.
type name struct {
	addrs []netip.Addr
	exact bool         // granted by name, not only by a wildcard
	asked uint64       // when it was last looked up, by the directory's clock
	conns atomic.Int32 // connections to it
}

// door is an open listener: what it leads to, and how to close it.
type door struct {
	target link.Grant
	shut   func()
}

// directory holds the granted names, gives them addresses, and keeps a door
// open for each of their ports. Names that only a wildcard covers come in when
// they are looked up; the least recently used ones go when there are too many.
type directory struct {
	loopbacks []netip.Addr // of this container
	// open listens at an address for a target; n counts the connections. It is
	// false when it cannot, which it has logged.
	open func(at netip.AddrPort, target link.Grant, n *name) (shut func(), ok bool)

	mu    sync.Mutex
	known bool                // a policy was applied
	ports map[string][]uint16 // by granted host or wildcard
	names map[string]*name
	taken map[netip.Addr]bool
	doors map[netip.AddrPort]door
	clock uint64
}

func newDirectory() *directory {
	return &directory{
		names: map[string]*name{},
		taken: map[netip.Addr]bool{},
		doors: map[netip.AddrPort]door{},
	}
}

// apply brings names and doors in line with the grants. A name keeps its
// address and its doors for as long as they are granted, whatever grants them.
func (d *directory) apply(grants []link.Grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = true
	d.ports = make(map[string][]uint16, len(grants))
	for _, g := range grants {
		d.ports[g.Host] = append(d.ports[g.Host], g.Port)
	}
	for at, opened := range d.doors {
		if !slices.Contains(d.granted(opened.target.Host), opened.target.Port) {
			d.shut(at)
		}
	}
	for host, n := range d.names {
		_, n.exact = d.ports[host]
		if len(d.granted(host)) == 0 {
			d.drop(host)
		}
	}
	for _, host := range slices.Sorted(maps.Keys(d.ports)) {
		if d.names[host] == nil && link.ValidHost(host) {
			d.add(host, true)
		}
	}
	d.makeRoom(0) // a name that was exact may be one of many now
	for _, host := range slices.Sorted(maps.Keys(d.names)) {
		d.openDoors(host)
	}
}

// granted returns the ports of a host: its own and those of its wildcard.
func (d *directory) granted(host string) []uint16 {
	ports := d.ports[host]
	if wildcard, ok := link.Wildcard(host); ok {
		ports = slices.Concat(ports, d.ports[wildcard])
	}
	return ports
}

// lookup returns the addresses of a host for the name server.
func (d *directory) lookup(host string) ([]netip.Addr, dnsmessage.RCode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.names[host]
	switch {
	case n != nil:
	case host == localhost:
		return d.loopbacks, dnsmessage.RCodeSuccess // the container's own
	case !d.known:
		return nil, dnsmessage.RCodeServerFailure
	case !link.ValidName(host) || len(d.granted(host)) == 0:
		return nil, dnsmessage.RCodeNameError
	case !d.makeRoom(len(d.granted(host))):
		return nil, dnsmessage.RCodeServerFailure
	default:
		n = d.add(host, false)
		d.openDoors(host)
	}
	d.clock++
	n.asked = d.clock
	return n.addrs, dnsmessage.RCodeSuccess
}

// add gives a host its addresses: one of 127.1.0.0/16 that follows from its
// name, or its own if it stands for the host's loopback.
func (d *directory) add(host string, exact bool) *name {
	n := &name{exact: exact}
	literal, err := netip.ParseAddr(host)
	switch {
	case host == localhost:
		n.addrs = d.loopbacks
	case err == nil:
		n.addrs = []netip.Addr{literal}
	default:
		addr := free(host, d.taken)
		d.taken[addr] = true
		n.addrs = []netip.Addr{addr}
	}
	d.names[host] = n
	return n
}

// openDoors opens what is missing of a host's doors. Where two hosts mean one
// place, as localhost and 127.0.0.1 do, the first one has it.
func (d *directory) openDoors(host string) {
	n := d.names[host]
	for _, port := range d.granted(host) {
		for _, addr := range n.addrs {
			at := netip.AddrPortFrom(addr, port)
			if _, ok := d.doors[at]; ok {
				continue
			}
			target := link.Grant{Host: host, Port: port}
			if shut, ok := d.open(at, target, n); ok {
				d.doors[at] = door{target, shut}
			}
		}
	}
}

// makeRoom lets the least recently used names that came by a wildcard go until
// one more with so many ports has room. Names with connections stay.
func (d *directory) makeRoom(ports int) bool {
	for {
		names, doors, oldest := 0, 0, ""
		for host, n := range d.names {
			if n.exact {
				continue
			}
			names++
			doors += len(d.granted(host))
			if n.conns.Load() == 0 && (oldest == "" || n.asked < d.names[oldest].asked) {
				oldest = host
			}
		}
		if names+min(ports, 1) <= maxOnDemand && doors+ports <= maxOnDemandDoors {
			return true
		}
		if oldest == "" {
			return false
		}
		d.drop(oldest)
	}
}

// drop forgets a host and shuts its doors.
func (d *directory) drop(host string) {
	for at, opened := range d.doors {
		if opened.target.Host == host {
			d.shut(at)
		}
	}
	for _, addr := range d.names[host].addrs {
		delete(d.taken, addr)
	}
	delete(d.names, host)
}

func (d *directory) shut(at netip.AddrPort) {
	d.doors[at].shut()
	delete(d.doors, at)
}

// free finds an address that is not in use, beginning with the one that the
// host's hash names. There are far more addresses than names.
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
