package instance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/sandbox"
)

// Files and directories with these names hold secrets often enough to be kept
// from a plugin that was granted the directory they are in. Upper and lower case
// are the same. An asterisk is any text, once in a pattern. docs/files.md lists
// them.
var (
	secretFiles = []string{
		".env", ".env.*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx",
		"id_rsa", "id_dsa", "id_ecdsa", "id_ed25519",
		".netrc", ".npmrc", ".pypirc", ".git-credentials", ".htpasswd",
		"credentials.json", "service-account*.json",
	}
	publicFiles       = []string{".env.example", ".env.sample", ".env.template"} // of the above
	secretDirectories = []string{".ssh", ".aws", ".gnupg", ".kube", ".docker", ".azure", ".config/gcloud"}
)

const (
	// maxHidden bounds how much is hidden of one plugin's directories: each is a
	// mount, of which gVisor takes less than 128 (maxFiles in its pkg/urpc). A
	// plugin that is granted more is not started.
	maxHidden = 96
	// maxSearched bounds how many files and directories of one granted directory
	// are looked at. Of a read-only one the rest is not looked at. A plugin that
	// may write in it could have its secrets lie there, and is not started.
	maxSearched = 300_000
)

// Where what covers the hidden ones is, in the instance's directory.
const (
	coverDir       = "hidden"
	coverFile      = "file"
	coverDirectory = "directory"
)

// isSecretFile goes by a file's name.
func isSecretFile(name string) bool {
	name = strings.ToLower(name)
	matches := func(pattern string) bool {
		before, after, wild := strings.Cut(pattern, "*")
		if !wild {
			return name == pattern
		}
		return len(name) >= len(before)+len(after) && strings.HasPrefix(name, before) && strings.HasSuffix(name, after)
	}
	return !slices.Contains(publicFiles, name) && slices.ContainsFunc(secretFiles, matches)
}

// isSecretDirectory goes by the end of a directory's path.
func isSecretDirectory(dir string) bool {
	dir = "/" + strings.ToLower(dir)
	return slices.ContainsFunc(secretDirectories, func(name string) bool { return strings.HasSuffix(dir, "/"+name) })
}

// Hidden returns what is hidden of the granted directories, as paths: at most
// 96.
func (in *Instance) Hidden() []string {
	var hidden []string
	for _, m := range in.spec.Mounts {
		if filepath.Base(filepath.Dir(m.Source)) == coverDir && filepath.Base(filepath.Dir(filepath.Dir(m.Source))) == in.id {
			hidden = append(hidden, m.Target)
		}
	}
	return hidden
}

// hideSecrets returns the mounts that cover the secrets in the mounts of
// workspaces, and no mounts where there are none.
func (f *Factory) hideSecrets(ctx context.Context, in *Instance, workspaces []sandbox.Mount) ([]sandbox.Mount, error) {
	s := &search{logger: in.logger, most: maxSearched}
	for _, w := range workspaces {
		s.workspaces = append(s.workspaces, w.Target)
	}
	for _, w := range workspaces {
		if err := s.workspace(ctx, w); err != nil {
			return nil, fmt.Errorf("cannot hide the secrets in the workspaces of plugin %s: %w", in.plan.Key, err)
		}
	}
	if len(s.found) == 0 {
		return nil, nil
	}
	covers := filepath.Join(f.Home.Instance(in.id), coverDir)
	if err := f.makeCovers(covers); err != nil {
		return nil, err
	}
	var mounts []sandbox.Mount
	for _, secret := range s.found {
		source := filepath.Join(covers, coverFile)
		if secret.dir {
			source = filepath.Join(covers, coverDirectory)
		}
		mounts = append(mounts, sandbox.Mount{Source: source, Target: secret.path, ReadOnly: true, NoExec: true})
	}
	in.logger.Info("hid secrets in the workspaces of a plugin", "count", len(mounts))
	return mounts, nil
}

// makeCovers makes the empty file and the empty directory that cover secrets.
func (f *Factory) makeCovers(covers string) error {
	err := os.MkdirAll(filepath.Join(covers, coverDirectory), 0o700)
	if err == nil {
		err = errors.Join(os.Chmod(filepath.Join(covers, coverDirectory), 0o555), os.Chmod(covers, 0o755))
	}
	if err == nil {
		err = writeReadable(filepath.Join(covers, coverFile), "")
	}
	if err == nil {
		_, err = f.mountSealed(covers, covers, coverDir)
	}
	if err != nil {
		return fmt.Errorf("cannot make what covers secrets: %w", err)
	}
	return nil
}

// search looks for secrets in granted directories.
type search struct {
	logger     *slog.Logger
	most       int      // entries of each directory, see maxSearched
	workspaces []string // all of them
	found      []secret
	warned     int
}

