package hostile

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// valueMark is in the value of every secret, and nowhere else.
const valueMark = "v4lue-0f-"

// keyHeader is where the secrets belong.
const keyHeader = "X-Api-Key"

// secretsGroup is what a plugin tries at secrets: its own, of which it holds a
// placeholder, and others'.
func secretsGroup() group {
	return group{name: "secrets", online: true, config: secretsConfig, after: valuesNowhere, attacks: []attack{
		bound(attack{
			name:  "secrets-other-host",
			aims:  "have the value sent to another host, port or scheme that is granted too, by itself or by a redirect",
			layer: "egress: a value is put in towards the secret's own host alone, over TLS",
			grants: [][]string{
				{"network", "second.other-host.example:443", "rules=* /*"}, {"network", "unseen.other-host.example:443"}, {"network", "*.more.other-host.example:443", "rules=* /*"},
				{"network", "{host}:8443", "rules=* /*"}, {"network", "{host}:80", "plaintext,rules=* /*"}, {"network", "{host}:8080", "plaintext"},
			},
			want:   map[string]string{"": `ok reached .*`},
			inside: "what arrives there is the placeholder",
		}, "api.other-host.example"),
		bound(attack{
			name:   "secrets-other-places",
			aims:   "have the value put where the host stores or shows it: another header, the query, the path, a cookie, the body, a trailer, a WebSocket",
			layer:  "egress: a value is put into the secret's own header, and nowhere else",
			want:   map[string]string{"": `ok .*`, "method": refusedRequest + "|ok .*"},
			inside: "what arrives there is the placeholder",
		}, "api.places.example"),
		bound(attack{
			name:   "secrets-echo",
			aims:   "read the value back from a host that tells it: early, in headers, in pieces, in an error, in a trailer",
			layer:  "egress: answers are searched for the value, across the borders of pieces",
			want:   map[string]string{"": "ok .*" + placeholderMark + ".*"},
			inside: "it reads its own placeholder",
			check:  identityAsked,
		}, "api.echo.example"),
		bound(attack{
			name:   "secrets-basic",
			aims:   "read the value back from the encoded form of Basic authentication",
			layer:  "egress: what goes out encoded is searched for in that form too",
			want:   map[string]string{"": "ok .*"},
			inside: "it reads its own credentials",
		}, "api.basic.example", "Authorization"),
		bound(attack{
			name:    "secrets-guess",
			aims:    "use another plugin's placeholder, or one that it guesses",
			layer:   "each plugin has its own placeholders, of 40 random characters; the broker knows those of its own plugin alone",
			prepare: otherHolder, params: `{"key":"{key}","other":"{other}"}`,
			want:   map[string]string{"": `ok reached .*`, "placeholders": "differ"},
			inside: "what arrives there is the text that was guessed",
			check: func(t *testing.T, w *world) {
				w.run(t, "plugins", "uninstall", "holder")
				noVisit(t, w, "a value by a guess", func(v visit) bool { return v.tls == w.vars["host"] && v.holds(valueMark) && v.uri != "/own" })
			},
		}, "api.guess.example"),
		bound(attack{
			name:   "secrets-inside",
			aims:   "find the value in the container: variables, arguments, files, other processes",
			layer:  "the value never enters the container",
			want:   map[string]string{"found": "nothing", "held": "ok " + placeholderMark + ".*", "init's memory": "EACCES|EPERM|EIO|ENOENT"},
			params: `{"key":"{key}","backwards":"{backwards}"}`,
			inside: "the placeholder is its own",
			varies: true,
		}, "api.inside.example"),
		bound(attack{
			name:   "secrets-references",
			aims:   "have references to others' secrets filled in, in its own configuration and in what it was granted of the rest",
			layer:  "policy: a reference is filled for a secret that was granted; what looks like a key is shown as a reference",
			grants: [][]string{{"config", "models"}, {"config", "gateway"}},
			want: map[string]string{
				"own": "ok " + placeholderMark + ".*", "another": `ok \{"source":"ocmt","id":"OTHERS_KEY"\}`, "variable": `ok \{"source":"env","id":"HOSTILE_SECRET"\}`,
				"file": `ok \{"source":"file","id":"/etc/shadow"\}`, "command": `ok \{"source":"exec","id":"cat /etc/shadow"\}`, "granted key": `ok \{"source":"config",.*\}`,
				"granted token": `ok \{"source":"config",.*\}`, "granted rest": "ok https://models.example", "others": "nothing", "all": "no key",
			},
			inside: "its own reference becomes its own placeholder",
			prepare: func(t *testing.T, w *world) {
				setSecret(t, w, "OTHERS_KEY", "of-others", "--host", "others.example", "--header", keyHeader)
			},
		}, "api.references.example"),
		bound(attack{
			name:  "secrets-environment",
			aims:  "be handed the value as a variable, or the host's own variables",
			layer: "grants: a secret is handed out in plain if its owner said so; a plugin's variables are its own",
			want:  map[string]string{"host's": "undefined", "names": "its own alone", "others'": "undefined"},
			check: func(t *testing.T, w *world) {
				for _, name := range []string{w.vars["key"], "OTHERS_KEY_TOO"} {
					if res := w.daemon.Run(t.Context(), "plugins", "grant", w.id, "env", name); res.Code == 0 && name == w.vars["key"] {
						t.Errorf("%s is handed out: %s", name, res.Stdout)
					}
				}
				w.judged(t, "attack", map[string]string{"host's": "undefined", "names": "its own alone", "others'": "undefined"})
			},
		}, "api.environment.example"),
		bound(attack{
			name:    "secrets-certificate",
			aims:    "have the value sent to whoever answers for the secret's host, without a good certificate",
			layer:   "egress: the host's certificate is verified on the host before a value is put in, whatever the plugin says of TLS",
			want:    map[string]string{"": cut, "granted": reached},
			inside:  isGranted,
			records: []record{{action: "network.close", target: `expired\.cert-key\.example:443`, outcome: "denied", code: "certificate"}},
			check: func(t *testing.T, w *world) {
				noVisit(t, w, "without a good certificate", func(v visit) bool {
					return strings.HasSuffix(v.tls, ".cert-key.example") && v.tls != "good.cert-key.example"
				})
			},
		}, "*.cert-key.example"),
		bound(attack{
			name:    "secrets-rebind",
			aims:    "have the value sent to another address that the secret's host leads to later",
			layer:   "egress: every connection is to an address that was checked, with a certificate that was verified",
			want:    map[string]string{"": "[1-9][0-9]* reached, [1-9][0-9]* refused, 0 elsewhere"},
			records: []record{denial(`rebind-169-254-169-254\.key\.example:443`, "address_refused")},
		}, "rebind-169-254-169-254.key.example"),
		bound(attack{
			name:   "secrets-headers",
			aims:   "have the value written elsewhere by headers that are read in two ways",
			layer:  "egress: requests are read by net/http and written anew, with the value in one header",
			want:   map[string]string{"": `ok 200(,[0-9]+)*|502|` + refusedRequest, "granted": "ok 200"},
			inside: "what the host gets is one request, unambiguous",
			check:  valueInOneHeader,
		}, "strict.headers.example"),
		bound(attack{
			name:    "secrets-front",
			aims:    "have the value sent to another host behind the same address",
			layer:   "egress: where a secret goes, a request is for the granted host or it is refused",
			want:    map[string]string{"": refusedRequest, "granted": "ok 200"},
			inside:  isGranted,
			records: []record{requestDenied(`api\.fronted\.example:443`)},
			check: func(t *testing.T, w *world) {
				noVisit(t, w, "for another host", func(v visit) bool { return v.tls == w.vars["host"] && hostOf(v.host) != w.vars["host"] })
			},
		}, "api.fronted.example"),
		bound(attack{
			name:   "secrets-revoked",
			aims:   "use a secret that it does not have any more, by the placeholder that it remembers",
			layer:  "the broker knows the placeholders of what is granted now",
			want:   map[string]string{"": `ok reached .*`},
			inside: isGranted,
			check: func(t *testing.T, w *world) {
				w.run(t, "plugins", "revoke", w.id, "secret", w.vars["key"])
				w.judged(t, "after", map[string]string{"again": `ok reached .*`, "held": "undefined"})
				noVisit(t, w, "with the value", func(v visit) bool { return v.uri == "/again" && v.holds(valueMark) })
			},
		}, "api.revoked.example"),
		bound(attack{
			name:  "secrets-other-tenant",
			aims:  "use another tenant's secret by its name",
			layer: "the tenant is in every name; a secret that its own tenant does not have cannot be granted",
			want:  map[string]string{"theirs": "undefined"},
			check: func(t *testing.T, w *world) {
				setSecret(t, w, "THEIR_KEY", "of-the-tenant-beta", "--host", "api.tenant.example", "--header", keyHeader, "--tenant", "beta")
				for _, kind := range []string{"secret", "env"} {
					if res := w.daemon.Run(t.Context(), "plugins", "grant", w.id, kind, "THEIR_KEY"); res.Code == 0 && kind == "secret" {
						t.Errorf("granted: %s", res.Stdout)
					}
				}
				w.judged(t, "attack", map[string]string{"theirs": "undefined"})
			},
		}, "api.tenant.example"),
	}}
}

