package fetch

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// DefaultRegistry is npm's own default.
const DefaultRegistry = "https://registry.npmjs.org/"

// Endpoint is where a registry listens.
type Endpoint struct {
	Host      string
	Port      int
	Plaintext bool // http, not https
}

// Registry is the npm registry that packages come from.
type Registry struct {
	URL    string // ends with "/"
	base   *url.URL
	auth   map[string]string // .npmrc keys of this registry
	scopes map[string]string // scopes that have a registry of their own
}

// LoadRegistry reads the host's npm configuration, as npm does: the
// environment (npm_config_registry in either case), then .npmrc in home, or
// the file that npm_config_userconfig names. Of the tokens in it only those
// for this registry are taken.
func LoadRegistry(getenv func(string) string, home string) (Registry, error) {
	path := env(getenv, "npm_config_userconfig")
	if path == "" {
		path = filepath.Join(home, ".npmrc")
	}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return Registry{}, fmt.Errorf("cannot read npm's configuration: %w", err)
	}
	settings := parseNpmrc(data, getenv)
	address := env(getenv, "npm_config_registry")
	if address == "" {
		address = settings["registry"]
	}
	if address == "" {
		address = DefaultRegistry
	}
	r, err := NewRegistry(address)
	if err != nil {
		return Registry{}, err
	}
	for key, value := range settings {
		if scope, ok := strings.CutSuffix(key, ":registry"); ok && strings.HasPrefix(key, "@") {
			if !sameAddress(value, r.URL) {
				r.scopes[scope] = value
			}
			continue
		}
		if r.owns(key) {
			r.auth[key] = value
		}
	}
	return r, nil
}

// NewRegistry returns the registry at an http or https address, without
// credentials. InvalidArgument.
func NewRegistry(address string) (Registry, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Registry{}, fault.New(errdefs.ErrInvalidArgument, "bad_registry", "the npm registry must be an http or https address without a user").
			WithHint("set it with: npm config set registry %s", DefaultRegistry)
	}
	if _, err := port(u); err != nil {
		return Registry{}, err
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return Registry{URL: u.String(), base: u, auth: map[string]string{}, scopes: map[string]string{}}, nil
}

// Endpoint returns where the registry listens.
func (r Registry) Endpoint() Endpoint {
	p, _ := port(r.base) // NewRegistry checked it
	return Endpoint{Host: r.base.Hostname(), Port: p, Plaintext: r.base.Scheme == "http"}
}

// npmrc is the configuration for the container.
func (r Registry) npmrc() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "registry=%s\n", r.URL)
	for _, key := range slices.Sorted(maps.Keys(r.auth)) {
		fmt.Fprintf(&b, "%s=%s\n", key, strconv.Quote(r.auth[key]))
	}
	return b.Bytes()
}

// allows says whether a tarball may come from u: the registry itself, or what
// npm replaces by it, the public one.
func (r Registry) allows(u *url.URL) bool {
	public, _ := url.Parse(DefaultRegistry)
	return sameOrigin(u, r.base) || sameOrigin(u, public)
}

// serves refuses a package whose scope the host's npm takes from another
// registry: taking it from this one could give somebody else's package.
func (r Registry) serves(name string) error {
	scope, _, scoped := strings.Cut(name, "/")
	if other, elsewhere := r.scopes[scope]; scoped && elsewhere {
		return fault.New(errdefs.ErrFailedPrecondition, "scope_registry", "the package %s comes from another registry: .npmrc has %s:registry=%s", name, scope, other).
			WithHint("use one registry that serves every package: set npm_config_registry for the daemon, and remove the scope's registry")
	}
	return nil
}

// owns says whether a key of .npmrc is a credential for this registry, by
// npm's rule: //host/path/:name, for the registry's path or one above it.
func (r Registry) owns(key string) bool {
	i := strings.LastIndexByte(key, ':')
	if i < 0 || !slices.Contains([]string{"_authToken", "_auth", "username", "_password"}, key[i+1:]) {
		return false
	}
	prefix := key[:i]
	if !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	return strings.HasPrefix("//"+r.base.Host+r.base.Path, prefix)
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\??\}`)

// parseNpmrc reads the lines "key = value". A value that a line cannot hold is
// dropped.
func parseNpmrc(data []byte, getenv func(string) string) map[string]string {
	settings := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		key, value, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";") {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		value = variable.ReplaceAllStringFunc(value, func(m string) string { return getenv(variable.FindStringSubmatch(m)[1]) })
		if !strings.ContainsAny(value, "\r\n\x00") {
			settings[strings.TrimSpace(key)] = value
		}
	}
	return settings
}

func env(getenv func(string) string, name string) string {
	if v := getenv(name); v != "" {
		return v
	}
	return getenv(strings.ToUpper(name))
}

func sameAddress(a, b string) bool {
	return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/")
}

func sameOrigin(a, b *url.URL) bool {
	portA, errA := port(a)
	portB, errB := port(b)
	return errA == nil && errB == nil && a.Scheme == b.Scheme && portA == portB && strings.EqualFold(a.Hostname(), b.Hostname())
}

func port(u *url.URL) (int, error) {
	switch {
	case u.Port() != "":
		p, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || p == 0 {
			return 0, fmt.Errorf("%q is no port: %w", u.Port(), errdefs.ErrInvalidArgument)
		}
		return int(p), nil
	case u.Scheme == "http":
		return 80, nil
	}
	return 443, nil
}

// HostCAFiles returns the files with the certificates that this host trusts:
// the one that SSL_CERT_FILE names or the system's, and the one that
// NODE_EXTRA_CA_CERTS names.
func HostCAFiles(getenv func(string) string) []string {
	var files []string
	for _, f := range []string{
		getenv("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
			files = append(files, f)
			break
		}
	}
	extra := getenv("NODE_EXTRA_CA_CERTS")
	if info, err := os.Stat(extra); err == nil && info.Mode().IsRegular() && !slices.Contains(files, extra) {
		files = append(files, extra)
	}
	return files
}
