package hooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ocmt/ocmt/bus/wire"
)

// read says what a result asks for. If it is an error, the wish holds no more
// than a block that was read before it.
func read(r rule, s State, from Handler, result wire.HookResult) (wish, error) {
	var w wish
	if result.Block != nil {
		w.block, w.reason = true, clean(result.Block.Reason, wire.MaxReason)
	}
	if !isNull(result.Result) {
		if err := w.readResult(r, from, result); err != nil {
			return wish{block: w.block, reason: w.reason, reply: w.reply, dropped: []string{err.Error()}}, err
		}
	}
	if !isNull(result.Payload) {
		if err := w.readPayload(r, s.seen(r), result.Payload); err != nil {
			return wish{block: w.block, reason: w.reason, reply: w.reply, dropped: []string{err.Error()}}, err
		}
	}
	return w, nil
}

func (w *wish) readResult(r rule, from Handler, result wire.HookResult) error {
	o, err := object(result.Result)
	if err != nil {
		return fmt.Errorf("cannot use its result: %w", err)
	}
	switch from.Event.Name {
	case execEnv:
		return w.readEnv(o)
	case agentRun:
		return w.readDecision(r, o)
	}
	if err := w.readFlags(r, o); err != nil {
		return err
	}
	if err := w.readFields(r, o); err != nil {
		return err
	}
	if from.Event.Name == finalize {
		return w.checkFinalize()
	}
	if ask := o["requireApproval"]; r.approves && !isNull(ask) {
		if w.approval, err = readApproval(ask); err != nil {
			return err
		}
		w.approval.Key, w.approval.Handler, w.approval.HookID = from.Key, from.Index, result.ID
	}
	return nil
}

// readFlags reads whether the result blocks or claims. A false is no decision.
func (w *wish) readFlags(r rule, o Object) error {
	name := r.block
	if r.claims {
		name = "handled"
	}
	if name == "" || isNull(o[name]) {
		return nil
	}
	if err := check(name, o[name], isFlag); err != nil {
		return err
	}
	if string(o[name]) != "true" {
		return nil
	}
	if r.claims {
		w.claim = true
		return nil
	}
	w.block = true
	if why := o[r.reason]; !isNull(why) {
		if err := check(r.reason, why, isText); err != nil {
			return err
		}
		w.reason = clean(text(why), wire.MaxReason)
	}
	return nil
}

// readFields reads the known fields; the others are ignored.
func (w *wish) readFields(r rule, o Object) error {
	for _, f := range r.fields {
		v := o[f.name]
		if f.shape == isTools && v != nil {
			if check(f.name, v, isTools) != nil { // as in OpenClaw
				v = json.RawMessage("[]")
				w.dropped = append(w.dropped, "its "+f.name+", which is no list of names: it allows no tool")
			}
		}
		if isNull(v) {
			continue
		}
		if err := check(f.name, v, f.shape); err != nil {
			return err
		}
		switch {
		case f.reply:
			set(&w.reply, f.name, v)
		case f.payload:
			set(&w.payload, f.name, v)
			set(&w.result, f.name, v)
		default:
			set(&w.result, f.name, v)
		}
	}
	return nil
}

// readPayload reads what the handler made of the payload that it saw, in the
// document's form.
func (w *wish) readPayload(r rule, seen Object, payload json.RawMessage) error {
	o, err := object(payload)
	if err != nil {
		return fmt.Errorf("cannot use the payload that it left: %w", err)
	}
	if maps.EqualFunc(seen, o, same) {
		return nil
	}
	if r.whole {
		w.payload, w.whole = o, true
		return nil
	}
	var others []string
	for _, name := range slices.Sorted(maps.Keys(seen.with(o))) {
		if same(seen[name], o[name]) {
			continue
		}
		i := slices.IndexFunc(r.fields, func(f field) bool { return f.payload && f.name == name })
		if i < 0 || isNull(o[name]) {
			others = append(others, clean(name, 64))
			continue
		}
		if err := check(name, o[name], r.fields[i].shape); err != nil {
			return err
		}
		if w.payload[name] == nil { // what it returned counts more
			set(&w.payload, name, o[name])
			set(&w.result, name, o[name])
		}
	}
	if len(others) > 0 {
		w.dropped = append(w.dropped, clean("its change of what nobody may change in this event: "+strings.Join(others, ", "), 512))
	}
	return nil
}

// readDecision reads the result of before_agent_run.
func (w *wish) readDecision(r rule, o Object) error {
	outcome := o["outcome"]
	if err := check("outcome", outcome, isText); err != nil {
		return err
	}
	switch text(outcome) {
	case "pass":
		return nil
	case "block":
		w.block = true
	default:
		return fmt.Errorf("its outcome is %q, neither pass nor block", clean(text(outcome), 64))
	}
	w.reason = clean(text(o["reason"]), wire.MaxReason)
	return w.readFields(r, o)
}

