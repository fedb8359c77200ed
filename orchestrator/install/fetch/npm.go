package fetch

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/install/verify"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// resolution is what npm is asked to resolve: a spec, or the dependencies of a
// package.json.
type resolution struct {
	spec     string
	manifest map[string]json.RawMessage // fields of package.json
	lock     []byte                     // of the upload, may be nil
}

func (r resolution) isEmpty() bool { return r.spec == "" && r.manifest == nil }

// resolve lets npm resolve and download into dir, and returns the packages to
// lay out and npm's directory, which the caller closes.
func (f *Fetcher) resolve(ctx context.Context, at Place, r resolution, report Report) (lock []verify.Package, work *os.Root, err error) {
	workDir, bundle, err := f.prepare(at.Dir, r)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot prepare npm's directory: %w", err)
	}
	what := r.spec
	if what == "" {
		what = "the dependencies"
	}
	report("resolving "+what, 0, 0)
	lines := &progress{report: report}
	code, output, err := f.Runner.RunInstall(ctx, Job{
		Tenant: at.Tenant,
		Args:   arguments(r.spec), Env: environment(bundle), WorkDir: workDir,
		Registry: f.Registry.Endpoint(), CABundle: bundle, Output: lines, Report: report,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot run npm: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if code != 0 {
		return nil, nil, npmError(what, code, output)
	}
	if work, err = os.OpenRoot(workDir); err != nil {
		return nil, nil, fmt.Errorf("cannot read npm's directory: %w", err)
	}
	if lock, err = f.readLock(work); err != nil {
		work.Close()
		return nil, nil, err
	}
	return lock, work, nil
}

// prepare makes npm's directory. The modes are wide since the container's
// user is another; the directory around it keeps everybody else out.
func (f *Fetcher) prepare(dir string, r resolution) (workDir, bundle string, err error) {
	workDir = filepath.Join(dir, workName)
	if err := os.Mkdir(workDir, 0o700); err != nil {
		return "", "", err
	}
	if err := os.Chmod(workDir, 0o777); err != nil { // whatever our umask is
		return "", "", err
	}
	manifest := map[string]json.RawMessage{"name": json.RawMessage(`"install"`), "private": json.RawMessage("true")}
	for key, value := range r.manifest {
		manifest[key] = value
	}
	data, err := json.Marshal(manifest)
	if err != nil {
		return "", "", err
	}
	files := map[string][]byte{plugin.PackageFile: data, ".npmrc": f.Registry.npmrc()}
	if r.lock != nil {
		files[lockName] = r.lock
	}
	for name, data := range files {
		if err := writeShared(filepath.Join(workDir, name), data, 0o666); err != nil { // npm saves to them
			return "", "", err
		}
	}
	if len(f.CAFiles) == 0 {
		return workDir, "", nil
	}
	var certificates []byte
	for _, file := range f.CAFiles {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", "", err
		}
		certificates = append(append(certificates, data...), '\n')
	}
	bundle = filepath.Join(dir, caName)
	return workDir, bundle, writeShared(bundle, certificates, 0o644)
}