const placeholderMark = "ocmt-secret-"

// secretsConfig is the config.json of the group's home, with keys of others.
const secretsConfig = `{
  "gateway": {"auth": {"token": "C0NFIG-token-of-the-gateway"}},
  "models": {"providers": {"one": {"baseUrl": "https://models.example", "apiKey": "C0NFIG-key-of-a-model"}}},
  "plugins": {"entries": {
    "someone-else": {"config": {"apiKey": "C0NFIG-key-of-someone", "ours": {"source": "ocmt", "id": "SECRETS_REFERENCES_KEY"}}},
    "hostile-secrets-references": {"config": {
      "own": {"source": "ocmt", "id": "SECRETS_REFERENCES_KEY"}, "another": {"source": "ocmt", "id": "OTHERS_KEY"},
      "variable": {"source": "env", "id": "HOSTILE_SECRET"}, "file": {"source": "file", "id": "/etc/shadow"}, "command": {"source": "exec", "id": "cat /etc/shadow"}
    }}
  }}
}`

// setSecret sets a secret.
func setSecret(t *testing.T, w *world, name, value string, args ...string) {
	t.Helper()
	res := w.daemon.RunInput(t.Context(), strings.NewReader(value), append([]string{"secrets", "set", name}, args...)...)
	if res.Code != 0 {
		t.Fatalf("secrets set %s: exit code %d: %s", name, res.Code, res.Stderr)
	}
}

