package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// findTool returns the tool with its compiled schema.
func (g *Gateway) findTool(key plugin.Key, name string) (*compiledTool, error) {
	installed, err := g.cfg.Plugins.Surface(key)
	if err != nil {
		return nil, pluginNotFound(key, err)
	}
	if err := plugin.CheckToolName(name); err != nil {
		return nil, err
	}
	for _, r := range installed.Surface.Registrations {
		if r.Kind == plugin.KindTool && r.Name == name {
			return g.tools.get(key, r)
		}
	}
	missing := fault.New(errdefs.ErrNotFound, CodeToolNotFound, "plugin %q has no tool %q", key.ID, name)
	if near := Near(name, toolNames(installed)); len(near) > 0 {
		return nil, missing.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
	return nil, missing.WithHint("see what it has: ocmt plugins info %s", key.ID)
}

// pluginNotFound gives a NotFound without a code of its own one.
func pluginNotFound(key plugin.Key, err error) error {
	if !errdefs.IsNotFound(err) || fault.Of(err).Hint != "" {
		return err
	}
	return fault.New(errdefs.ErrNotFound, CodePluginNotFound, "there is no plugin %q: %w", key.ID, err).
		WithHint("see what is installed: ocmt plugins list")
}

func toolNames(installed plugin.Installed) []string {
	var names []string
	for _, r := range installed.Surface.Registrations {
		if r.Kind == plugin.KindTool {
			names = append(names, r.Name)
		}
	}
	return names
}

// Bounds of the cache of compiled schemas, of all plugins together.
const (
	maxCachedTools = 4096
	maxCachedBytes = 16 << 20 // of schema text
)

type toolKey struct {
	plugin plugin.Key
	tool   string
}

// toolCache keeps compiled schemas. An entry counts for exactly the bytes it
// was compiled from, so a plugin's update replaces it.
type toolCache struct {
	mu    sync.Mutex
	tools map[toolKey]*cachedTool
	bytes int
}

// cachedTool is a compiled tool or the reason why there is none.
type cachedTool struct {
	spec json.RawMessage
	tool *compiledTool
	err  error
}

func newToolCache() *toolCache {
	return &toolCache{tools: make(map[toolKey]*cachedTool)}
}

func (c *toolCache) get(key plugin.Key, r plugin.Registration) (*compiledTool, error) {
	k := toolKey{key, r.Name}
	c.mu.Lock()
	cached, ok := c.tools[k]
	c.mu.Unlock()
	if ok && bytes.Equal(cached.spec, r.Spec) {
		return cached.tool, cached.err
	}
	cached = &cachedTool{spec: r.Spec}
	cached.tool, cached.err = compileTool(key, r)
	c.put(k, cached)
	return cached.tool, cached.err
}

// put keeps t and drops others, whichever, until the bounds hold.
func (c *toolCache) put(k toolKey, t *cachedTool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(k)
	for other := range c.tools {
		if len(c.tools) < maxCachedTools && c.bytes+len(t.spec) <= maxCachedBytes {
			break
		}
		c.drop(other)
	}
	c.tools[k] = t
	c.bytes += len(t.spec)
}

func (c *toolCache) drop(k toolKey) {
	if old, ok := c.tools[k]; ok {
		c.bytes -= len(old.spec)
		delete(c.tools, k)
	}
}

func compileTool(key plugin.Key, r plugin.Registration) (*compiledTool, error) {
	if len(r.Spec) > maxSpec {
		return nil, invalidSchema(key, r.Name, fmt.Errorf("the registration has %d bytes, at most %d are allowed", len(r.Spec), maxSpec))
	}
	var spec struct {
		Parameters json.RawMessage `json:"parameters"`
	}
	if len(r.Spec) > 0 {
		if err := json.Unmarshal(r.Spec, &spec); err != nil {
			return nil, invalidSchema(key, r.Name, err)
		}
	}
	compiled, err := compileSchema(spec.Parameters)
	if err != nil {
		return nil, invalidSchema(key, r.Name, err)
	}
	return compiled, nil
}

func invalidSchema(key plugin.Key, tool string, err error) error {
	return fault.New(fault.ErrPlugin, CodeInvalidSchema, "cannot use the parameter schema of tool %q of plugin %q: %w", tool, key.ID, err).
		WithHint("this is a fault of the plugin; tell its author")
}

// Near returns the names that someone who typed name may have meant, at most
// three, the likeliest first.
func Near(name string, names []string) []string {
	type candidate struct {
		name     string
		distance int
	}
	if len(name) > plugin.MaxToolLen {
		return nil
	}
	typed := strings.ToLower(name)
	limit := max(2, len(typed)/3)
	var found []candidate
	for _, n := range names {
		if len(n) > plugin.MaxToolLen {
			continue
		}
		d := distance(typed, strings.ToLower(n))
		if d <= limit || (len(typed) > 2 && strings.Contains(strings.ToLower(n), typed)) {
			found = append(found, candidate{n, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.distance - b.distance })
	var near []string
	for _, c := range found[:min(3, len(found))] {
		near = append(near, c.name)
	}
	return near
}

// distance is the Levenshtein distance of a and b, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
