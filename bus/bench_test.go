package bus

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ocmt/ocmt/bus/subject"
)

// BenchmarkRequest measures a request and its answer of 256 bytes between the
// host and a runner behind a unix socket. bridge=copy is what the mechanism
// costs at least: the bytes are copied unseen. bridge=meter is what the bus
// does; its limits are out of the way, so that the two can be compared.
// limits=default shows that the defaults are not in the way of the target.
func BenchmarkRequest(b *testing.B) {
	wide := Limits{MessagesPerSecond: 1 << 30, MessageBurst: 1 << 30, BytesPerSecond: 1 << 40, ByteBurst: 1 << 40}
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprintf("bridge=copy/callers=%d", callers), func(b *testing.B) {
			p, socket := attach(b, newServer(b, wide), identity("t", "p", 1))
			benchRequests(b, p, copyBridge(b, p, filepath.Dir(socket)), callers)
		})
		b.Run(fmt.Sprintf("bridge=meter/callers=%d", callers), func(b *testing.B) {
			p, socket := attach(b, newServer(b, wide), identity("t", "p", 1))
			benchRequests(b, p, socket, callers)
		})
		b.Run(fmt.Sprintf("bridge=meter/limits=default/callers=%d", callers), func(b *testing.B) {
			p, socket := attach(b, newServer(b, Limits{}), identity("t", "p", 1))
			benchRequests(b, p, socket, callers)
		})
	}
}

func benchRequests(b *testing.B, p *Peer, socket string, callers int) {
	nc, _ := runner(b, socket, p.id)
	echo(b, nc, p.id, subject.Tool)
	data := make([]byte, 256)
	var left atomic.Int64
	var all sync.WaitGroup
	work := make(chan struct{}, 1024)
	for range callers {
		all.Go(func() {
			for range work {
				if _, err := p.Request(context.Background(), subject.Tool, data); err != nil {
					b.Error(err)
				}
				left.Add(1)
			}
		})
	}
	b.ReportAllocs()
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	b.ReportMetric(float64(left.Load())/b.Elapsed().Seconds(), "calls/s")
}

// copyBridge serves another socket in dir with the same identity and nothing
// in between.
func copyBridge(b *testing.B, p *Peer, dir string) string {
	path := filepath.Join(dir, "copy.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			link, err := p.server.open(p.runner)
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(link, conn)
				link.Close()
			}()
			go func() {
				_, _ = io.Copy(conn, link)
				conn.Close()
			}()
		}
	}()
	return path
}

// BenchmarkPublish measures the other direction: what a runner publishes
// until the host's handler has it.
func BenchmarkPublish(b *testing.B) {
	wide := Limits{MessagesPerSecond: 1 << 30, MessageBurst: 1 << 30, BytesPerSecond: 1 << 40, ByteBurst: 1 << 40,
		HandlerMessages: 1 << 20, HandlerBytes: 1 << 30}
	for _, size := range []int{16, 64 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			p, socket := attach(b, newServer(b, wide), identity("t", "p", 1))
			got := make(chan struct{}, 1<<20)
			if err := p.Handle(subject.Progress, func(context.Context, []byte) []byte {
				got <- struct{}{}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
			nc, _ := runner(b, socket, p.id)
			data := make([]byte, size)
			sent := 0
			b.SetBytes(int64(size))
			for b.Loop() {
				if err := nc.Publish(subject.Out(p.names, subject.Progress), data); err != nil {
					b.Fatal(err)
				}
				if sent++; sent > 100 { // a window, so that nothing is dropped
					<-got
				}
			}
		})
	}
}

// BenchmarkAttach measures a generation from its socket to its end.
func BenchmarkAttach(b *testing.B) {
	s := newServer(b, Limits{})
	dir := filepath.Join(socketParent(b), "i")
	for b.Loop() {
		p, err := s.Attach(context.Background(), identity("t", "p", 1), dir)
		if err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}
