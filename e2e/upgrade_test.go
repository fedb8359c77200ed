package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
)

// Another version of the program in the place of the one that runs: the plugins
// go on while there is no daemon, and are taken over, services included.
func TestUpgrade(t *testing.T) {
	need(t)
	home := newHome(t)
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(filepath.Dir(home), "ocmt")
	replace := func() {
		t.Helper()
		data, err := os.ReadFile(bin)
		if err == nil {
			err = errors.Join(os.WriteFile(place+".new", data, 0o755), os.Rename(place+".new", place)) //nolint:gosec // a program
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	begin := func() *harness.Daemon {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d, err := harness.StartWith(ctx, harness.Options{Home: home, Bin: place, Env: []string{"OCMT_IMAGES=" + filepath.Dir(bin)}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	replace()
	d := begin()
	install(t, d, "conformance-register-esm", "--accept-permissions")
	install(t, d, "seed-cjs")
	run(t, d, 0, nil, "plugins", "disable", "seed-cjs")
	const id = "conformance-register-esm"
	before := getInfo(t, d, id)
	container, pid := processOf(t, d, id)

	replace()
	if err := d.HandOver(); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Engine().PID(t.Context(), container); err != nil || now != pid {
		t.Errorf("without a daemon the process is %d, %v, was %d", now, err, pid)
	}
	d = begin()
	defer stop(t, d)
	var got struct{ Text string }
	call(t, d, &got, id, "echo", `{"text":"still here"}`)
	if got.Text != "still here" {
		t.Errorf("got %+v", got)
	}
	after := getInfo(t, d, id)
	if c, p := processOf(t, d, id); c != container || p != pid || after.Generation != before.Generation || after.Restarts != before.Restarts {
		t.Errorf("process %d of %s, generation %d, %d restarts; before %d of %s, %d, %d",
			p, c, after.Generation, after.Restarts, pid, container, before.Generation, before.Restarts)
	}
	run(t, d, 0, []string{"heart", "running"}, "services", "list")
	run(t, d, 0, []string{"an earlier process of the daemon"}, "plugins", "info", id)
	if i := getInfo(t, d, "seed-cjs"); i.Enabled || i.State != "stopped" {
		t.Errorf("the disabled plugin is %s", i.State)
	}
}