// bound gives an attack a secret of its own for a host, which it is granted
// with that host, and has its value followed: it arrives at the host in the
// header, and nowhere else.
func bound(a attack, host string, header ...string) attack {
	header = append(header, keyHeader)
	key := strings.ToUpper(strings.ReplaceAll(a.name, "-", "_")) + "_KEY"
	prepare, check := a.prepare, a.check
	a.prepare = func(t *testing.T, w *world) {
		value := []byte(valueMark + a.name)
		setSecret(t, w, key, string(value), "--host", host, "--header", header[0])
		w.vars["key"], w.vars["host"] = key, host
		for i, j := 0, len(value)-1; i < j; i, j = i+1, j-1 {
			value[i], value[j] = value[j], value[i]
		}
		w.vars["backwards"] = string(value)
		if prepare != nil {
			prepare(t, w)
		}
	}
	grants := append([][]string{{"secret", key}, {"network", host + ":443"}}, a.grants...)
	a.grants = grants
	if a.params == "" {
		a.params = `{"key":"{key}"}`
	}
	a.check = func(t *testing.T, w *world) {
		if check != nil {
			check(t, w)
		}
		if strings.Contains(string(w.result), valueMark) {
			t.Errorf("it learned the value: %s", w.result)
		}
		followed(t, w, header[0])
	}
	return a
}

// followed looks at where the value of the attack's secret went.
func followed(t *testing.T, w *world, header string) {
	t.Helper()
	value := valueMark + strings.TrimPrefix(w.id, "hostile-")
	suffix := strings.TrimPrefix(w.vars["host"], "*")
	for _, v := range w.web.visited(func(v visit) bool { return v.holds(value) }) {
		if !strings.HasSuffix(v.tls, suffix) || hostOf(v.host) != v.tls || !strings.HasSuffix(v.to, ":443") {
			t.Errorf("the value went to %+v", v)
		}
		v.header = v.header.Clone()
		v.header.Del(header)
		if v.holds(value) {
			t.Errorf("the value went elsewhere than into %s: %+v", header, v)
		}
	}
}

