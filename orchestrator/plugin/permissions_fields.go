package plugin

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	segmentPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	eventPattern    = regexp.MustCompile(`^[A-Za-z0-9_.-]+(:[A-Za-z0-9_.-]+)*$`)
	sizePattern     = regexp.MustCompile(`^([1-9][0-9]{0,15})(KiB|MiB|GiB|TiB)?$`)
)

// Size is a number of bytes. Its JSON is "256MiB", or a plain number where no
// unit divides it.
type Size int64

var units = []struct {
	name  string
	bytes Size
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// String returns "256MiB", or the plain number where no unit divides it.
func (s Size) String() string {
	for _, u := range units {
		if s > 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads "256MiB", "1GiB" or a number of bytes, all larger than
// zero. Its error is a *[PermissionError] without a place.
func ParseSize(text string) (Size, error) {
	bad := refusal("is no size", `write a whole number of bytes, or one with KiB, MiB, GiB or TiB, for example "256MiB"`)
	m := sizePattern.FindStringSubmatch(text)
	if m == nil {
		return 0, bad
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, bad
	}
	for _, u := range units {
		if m[2] == u.name {
			if n > math.MaxInt64/int64(u.bytes) {
				return 0, bad
			}
			n *= int64(u.bytes)
		}
	}
	return Size(n), nil
}

// MarshalJSON returns the manifest's spelling.
func (s Size) MarshalJSON() ([]byte, error) {
	text := s.String()
	if strings.HasSuffix(text, "B") {
		text = `"` + text + `"`
	}
	return []byte(text), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Size) UnmarshalJSON(data []byte) error {
	n, err := ParseSize(strings.Trim(string(data), `"`))
	*s = n
	return err
}

func readSize(n node, least, most Size) (Size, error) {
	var text string
	switch v := n.value.(type) {
	case string:
		text = v
	case json.Number:
		text = v.String()
	default:
		return 0, n.wrongType("a size", `"256MiB"`)
	}
	size, err := ParseSize(text)
	if err != nil {
		return 0, n.refused(err)
	}
	if err := CheckSize(size, least, most); err != nil {
		return 0, n.refused(err)
	}
	return size, nil
}

// CheckSize reports a size outside of the bounds, as a *[PermissionError]
// without a place.
func CheckSize(size, least, most Size) error {
	if size < least || size > most {
		return refusal("is out of range", fmt.Sprintf("write a size from %s to %s", least, most))
	}
	return nil
}

func readState(n node) (StateLimit, error) {
	fields, err := n.members("max")
	if err != nil {
		return StateLimit{}, err
	}
	var s StateLimit
	if v, ok := fields["max"]; ok {
		s.Max, err = readSize(v, MinState, MaxState)
	}
	return s, err
}

func readResources(n node) (Resources, error) {
	fields, err := n.members("memory", "cpus", "pids")
	if err != nil {
		return Resources{}, err
	}
	var r Resources
	if v, ok := fields["memory"]; ok {
		if r.Memory, err = readSize(v, MinMemory, MaxMemory); err != nil {
			return r, err
		}
	}
	if v, ok := fields["cpus"]; ok {
		number, isNumber := v.value.(json.Number)
		if !isNumber {
			return r, v.wrongType("a number", "0.5")
		}
		if r.CPUs, err = ParseCPUs(number.String()); err != nil {
			return r, v.refused(err)
		}
	}
	if v, ok := fields["pids"]; ok {
		number, isNumber := v.value.(json.Number)
		if !isNumber {
			return r, v.wrongType("a number", "64")
		}
		if r.PIDs, err = ParsePIDs(number.String()); err != nil {
			return r, v.refused(err)
		}
	}
	return r, nil
}

// ParseCPUs reads a number of processors, rounded to thousandths. Its error
// is a *[PermissionError] without a place.
func ParseCPUs(text string) (float64, error) {
	n, err := strconv.ParseFloat(text, 64)
	n = math.Round(n*1000) / 1000
	if err != nil || !(n >= MinCPUs && n <= MaxCPUs) {
		return 0, refusal("is no number of processors", fmt.Sprintf("write a number from %v to %v", MinCPUs, MaxCPUs))
	}
	return n, nil
}

// ParsePIDs reads a number of processes and threads. Its error is a
// *[PermissionError] without a place.
func ParsePIDs(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < MinPIDs || n > MaxPIDs {
		return 0, refusal("is no number of processes", fmt.Sprintf("write a whole number from %d to %d", MinPIDs, MaxPIDs))
	}
	return n, nil
}

// CheckSecretName reports why name cannot be a secret's, as a
// *[PermissionError] without a place.
func CheckSecretName(name string) error {
	if len(name) > MaxVariableLen || !variablePattern.MatchString(name) {
		return refusal("is no name of a secret or variable",
			fmt.Sprintf(`write letters, digits and "_", not starting with a digit, at most %d`, MaxVariableLen))
	}
	return nil
}

// CheckEnvName reports why name is no environment variable that a plugin can
// be given: those that change how its process loads code, and those that ocmt
// sets itself, are refused. Its error is a *[PermissionError] without a place.
func CheckEnvName(name string) error {
	if err := CheckSecretName(name); err != nil {
		return err
	}
	upper := strings.ToUpper(name)
	has := func(part string) bool { return strings.HasPrefix(upper, part) }
	if upper != "NODE_ENV" && slices.ContainsFunc(reservedPrefixes, has) || slices.Contains(reservedVariables, upper) || strings.HasSuffix(upper, "_PROXY") {
		return refusal("is a variable that no plugin is given",
			"leave it out: it changes how the plugin's process loads code, resolves names or reaches the network, or ocmt sets it")
	}
	return nil
}

// What no grant changes; the runner holds the same list
// (images/runner-node/src/env.mjs).
var (
	reservedVariables = []string{
		"HOME", "PATH", "TMPDIR", "__PROTO__", "GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "TZDIR",
		"HOSTALIASES", "LOCALDOMAIN", "RES_OPTIONS", "BASH_ENV",
	}
	reservedPrefixes = []string{"OCMT_", "NODE_", "NPM_CONFIG_", "UV_", "OPENSSL_", "SSL_CERT_", "LD_", "MALLOC_"}
)

// CheckConfigPath reports why path is no dot path into config.json, as a
// *[PermissionError] without a place.
func CheckConfigPath(path string) error {
	const example = `write names with dots between them, for example "agents.defaults.model"`
	parts := strings.Split(path, ".")
	if len(path) > MaxConfigPathLen || len(parts) > MaxConfigDepth {
		return refusal("is too long or too deep", fmt.Sprintf("at most %d names and %d bytes are allowed", MaxConfigDepth, MaxConfigPathLen))
	}
	for _, part := range parts {
		if !segmentPattern.MatchString(part) {
			return refusal("is no path into the configuration", example)
		}
	}
	return nil
}

// CheckHostMethod reports why name is no host method that can be asked for,
// as a *[PermissionError] without a place.
func CheckHostMethod(name string) error {
	if name != HostEmit {
		return refusal("is unknown", `the host methods that need a permission are: "`+HostEmit+`"`)
	}
	return nil
}

func readHooks(n node) (map[string][]HookRight, error) {
	fields, err := n.object()
	if err != nil {
		return nil, err
	}
	if len(fields) > MaxPermissionList {
		return nil, n.problem("names %d events", len(fields)).hint("at most %d are allowed", MaxPermissionList)
	}
	var out map[string][]HookRight
	for _, f := range fields {
		event, err := LookupEvent(f.name)
		if err != nil {
			return nil, f.refused(err)
		}
		rights, err := readRights(event, f.node)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = map[string][]HookRight{}
		}
		out[f.name] = rights
	}
	return out, nil
}

func readRights(event HookEvent, n node) ([]HookRight, error) {
	if s, ok := n.value.(string); ok {
		rights, err := event.ParseRights(s)
		if err != nil {
			return nil, n.refused(err)
		}
		return rights, nil
	}
	list, err := n.list()
	if err != nil {
		return nil, n.wrongType("rights", `"observe" or ["modify", "block"]`)
	}
	var words []string
	for _, e := range list {
		word, err := e.text()
		if err != nil {
			return nil, err
		}
		if _, err := event.ParseRights(word); err != nil {
			return nil, e.refused(err)
		}
		words = append(words, word)
	}
	rights, err := event.ParseRights(strings.Join(words, ","))
	if err != nil {
		return nil, n.refused(err)
	}
	return rights, nil
}

// LookupEvent returns the event that a manifest or a grant names. For an
// unknown one it returns a *[PermissionError] without a place that lists
// names that are close.
func LookupEvent(name string) (HookEvent, error) {
	if len(name) <= MaxEventLen && eventPattern.MatchString(name) {
		if event, ok := HookEventOf(name); ok {
			return event, nil
		}
	}
	hint := "see the documentation for the names of events"
	if near := nearEvents(name); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return HookEvent{}, refusal("is no event", hint)
}

// ParseRights reads "modify,block" and returns the rights in the order of
// e.Rights, with RightObserve, which all others imply. A right that the event
// does not have is refused with a *[PermissionError] without a place.
func (e HookEvent) ParseRights(text string) ([]HookRight, error) {
	asked := map[HookRight]bool{RightObserve: true}
	for word := range strings.SplitSeq(text, ",") {
		right := HookRight(strings.TrimSpace(word))
		if !slices.Contains(e.Rights, right) {
			return nil, refusal("is no right that the event has",
				fmt.Sprintf("the rights of %s are %s", e.Name, JoinRights(e.Rights)))
		}
		asked[right] = true
	}
	var out []HookRight
	for _, right := range e.Rights {
		if asked[right] {
			out = append(out, right)
		}
	}
	return out, nil
}

// JoinRights returns "observe,modify,block".
func JoinRights(rights []HookRight) string {
	words := make([]string, len(rights))
	for i, r := range rights {
		words[i] = string(r)
	}
	return strings.Join(words, ",")
}

// nearEvents returns up to three names of events that name may be a slip of.
func nearEvents(name string) []string {
	if len(name) > MaxEventLen {
		return nil
	}
	type candidate struct {
		name     string
		distance int
	}
	var near []candidate
	for _, event := range names(eventTable) {
		if d := editDistance(strings.ToLower(name), event); d <= max(2, len(event)/3) {
			near = append(near, candidate{event, d})
		}
	}
	slices.SortStableFunc(near, func(a, b candidate) int { return a.distance - b.distance })
	var out []string
	for _, c := range near[:min(3, len(near))] {
		out = append(out, c.name)
	}
	return out
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
