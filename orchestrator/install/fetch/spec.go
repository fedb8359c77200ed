package fetch

import (
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// Spec names a package of the registry.
type Spec struct {
	Name    string
	Version string // an exact version or a dist-tag; empty is npm's default
}

// String returns the spec as npm takes it.
func (s Spec) String() string {
	if s.Version == "" {
		return s.Name
	}
	return s.Name + "@" + s.Version
}

const maxVersionLen = 256 // node-semver's own limit

var (
	exactVersion = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	distTag      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*$`)
	looksLikeAny = regexp.MustCompile(`^[vVxX][0-9xX.*]*$`) // "v1", "x", "X.x": ranges to npm
)

// ParseSpec reads NAME, NAME@VERSION or NAME@TAG, each with or without a
// scope, and with or without "npm:" before it. Everything else that npm takes
// (ranges, URLs, git repositories, files) is refused. InvalidArgument.
func ParseSpec(s string) (Spec, error) {
	shown := plugin.Printable(s, 200)
	text := strings.TrimPrefix(s, "npm:")
	if kind := foreign(text); kind != "" {
		return Spec{}, fault.New(errdefs.ErrInvalidArgument, "bad_spec", "%q is %s, and only packages of the registry can be installed", shown, kind).
			WithHint("name a package like my-plugin, my-plugin@1.2.3 or @scope/my-plugin@latest")
	}
	name, version := text, ""
	if i := strings.LastIndexByte(text, '@'); i > 0 {
		name, version = text[:i], text[i+1:]
		if version == "" {
			return Spec{}, badSpec(shown, `there is no version after the "@"`)
		}
	}
	if err := plugin.CheckPackageName(name); err != nil {
		return Spec{}, badSpec(shown, err.Error())
	}
	switch {
	case version == "", exactVersion.MatchString(version) && len(version) <= maxVersionLen:
	case distTag.MatchString(version) && len(version) <= maxVersionLen && !looksLikeAny.MatchString(version):
	default:
		return Spec{}, badSpec(shown, "the version must be exact, or a dist-tag; ranges are refused")
	}
	return Spec{Name: name, Version: version}, nil
}

// foreign says what a spec is that npm would take from elsewhere than the
// registry, or nothing.
func foreign(s string) string {
	lower := strings.ToLower(s)
	afterScope := s
	if strings.HasPrefix(s, "@") {
		_, afterScope, _ = strings.Cut(s, "/")
	}
	switch {
	case strings.HasPrefix(lower, "git") && strings.ContainsAny(s, ":"), strings.HasSuffix(lower, ".git"):
		return "a git repository"
	case strings.HasPrefix(lower, "file:"), strings.HasPrefix(s, "."), strings.HasPrefix(s, "/"), strings.HasPrefix(s, "~"),
		strings.HasSuffix(lower, ".tgz"), strings.HasSuffix(lower, ".tar.gz"), strings.HasSuffix(lower, ".tar"):
		return "a file"
	case strings.Contains(s, "://"):
		return "a URL"
	case strings.Contains(s, ":"):
		return "a spec of a kind that is not supported"
	case strings.Contains(afterScope, "/"):
		return "a git repository"
	}
	return ""
}

func badSpec(spec, why string) error {
	return fault.New(errdefs.ErrInvalidArgument, "bad_spec", "cannot install %q: %s", spec, why).
		WithHint("name a package like my-plugin, my-plugin@1.2.3 or @scope/my-plugin@latest")
}
