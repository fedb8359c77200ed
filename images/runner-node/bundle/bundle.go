// Package bundle makes the one JavaScript file that runs plugins from the
// runner's sources. The same sources give the same bytes, and the file
// imports nothing but Node's own modules.
package bundle

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/evanw/esbuild/pkg/api"
)

// Bundle bundles srcDir/main.mjs and all that it imports into the file out,
// whose directory it makes when it is missing. A source that does not parse,
// or that imports a package, is errdefs.ErrInvalidArgument.
func Bundle(srcDir, out string) error {
	code, err := Code(srcDir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("cannot make the bundle's directory: %w", err)
	}
	if err := os.WriteFile(out, code, 0o644); err != nil {
		return fmt.Errorf("cannot write the bundle: %w", err)
	}
	return nil
}

// sdkEntry is the SDK shim, below the sources. The runner compiles it when a
// plugin first imports it; to V8 it is a string until then.
const sdkEntry = "sdk/index.mjs"

// Code is the bundle's content.
func Code(srcDir string) ([]byte, error) {
	dir, err := filepath.Abs(srcDir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the runner's sources: %w", err)
	}
	defines := map[string]string{}
	if _, err := os.Stat(filepath.Join(dir, sdkEntry)); err == nil {
		sdk, err := build(dir, sdkEntry, nil)
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(string(sdk))
		if err != nil {
			return nil, fmt.Errorf("cannot quote the SDK: %w", err)
		}
		defines["OCMT_SDK_SOURCE"] = string(text)
	}
	return build(dir, "main.mjs", defines)
}

// build makes one file of an entry and all that it imports. It is CommonJS,
// which Node starts faster than a module, and ASCII, which V8 reads faster.
func build(dir, entry string, defines map[string]string) ([]byte, error) {
	result := api.Build(api.BuildOptions{
		EntryPoints:      []string{entry},
		AbsWorkingDir:    dir,
		Bundle:           true,
		Platform:         api.PlatformNode,
		Format:           api.FormatCommonJS,
		Target:           api.ES2024,
		Charset:          api.CharsetASCII,
		Define:           defines,
		MinifyWhitespace: true,
		MinifySyntax:     true,
		LineLimit:        160, // Node prints the line of an uncaught error
		Outfile:          "runner.js",
		LogLevel:         api.LogLevelSilent,
	})
	if len(result.Errors) > 0 {
		return nil, fmt.Errorf("cannot bundle the runner: %s: %w", messages(result.Errors), errdefs.ErrInvalidArgument)
	}
	return result.OutputFiles[0].Contents, nil
}

func messages(all []api.Message) string {
	var out []string
	for _, m := range all {
		text := m.Text
		if m.Location != nil {
			text = fmt.Sprintf("%s:%d: %s", m.Location.File, m.Location.Line, m.Text)
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}
