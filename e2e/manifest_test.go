package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadManifests installs plugins whose permission manifests cannot be used.
// Each is refused with the field's name, and leaves nothing.
func TestBadManifests(t *testing.T) {
	d := start(t)
	c := connect(t, d)
	for name, tc := range map[string]struct{ manifest, says string }{
		"no JSON":               {`{"network": [`, "permission"},
		"no object":             {`[]`, "permission"},
		"unknown field":         {`{"nettwork": []}`, "nettwork"},
		"field twice":           {`{"env": [], "env": ["TZ"]}`, "env"},
		"unknown inner field":   {`{"network": [{"host": "a.example.com", "prots": [1]}]}`, "network[0].prots"},
		"wrong type":            {`{"network": "a.example.com"}`, "network"},
		"wrong inner type":      {`{"env": [1]}`, "env[0]"},
		"scheme":                {`{"network": [{"host": "https://a.example.com"}]}`, "network[0].host"},
		"port in the host":      {`{"network": [{"host": "a.example.com:443"}]}`, "network[0].host"},
		"wildcard at the top":   {`{"network": [{"host": "*.com"}]}`, "network[0].host"},
		"wildcard alone":        {`{"network": [{"host": "*"}]}`, "network[0].host"},
		"address":               {`{"network": [{"host": "10.0.0.1"}]}`, "network[0].host"},
		"port zero":             {`{"network": [{"host": "a.example.com", "ports": [0]}]}`, "network[0].ports[0]"},
		"port out of range":     {`{"network": [{"host": "a.example.com", "ports": [65536]}]}`, "network[0].ports[0]"},
		"no port":               {`{"network": [{"host": "a.example.com", "ports": [1.5]}]}`, "network[0].ports[0]"},
		"negative memory":       {`{"resources": {"memory": "-1MiB"}}`, "resources.memory"},
		"negative processes":    {`{"resources": {"pids": -1}}`, "resources.pids"},
		"negative processors":   {`{"resources": {"cpus": -0.5}}`, "resources.cpus"},
		"too much":              {`{"resources": {"memory": "9999TiB"}}`, "resources.memory"},
		"workspace path":        {`{"workspace": "../../etc"}`, "workspace"},
		"config path":           {`{"config": ["../secrets"]}`, "config[0]"},
		"config of a plugin":    {`{"config": ["a..b"]}`, "config[0]"},
		"reserved variable":     {`{"env": ["LD_PRELOAD"]}`, "env[0]"},
		"options of Node":       {`{"env": ["NODE_OPTIONS"]}`, "env[0]"},
		"unknown event":         {`{"hooks": {"no_such_event": "observe"}}`, "no_such_event"},
		"right of none":         {`{"hooks": {"message_received": "block"}}`, "message_received"},
		"control characters":    {`{"secrets": ["A\u001bB"]}`, "secrets[0]"},
		"too many":              {`{"env": ["` + strings.Repeat(`A","`, 100) + `A"]}`, "env"},
		"larger than its bound": {`{"secrets": ["` + strings.Repeat("A", 128<<10) + `"]}`, "permissions"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := workerCopy(t)
			if err := os.WriteFile(filepath.Join(dir, "ocmt.permissions.json"), []byte(tc.manifest), 0o600); err != nil {
				t.Fatal(err)
			}
			text := run(t, d, 5, []string{tc.says, "hint:"}, "plugins", "install", dir, "--accept-permissions")
			if strings.ContainsRune(text, 0x1b) || len(text) > 2000 {
				t.Errorf("the error is not fit for a terminal: %q", text)
			}
		})
	}
	nothingInstalled(t, d, c)
}
