package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Bounds of a schema, which comes from the plugin, and of the work that it may
// cause. A schema can ask for exponential work (a definition that refers twice
// to the next, thirty times), hence the budget of visits.
const (
	maxSpec        = 1 << 20 // bytes of a tool's registration
	maxSchema      = 256 << 10
	maxSchemaNodes = 20_000 // JSON values
	maxSubschemas  = 2_000  // objects: the depth of the validator's stack
	maxDepth       = 64     // nesting of schemas and of parameters
	maxRegexps     = 40_000 // instructions of all patterns
	maxNumber      = 400    // characters, and the largest exponent: a float64 needs no more
	freeVisits     = 100_000
	visitsPerNode  = 16 // more visits for every value of the parameters
	maxNodeWork    = 20_000_000
	maxRegexpWork  = 200_000_000
)

var errTooMuchWork = errors.New("checking them against the schema takes too long")

// compiledTool checks parameters. Checks of one tool run one after another, so
// that a costly schema takes one core at most.
type compiledTool struct {
	mu        sync.Mutex
	schema    *jsonschema.Schema // nil: anything fits
	budget    *budget
	size      size
	regexps   int      // instructions
	unchecked []string // what of the schema is left to the plugin
}

// drafts are how a schema that names no draft is read: as the first that it
// is a schema of. Many tools still have the forms of the older ones.
var drafts = []*jsonschema.Draft{jsonschema.Draft2020, jsonschema.Draft7, jsonschema.Draft4}

// compileSchema compiles a tool's parameter schema. What cannot be checked in
// it is left to the plugin, down to the whole of it; it fails where a bound is
// exceeded and where the text is no schema at all.
func compileSchema(text json.RawMessage) (*compiledTool, error) {
	if len(text) == 0 || string(text) == "null" {
		text = json.RawMessage(`{"type":"object"}`)
	}
	doc, s, err := readSchema(text)
	if err != nil {
		return nil, err
	}
	var relaxed relaxation
	relaxed.schema(doc)
	var whole error
	for _, draft := range drafts {
		tool, err := compileDraft(doc, s, draft)
		if err == nil || tool.regexps > maxRegexps {
			tool.unchecked = relaxed.unchecked
			return tool, err
		}
		if whole == nil {
			whole = err
		}
	}
	return &compiledTool{unchecked: []string{"anything, since their schema cannot be used: " + whole.Error()}}, nil
}

// readSchema decodes a schema and bounds its size.
func readSchema(text json.RawMessage) (doc any, s size, err error) {
	if len(text) > maxSchema {
		return nil, s, fmt.Errorf("it has %d bytes, at most %d are allowed", len(text), maxSchema)
	}
	if doc, err = decode(text); err != nil {
		return nil, s, err
	}
	switch doc.(type) {
	case map[string]any, bool:
	default:
		return nil, s, errors.New("it is neither an object nor a boolean")
	}
	if at, err := s.measure(doc, 0); err != nil {
		return nil, s, fmt.Errorf("at %q: %w", at, err)
	}
	if s.nodes > maxSchemaNodes || s.objects > maxSubschemas {
		return nil, s, fmt.Errorf("it has %d values in %d objects, at most %d in %d are allowed", s.nodes, s.objects, maxSchemaNodes, maxSubschemas)
	}
	return doc, s, nil
}

// compileDraft returns the tool with an error too: what was compiled of it.
func compileDraft(doc any, s size, draft *jsonschema.Draft) (*compiledTool, error) {
	const location = "schema.json"
	tool := &compiledTool{budget: &budget{left: freeVisits}, size: s}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(draft)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(tool.compileRegexp)
	c.RegisterVocabulary(tool.budget.vocabulary())
	c.AssertVocabs()
	if err := c.AddResource(location, doc); err != nil {
		return tool, brief(err)
	}
	schema, err := c.Compile(location)
	if err != nil {
		return tool, brief(err)
	}
	tool.schema = schema
	return tool, nil
}

// brief bounds a message that quotes the schema.
func brief(err error) error { return errors.New(cut(oneLine(err.Error()), 500)) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// noLoader refuses every reference out of the schema: neither files nor the
// network are read for a plugin.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("references to other documents are not followed: %q", cut(url, 200))
}

// compileRegexp compiles a pattern in the linear-time syntax of Go (RE2) and
// counts its instructions.
func (t *compiledTool) compileRegexp(pattern string) (jsonschema.Regexp, error) {
	parsed, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	if t.regexps += instructions(parsed); t.regexps > maxRegexps {
		return nil, errors.New("the patterns of the schema are too large")
	}
	return regexp.Compile(pattern)
}

// instructions estimates the size of a compiled pattern. The parser has
// bounded the nesting and the product of the repetitions (1000).
func instructions(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		n += instructions(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(1, re.Min+1, re.Max)
	}
	return n
}

// budget ends a validation that visits too many places. It takes part as a
// vocabulary without keywords, since a validation cannot be interrupted.
type budget struct{ left int }

func (b *budget) vocabulary() *jsonschema.Vocabulary {
	return &jsonschema.Vocabulary{
		URL:     "urn:ocmt:budget",
		Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) { return b, nil },
	}
}

// overBudget is what a validation that visits too many places panics with.
type overBudget struct{}

// Validate counts a visit.
func (b *budget) Validate(*jsonschema.ValidatorContext, any) {
	if b.left--; b.left < 0 {
		panic(overBudget{})
	}
}

// validate checks params, whose size is s, within the bounds of work.
func (t *compiledTool) validate(params any, s size) (err error) {
	if t.schema == nil {
		return nil
	}
	if t.size.nodes*s.nodes > maxNodeWork || t.regexps*s.text > maxRegexpWork {
		return errTooMuchWork
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.budget.left = freeVisits + visitsPerNode*s.nodes
	defer func() {
		switch r := recover().(type) {
		case nil:
		case overBudget:
			err = errTooMuchWork
		default:
			panic(r)
		}
	}()
	return t.schema.Validate(params)
}

// decode reads one JSON value and keeps its numbers as they are written.
func decode(text json.RawMessage) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("no JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("no JSON: there is more than one value")
	}
	return v, nil
}

// size says how large a JSON value is.
type size struct {
	nodes   int // values
	objects int
	text    int // bytes of strings and keys
}

// measure adds v to s. It fails where v is nested too deep or holds a number
// that costs more than it says (1e999999999), and says where.
func (s *size) measure(v any, depth int) (pointer string, err error) {
	if depth > maxDepth {
		return "", fmt.Errorf("more than %d levels", maxDepth)
	}
	s.nodes++
	switch v := v.(type) {
	case map[string]any:
		s.objects++
		for name, member := range v {
			s.text += len(name)
			if at, err := s.measure(member, depth+1); err != nil {
				return "/" + escapePointer(name) + at, err
			}
		}
	case []any:
		for i, item := range v {
			if at, err := s.measure(item, depth+1); err != nil {
				return "/" + strconv.Itoa(i) + at, err
			}
		}
	case string:
		s.text += len(v)
	case json.Number:
		return "", checkNumber(v)
	}
	return "", nil
}

func checkNumber(n json.Number) error {
	_, exponent, _ := strings.Cut(strings.ToLower(n.String()), "e")
	if exponent == "" {
		exponent = "0"
	}
	e, err := strconv.Atoi(exponent)
	if err != nil || e > maxNumber || e < -maxNumber || len(n) > maxNumber {
		return fmt.Errorf("the number %s is out of range", cut(n.String(), 40))
	}
	return nil
}

// escapePointer writes a member's name as a token of a JSON pointer (RFC 6901).
func escapePointer(name string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}
