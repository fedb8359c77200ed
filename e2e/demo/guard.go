package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ocmt/ocmt/e2e/harness"
	"github.com/ocmt/ocmt/orchestrator/install/fetch"
)

// Our own plugins, for what the one from npm does not do: hooks whose effect
// can be told beforehand, a service, and connections.
const (
	seedPlugin     = "conformance-seed-esm"
	registerPlugin = "conformance-register-esm"
)

func (x *demo) hooks(ctx context.Context) error {
	root, err := harness.Root()
	if err != nil {
		return err
	}
	for _, id := range []string{seedPlugin, registerPlugin} {
		dir := filepath.Join(root, "e2e", "testdata", "plugins", id)
		if _, err := x.ocmt(ctx, x.d, 0, "plugins", "install", dir, "--accept-permissions"); err != nil {
			return err
		}
	}
	const event = "agent:message:before"
	text, err := x.ocmt(ctx, x.d, 0, "hooks", "emit", event, "--payload", `{"text":"hello"}`)
	if err != nil {
		return err
	}
	if !strings.Contains(text, "hello [seen by "+seedPlugin+"]") {
		return errors.New("the hook did not change the message")
	}
	text, err = x.ocmt(ctx, x.d, 4, "hooks", "emit", event, "--payload", `{"text":"something forbidden"}`)
	if err != nil {
		return err
	}
	if !strings.Contains(text, seedPlugin) {
		return errors.New("it is not said who blocked the message")
	}
	return nil
}

type serviceState struct {
	Plugin string    `json:"plugin"`
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
}

func (x *demo) service(ctx context.Context) (serviceState, error) {
	var list []serviceState
	if err := x.d.JSON(ctx, &list, "services", "list"); err != nil {
		return serviceState{}, err
	}
	for _, s := range list {
		if s.Plugin == registerPlugin {
			return s, nil
		}
	}
	return serviceState{}, fmt.Errorf("no service of %s is listed", registerPlugin)
}

func (x *demo) services(ctx context.Context) error {
	before, err := x.service(ctx)
	if err != nil {
		return err
	}
	container, err := x.d.Container(ctx, "default", registerPlugin)
	if err != nil {
		return err
	}
	if _, err := x.ocmt(ctx, x.d, 0, "services", "list"); err != nil {
		return err
	}
	x.say("$ %s node -e '(kill -9 the runner, and its service with it)'\n", x.exec(container))
	_, _ = x.d.Engine().Exec(ctx, container, "/usr/bin/node", "-e", killRunner) // it is cut off as well
	start := time.Now()
	for {
		now, err := x.service(ctx)
		if err != nil {
			return err
		}
		if now.State == "running" && now.Since.After(before.Since) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	x.say("  running again after %d ms\n", time.Since(start).Milliseconds())
	_, err = x.ocmt(ctx, x.d, 0, "services", "list")
	return err
}

// network has the plugin ask for the package registry, which this machine
// reaches: that is where the first plugin came from.
func (x *demo) network(ctx context.Context) error {
	registry, err := fetch.LoadRegistry(os.Getenv, userHome())
	if err != nil {
		return err
	}
	host, port := registry.Endpoint().Host, registry.Endpoint().Port
	params, err := json.Marshal(map[string]string{"url": registry.URL})
	if err != nil {
		return err
	}
	call := []string{"tools", "call", registerPlugin, "fetch", "--params", string(params)}
	text, err := x.ocmt(ctx, x.d, 0, call...)
	if err != nil {
		return err
	}
	if !strings.Contains(text, "error") {
		return errors.New("the connection was not denied")
	}
	if text, err = x.ocmt(ctx, x.d, 0, "plugins", "permissions", registerPlugin); err != nil {
		return err
	}
	if !strings.Contains(text, fmt.Sprintf("plugins grant %s network %s", registerPlugin, host)) {
		return errors.New("the command that grants it is not told")
	}
	grant := []string{"plugins", "grant", registerPlugin, "network", fmt.Sprintf("%s:%d", host, port)}
	if how := howTo(ctx, registry.URL, host); how != "" {
		grant = append(grant, how)
	}
	if _, err := x.ocmt(ctx, x.d, 0, grant...); err != nil {
		return err
	}
	if text, err = x.ocmt(ctx, x.d, 0, call...); err != nil {
		return err
	}
	if !strings.Contains(text, `"status"`) {
		return errors.New("the connection did not succeed")
	}
	return nil
}

// howTo says what a grant for the registry needs to say besides its name: a
// registry of one's own may be on a private network, or without TLS.
func howTo(ctx context.Context, url, host string) string {
	var how []string
	if strings.HasPrefix(url, "http://") {
		how = append(how, "plaintext")
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", host)
	if err != nil {
		return strings.Join(how, ",")
	}
	var ranges []string
	for _, a := range addresses {
		if !isPublic(a) {
			ranges = append(ranges, a.String()+"/32")
		}
	}
	if len(ranges) > 0 {
		how = append(how, "addresses="+strings.Join(ranges, " "))
	}
	return strings.Join(how, ",")
}

// special are ranges for documentation and tests, which some resolvers answer
// with in place of a mirror's address.
var special = []netip.Prefix{
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("100.64.0.0/10"),
}

func isPublic(a netip.Addr) bool {
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return !a.IsPrivate() && !a.IsLoopback()
}

func userHome() string {
	dir, err := os.UserHomeDir()
	if err != nil {
		return "/nonexistent"
	}
	return dir
}

func (x *demo) audit(ctx context.Context) error {
	if _, err := x.ocmt(ctx, x.d, 0, "audit", "tail", "-n", "8"); err != nil {
		return err
	}
	if _, err := x.ocmt(ctx, x.d, 0, "audit", "verify"); err != nil {
		return err
	}
	dir := filepath.Join(x.dir, "audit-copy")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(x.d.Home, "ocmt", "audit"))); err != nil {
		return err
	}
	place, err := flipInside(dir)
	if err != nil {
		return err
	}
	x.say("changed one byte of %s in a copy of the log\n", place)
	text, err := x.ocmt(ctx, x.d, 1, "audit", "verify", "--dir", dir)
	if err != nil {
		return err
	}
	if !strings.Contains(text, "CHANGED") {
		return errors.New("the change was not found")
	}
	return nil
}

// flipInside changes one byte in the middle of the first segment, and says
// where.
func flipInside(dir string) (string, error) {
	segments, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(segments) == 0 {
		return "", errors.Join(err, errors.New("the log has no segment"))
	}
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, size/2); err != nil {
		return "", err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, size/2)
	return filepath.Base(segments[0]), err
}
