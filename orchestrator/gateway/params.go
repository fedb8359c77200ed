package gateway

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/ocmt/ocmt/orchestrator/fault"
)

// Field is one place in the parameters that does not fit the schema.
type Field struct {
	// Pointer is the place as a JSON pointer (RFC 6901); "" is the whole.
	Pointer string `json:"pointer"`
	Why     string `json:"why"`
}

// Bounds of an invalid_params error.
const (
	maxFields      = 20
	maxFieldsShown = 3
	maxWhy         = 200 // bytes
)

// checkParams returns the parameters to send, or says what does not fit.
func (g *Gateway) checkParams(tool *compiledTool, req Request) (json.RawMessage, error) {
	params := req.Params
	if len(params) == 0 || string(params) == "null" {
		params = json.RawMessage("{}")
	}
	if len(params) > g.cfg.MaxParams {
		return nil, invalidParams(req, Field{"", fmt.Sprintf("they have %d bytes, at most %d are allowed", len(params), g.cfg.MaxParams)})
	}
	value, err := decode(params)
	if err != nil {
		return nil, invalidParams(req, Field{"", err.Error()})
	}
	if _, ok := value.(map[string]any); !ok {
		return nil, invalidParams(req, Field{"", "they are no JSON object"})
	}
	var s size
	if at, err := s.measure(value, 0); err != nil {
		return nil, invalidParams(req, Field{at, err.Error()})
	}
	err = tool.validate(value, s)
	if err == nil {
		return params, nil
	}
	var misfit *jsonschema.ValidationError
	if !errors.As(err, &misfit) {
		return nil, invalidParams(req, Field{"", err.Error()})
	}
	return nil, invalidParams(req, fieldsOf(misfit)...)
}

func invalidParams(req Request, fields ...Field) error {
	var shown []string
	for _, f := range fields[:min(len(fields), maxFieldsShown)] {
		if f.Pointer == "" {
			shown = append(shown, f.Why)
			continue
		}
		shown = append(shown, f.Pointer+": "+f.Why)
	}
	if more := len(fields) - len(shown); more > 0 {
		shown = append(shown, fmt.Sprintf("and %d more", more))
	}
	return fault.New(errdefs.ErrInvalidArgument, CodeInvalidParams,
		"the parameters do not fit tool %q of plugin %q: %s", req.Tool, req.Key.ID, strings.Join(shown, "; ")).
		WithHint("see what it takes: ocmt plugins info %s", req.Key.ID).
		WithDetails(fields)
}

// fieldsOf lists the places that err names, in their order, each reason once,
// at most maxFields.
func fieldsOf(err *jsonschema.ValidationError) []Field {
	var fields []Field
	seen := make(map[Field]bool)
	collect(err, message.NewPrinter(language.English), func(f Field) bool {
		if !seen[f] {
			seen[f] = true
			fields = append(fields, f)
		}
		return len(seen) < maxFields
	})
	slices.SortStableFunc(fields, func(a, b Field) int { return cmp.Compare(a.Pointer, b.Pointer) })
	return fields
}

// collect calls add for the leaves of err until it returns false.
func collect(err *jsonschema.ValidationError, p *message.Printer, add func(Field) bool) bool {
	if len(err.Causes) == 0 {
		for _, f := range leaf(err, p) {
			if !add(f) {
				return false
			}
		}
		return true
	}
	for _, cause := range err.Causes {
		if !collect(cause, p, add) {
			return false
		}
	}
	return true
}

// leaf says what is wrong at one place. What is missing or too much is named
// at its own place, not at its parent's.
func leaf(err *jsonschema.ValidationError, p *message.Printer) []Field {
	at := pointer(err.InstanceLocation)
	switch k := err.ErrorKind.(type) {
	case *kind.Required:
		return eachOf(at, k.Missing, "is required")
	case *kind.DependentRequired:
		return eachOf(at, k.Missing, fmt.Sprintf("is required with %q", k.Prop))
	case *kind.AdditionalProperties:
		return eachOf(at, k.Properties, "is not known")
	case *kind.FalseSchema:
		return []Field{{at, "is not allowed"}}
	case *kind.Enum:
		return []Field{{at, cut("must be one of "+values(k.Want), maxWhy)}}
	case *kind.Const:
		return []Field{{at, cut("must be "+values([]any{k.Want}), maxWhy)}}
	}
	return []Field{{at, cut(oneLine(err.ErrorKind.LocalizedString(p)), maxWhy)}}
}

func eachOf(at string, names []string, why string) []Field {
	var fields []Field
	for _, name := range names[:min(len(names), maxFields)] {
		fields = append(fields, Field{at + "/" + escapePointer(cut(name, maxWhy)), why})
	}
	return fields
}

// values writes JSON values, separated by commas.
func values(list []any) string {
	var s []string
	for _, v := range list[:min(len(list), maxFields)] {
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte("?")
		}
		s = append(s, string(text))
	}
	return strings.Join(s, ", ")
}

func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString("/" + escapePointer(t))
	}
	return b.String()
}
