package link_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

// pair returns the two ends of a unix connection.
func pair(t *testing.T) (near, far *net.UnixConn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.UnixConn), b.(*net.UnixConn)
}

type outcome struct {
	totals link.Totals
	err    error
}

// start runs r between two fresh connections and returns their outer ends.
func start(t *testing.T, r link.Relay) (client, server *net.UnixConn, done <-chan outcome) {
	client, inner := pair(t)
	server, outer := pair(t)
	ended := make(chan outcome, 1)
	go func() {
		totals, err := r.Run(inner, outer)
		ended <- outcome{totals, err}
	}()
	return client, server, ended
}

func TestRelayHalfClose(t *testing.T) {
	client, server, done := start(t, link.Relay{})
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	client.CloseWrite()
	if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
		t.Fatalf("server read %q, %v", got, err)
	}
	if _, err := server.Write([]byte("the answer")); err != nil {
		t.Fatalf("the answer after the client's half-close: %v", err)
	}
	server.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "the answer" {
		t.Fatalf("client read %q, %v", got, err)
	}
	if got := <-done; got.err != nil || got.totals != (link.Totals{Up: 8, Down: 10}) {
		t.Errorf("ended with %+v", got)
	}
}

func TestRelayByteLimits(t *testing.T) {
	tests := map[string]struct {
		relay  link.Relay
		fromUp bool
		want   link.Totals
	}{
		"up":   {link.Relay{MaxUp: 10}, true, link.Totals{Up: 10}},
		"down": {link.Relay{MaxDown: 10}, false, link.Totals{Down: 10}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			client, server, done := start(t, tt.relay)
			from, to := client, server
			if !tt.fromUp {
				from, to = server, client
			}
			if _, err := from.Write(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(to, make([]byte, 10)); err != nil {
				t.Fatalf("bytes up to the limit: %v", err)
			}
			if _, err := from.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
			if got := <-done; !errors.Is(got.err, link.ErrBytes) || got.totals != tt.want {
				t.Errorf("ended with %+v, want %+v", got, tt.want)
			}
			if rest, _ := io.ReadAll(to); len(rest) != 0 {
				t.Errorf("%d bytes passed beyond the limit", len(rest))
			}
		})
	}
}

// duplex is a net.Pipe end that can be half-closed, which synctest can wait for.
type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

func (d duplex) CloseWrite() error { return d.PipeWriter.Close() }

func (d duplex) Close() error {
	d.PipeReader.Close()
	return d.PipeWriter.Close()
}

func duplexPair() (a, b duplex) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return duplex{r1, w2}, duplex{r2, w1}
}

func TestRelayIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, inner := duplexPair()
		server, outer := duplexPair()
		began := time.Now()
		go func() {
			for range 3 { // each byte begins the wait anew
				<-time.After(time.Minute)
				_, _ = client.Write([]byte("x"))
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, server) }()
		totals, err := link.Relay{Idle: 90 * time.Second}.Run(inner, outer)
		if !errors.Is(err, link.ErrIdle) || totals.Up != 3 {
			t.Errorf("ended with %+v, %v, want idle after 3 bytes", totals, err)
		}
		if got, want := time.Since(began), 3*time.Minute+90*time.Second; got != want {
			t.Errorf("ended after %v, want %v", got, want)
		}
	})
}

// TestRelayBackPressure has a writer that floods and a reader that does not
// read: the writer must stall.
func TestRelayBackPressure(t *testing.T) {
	client, server, done := start(t, link.Relay{})
	chunk := bytes.Repeat([]byte("x"), 64<<10)
	sent := 0
	for sent < 64<<20 {
		server.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := server.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 4<<20 {
		t.Errorf("%d bytes were taken from a writer whose reader does not read", sent)
	}
	server.CloseWrite()
	client.CloseWrite()
	got, err := io.ReadAll(client)
	if err != nil || len(got) != sent {
		t.Errorf("read %d bytes, %v, want %d", len(got), err, sent)
	}
	if end := <-done; end.err != nil {
		t.Errorf("ended with %v", end.err)
	}
}

func TestRelayPeerGone(t *testing.T) {
	client, server, done := start(t, link.Relay{})
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	client.Close()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the relay outlived both ends")
	}
}
