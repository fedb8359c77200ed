package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/e2e/harness"
)

func TestPluginForms(t *testing.T) {
	d := start(t)
	for _, name := range []string{"seed-esm", "seed-cjs", "register-esm", "register-cjs"} {
		install(t, d, name)
	}
	t.Run("export, ES module", func(t *testing.T) {
		var got struct {
			Text, AgentID, StateDir, Logger string
			Config                          map[string]any
		}
		call(t, d, &got, "seed-esm", "seed_echo", `{"text":"ab","times":3}`, "--agent", "researcher")
		if got.Text != "ababab" || got.AgentID != "researcher" || got.StateDir != "/state" || got.Logger != "function" {
			t.Errorf("got %+v", got)
		}
		if kinds := registered(getInfo(t, d, "seed-esm")); !slices.Contains(kinds, "hook agent:message:before") || !slices.Contains(kinds, "service seed-service") {
			t.Errorf("registered %v, want the hook and the service too", kinds)
		}
	})
	t.Run("export, CommonJS", func(t *testing.T) {
		var got struct{ Sum float64 }
		call(t, d, &got, "seed-cjs", "cjs_add", `{"a":1.5,"b":2}`)
		if got.Sum != 3.5 {
			t.Errorf("sum %v, want 3.5", got.Sum)
		}
	})
	t.Run("register, ES module with a dependency", func(t *testing.T) {
		var got struct {
			Content []struct{ Text string }
			Details struct{ Number bool }
		}
		call(t, d, &got, "@ocmt-e2e/register-esm", "reg_greet", `{"name":"7"}`)
		if len(got.Content) != 1 || got.Content[0].Text != "hello 7" || !got.Details.Number {
			t.Errorf("got %+v", got)
		}
		kinds := registered(getInfo(t, d, "register-esm"))
		for _, want := range []string{"service reg-service", "gatewayMethod reg.status", "hook before_tool_call"} {
			if !slices.Contains(kinds, want) {
				t.Errorf("registered %v, want %s too", kinds, want)
			}
		}
	})
	t.Run("register, CommonJS, with state", func(t *testing.T) {
		var got struct{ N int }
		call(t, d, &got, "register-cjs", "count", `{}`)
		run(t, d, 0, nil, "plugins", "restart", "register-cjs")
		call(t, d, &got, "register-cjs", "count", `{}`)
		if got.N != 2 {
			t.Errorf("count %d after a restart, want 2: the state was lost", got.N)
		}
	})
	t.Run("configuration edited by a person", func(t *testing.T) {
		edit(t, filepath.Join(d.Home, "config.json"), `"register-esm": {`, `"register-esm": {"config": {"greeting": "salve"},`)
		var got struct{ Content []struct{ Text string } }
		eventually(t, 20e9, "the new greeting", func() bool {
			call(t, d, &got, "register-esm", "reg_greet", `{"name":"x"}`)
			return got.Content[0].Text == "salve x"
		})
	})
	t.Run("timeout", func(t *testing.T) {
		run(t, d, 6, []string{"did not answer within"}, "tools", "call", "register-esm", "reg_progress", "--timeout", "500ms")
	})
}

func registered(i info) []string {
	var kinds []string
	for _, r := range i.Registrations {
		kinds = append(kinds, r.Kind+" "+r.Name)
	}
	return kinds
}

