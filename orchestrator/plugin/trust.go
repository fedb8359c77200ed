package plugin

import (
	"regexp"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Trust is how much is known of where a plugin came from. It decides what a
// plugin begins with; what it may do is granted, whatever its level.
type Trust string

// The levels. Plugins of the first two do not exist yet.
const (
	TrustBuiltIn  Trust = "built-in" // shipped with ocmt and reviewed with it, still contained
	TrustVerified Trust = "verified" // on a signed list
	TrustNPM      Trust = "npm"
	TrustPath     Trust = "path"
	TrustArchive  Trust = "archive"
)

// Level is what a level of trust brings along.
type Level struct {
	Trust Trust `json:"trust"`
	// Confirm says that a person must confirm an install.
	Confirm bool `json:"confirm"`
	// Signed says that an install without a valid signature is refused.
	Signed bool `json:"signed"`
	// Resources are the limits of a plugin that is granted no others.
	Resources Resources `json:"resources"`
}

// Levels returns all levels, the most trusted first.
func Levels() []Level {
	usual := Resources{Memory: 256 << 20, CPUs: 0.5, PIDs: 64}
	ample := Resources{Memory: 512 << 20, CPUs: 1, PIDs: 128}
	return []Level{
		{Trust: TrustBuiltIn, Resources: ample},
		{Trust: TrustVerified, Signed: true, Resources: ample},
		{Trust: TrustPath, Resources: usual}, // its user controls the directory
		{Trust: TrustNPM, Confirm: true, Resources: usual},
		{Trust: TrustArchive, Confirm: true, Resources: usual},
	}
}

// TrustOf returns the level of plugins from a source. An unknown source has the
// lowest.
func TrustOf(source Source) Trust {
	switch source {
	case SourceNPM:
		return TrustNPM
	case SourcePath:
		return TrustPath
	case SourceArchive:
	}
	return TrustArchive
}

// Level returns what t brings along; a level that is none is the lowest.
func (t Trust) Level() Level {
	levels := Levels()
	if at := slices.IndexFunc(levels, func(l Level) bool { return l.Trust == t }); at >= 0 {
		return levels[at]
	}
	return levels[len(levels)-1]
}

// everyLevel stands for all levels in a requirement.
const everyLevel = "all"

var runtimePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]*$`)

// ParseRequirements reads which OCI runtime an operator requires for which
// levels, from texts as "npm=runsc". "all" is every level that is not named
// itself. Levels without a requirement are missing in the result. Errors are
// InvalidArgument and have a hint.
func ParseRequirements(texts []string) (map[Trust]string, error) {
	named := map[string]string{}
	for _, text := range texts {
		level, runtime, found := strings.Cut(text, "=")
		switch before, again := named[level]; {
		case !found:
			return nil, badRequirement("the requirement %q names no runtime", text)
		case level != everyLevel && !isLevel(Trust(level)):
			return nil, badRequirement("the requirement %q is for a level of trust that does not exist", text)
		case !runtimePattern.MatchString(runtime):
			return nil, badRequirement("the requirement %q names no runtime: a name has letters, digits, '.', '_' and '-'", text)
		case again && before != runtime:
			return nil, badRequirement("level %s is required to use %s and %s", level, before, runtime)
		}
		named[level] = runtime
	}
	required := map[Trust]string{}
	for _, l := range Levels() {
		for _, name := range []string{everyLevel, string(l.Trust)} { // the level's own name counts more
			if runtime, ok := named[name]; ok {
				required[l.Trust] = runtime
			}
		}
	}
	return required, nil
}

func isLevel(t Trust) bool {
	return slices.ContainsFunc(Levels(), func(l Level) bool { return l.Trust == t })
}

func badRequirement(format string, args ...any) error {
	names := []string{everyLevel}
	for _, l := range Levels() {
		names = append(names, string(l.Trust))
	}
	return fault.New(errdefs.ErrInvalidArgument, "requirement_invalid", format, args...).
		WithHint("write LEVEL=RUNTIME, for example npm=runsc, with one of the levels %s", strings.Join(names, ", "))
}
