package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ocmt/ocmt/orchestrator/audit"
	"github.com/ocmt/ocmt/orchestrator/home"
)

// auditHome is a home with an audit log of three calls.
func auditHome(t *testing.T) home.Home {
	t.Helper()
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(t.Context(), audit.Options{Dir: h.Audit(), KeyDir: h.Keys(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []audit.Record{
		{Tenant: "default", Plugin: "weather", Actor: "uid:1000", Action: "tool.call", Target: "forecast", Outcome: "ok", DurationMicros: 1500},
		{Tenant: "acme", Plugin: "mail", Actor: "uid:1001", Action: "egress.connect", Target: "mail.example.com:443", Outcome: "denied", Code: "not_granted"},
		{Tenant: "default", Plugin: "weather", Action: "hook.change", Target: "\x1b[31mred", Details: "\u202e"},
	} {
		if err := l.WriteSync(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return h
}

// runAudit runs `ocmt audit` over the home and returns what it printed.
func runAudit(t *testing.T, h home.Home, terminal bool, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	a := &app{env: Env{Stdout: &out, IsTerminal: func(any) bool { return terminal }}, home: h.Dir()}
	cmd := a.auditCommand()
	cmd.PersistentFlags().StringVar(&a.tenant, "tenant", "default", "")
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetOut(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}

func TestAuditDirs(t *testing.T) {
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if auditDir(h.Dir()) != h.Audit() || keyDir(h.Dir()) != h.Keys() {
		t.Errorf("got %s and %s, want %s and %s", auditDir(h.Dir()), keyDir(h.Dir()), h.Audit(), h.Keys())
	}
}

func TestAuditTail(t *testing.T) {
	h := auditHome(t)
	for name, tc := range map[string]struct {
		args []string
		want []string // of each line
	}{
		"default tenant": {nil, []string{"default/weather  tool.call  forecast  ok  1.5ms  by uid:1000", "hook.change  [31mred"}},
		"another":        {[]string{"--tenant", "acme"}, []string{"acme/mail  egress.connect  mail.example.com:443  denied (not_granted)  by uid:1001"}},
		"all, the last":  {[]string{"-A", "-n", "2"}, []string{"hook.change", "host  audit.closed  ok  by host"}},
		"since":          {[]string{"--since", "1h", "-n", "0"}, []string{"tool.call", "hook.change"}},
		"json":           {[]string{"--json", "-n", "1"}, []string{`"action":"hook.change"`}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := runAudit(t, h, true, append([]string{"tail"}, tc.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(got, "\n"), "\n")
			if len(lines) != len(tc.want) {
				t.Fatalf("printed %q, want %d lines", got, len(tc.want))
			}
			for i, want := range tc.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %q, want %q", lines[i], want)
				}
			}
			if strings.ContainsAny(got, "\x1b\u202e") {
				t.Errorf("%q commands a terminal", got)
			}
		})
	}
	for _, args := range [][]string{{"tail", "-n", "-1"}, {"tail", "--since", "x"}, {"export", "--format", "xml"}, {"tail", "x"}} {
		if _, err := runAudit(t, h, false, args...); exitCode(err) != 2 {
			t.Errorf("%q: %v, want wrong usage", args, err)
		}
	}
}

func TestAuditExport(t *testing.T) {
	h := auditHome(t)
	all, err := runAudit(t, h, false, "export", "--format", "jsonl")
	if err != nil || strings.Count(all, "\n") != 6 {
		t.Errorf("export = %q, %v; want 6 lines", all, err)
	}
	for line := range strings.Lines(all) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%q is no JSON", line)
		}
	}
	one, err := runAudit(t, h, false, "export", "--tenant", "acme")
	if err != nil || strings.Count(one, "\n") != 1 {
		t.Errorf("export of a tenant = %q, %v; want one line", one, err)
	}
}

func TestAuditVerify(t *testing.T) {
	h := auditHome(t)
	got, err := runAudit(t, h, false, "verify")
	if err != nil || !strings.Contains(got, "is intact: 6 records in 1 segment") {
		t.Fatalf("verify = %q, %v", got, err)
	}
	signed, err := runAudit(t, h, false, "checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(kept, []byte(signed), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := runAudit(t, h, false, "verify", "--checkpoint", kept); err != nil {
		t.Errorf("verify with a checkpoint = %q, %v", got, err)
	}

	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(h.Audit())); err != nil {
		t.Fatal(err)
	}
	if got, err := runAudit(t, h, false, "verify", "--dir", copied); err != nil {
		t.Errorf("verify of a copy = %q, %v", got, err)
	}
	segment := filepath.Join(copied, "0001-000000000001.jsonl")
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(segment, bytes.Replace(data, []byte("uid:1001"), []byte("uid:1000"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = runAudit(t, h, false, "verify", "--dir", copied)
	if exitCode(err) != 1 || !strings.Contains(got, "CHANGED: 0001-000000000001.jsonl, line 4, record 4") {
		t.Errorf("verify of a changed copy = %q, %v; want line 4 and exit code 1", got, err)
	}
	got, err = runAudit(t, h, false, "verify", "--dir", copied, "--json")
	var report audit.Report
	if exitCode(err) != 1 || json.Unmarshal([]byte(got), &report) != nil || len(report.Problems) != 1 || report.Problems[0].Seq != 4 {
		t.Errorf("verify --json = %q, %v", got, err)
	}

	// Removed as a whole: the checkpoint beside the keys says so.
	if err := os.RemoveAll(h.Audit()); err != nil {
		t.Fatal(err)
	}
	if _, err := runAudit(t, h, false, "verify"); exitCode(err) == 0 {
		t.Error("verify passes without a log")
	}
}

func TestAuditWithoutALog(t *testing.T) {
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"tail"}, {"export"}, {"verify"}, {"checkpoint"}} {
		if _, err := runAudit(t, h, false, args...); exitCode(err) != 3 {
			t.Errorf("%q: %v, want not found", args, err)
		}
	}
}
