package hostile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace that lasts as long as somebody uses it.
type namespace struct{ file *os.File }

func newNamespace() (*namespace, error) {
	n := &namespace{}
	err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		return err
	})
	return n, err
}

// do runs f in the namespace. What f opens or starts stays in it; goroutines
// that it starts do not.
func (n *namespace) do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter a network namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f on a thread that is used for nothing else afterwards.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// ip runs commands of ip(8), a line each.
func (n *namespace) ip(lines ...string) error {
	return n.do(func() error {
		cmd := exec.Command("ip", "-batch", "-")
		cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip: %w: %s", err, out)
		}
		return nil
	})
}

// tap sees every connection and every datagram that leaves a socket of a
// namespace, on whatever device.
type tap struct {
	file *os.File
	done chan struct{}

	mu   sync.Mutex
	seen map[string]int // "tcp 192.0.2.1:80"
}

func newTap(t *testing.T, n *namespace) *tap {
	t.Helper()
	p := &tap{done: make(chan struct{}), seen: map[string]int{}}
	if err := n.do(p.open); err != nil {
		t.Fatal(err)
	}
	go p.run()
	t.Cleanup(func() {
		p.file.Close()
		<-p.done
	})
	return p
}

func (p *tap) open() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot listen to packets: %w", err)
	}
	filter, err := bpf.Assemble(beginnings)
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		program[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	err = errors.Join(
		unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL)}),
	)
	p.file = os.NewFile(uintptr(fd), "tap")
	return err
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// beginnings lets the first packet of every TCP connection and all of UDP pass.
var beginnings = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 0, Size: 1},
	bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 6, SkipTrue: 6},
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 9},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 9},
	bpf.LoadMemShift{Off: 0},
	bpf.LoadIndirect{Off: 13, Size: 1},
	bpf.Jump{Skip: 4},
	bpf.LoadAbsolute{Off: 6, Size: 1}, // IPv6
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_UDP, SkipTrue: 3},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 3},
	bpf.LoadAbsolute{Off: 40 + 13, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x02, SkipTrue: 1}, // SYN
	bpf.RetConstant{Val: 128},
	bpf.RetConstant{Val: 0},
}

func (p *tap) run() {
	defer close(p.done)
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	packet := make([]byte, 128)
	for {
		n, from := 0, unix.Sockaddr(nil)
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), packet, 0)
			return !errors.Is(failed, unix.EAGAIN)
		})
		if err != nil {
			return // it was closed
		}
		if link, ok := from.(*unix.SockaddrLinklayer); ok && failed == nil && link.Pkttype == unix.PACKET_OUTGOING {
			p.note(packet[:n])
		}
	}
}

// note takes a packet that [beginnings] lets pass. An answer over TCP is no
// beginning.
func (p *tap) note(packet []byte) {
	proto, header, to := packet[9], int(packet[0]&0xf)*4, netip.AddrFrom4([4]byte(packet[16:20]))
	if packet[0]>>4 == 6 {
		proto, header, to = packet[6], 40, netip.AddrFrom16([16]byte(packet[24:40]))
	}
	name := "udp"
	if proto == unix.IPPROTO_TCP {
		if name = "tcp"; packet[header+13]&0x10 != 0 { // ACK
			return
		}
	}
	port := binary.BigEndian.Uint16(packet[header+2:])
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen[name+" "+netip.AddrPortFrom(to, port).String()]++
}

// sent returns how often something went somewhere.
func (p *tap) sent(where string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[where]
}

// all returns where something went.
func (p *tap) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for where := range p.seen {
		all = append(all, where)
	}
	return all
}
