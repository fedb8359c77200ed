package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ocmt/ocmt/orchestrator/api/apitest"
	httpapi "github.com/ocmt/ocmt/orchestrator/api/http"
	v1 "github.com/ocmt/ocmt/orchestrator/api/v1"
)

// The parts of the backend in memory that tests change something of.
type (
	hooksPart       = httpapi.Hooks
	permissionsPart = httpapi.Permissions
	toolsPart       = httpapi.Tools
	pluginsPart     = httpapi.Plugins
)

// hookList has hooks of its own.
type hookList struct {
	hooksPart
	list []v1.Hook
}

func (h hookList) Hooks(context.Context, string) ([]v1.Hook, error) { return h.list, nil }

// narrowing switches off all that is granted.
type narrowing struct{ permissionsPart }

func (n narrowing) Permissions(ctx context.Context, tenant, ref string) (v1.PluginPermissions, error) {
	p, err := n.permissionsPart.Permissions(ctx, tenant, ref)
	p.Granted, p.Narrowed = nil, p.Granted
	return p, err
}

// changing has a hook change every call.
type changing struct{ toolsPart }

func (c changing) Call(ctx context.Context, tenant, ref, tool string, req v1.CallRequest, watch httpapi.CallWatch) (v1.CallResult, error) {
	result, err := c.toolsPart.Call(ctx, tenant, ref, tool, req, watch)
	result.Changes = []v1.HookChange{{Plugin: "guard", Path: "/params/q", Before: json.RawMessage(`"a"`)}}
	return result, err
}

// installing installs demo, with a review if it is to ask, and notes the answer.
type installing struct {
	pluginsPart
	review  v1.Review
	answers chan string // room for one
}

func (i installing) Install(ctx context.Context, tenant string, req httpapi.Install, _ func(v1.Progress)) (v1.PluginDetail, error) {
	accept := req.Accept
	if accept == "" {
		answer, err := req.Review(ctx, i.review)
		if err != nil {
			return v1.PluginDetail{}, err
		}
		accept = "asked: " + answer.Accept
	}
	i.answers <- accept
	return i.Get(ctx, tenant, "demo")
}

// linked has demo be a linked directory.
type linked struct {
	installing
	dir string
}

func (l linked) Get(ctx context.Context, tenant, ref string) (v1.PluginDetail, error) {
	p, err := l.installing.Get(ctx, tenant, ref)
	p.Linked, p.Spec = true, l.dir
	return p, err
}

// poison is in every text of an evil daemon; poisonJSON in every JSON value.
const (
	poison     = "x\x1b[2J\u009b31m\u202e\u2028\r\ny"
	poisonJSON = "{\"k\u009b2J\": \"\u202e\u2028\\u001b[2J\"}"
)

// poisoned returns a T whose every text, list and pointer is filled with what
// would command a terminal.
func poisoned[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem())
	return v
}

func fill(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(at))
	case v.Type() == reflect.TypeFor[json.RawMessage]():
		v.SetBytes([]byte(poisonJSON))
	case v.Kind() == reflect.String:
		v.SetString(poison)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// evil is a backend in memory whose every answer is poisoned.
type evil struct{ *apitest.Backend }

func (evil) Status(context.Context, string) (v1.Status, error) { return poisoned[v1.Status](), nil }

func (evil) Get(context.Context, string, string) (v1.PluginDetail, error) {
	return poisoned[v1.PluginDetail](), nil
}

func (evil) Hooks(context.Context, string) ([]v1.Hook, error) { return poisoned[[]v1.Hook](), nil }

func (evil) Emit(context.Context, string, string, v1.EmitRequest, httpapi.CallWatch) (v1.EmitResult, error) {
	return poisoned[v1.EmitResult](), nil
}

func (evil) Services(context.Context, string) ([]v1.Service, error) {
	return poisoned[[]v1.Service](), nil
}

func (evil) Change(context.Context, string, string, string, string) (v1.Service, error) {
	return poisoned[v1.Service](), nil
}

func (evil) Permissions(context.Context, string, string) (v1.PluginPermissions, error) {
	return poisoned[v1.PluginPermissions](), nil
}

func (evil) Grant(context.Context, string, string, v1.GrantRequest) (v1.GrantResult, error) {
	return poisoned[v1.GrantResult](), nil
}

func (evil) Revoke(context.Context, string, string, v1.RevokeRequest) (v1.GrantResult, error) {
	return poisoned[v1.GrantResult](), nil
}

func (evil) GrantManifest(context.Context, string, string, v1.ManifestRequest) (v1.ManifestResult, error) {
	return poisoned[v1.ManifestResult](), nil
}

func (evil) Secrets(context.Context, string) ([]v1.Secret, error) {
	return poisoned[[]v1.Secret](), nil
}

func (evil) SetSecret(context.Context, string, string, v1.SetSecret) (v1.Secret, error) {
	return poisoned[v1.Secret](), nil
}

func (evil) MoveSecret(context.Context, string, string, v1.MoveSecret) (v1.Secret, error) {
	return poisoned[v1.Secret](), nil
}

func (evil) Connections(context.Context, string, v1.ConnectionQuery) ([]v1.Connection, error) {
	return poisoned[[]v1.Connection](), nil
}

func (evil) Learn(_ context.Context, _, _ string, req v1.LearnRequest) (v1.Learning, error) {
	l := poisoned[v1.Learning]()
	l.On = req.On
	return l, nil
}

