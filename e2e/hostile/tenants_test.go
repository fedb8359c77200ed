package hostile

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
	"github.com/ocmt/ocmt/orchestrator/client"
)

// tenantsGroup is what a plugin tries at its neighbours, and at other tenants.
func tenantsGroup() group {
	return group{name: "tenants", attacks: []attack{
		{
			name:    "tenant-neighbour",
			aims:    "read another plugin's state, settings, variables and secrets, and the host's own files",
			layer:   "mounts: nothing of the host is there; a plugin is told its own settings alone; own PID namespace and uid",
			varies:  true,
			prepare: neighboursSettings, params: `{"home":"{home}","token":"{token}"}`,
			want: map[string]string{
				"": "ENOENT|EACCES|EPERM|ENOTDIR", "shown": "its own alone",
				"environ": "EACCES|ENOENT|EPERM|ok .*", // init's own, which holds no secret
			},
			inside: "the environment of PID 1 is the container's, and holds no secret",
			check: func(t *testing.T, w *world) {
				for _, secret := range []string{"C0NFIG", "V4RIABLE", w.victim.token} {
					if strings.Contains(string(w.result), secret) {
						t.Errorf("it was told %s", secret)
					}
				}
			},
		},
		{
			name:  "tenant-twin",
			aims:  "share state, subjects or a container with the plugin of the same id in another tenant",
			layer: "the tenant is in every row, path, label, subject and uid",
			want:  map[string]string{"before": "nothing", "mark": "default"},
			check: twin,
		},
		{
			name:  "tenant-host-files",
			aims:  "be granted the directories of the host's sockets, settings, database, keys and audit log",
			layer: "grants: the host's own directories are refused, by whatever path they are named",
			want:  map[string]string{"asking": ".*"},
			check: hostsDirectories,
		},
		{
			name:  "tenant-ids",
			aims:  "use another plugin's tools and approvals by the ids that hosts use, through a tenant's call socket",
			layer: "API: a call socket is one tenant's, and may not answer for a person",
			want:  map[string]string{"asking": ".*"},
			check: foreignIDs,
		},
		{
			name:    "tenant-takeover",
			aims:    "take another plugin's state, settings and grants by claiming its id",
			layer:   "install: an id belongs to the package that was installed with it",
			refused: "belongs to the installed package victim",
			check: func(t *testing.T, w *world) {
				if detail, err := w.client.Plugin(t.Context(), tenant, victimID); err != nil || detail.Name != victimID || detail.Version != "1.0.0" {
					t.Errorf("the neighbour is %+v, %v", detail.Plugin, err)
				}
			},
		},
		{
			name:  "tenant-case",
			aims:  "share another plugin's directory, container or grants by its id in capitals",
			layer: "ids that differ are different plugins, whatever the file system; containers and directories are named by them and a digest",
			want:  map[string]string{"as": "VICTIM"},
			check: inCapitals,
		},
		{
			name:    "tenant-same-name",
			aims:    "be called in the place of another plugin by its package name, which people may say instead of the id",
			layer:   "install: a package name and an id mean one plugin of a tenant",
			prepare: func(t *testing.T, w *world) { writeKit(t, w, "kit", "@hostile/kit") },
			refused: "cannot be told from the installed plugin kit",
			check: func(t *testing.T, w *world) {
				result, err := w.invoke(t.Context(), "@hostile/kit", "who", `{}`)
				if err != nil || string(result) != `{"who":"the owner"}` {
					t.Errorf("the package name is answered by %s, %v", result, err)
				}
				w.run(t, "plugins", "uninstall", "kit")
			},
		},
		{
			name:    "tenant-id-traversal",
			aims:    "reach another plugin's directories by an id that is a path",
			layer:   "install: ids are letters, digits, hyphens and underscores",
			refused: `may hold only letters, digits, "-" and "_"`,
		},
		{
			name:    "tenant-id-unicode",
			aims:    "be taken for another plugin by an id that looks the same",
			layer:   "install: ids are ASCII",
			refused: `may hold only letters, digits, "-" and "_"`,
		},
		{
			name:    "tenant-name-traversal",
			aims:    "have npm or the host write elsewhere by a package name that is a path",
			layer:   "install: npm's own rule for package names",
			refused: "no npm package name",
		},
		{
			name:    "tenant-entry-traversal",
			aims:    "have the host read or run a file outside the package",
			layer:   "install: entries are inside the package",
			refused: "not inside the package",
		},
	}}
}

