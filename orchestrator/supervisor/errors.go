package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"

	"github.com/ocmt/ocmt/orchestrator/fault"
	"github.com/ocmt/ocmt/orchestrator/plugin"
)

// CodeRemoving is the code of errors about a plugin that is being uninstalled.
const CodeRemoving = "plugin_removing"

// Why a plugin cannot be had. Callers get them through explain, with the
// plugin's name and a hint.
var (
	errDisabled    = fmt.Errorf("it is switched off: %w", errdefs.ErrFailedPrecondition)
	errQuarantined = fmt.Errorf("it is in quarantine: %w", errdefs.ErrFailedPrecondition)
	errCrashlooped = fmt.Errorf("it ended too often: %w", errdefs.ErrUnavailable)
	errEnabled     = fmt.Errorf("it was switched on again: %w", errdefs.ErrConflict)
	errRemoving    = fmt.Errorf("it is being removed: %w", errdefs.ErrUnavailable)
	errRemoved     = fmt.Errorf("it was removed: %w", errdefs.ErrNotFound)
	errShutdown    = fault.New(errdefs.ErrUnavailable, "shutting_down", "ocmt is shutting down").WithRetry()
)

func errUnknown(key plugin.Key) error {
	return fault.New(errdefs.ErrNotFound, "unknown_plugin", "there is no plugin %q in tenant %q", key.ID, key.Tenant).
		WithHint("`ocmt plugins list` shows what is installed")
}

// explain turns one of the reasons above into an error for users.
func explain(why error, key plugin.Key, st Status) error {
	switch {
	case errors.Is(why, errDisabled):
		return fault.New(errdefs.ErrFailedPrecondition, "plugin_disabled", "plugin %q is switched off", key.ID).
			WithHint("%s switches it on", command("enable", key, ""))
	case errors.Is(why, errQuarantined):
		return fault.New(errdefs.ErrFailedPrecondition, "plugin_quarantined", "plugin %q is in quarantine: %s", key.ID, st.LastError).
			WithHint("find out who altered it, then %s installs it anew", command("reinstall", key, ""))
	case errors.Is(why, errCrashlooped):
		return fault.New(errdefs.ErrUnavailable, "plugin_crashlooped", "plugin %q ended too often, last %s; the next trial is at %s",
			key.ID, st.LastExit, st.NextAttempt.UTC().Format(time.RFC3339)).
			WithHint("%s shows why, %s forgets it and tries it at once", command("logs", key, " --previous"), command("reset", key, ""))
	case errors.Is(why, errEnabled):
		return fault.New(errdefs.ErrConflict, "plugin_enabled", "plugin %q was switched on again before it had ended", key.ID).
			WithHint("`ocmt audit tail` shows who did")
	case errors.Is(why, errRemoving):
		return fault.New(errdefs.ErrUnavailable, CodeRemoving, "plugin %q is being removed", key.ID)
	case errors.Is(why, errRemoved):
		return errUnknown(key)
	}
	return why
}

// command spells a command line for hints.
func command(verb string, key plugin.Key, flags string) string {
	if key.Tenant != plugin.DefaultTenant {
		flags += " --tenant " + key.Tenant
	}
	return "`ocmt plugins " + verb + " " + key.ID + flags + "`"
}

// notYet is the error of a wait that ctx ended.
func (u *unit) notYet(ctx context.Context, what string) error {
	v, _ := u.watch()
	class, code := ctx.Err(), "plugin_not_ready"
	if errdefs.IsCanceled(class) {
		code = "cancelled"
	}
	err := fault.New(class, code, "plugin %q is %s: it is %s%s", u.key.ID, what, v.status.State, v.status.reason())
	return err.WithHint("%s shows what it said", command("logs", u.key, "")).WithRetry()
}

// reason says why a plugin is not running, if that is known.
func (st Status) reason() string {
	switch {
	case st.LastError != "":
		return ": " + st.LastError
	case st.LastExit.Class != "" && st.LastExit.Class != ClassStopped:
		return " after " + st.LastExit.String()
	}
	return ""
}

// String says how an instance ended, in words.
func (e LastExit) String() string {
	switch e.Class {
	case ClassOOM:
		return "it used more memory than its limit"
	case ClassClean, ClassError:
		if e.Code == NoCode {
			break
		}
		return fmt.Sprintf("exit code %d", e.Code)
	case "":
		return "nothing"
	}
	if e.Message != "" {
		return e.Message
	}
	return string(e.Class)
}