// secret is a path in the container.
type secret struct {
	path string
	dir  bool
}

// enough says that no more is to be said of a search.
func (s *search) enough() bool {
	const most = 10
	s.warned++
	return s.warned > most
}

// workspace looks for secrets in what is mounted, level by level, as most are
// in the upper ones. Nothing that the directory holds leads out of it.
func (s *search) workspace(ctx context.Context, w sandbox.Mount) error {
	root, err := openReal(w.Source)
	if err != nil {
		return err
	}
	defer root.Close()
	seen := 0
	for queue := []string{"."}; len(queue) > 0; queue = queue[1:] {
		inner, n, err := s.directory(ctx, root, w, queue[0], s.most-seen)
		if err != nil {
			return err
		}
		if seen += n; seen >= s.most {
			return s.tooMuch(w)
		}
		queue = append(queue, inner...)
	}
	return nil
}

func (s *search) tooMuch(w sandbox.Mount) error {
	if !w.ReadOnly {
		return fault.New(errdefs.ErrFailedPrecondition, "workspace_too_large", "%s holds more than %d files, too many to look for secrets", w.Target, s.most).
			WithHint("grant it read-only, or a directory in it")
	}
	s.logger.Warn("a workspace is too large to look for secrets in all of it", "path", w.Target)
	return nil
}

// directory looks at what is in one directory, at up to most entries, and
// returns the directories in it that are to be looked at, and how many entries
// it has seen.
func (s *search) directory(ctx context.Context, root *os.File, w sandbox.Mount, dir string, most int) (inner []string, seen int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	d, err := openBelow(root, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV): // it was exchanged meanwhile
		return nil, 0, nil
	case errors.Is(err, fs.ErrPermission):
		if !s.enough() {
			s.logger.Warn("cannot look for secrets in a directory of a workspace", "path", filepath.Join(w.Target, dir))
		}
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	}
	defer d.Close()
	for seen < most {
		entries, err := d.ReadDir(min(1024, most-seen))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, seen, err
		}
		if len(entries) == 0 {
			break
		}
		seen += len(entries)
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
		for _, entry := range entries {
			enter, err := s.entry(w, filepath.Join(dir, entry.Name()), entry)
			if err != nil {
				return nil, seen, err
			}
			if enter && (!w.ReadOnly || !isBulk(dir)) {
				inner = append(inner, filepath.Join(dir, entry.Name()))
			}
		}
	}
	return inner, seen, nil
}

// isBulk says that what is in the directories below a directory is not looked
// at, as there is much of it and hardly a secret: unless the plugin can put
// something there.
func isBulk(dir string) bool {
	return filepath.Base(dir) == "node_modules" || filepath.Base(dir) == "objects" && filepath.Base(filepath.Dir(dir)) == ".git"
}

// entry hides a secret, and says whether it is a directory to look at.
func (s *search) entry(w sandbox.Mount, name string, entry fs.DirEntry) (enter bool, err error) {
	target := filepath.Join(w.Target, name)
	switch {
	case entry.IsDir() && slices.Contains(s.workspaces, target): // it is granted, and looked at by itself
		return false, nil
	case entry.IsDir() && !isSecretDirectory(name):
		return true, nil
	case !entry.IsDir() && (!entry.Type().IsRegular() || !isSecretFile(entry.Name())):
		return false, nil
	}
	if !entry.IsDir() {
		if info, err := entry.Info(); err == nil && linked(info) && !s.enough() {
			s.logger.Warn("a hidden file has another name, which may not be hidden", "path", target)
		}
	}
	return false, s.hide(secret{target, entry.IsDir()})
}

// hide refuses what cannot be hidden.
func (s *search) hide(found secret) error {
	inside := func(workspace string) bool { return found.dir && within(workspace, found.path) }
	if i := slices.IndexFunc(s.workspaces, inside); i >= 0 {
		return fault.New(errdefs.ErrFailedPrecondition, "workspace_hidden", "the granted directory %s lies in %s, which is hidden from another one", s.workspaces[i], found.path).
			WithHint("revoke the grant of one of them")
	}
	if !utf8.ValidString(found.path) || strings.ContainsFunc(found.path, unicode.IsControl) {
		return fault.New(errdefs.ErrFailedPrecondition, "secret_name", "%q has the name of a secret and cannot be hidden: it holds a control character, or is no UTF-8", found.path).
			WithHint("rename it, or remove it")
	}
	if len(s.found) == maxHidden {
		return fault.New(errdefs.ErrFailedPrecondition, "too_many_secrets", "the workspaces hold more than %d files with names of secrets, such as %s", maxHidden, found.path).
			WithHint("grant a directory that holds fewer of them")
	}
	s.found = append(s.found, found)
	return nil
}