// neighboursSettings gives the neighbour what the attacker looks for.
func neighboursSettings(t *testing.T, w *world) {
	t.Helper()
	path := filepath.Join(w.daemon.Home, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	entries, ok := file["plugins"].(map[string]any)["entries"].(map[string]any)
	if !ok {
		t.Fatalf("no entries in %s", text)
	}
	entries["someone-else"] = map[string]any{"config": map[string]any{"apiKey": "C0NFIG"}}
	file["gateway"] = map[string]any{"auth": map[string]any{"token": "C0NFIG"}}
	file["env"] = map[string]any{"vars": map[string]any{"SOME_KEY": "V4RIABLE"}}
	if err := os.WriteFile(path, mustJSON(t, file), 0o600); err != nil {
		t.Fatal(err)
	}
	w.vars["token"] = w.victim.token
}

// writeKit installs an honest plugin of that id and package name.
func writeKit(t *testing.T, w *world, id, name string) {
	t.Helper()
	dir := filepath.Join(w.dir, id)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"package.json":         `{"name": "` + name + `", "version": "1.0.0", "type": "module", "main": "index.mjs"}`,
		"openclaw.plugin.json": `{"id": "` + id + `", "configSchema": {"type": "object"}}`,
		"index.mjs":            `export const tools = [{ name: "who", description: "who", parameters: { type: "object" }, execute: async () => ({ who: "the owner" }) }];`,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t, "plugins", "install", dir)
}