func (w *wish) checkFinalize() error {
	if a := w.result["action"]; a != nil && !slices.Contains([]string{"continue", "revise", "finalize"}, text(a)) {
		return fmt.Errorf("its action is %q, none of continue, revise and finalize", clean(text(a), 64))
	}
	if w.result["retry"] == nil {
		return nil
	}
	retry, err := object(w.result["retry"])
	if err != nil {
		return fmt.Errorf("cannot use its retry: %w", err)
	}
	if err := check("retry.instruction", retry["instruction"], isText); err != nil {
		return err
	}
	if key := retry["idempotencyKey"]; !isNull(key) {
		if err := check("retry.idempotencyKey", key, isText); err != nil {
			return err
		}
	}
	if n := retry["maxAttempts"]; !isNull(n) {
		if err := check("retry.maxAttempts", n, isNumber); err != nil {
			return err
		}
	}
	if strings.TrimSpace(text(retry["instruction"])) == "" {
		delete(w.result, "retry")
	}
	return nil
}

// readEnv reads the variables that a handler of resolve_exec_env adds.
func (w *wish) readEnv(o Object) error {
	var refused []string
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if err := check(clean(name, 64), o[name], isText); err != nil {
			return err
		}
		if !mayExport(name) {
			refused = append(refused, clean(name, 64))
			continue
		}
		set(&w.result, name, o[name])
	}
	if len(refused) > 0 {
		w.dropped = append(w.dropped, clean("variables that no plugin may set: "+strings.Join(refused, ", "), 512))
	}
	return nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)

// mayExport reports whether a plugin may set that variable for a command: not
// one that decides which program or code runs, whom it trusts, or through whom
// it speaks. The host that runs the command applies its own rules after this.
func mayExport(name string) bool {
	upper := strings.ToUpper(name)
	if !envName.MatchString(name) || slices.Contains(reservedEnv, upper) {
		return false
	}
	return !slices.ContainsFunc(reservedEnvPrefixes, func(p string) bool { return strings.HasPrefix(upper, p) })
}

var (
	reservedEnvPrefixes = []string{"LD_", "DYLD_", "BASH_FUNC_", "GIT_CONFIG_", "NPM_CONFIG_"}
	reservedEnv         = []string{
		// What a shell runs and finds.
		"PATH", "HOME", "SHELL", "SHELLOPTS", "BASHOPTS", "BASH_ENV", "ENV", "IFS", "PS4", "ZDOTDIR", "FPATH", "PROMPT_COMMAND",
		// What interpreters and the C library load.
		"NODE_OPTIONS", "NODE_PATH", "NODE_REPL_EXTERNAL_MODULE", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PERL5LIB", "PERL5OPT",
		"RUBYLIB", "RUBYOPT", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "GLIBC_TUNABLES", "GCONV_PATH",
		// Through whom programs speak, and whom they trust.
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "FTP_PROXY", "NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "OPENSSL_CONF", "GIT_SSL_NO_VERIFY",
		"CURL_HOME", "WGETRC", "DOCKER_HOST", "KUBECONFIG", "SSH_AUTH_SOCK",
		// Programs that other programs start.
		"EDITOR", "VISUAL", "PAGER", "MANPAGER", "LESSOPEN", "LESSCLOSE", "BROWSER", "SUDO_ASKPASS", "SSH_ASKPASS", "MAKEFLAGS",
		"GIT_DIR", "GIT_EXEC_PATH", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_PROXY_COMMAND", "GIT_EXTERNAL_DIFF", "GIT_ASKPASS", "GIT_EDITOR",
		"GIT_PAGER", "GIT_TEMPLATE_DIR",
	}
)

// check reports why the value of a field does not look as it must.
func check(name string, raw json.RawMessage, want shape) error {
	ok, what := false, ""
	switch want {
	case isText:
		ok, what = looks(raw, '"'), "text"
	case isFlag:
		ok, what = string(raw) == "true" || string(raw) == "false", "true or false"
	case isNumber:
		var n float64
		ok, what = !isNull(raw) && json.Unmarshal(raw, &n) == nil, "a number"
	case isObject:
		ok, what = looks(raw, '{'), "an object"
	case isArray:
		ok, what = looks(raw, '['), "a list"
	case isTools:
		_, err := readTools(raw)
		ok, what = err == nil && looks(raw, '['), "a list of names"
	}
	if !ok {
		return fmt.Errorf("its %s is not %s", name, what)
	}
	return nil
}

func set(o *Object, name string, v json.RawMessage) {
	if *o == nil {
		*o = Object{}
	}
	(*o)[name] = v
}
