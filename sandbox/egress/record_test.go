package egress

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ocmt/ocmt/sandbox/egress/link"
)

func (r *rig) refuseWith(f func(Connection) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = f
}

// TestRecordPhases looks at both records of a connection, and at when they are
// made.
func TestRecordPhases(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	upstream := make(chan *net.TCPConn, 1)
	r.route(apiAddr, 80, listen(t, func(c *net.TCPConn) {
		upstream <- c
		echo(c)
	}))
	hold := make(chan struct{})
	r.refuseWith(func(c Connection) error { // blocks the record of the opening
		if c.Phase == PhaseOpen {
			<-hold
		}
		return nil
	})
	conn := r.open(t)
	if _, err := io.WriteString(conn, "CONNECT "+apiHost+":80\nearly"); err != nil {
		t.Fatal(err)
	}
	<-upstream
	conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("the connection was answered before it was recorded")
	}
	if s := r.broker.Stats(); s != (Stats{}) {
		t.Errorf("before the record: %+v", s)
	}
	conn.SetReadDeadline(time.Time{})
	close(hold)
	want := Connection{
		ID: 1, Phase: PhaseOpen, Host: apiHost, Port: 80, Address: netip.AddrPortFrom(apiAddr, 80),
		Rule: apiHost + ":80", Allowed: true, Count: 1,
	}
	check := func(got Connection) {
		t.Helper()
		if got.Time.IsZero() || got.Duration <= 0 {
			t.Errorf("recorded %+v", got)
		}
		got.Time, got.Duration = time.Time{}, 0
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	}
	check(<-r.opens)
	answer := make([]byte, len("OK\nearly"))
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "OK\nearly" {
		t.Fatalf("answered %q, %v", answer, err)
	}
	if s := r.broker.Stats(); s.Open != 1 || s.Allowed != 1 { // what passed is counted just after it did
		t.Errorf("while it is open: %+v", s)
	}
	conn.Close()
	want.Phase, want.BytesUp, want.BytesDown = PhaseClose, 5, 5
	check(r.record(t))
	if got, want := r.broker.Stats(), (Stats{Allowed: 1, BytesUp: 5, BytesDown: 5}); got != want {
		t.Errorf("in the end %+v, want %+v", got, want)
	}
}