// identityAsked holds that the host was asked not to compress, and got the
// value.
func identityAsked(t *testing.T, w *world) {
	visits := w.web.visited(of(w.vars["host"]))
	if len(visits) < 5 {
		t.Errorf("%d requests came", len(visits))
	}
	for _, v := range visits {
		if v.header.Get("Accept-Encoding") != "identity" || !strings.HasPrefix(v.header.Get(keyHeader), valueMark) {
			t.Errorf("a request came as %v", v.header)
		}
	}
}

// otherHolder installs an honest plugin with a secret of the same host.
func otherHolder(t *testing.T, w *world) {
	t.Helper()
	dir := filepath.Join(w.dir, "holder")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"package.json":         `{"name": "holder", "version": "1.0.0", "type": "module", "main": "index.mjs"}`,
		"openclaw.plugin.json": `{"id": "holder", "configSchema": {"type": "object"}}`,
		"index.mjs": `const hold = async ({ name }) => ({ placeholder: process.env[name] });
export const tools = [{ name: "hold", description: "hold", parameters: { type: "object" }, execute: hold }];`,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	setSecret(t, w, "HOLDERS_KEY", valueMark+"the-holder", "--host", w.vars["host"], "--header", keyHeader)
	w.run(t, "plugins", "install", dir)
	var held struct{ Placeholder string }
	other := ""
	for _, name := range []string{"HOLDERS_KEY", w.vars["key"]} {
		w.run(t, "plugins", "grant", "holder", "secret", name)
		if err := w.daemon.JSON(t.Context(), &held, "tools", "call", "holder", "hold", "--params", `{"name":"`+name+`"}`); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(held.Placeholder, placeholderMark) {
			t.Fatalf("the honest plugin holds %q", held.Placeholder)
		}
		other += " " + held.Placeholder
	}
	w.vars["other"] = strings.TrimSpace(other)
}

// valueInOneHeader looks at each request as the strict site read it.
func valueInOneHeader(t *testing.T, w *world) {
	heads, found := w.web.strictHeads(w.vars["host"]), false
	for _, h := range heads {
		if h.wrong != "" {
			t.Errorf("%s: %q", h.wrong, h.lines)
		}
		for _, line := range h.lines {
			if strings.Contains(line, valueMark) {
				found = true
				if !strings.HasPrefix(line, keyHeader+": ") {
					t.Errorf("the value went into %q", line)
				}
			}
		}
	}
	if !found {
		t.Errorf("the value did not arrive: %q", heads)
	}
}

// valuesNowhere looks for the values in all that is kept or shown.
func valuesNowhere(t *testing.T, r *rig) {
	ctx := context.WithoutCancel(t.Context())
	places := map[string][]byte{
		"the daemon's log": []byte(r.daemon.Log()), "the network log": r.daemon.Run(ctx, "network", "log", "--json").Stdout, "the list": r.daemon.Run(ctx, "secrets", "list", "--json").Stdout,
	}
	err := filepath.WalkDir(r.daemon.Home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return nil //nolint:nilerr // what goes away meanwhile
		}
		if info, err := entry.Info(); err == nil && info.Size() < 32<<20 {
			places[path], _ = os.ReadFile(path)
		}
		return nil
	})
	if err != nil || len(places) < 8 {
		t.Errorf("%d places, %v", len(places), err)
	}
	arguments, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range arguments {
		places[path], _ = os.ReadFile(path)
	}
	for place, text := range places {
		if bytes.Contains(text, []byte(valueMark)) {
			t.Errorf("%s holds a value", place)
		}
	}
	arrived := r.web.visited(func(v visit) bool { return v.holds(valueMark) })
	if full && len(arrived) == 0 { // those that vary send none
		t.Error("no value arrived anywhere: they are not put in at all")
	}
	nothingElseSent(t, r)
}