// inCapitals installs the attacker once more, as "VICTIM".
func inCapitals(t *testing.T, w *world) {
	manifest := filepath.Join(w.dir, "package", "openclaw.plugin.json")
	if err := os.WriteFile(manifest, []byte(`{"id": "VICTIM", "configSchema": {"type": "object"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if res := w.daemon.Run(t.Context(), "plugins", "install", filepath.Join(w.dir, "package")); res.Code != 0 {
		return // refused, which is as good
	}
	w.victim.check(t, w.rig)
	if result, err := w.invoke(t.Context(), "VICTIM", "look", `{}`); err != nil || !strings.Contains(string(result), "forged") {
		t.Errorf("VICTIM answers %s, %v", result, err)
	}
	containers := map[string]bool{}
	for _, id := range []string{victimID, "VICTIM"} {
		container, err := w.daemon.Container(t.Context(), tenant, id)
		if err != nil {
			t.Error(err)
		}
		containers[container] = true
	}
	if len(containers) != 2 {
		t.Errorf("their containers are %v", containers)
	}
	w.run(t, "plugins", "uninstall", "VICTIM")
}

// twin installs the same plugin for another tenant.
func twin(t *testing.T, w *world) {
	w.run(t, "plugins", "install", filepath.Join(w.dir, "package"), "--tenant", "beta")
	defer w.run(t, "plugins", "uninstall", w.id, "--tenant", "beta")
	var first, second struct{ Before, Mark string }
	for range 2 {
		if err := w.daemon.JSON(t.Context(), &second, "tools", "call", w.id, "attack", "--tenant", "beta"); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.daemon.JSON(t.Context(), &first, "tools", "call", w.id, "attack"); err != nil {
		t.Fatal(err)
	}
	if first.Mark != tenant || second.Mark != "beta" || !strings.HasPrefix(first.Before, tenant+" ") || !strings.HasPrefix(second.Before, "beta ") {
		t.Errorf("it has %+v, and its twin %+v", first, second)
	}
	if os.Geteuid() == 0 && strings.TrimPrefix(first.Before, tenant) == strings.TrimPrefix(second.Before, "beta") {
		t.Errorf("both are the uid of %q", first.Before)
	}
	if err := w.daemon.JSON(t.Context(), new(any), "tools", "call", victimID, "look", "--tenant", "beta"); err == nil {
		t.Error("the neighbour answers callers of another tenant")
	}
}

// hostsDirectories tries to grant what nobody may grant.
func hostsDirectories(t *testing.T, w *world) {
	link := filepath.Join(w.dir, "link")
	if err := os.Symlink(filepath.Join(w.daemon.Home, "ocmt"), link); err != nil {
		t.Fatal(err)
	}
	home := w.daemon.Home
	for _, dir := range []string{
		home, home + "/ocmt", home + "/ocmt/run", home + "/ocmt/run/i", home + "/ocmt/tenants", home + "/ocmt/tenants/default", home + "/ocmt/audit", home + "/ocmt/keys",
		home + "/ocmt/store", home + "/tenants", filepath.Dir(home), link, link + "/run", home + "/ocmt/../ocmt/run", "/proc/self/root" + home + "/ocmt",
		fmt.Sprintf("/proc/%d/root%s/ocmt", w.daemon.PID(), home), fmt.Sprintf("/proc/%d/cwd", w.daemon.PID()),
		"/", "/run", "/var/run", "/var/lib/docker", "/run/containerd", "/etc", "/proc", "/sys", "/dev", "/root",
	} {
		for _, mode := range []string{"ro", "rw"} {
			if res := w.daemon.Run(t.Context(), "plugins", "grant", w.id, "workspace", mode, dir); res.Code == 0 {
				t.Errorf("%s %s is granted: %s", dir, mode, res.Stdout)
			}
		}
	}
	for _, file := range []string{home + "/config.json", home + "/ocmt/state.db", home + "/ocmt/run/admin.sock"} {
		if res := w.daemon.Run(t.Context(), "plugins", "grant", w.id, "workspace", "ro", file); res.Code == 0 {
			t.Errorf("%s is granted: %s", file, res.Stdout)
		}
	}
	p, err := w.client.Permissions(t.Context(), tenant, w.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range p.Granted {
		if g.Kind != "registration" {
			t.Errorf("granted: %+v", g)
		}
	}
}

// foreignIDs acts as somebody who has got hold of another tenant's call socket.
func foreignIDs(t *testing.T, w *world) {
	w.run(t, "plugins", "install", filepath.Join(w.dir, "package"), "--tenant", "gamma")
	defer w.run(t, "plugins", "uninstall", w.id, "--tenant", "gamma")
	c := client.New(filepath.Join(w.daemon.Home, "ocmt", "tenants", "gamma", "call.sock"))
	defer c.Close()
	ctx := t.Context()
	if _, err := c.Call(ctx, "gamma", w.id, "attack", v1.CallRequest{}); err != nil {
		t.Fatalf("its own tenant's call: %v", err)
	}
	refused := map[string]error{}
	_, refused["calling"] = c.Call(ctx, tenant, victimID, "look", v1.CallRequest{})
	_, refused["listing"] = c.Tools(ctx, tenant)
	_, refused["watching"] = c.Plugin(ctx, tenant, victimID)
	_, refused["emitting"] = c.Emit(ctx, tenant, "message_received", v1.EmitRequest{})
	_, refused["invoking"] = c.Invoke(ctx, tenant, victimID, 0, v1.InvokeRequest{})
	_, refused["granting"] = c.Grant(ctx, "gamma", w.id, v1.GrantRequest{Kind: "env", Target: "HOME_KEY"})
	_, refused["disabling"] = c.Disable(ctx, tenant, victimID)
	_, refused["own disabling"] = c.Disable(ctx, "gamma", w.id)
	refused["reading the log"] = c.LogLines(ctx, tenant, victimID, v1.LogQuery{}, func(v1.LogLine) error { return nil })
	for what, err := range refused {
		if !errdefs.IsPermissionDenied(err) && !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range []string{"1", "A", "../default/1", "00000000000000000000000000"} {
		if _, err := c.Resolve(ctx, "gamma", id, "allow-once"); err == nil {
			t.Errorf("an approval with the id %s is resolved", id)
		}
		if _, err := c.Resolve(ctx, tenant, id, "allow-once"); err == nil {
			t.Errorf("another tenant's approval with the id %s is resolved", id)
		}
	}
}