// TestRecordFails has a log that takes nothing: nothing is allowed, and no
// byte arrives.
func TestRecordFails(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	seen := make(chan int64, 1)
	r.route(apiAddr, 80, listen(t, func(c *net.TCPConn) {
		n, _ := io.Copy(io.Discard, c)
		seen <- n
	}))
	r.refuseWith(func(c Connection) error {
		if c.Phase == PhaseOpen {
			return errors.New("no space left on device")
		}
		return nil
	})
	conn := r.open(t)
	if _, err := io.WriteString(conn, "CONNECT "+apiHost+":80\nearly"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if want := "DENIED audit the connection cannot be recorded\n"; err != nil || string(answer) != want {
		t.Errorf("answered %q, %v, want %q", answer, err, want)
	}
	if n := <-seen; n != 0 {
		t.Errorf("the upstream saw %d bytes", n)
	}
	if c := r.wantCode(t, link.Audit); c.Phase != PhaseDenied || c.Allowed || c.Detail != "cannot record the connection: no space left on device" {
		t.Errorf("recorded %+v", c)
	}
	if got, want := r.broker.Stats(), (Stats{Denied: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	r.refuseWith(nil)
	if _, _, err := r.connect(t, apiHost, 80); err != nil {
		t.Errorf("with a log again: %v", err)
	}
}

// TestRecordFailsLater loses the records of what ended or was denied: the
// broker goes on.
func TestRecordFailsLater(t *testing.T) {
	r := newRig(t, Limits{}, plain(80))
	r.route(apiAddr, 80, listen(t, echo))
	failed := make(chan Phase, 10)
	r.refuseWith(func(c Connection) error {
		if c.Phase == PhaseOpen {
			return nil
		}
		failed <- c.Phase
		return errors.New("no space left on device")
	})
	stream, _, err := r.connect(t, apiHost, 80)
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if got := <-failed; got != PhaseClose {
		t.Errorf("recorded %s", got)
	}
	_, _, err = r.connect(t, apiHost, 81)
	wantDenied(t, err, link.NotGranted)
	if got := <-failed; got != PhaseDenied {
		t.Errorf("recorded %s", got)
	}
}

// TestStats counts what was denied in every way.
func TestStats(t *testing.T) {
	r := newRig(t, Limits{PerSecond: 0.001, Burst: 4}, mustRule(t, apiHost+":443"))
	_, _, _ = r.connect(t, "other.example.test", 443) // not granted
	_, _, _ = r.connect(t, apiHost, 443)              // no route
	conn := r.open(t)
	_, _ = io.WriteString(conn, "nonsense\n")
	r.report(t, "evil.test")
	_, _, _ = r.connect(t, apiHost, 443) // beyond the rate
	for range 5 {
		r.record(t)
	}
	if got, want := r.broker.Stats(), (Stats{Denied: 4, Reported: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// report sends a REPORT and waits until the broker has read it.
func (r *rig) report(t testing.TB, host string) {
	t.Helper()
	conn := r.open(t)
	if _, err := io.WriteString(conn, link.Request{Report: host}.String()); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || len(answer) != 0 {
		t.Errorf("a report is answered by %q, %v", answer, err)
	}
}

func TestReport(t *testing.T) {
	r := newRig(t, Limits{}, plain(80), mustRule(t, "*.wild.test:443"))
	r.report(t, apiHost)       // granted: not true
	r.report(t, "a.wild.test") // likewise
	r.report(t, "Evil.test")
	c := r.wantCode(t, link.NotGranted)
	if c.Phase != PhaseDenied || c.Host != "evil.test" || c.Port != 0 || c.Allowed || c.Address.IsValid() || c.Time.IsZero() {
		t.Errorf("recorded %+v", c)
	}
	if _, _, err := r.connect(t, "evil.test", 80); err == nil {
		t.Error("a name was reached because it was reported")
	}
	r.wantCode(t, link.NotGranted)
	if got := r.broker.Stats(); got.Reported != 3 {
		t.Errorf("counted %+v, want 3 reports", got)
	}
}

// TestReportFlood reports more than is recorded one by one: the rest is
// counted, and recorded at the latest when the broker ends.
func TestReportFlood(t *testing.T) {
	const n = 60
	r := newRig(t, Limits{PerSecond: 1e6, Burst: 1e6})
	for i := range n {
		r.report(t, fmt.Sprintf("h%d.evil.test", i))
	}
	r.stop()
	close(r.records)
	single, counted := 0, 0
	for c := range r.records {
		if c.Code != link.NotGranted || c.Phase != PhaseDenied || (c.Count > 1) != (c.Host == "") {
			t.Errorf("recorded %+v", c)
		}
		if c.Host != "" {
			single++
		} else {
			counted += c.Count
		}
	}
	if single+counted != n || single < tallyRate || single > tallyRate*5 {
		t.Errorf("%d were recorded one by one and %d counted, of %d", single, counted, n)
	}
}

func TestTally(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		began := time.Now()
		tally := newTally(PhaseDenied, link.Limit, func(c Connection) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%v %s %s %s x%d", time.Since(began), c.Phase, c.Code, c.Host, c.Count))
		})
		for range tallyRate + 3 {
			tally.add(Connection{Host: "a", Time: time.Now()})
		}
		<-time.After(tallyFlush / 2)
		tally.add(Connection{Host: "b", Time: time.Now()}) // five more fit by now
		<-time.After(tallyFlush)
		synctest.Wait()
		tally.flush() // nothing is left
		var want []string
		for range tallyRate {
			want = append(want, "0s denied limit a x1")
		}
		want = append(want, "500ms denied limit b x1", "1s denied limit  x3")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("recorded (-want +got):\n%s", diff)
		}
	})
}
