package instance

import (
	"testing"
	"time"

	"github.com/ocmt/ocmt/sandbox"
)

func TestSighting(t *testing.T) {
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	running := func(pid int, at time.Time) *sandbox.Container {
		return &sandbox.Container{State: sandbox.StateRunning, PID: pid, StartedAt: at}
	}
	exited := &sandbox.Container{State: sandbox.StateExited, Exit: sandbox.Exit{Code: 3}}
	created := &sandbox.Container{State: sandbox.StateCreated}
	type look struct {
		after time.Duration
		c     *sandbox.Container
	}
	const alive = 0
	for name, tc := range map[string]struct {
		unstarted bool
		looks     []look
		want      int // exit code of the last look, alive before it
	}{
		"it runs":                      {looks: []look{{0, running(7, began)}, {time.Minute, running(7, began)}}, want: alive},
		"it has ended":                 {looks: []look{{0, running(7, began)}, {1, exited}}, want: 3},
		"never seen running":           {looks: []look{{0, exited}}, want: 3},
		"not in the list":              {looks: []look{{0, nil}, {time.Hour, nil}}, want: alive},
		"a list from before its start": {looks: []look{{0, created}, {1, nil}, {2, created}, {3, nil}}, want: alive},
		"started anew":                 {looks: []look{{0, running(7, began)}, {1, running(8, began.Add(1))}}, want: -1},
		"a clock that was set":         {looks: []look{{0, running(7, began)}, {1, running(7, began.Add(time.Hour))}}, want: alive},
		"an engine that tells no PID":  {looks: []look{{0, running(0, began)}, {1, running(0, began)}}, want: alive},
		"started anew, without a PID":  {looks: []look{{0, running(0, began)}, {1, running(0, began.Add(1))}}, want: -1},
		"a PID that comes late":        {looks: []look{{0, running(0, began)}, {1, running(7, began)}, {2, running(7, began)}}, want: alive},
		"paused":                       {looks: []look{{0, running(7, began)}, {1, &sandbox.Container{State: "paused", PID: 7, StartedAt: began}}}, want: alive},
		"not started, not in lists":    {unstarted: true, looks: []look{{0, nil}, {1, nil}}, want: alive},
		"not started, exited":          {unstarted: true, looks: []look{{0, exited}}, want: alive},
	} {
		t.Run(name, func(t *testing.T) {
			s := sighting{started: !tc.unstarted}
			for i, look := range tc.looks {
				exit, ended := s.note(look.c, began.Add(look.after))
				want := tc.want
				if i < len(tc.looks)-1 {
					want = alive
				}
				if ended != (want != alive) || exit.Code != want {
					t.Errorf("look %d: ended %v with %+v, want code %d", i, ended, exit, want)
				}
			}
		})
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"key":{"Tenant":"default","ID":"demo"},"generation":1,"instance":"ocmt-demo-00000000-g1","discovery":false,"image":"","runtime":"","payload":"","recipe":"","uid":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rec, err := parseRecord(data)
		if err == nil && (rec.Version != recordVersion || rec.Key.Tenant == "" || rec.Key.ID == "" || rec.Instance == "") {
			t.Errorf("%q is taken for %+v", data, rec)
		}
	})
}