func writeShared(name string, data []byte, mode fs.FileMode) error {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// arguments is npm's command line, as the official host has it, plus: a cache
// of its own, few retries, and every response on a line for the progress.
func arguments(spec string) []string {
	args := []string{
		"/usr/bin/node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "install",
		"--ignore-scripts", "--omit=dev", "--omit=peer", "--legacy-peer-deps", "--no-audit", "--no-fund",
		"--package-lock", "--save", "--loglevel=http", "--no-progress", "--no-color", "--logs-max=0",
		"--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=4000",
		"--cache=" + WorkTarget + "/cache", "--prefix=" + WorkTarget,
	}
	if spec != "" {
		args = append(args, "--", spec)
	}
	return args
}

func environment(bundle string) []string {
	env := []string{"HOME=" + WorkTarget + "/home", "PATH=/usr/bin", "TMPDIR=/tmp", "LANG=C.UTF-8", "npm_config_update_notifier=false"}
	if bundle != "" {
		env = append(env, "NODE_EXTRA_CA_CERTS="+CATarget)
	}
	return env
}

// progress turns npm's lines into reports.
type progress struct {
	report  Report
	partial string
	fetched int64
}

func (p *progress) Write(b []byte) (int, error) {
	text := p.partial + string(b)
	for {
		line, rest, whole := strings.Cut(text, "\n")
		if !whole {
			break
		}
		text = rest
		if strings.HasPrefix(line, "npm http ") {
			p.fetched++
			p.report("downloading", p.fetched, 0)
		}
	}
	p.partial = text[max(0, len(text)-4096):]
	return len(b), nil
}

// npmError turns npm's end into an error of the right class.
func npmError(what string, exit int, output string) error {
	code, message := npmMessage(output)
	fail := func(class error, id, hint string) error {
		return fault.New(class, id, "cannot install %s: %s", what, message).WithHint("%s", hint)
	}
	switch code {
	case "E404":
		return fail(errdefs.ErrNotFound, "package_not_found", "check the spelling of the name, and that the configured registry has the package")
	case "ETARGET", "ENOVERSIONS":
		return fail(errdefs.ErrNotFound, "version_not_found", "look at the versions that exist with: npm view PACKAGE versions dist-tags")
	case "ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EPIPE", "ENETUNREACH", "EHOSTUNREACH",
		"ERR_SOCKET_TIMEOUT", "UND_ERR_CONNECT_TIMEOUT", "E500", "E502", "E503", "E504", "E429":
		return fail(errdefs.ErrUnavailable, "registry_unavailable", "see that the registry can be reached from this host, then try again")
	case "UNABLE_TO_VERIFY_LEAF_SIGNATURE", "SELF_SIGNED_CERT_IN_CHAIN", "DEPTH_ZERO_SELF_SIGNED_CERT", "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "CERT_HAS_EXPIRED", "ERR_TLS_CERT_ALTNAME_INVALID":
		return fail(errdefs.ErrUnavailable, "registry_certificate", "set NODE_EXTRA_CA_CERTS for the daemon to the registry's CA certificate")
	case "E401", "E403", "ENEEDAUTH":
		return fail(errdefs.ErrPermissionDenied, "registry_denied", "log in to the registry as the daemon's user: npm login")
	case "EINTEGRITY":
		return fail(errdefs.ErrDataLoss, "integrity", "the package was changed on its way, or the lockfile is wrong: do not install it before you know which")
	case "EBADPLATFORM":
		return fail(errdefs.ErrFailedPrecondition, "platform", "it cannot run in a plugin's container")
	case "ENOSPC":
		return fail(errdefs.ErrResourceExhausted, "disk_full", "make room on the disk of the daemon's home")
	}
	if strings.Contains(output, "spawn git") {
		return fail(fault.ErrPlugin, "unsafe_dependency", "only packages of the configured registry can be installed")
	}
	return fail(fault.ErrPlugin, "npm_failed", fmt.Sprintf("npm ended with exit code %d; ask the package's author", exit))
}

const maxMessage = 600 // of npm's words in an error, bytes

// npmMessage finds npm's error code and the lines that say something.
func npmMessage(output string) (code, message string) {
	var kept []string
	for line := range strings.SplitSeq(output, "\n") {
		text, ok := strings.CutPrefix(line, "npm error ")
		if !ok {
			continue
		}
		if c, ok := strings.CutPrefix(text, "code "); ok {
			code = strings.TrimSpace(c)
			continue
		}
		// "404 Not Found - GET ...", "notarget No matching version ..."
		text = strings.TrimSpace(strings.TrimPrefix(strings.TrimPrefix(text, "404 "), "notarget "))
		if text == "" || text == "404" || text == "notarget" || strings.HasPrefix(text, "A complete log") ||
			strings.HasPrefix(text, "Log files") || strings.HasPrefix(text, "Note that you can also") || strings.HasPrefix(text, "tarball, folder,") || len(kept) == 3 {
			continue
		}
		kept = append(kept, text)
	}
	if len(kept) == 0 {
		kept = []string{"npm said nothing that could be understood"}
	}
	return code, plugin.Printable(strings.Join(kept, "; "), maxMessage)
}
