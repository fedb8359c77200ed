package plugin

import "fmt"

// warning is the plugin security model's, word for word, with the source and
// the spec to be filled in.
const warning = `Security Warning:
You are about to install an external plugin from %s: %s

External plugins can:
  - Execute arbitrary code on your system
  - Access your configuration and secrets
  - Make network requests on your behalf

Only install plugins from sources you trust.

Do you want to continue with the installation? (y/N)`

// Warning returns what a person must be shown before a plugin is installed,
// down to the question. The spec is made fit for a terminal.
func Warning(source Source, spec string) string {
	from := string(source)
	if source == SourceArchive {
		from = "an archive"
	}
	return fmt.Sprintf(warning, from, Printable(spec, 300))
}

// NeedsConfirmation says whether a person must confirm an install from the
// source: of npm packages and archives, but not of a local directory, which
// its user controls. Unknown sources need it.
func NeedsConfirmation(source Source) bool { return TrustOf(source).Level().Confirm }
