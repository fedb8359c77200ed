package plugin

import (
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// PermissionsFile is the permission manifest of a package that has neither
// of the others; see [FindPermissions].
const PermissionsFile = "ocmt.permissions.json"

// Files are those that describe a plugin, from its package's root; each is
// nil where there is none.
type Files struct {
	Package     []byte // PackageFile
	Manifest    []byte // ManifestFile
	Permissions []byte // PermissionsFile
}

// FindPermissions returns the permission manifest of a package, and whether
// it has one: "ocmt.permissions" of package.json or of openclaw.plugin.json,
// or the file ocmt.permissions.json. Where there are several they must say
// the same. Errors are of class fault.ErrPlugin.
func FindPermissions(f Files) (Permissions, bool, error) {
	var found Permissions
	var foundIn string
	for _, source := range []struct {
		name string
		read func() (json.RawMessage, error)
	}{
		{PackageFile, func() (json.RawMessage, error) { return inPackage(f.Package) }},
		{ManifestFile, func() (json.RawMessage, error) { return inManifest(f.Manifest) }},
		{PermissionsFile, func() (json.RawMessage, error) { return f.Permissions, nil }},
	} {
		raw, err := source.read()
		if err != nil {
			return Permissions{}, false, err
		}
		if raw == nil {
			continue
		}
		p, _, err := ReadPermissions(raw)
		if err != nil {
			return Permissions{}, false, badPermissions("the permissions in "+source.name, err)
		}
		if foundIn != "" && !reflect.DeepEqual(p, found) {
			return Permissions{}, false, fault.New(fault.ErrPlugin, "bad_permissions",
				"the permissions in %s and in %s differ", foundIn, source.name).
				WithHint("the plugin's author must keep one of the two")
		}
		found, foundIn = p, source.name
	}
	return found, foundIn != "", nil
}

func inPackage(data []byte) (json.RawMessage, error) {
	if len(data) == 0 {
		return nil, nil
	}
	data, err := prepare(PackageFile, data)
	if err != nil {
		return nil, err
	}
	return permissionsIn(PackageFile, data)
}

func inManifest(data []byte) (json.RawMessage, error) {
	if data == nil {
		return nil, nil
	}
	strict, err := parseManifest(data)
	if err != nil {
		return nil, err
	}
	return permissionsIn(ManifestFile, strict)
}

// permissionsIn returns ocmt.permissions, nil if there is none. Names that
// are there twice are refused on the way: a person and a program would read
// different ones.
func permissionsIn(file string, data json.RawMessage) (json.RawMessage, error) {
	path := "ocmt"
	own, err := onlyMember(file, data, path, "ocmt")
	if err != nil || own == nil {
		return nil, err
	}
	return onlyMember(file, own, path+".permissions", "permissions")
}

func onlyMember(file string, data json.RawMessage, path, name string) (json.RawMessage, error) {
	list, ok := members(data)
	if !ok {
		return nil, broken(file, path+" cannot be read: it must be in an object")
	}
	var found json.RawMessage
	for _, m := range list {
		if m.key != name {
			continue
		}
		if found != nil {
			return nil, broken(file, path+" is there twice")
		}
		found = m.value
	}
	return found, nil
}

// Wish is something that a plugin seems to want, read from what its manifest
// tells other programs. It is shown as a request, and never granted unasked.
type Wish struct {
	Kind   string `json:"kind"`             // "network", "secret" or "env"
	Target string `json:"target"`           // "host:port", or a name
	Reason string `json:"reason,omitempty"` // where it was read
}

// Kinds of a Wish.
const (
	WishNetwork = "network"
	WishSecret  = "secret"
	WishEnv     = "env"
)

// openClawHints is what is read of an openclaw.plugin.json for wishes.
type openClawHints struct {
	setup struct {
		Providers []struct {
			EnvVars []string `json:"envVars"`
		} `json:"providers"`
	}
	contracts struct {
		SecretInputs struct {
			Paths []struct {
				Path string `json:"path"`
			} `json:"paths"`
		} `json:"secretInputs"`
	}
	uiHints map[string]struct {
		Sensitive bool `json:"sensitive"`
	}
	endpoints []struct {
		Hosts        []string `json:"hosts"`
		HostSuffixes []string `json:"hostSuffixes"`
		BaseURLs     []string `json:"baseUrls"`
	}
}

// wishes reads the hints of a manifest, in strict JSON. What does not parse
// is another program's business and left out.
func wishes(id string, manifest json.RawMessage) []Wish {
	var fields map[string]json.RawMessage
	if json.Unmarshal(manifest, &fields) != nil {
		return nil
	}
	var h openClawHints
	for name, into := range map[string]any{
		"setup": &h.setup, "configContracts": &h.contracts, "uiHints": &h.uiHints, "providerEndpoints": &h.endpoints,
	} {
		_ = json.Unmarshal(fields[name], into) // what does not fit is left out
	}
	list := append(h.environment(), h.secrets(id)...)
	list = append(list, h.hosts()...)
	slices.SortFunc(list, func(a, b Wish) int {
		return strings.Compare(a.Kind+" "+a.Target+" "+a.Reason, b.Kind+" "+b.Target+" "+b.Reason)
	})
	list = slices.CompactFunc(list, func(a, b Wish) bool { return a.Kind == b.Kind && a.Target == b.Target })
	return list[:min(len(list), MaxPermissionList)]
}

func (h openClawHints) environment() []Wish {
	var list []Wish
	for _, p := range h.setup.Providers {
		for _, name := range p.EnvVars {
			if CheckEnvName(name) == nil {
				list = append(list, Wish{WishEnv, name, "setup.providers names it"})
			}
		}
	}
	return list
}

// secrets makes a name of each path whose value the manifest calls secret:
// "webSearch.apiKey" of the plugin brave becomes BRAVE_WEB_SEARCH_API_KEY.
func (h openClawHints) secrets(id string) []Wish {
	var list []Wish
	add := func(path, reason string) {
		name := variableName(id + "." + path)
		if path != "" && CheckSecretName(name) == nil {
			list = append(list, Wish{WishSecret, name, "its setting " + Printable(path, 100) + " is secret: " + reason})
		}
	}
	for _, p := range h.contracts.SecretInputs.Paths {
		add(p.Path, "configContracts.secretInputs")
	}
	for path, hint := range h.uiHints {
		if hint.Sensitive {
			add(path, "uiHints")
		}
	}
	return list
}

// variableName returns path in upper case with "_" between its words.
func variableName(path string) string {
	var b strings.Builder
	word := false // the last rune was part of a word, in lower case
	for _, r := range path {
		switch {
		case r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r):
			if s := b.String(); s != "" && !strings.HasSuffix(s, "_") {
				b.WriteByte('_')
			}
			word = false
		case unicode.IsUpper(r) && word:
			b.WriteByte('_')
			b.WriteRune(r)
			word = false
		default:
			b.WriteRune(unicode.ToUpper(r))
			word = !unicode.IsUpper(r)
		}
	}
	name := strings.Trim(b.String(), "_")
	if name != "" && unicode.IsDigit(rune(name[0])) {
		name = "_" + name
	}
	return name
}

func (h openClawHints) hosts() []Wish {
	var list []Wish
	add := func(host, port string) {
		canonical, err := CanonicalHost(host)
		number, portErr := strconv.ParseUint(port, 10, 16)
		if err == nil && portErr == nil && number > 0 && strings.Contains(canonical, ".") {
			list = append(list, Wish{WishNetwork, canonical + ":" + strconv.FormatUint(number, 10), "providerEndpoints names it"})
		}
	}
	const port = "443"
	for _, e := range h.endpoints {
		for _, host := range e.Hosts {
			add(host, port)
		}
		for _, suffix := range e.HostSuffixes {
			suffix = strings.TrimPrefix(suffix, ".")
			add(suffix, port)
			add("*."+suffix, port)
		}
		for _, base := range e.BaseURLs {
			u, err := url.Parse(base)
			switch {
			case err != nil:
			case u.Port() != "":
				add(u.Hostname(), u.Port())
			case u.Scheme == "http":
				add(u.Hostname(), "80")
			default:
				add(u.Hostname(), port)
			}
		}
	}
	return list
}