// edit replaces the first old in a file by new, as an editor does.
func edit(t *testing.T, path, old, text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("%s does not hold %q:\n%s", path, old, data)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, text, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestInside has a plugin look around in its container.
func TestInside(t *testing.T) {
	d := start(t)
	install(t, d, "inspector")
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	decoy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer decoy.Close()
	port := decoy.Addr().(*net.TCPAddr).Port
	type attempt struct {
		OK   bool
		Code string
	}
	var got struct {
		Interfaces                                                            []string
		Routes                                                                int
		Connect                                                               string
		HostFile, WriteRoot, WritePlugin, WriteSockets, WriteState, ExecState attempt
		Status                                                                map[string]string
		Env, Mounts, Root                                                     []string
		Hostname                                                              string
	}
	params, _ := json.Marshal(map[string]any{"file": secret, "port": port})
	call(t, d, &got, "inspector", "look", string(params))

	if !slices.Equal(got.Interfaces, []string{"lo"}) || got.Routes != 0 {
		t.Errorf("interfaces %v with %d routes, want lo and none", got.Interfaces, got.Routes)
	}
	if got.Connect != "ECONNREFUSED" {
		t.Errorf("connecting to port %s of the host: %s", strconv.Itoa(port), got.Connect)
	}
	for what, tc := range map[string]struct {
		got  attempt
		want string // the error's code, "" for success
	}{
		"reading a host file":              {got.HostFile, "ENOENT"},
		"writing the root":                 {got.WriteRoot, refusedWrite()},
		"writing the payload":              {got.WritePlugin, refusedWrite()},
		"writing the socket directory":     {got.WriteSockets, refusedWrite()},
		"writing the state":                {got.WriteState, ""},
		"executing a program in the state": {got.ExecState, execStateWant()},
	} {
		if tc.got.Code != tc.want || tc.got.OK != (tc.want == "") {
			t.Errorf("%s: %+v, want %q", what, tc.got, tc.want)
		}
	}
	bounds := map[string]string{"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapPrm": "0000000000000000"}
	if harness.RuntimeName() != "runsc" { // whose kernel is its own, and says nothing of these
		bounds["NoNewPrivs"], bounds["Seccomp"] = "1", "2"
	}
	for field, want := range bounds {
		if v := strings.TrimSpace(got.Status[field]); v != want {
			t.Errorf("%s is %q, want %q", field, v, want)
		}
	}
	own := strings.Fields(got.Status["Gid"])[0]
	for _, group := range strings.Fields(got.Status["Groups"]) {
		if group != own {
			t.Errorf("the plugin is in group %s besides its own", group)
		}
	}
	if strings.HasPrefix(got.Status["Uid"], "0\t") {
		t.Errorf("the plugin runs as uid %q", got.Status["Uid"])
	}
	wantEnv := []string{"HOME", "LANG", "NODE_ENV", "NODE_EXTRA_CA_CERTS", "OCMT_BUS", "OCMT_GENERATION", "OCMT_PLUGIN", "OCMT_TENANT", "PATH", "TMPDIR"}
	for _, name := range got.Env {
		if !slices.Contains(wantEnv, name) && name != "HOSTNAME" {
			t.Errorf("the environment holds %s", name)
		}
	}
	if host, _ := os.Hostname(); got.Hostname == host {
		t.Errorf("the plugin sees the host's name %q", host)
	}
}

// refusedWrite is what writing to a read-only file system gives: gVisor looks
// at the file's mode first.
func refusedWrite() string {
	if harness.RuntimeName() == "runsc" {
		return "EACCES"
	}
	return "EROFS"
}

// noRoute is what connecting to an address gives where there is no network.
func noRoute() string {
	if harness.RuntimeName() == "runsc" {
		return "EHOSTUNREACH"
	}
	return "ENETUNREACH"
}

// execStateWant is what starting a program from the state directory gives:
// only root can mount it noexec. Docker does not tell gVisor, which finds out
// when the host refuses to map the program.
func execStateWant() string {
	switch {
	case os.Geteuid() != 0:
		return ""
	case harness.RuntimeName() == "runsc" && harness.EngineName() == "docker":
		return "SIGSEGV"
	}
	return "EACCES"
}

func TestBadPackages(t *testing.T) {
	d := start(t)
	for name, tc := range map[string]struct {
		code  int
		words []string
	}{
		"bad-no-entry":      {5, []string{"hint:", "register(api)"}},
		"bad-missing-entry": {5, []string{"hint:", "dist/index.js"}},
		"bad-throws":        {5, []string{"thrown while loading"}},
		"bad-async":         {5, []string{"synchronous"}},
		"bad-duplicate":     {5, []string{"twice"}},
		"bad-id-mismatch":   {5, []string{"manifest-id", "export-id"}},
		"bad-id-slash":      {5, []string{"a/b"}},
		"bad-id-dots":       {5, []string{"a..b"}},
		"bad-id-dot":        {5, []string{"a.b"}},
		"bad-id-space":      {5, []string{"a b"}},
		"bad-id-long":       {5, []string{"300"}},
		"bad-tool-slash":    {5, []string{"a/b"}},
		"bad-tool-dots":     {5, []string{"a..b"}},
		"bad-tool-dot":      {5, []string{"a.b"}},
		"bad-tool-space":    {5, []string{"a b"}},
		"bad-tool-long":     {5, []string{"300"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := run(t, d, tc.code, append(tc.words, "hint:"), "plugins", "install", fixture(t, name))
			t.Log(text)
		})
	}
	for spec, tc := range map[string]struct {
		code  int
		words []string
	}{
		"is-number@^7.0.0":                      {2, []string{"hint:"}},
		"git+https://example.test/x.git":        {2, []string{"hint:"}},
		"is-number@99.99.99":                    {3, []string{"99.99.99"}},
		"@ocmt-e2e/this-package-does-not-exist": {3, []string{"this-package-does-not-exist"}},
		"is-number@7.0.0":                       {5, []string{"hint:"}}, // a package, but no plugin
		"./no-such-directory":                   {3, []string{"no-such-directory"}},
		"Not A Name":                            {2, []string{"hint:"}},
	} {
		t.Run(spec, func(t *testing.T) {
			t.Log(run(t, d, tc.code, tc.words, "plugins", "install", spec, "--yes"))
		})
	}
	t.Run("without a terminal and without --yes", func(t *testing.T) {
		run(t, d, 4, []string{"--yes"}, "plugins", "install", "is-number@7.0.0")
	})
	var list []info
	if err := d.JSON(t.Context(), &list, "plugins", "list"); err != nil || len(list) != 0 {
		t.Errorf("plugins after failed installs: %+v, %v", list, err)
	}
	for _, dir := range []string{"store", "staging", "instances"} {
		left, err := filepath.Glob(filepath.Join(d.Home, "ocmt", dir, "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("failed installs left %v, %v", left, err)
		}
	}
	if _, err := os.Stat(filepath.Join(d.Home, "config.json")); err == nil {
		t.Error("failed installs wrote config.json")
	}
}

func TestBadCalls(t *testing.T) {
	d := start(t)
	install(t, d, "seed-esm")
	for name, tc := range map[string]struct {
		code  int
		words []string
		args  []string
	}{
		"unknown plugin": {3, []string{"seed-es", "seed-esm"}, []string{"seed-es", "seed_echo"}},
		"unknown tool":   {3, []string{"seed_ech", "seed_echo"}, []string{"seed-esm", "seed_ech"}},
		"missing field":  {2, []string{"text"}, []string{"seed-esm", "seed_echo", "--params", `{}`}},
		"wrong type":     {2, []string{"/times"}, []string{"seed-esm", "seed_echo", "--params", `{"text":"x","times":"many"}`}},
		"out of range":   {2, []string{"/times"}, []string{"seed-esm", "seed_echo", "--params", `{"text":"x","times":9}`}},
		"unknown field":  {2, []string{"colour"}, []string{"seed-esm", "seed_echo", "--params", `{"text":"x","colour":1}`}},
		"no JSON":        {2, []string{"parameters", "column 7"}, []string{"seed-esm", "seed_echo", "--params", `{"text"`}},
		"no object":      {2, []string{"object"}, []string{"seed-esm", "seed_echo", "--params", `[1]`}},
		"tool with /":    {2, []string{"a/b"}, []string{"seed-esm", "a/b"}},
		"plugin with ..": {2, []string{"../x"}, []string{"../x", "seed_echo"}},
		"long names":     {2, []string{"256"}, []string{strings.Repeat("x", 300), strings.Repeat("y", 300)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Log(run(t, d, tc.code, tc.words, append([]string{"tools", "call"}, tc.args...)...))
		})
	}
}

// TestRealPackages runs unmodified packages from npm.
func TestRealPackages(t *testing.T) {
	d := start(t)
	run(t, d, 0, []string{"openclaw-kitchen-sink-fixture"}, "plugins", "install", "@openclaw/kitchen-sink@0.3.0", "--yes", "--pin")
	var search struct {
		RequestID string
		OK        bool
		Results   []any
	}
	call(t, d, &search, "@openclaw/kitchen-sink", "kitchen_sink_search", `{"query":"openclaw"}`)
	if search.RequestID != "ks_search_deb06166" || !search.OK || len(search.Results) == 0 {
		t.Errorf("got %+v", search)
	}
	var text struct{ Job struct{ Status string } }
	call(t, d, &text, "@openclaw/kitchen-sink", "kitchen_sink_text", `{"prompt":"a line"}`)
	if text.Job.Status != "completed" {
		t.Errorf("job status %q, want completed", text.Job.Status)
	}
	if i := getInfo(t, d, "@openclaw/kitchen-sink"); len(i.Registrations) < 50 || i.Spec != "@openclaw/kitchen-sink@0.3.0" {
		t.Errorf("%d registrations besides the tools, spec %s", len(i.Registrations), i.Spec)
	}
	t.Run("again", func(t *testing.T) {
		run(t, d, 1, []string{"is installed", "hint:"}, "plugins", "install", "@openclaw/kitchen-sink@0.3.0", "--yes")
	})
}

// TestConfiguredPlugin installs a plugin that loads only with its
// configuration, and whose tools depend on it.
func TestConfiguredPlugin(t *testing.T) {
	d := start(t)
	run(t, d, 5, []string{"set the key first"}, "plugins", "install", fixture(t, "configured"))
	path := filepath.Join(d.Home, "config.json")
	if err := os.WriteFile(path, []byte(`{"plugins": {"entries": {"configured": {"config": {"key": "k"}}}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20e9, "the plugin installed with its configuration", func() bool {
		return d.Run(t.Context(), "plugins", "install", fixture(t, "configured")).Code == 0
	})
	run(t, d, 3, []string{"extra"}, "tools", "call", "configured", "extra")
	edit(t, path, `{"key": "k"}`, `{"key": "k", "more": true}`)
	eventually(t, 20e9, "the other tool, which nobody has accepted", func() bool {
		return d.Run(t.Context(), "tools", "call", "configured", "extra").Code == 4
	})
	run(t, d, 4, []string{"nobody has accepted", "ocmt plugins grant configured registration tool:extra"}, "tools", "call", "configured", "extra")
	run(t, d, 0, []string{"extra"}, "plugins", "grant", "configured", "registration", "tool:extra")
	run(t, d, 0, nil, "tools", "call", "configured", "extra")
}

// TestLinkedPlugin edits a linked directory and restarts the plugin.
func TestLinkedPlugin(t *testing.T) {
	d := start(t)
	dir := filepath.Join(t.TempDir(), "linked")
	write := func(answer string) {
		t.Helper()
		code := "exports.tools = [{ name: 'answer', description: '', parameters: { type: 'object' }, execute: async () => " + answer + " }];"
		for name, text := range map[string]string{"package.json": `{"name":"linked","version":"1.0.0"}`, "index.js": code} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write("1")
	run(t, d, 2, []string{"--link needs a directory"}, "plugins", "install", "is-number@7.0.0", "--link", "--yes")
	run(t, d, 0, nil, "plugins", "install", dir, "--link")
	var got int
	call(t, d, &got, "linked", "answer", `{}`)
	write("2")
	run(t, d, 0, []string{"running"}, "plugins", "restart", "linked")
	if call(t, d, &got, "linked", "answer", `{}`); got != 2 {
		t.Errorf("the answer is %d after the restart, want the edited 2", got)
	}
	write("(")
	run(t, d, 5, nil, "plugins", "restart", "linked")
	if call(t, d, &got, "linked", "answer", `{}`); got != 2 {
		t.Errorf("the answer is %d after a restart that failed, want 2 of what runs", got)
	}
	sealed, err := filepath.Glob(filepath.Join(d.Home, "ocmt", "store", "*.erofs"))
	if err != nil || len(sealed) > 1 {
		t.Errorf("the store keeps %d payloads, want the present one alone: %v", len(sealed), err)
	}
	if _, err := harness.FlipByte(t.Context(), d.Home); err == nil && len(sealed) == 1 {
		run(t, d, 1, nil, "plugins", "verify", "linked")
		write("3")
		run(t, d, 0, nil, "plugins", "restart", "linked")
		if call(t, d, &got, "linked", "answer", `{}`); got != 3 {
			t.Errorf("the answer is %d, want 3: a new installation ends the quarantine", got)
		}
	}
}