func (evil) Learning(context.Context, string, string) (v1.Learning, error) {
	l := poisoned[v1.Learning]()
	l.On = false
	return l, nil
}

func (evil) Approvals(context.Context, string) ([]v1.Approval, error) {
	return poisoned[[]v1.Approval](), nil
}

func (evil) Resolve(context.Context, string, string, string) (v1.Approval, error) {
	return poisoned[v1.Approval](), nil
}

func (evil) Events(_ context.Context, _ v1.EventQuery, send func(v1.Event) error) error {
	data := map[string]any{
		v1.EventState: poisoned[v1.Plugin](), v1.EventService: poisoned[v1.Service](), v1.EventApproval: poisoned[v1.Approval](),
		v1.EventGrant: poisoned[v1.PermissionChange](), v1.EventConnection: poisoned[v1.Connection](),
		v1.EventInstalled: poisoned[v1.Plugin](), v1.EventPlugin: poisoned[v1.PluginEvent](), v1.EventHook: poisoned[v1.HookEvent](),
		v1.EventWish:           poisoned[v1.Permission](),
		"of.tomorrow" + poison: json.RawMessage(poisonJSON),
	}
	for kind, value := range data {
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if err := send(v1.Event{Seq: 1, Time: at, Tenant: poison, Plugin: poison, Type: kind, Data: text}); err != nil {
			return err
		}
	}
	return nil
}

func (evil) Call(_ context.Context, _, _, _ string, _ v1.CallRequest, watch httpapi.CallWatch) (v1.CallResult, error) {
	if watch.Update != nil {
		watch.Update(json.RawMessage(`{"content":[{"type":"text","text":"\u001b[2J` + "\u009b" + `"}]}`))
		watch.Update(json.RawMessage(poisonJSON))
	}
	if watch.Ask != nil {
		asked := poisoned[v1.Approval]()
		asked.Decision = ""
		watch.Ask(asked)
		watch.Ask(poisoned[v1.Approval]())
	}
	return poisoned[v1.CallResult](), nil
}

func (evil) Install(ctx context.Context, _ string, req httpapi.Install, progress func(v1.Progress)) (v1.PluginDetail, error) {
	progress(poisoned[v1.Progress]())
	if req.Accept == "" {
		r := poisoned[v1.Review]()
		basic, sensitive := poisoned[v1.Permission](), poisoned[v1.Permission]()
		basic.Command, basic.Sensitive, sensitive.Command = "", false, ""
		tools := []v1.Permission{basic, basic}
		for i := range tools {
			tools[i].Kind, tools[i].Target = "registration", poison+":"+strings.Repeat("x", i)+poison
		}
		r.Permissions = append(append(r.Permissions, basic, sensitive), tools...)
		if _, err := req.Review(ctx, r); err != nil {
			return v1.PluginDetail{}, err
		}
	}
	return poisoned[v1.PluginDetail](), nil
}

// Nothing that a plugin makes commands the terminal, or begins a line.
func TestNothingCommandsTheTerminal(t *testing.T) {
	d := newDaemon(t)
	e := evil{d.backend}
	parts := d.backend.Parts()
	parts.System, parts.Plugins, parts.Tools, parts.Hooks = e, e, e, e
	parts.Services, parts.Permissions, parts.Approvals, parts.Events = e, e, e, e
	parts.Secrets, parts.Network, parts.Learning = e, e, e
	manifest := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(manifest, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.socket += "2"
	d.serve(t, parts)
	for _, args := range []string{
		"status", "status -A", "hooks list", "hooks list -A", "hooks emit e", "services list", "services list -A", "services stop a b",
		"plugins permissions demo", "plugins grant demo env TZ", "plugins revoke demo env TZ", "approvals list", "approvals list -A",
		"approvals deny x", "events", "events -A", "tools call demo t", "plugins install new --yes", "plugins install new",
		"status --json", "hooks list --json", "hooks emit e --json", "services list --json", "plugins permissions demo --json",
		"secrets list", "secrets list --json", "secrets set KEY --env", "secrets move demo a KEY --env", "network log", "network log -A", "network log --json",
		"plugins learn demo", "plugins learn demo --ask", "plugins learn demo --stop", "plugins grant demo --manifest " + manifest, "plugins info demo",
		"approvals list --json", "events --json", "tools call demo t --json", "plugins install new --json",
	} {
		c := &command{terminal: true, hidden: "k", stdin: strings.NewReader("y\ny\n")}
		code := c.run(t.Context(), d, strings.Fields(args)...)
		if code != 0 {
			t.Errorf("%s: exit code %d: %s", args, code, c.stderr.String())
		}
		own := strings.NewReplacer("\r\x1b[K", "", "\n", "", "\t", "") // what takes a line of progress back
		for _, text := range []string{c.stdout.String(), c.stderr.String()} {
			if i := strings.IndexFunc(own.Replace(text), unsafe); i >= 0 {
				t.Errorf("%s: printed %q", args, own.Replace(text)[max(0, i-40):])
			}
			if slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool { return strings.HasPrefix(line, "y") }) {
				t.Errorf("%s: a plugin's text begins a line:\n%s", args, text)
			}
		}
		if !strings.Contains(c.stdout.String()+c.stderr.String(), `\u009b`) {
			t.Errorf("%s: the poison is nowhere:\n%s", args, c.stdout.String())
		}
	}
}
