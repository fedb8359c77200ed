package sandbox

import (
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

func valid() Spec {
	return Harden(Spec{
		ID: "ocmt-1", Image: "sha256:" + strings.Repeat("ab", 32), Args: []string{"/ocmt/init", "run"},
		Env: []string{"HOME=/state/home"}, UID: 20001, GID: 20001,
		Labels: map[string]string{LabelHome: "h", LabelTenant: "default", LabelInstance: "i", LabelRole: RolePlugin},
		Mounts: []Mount{
			{Source: "/home/me/.openclaw/ocmt/run/i/ab", Target: "/run/ocmt", ReadOnly: true},
			{Source: "/proc/12/fd/34", Target: "/plugin", ReadOnly: true, Image: true},
		},
		Limits: LimitsFor(RolePlugin),
	})
}

func TestValidSpec(t *testing.T) {
	spec := valid()
	if err := spec.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateRefuses(t *testing.T) {
	mount := func(source, target string) func(*Spec) {
		return func(s *Spec) { s.Mounts = []Mount{{Source: source, Target: target}} }
	}
	image := func(m Mount) func(*Spec) { return func(s *Spec) { s.Mounts = []Mount{m} } }
	tmpfs := func(tmp Tmpfs) func(*Spec) { return func(s *Spec) { s.Tmpfs = []Tmpfs{tmp} } }
	for name, c := range map[string]struct {
		spoil func(*Spec)
		says  string
	}{
		"empty id":               {func(s *Spec) { s.ID = "" }, `id ""`},
		"id of one letter":       {func(s *Spec) { s.ID = "a" }, `id "a"`},
		"id too long":            {func(s *Spec) { s.ID = strings.Repeat("a", 64) }, "id "},
		"id with a slash":        {func(s *Spec) { s.ID = "a/b" }, `id "a/b"`},
		"id with a dot":          {func(s *Spec) { s.ID = "a.b" }, `id "a.b"`},
		"id that is an option":   {func(s *Spec) { s.ID = "-ab" }, `id "-ab"`},
		"image by name":          {func(s *Spec) { s.Image = "debian:12" }, "image"},
		"root user":              {func(s *Spec) { s.UID = 0 }, "uid must not be 0"},
		"root group":             {func(s *Spec) { s.GID = 0 }, "gid must not be 0"},
		"runtime with a path":    {func(s *Spec) { s.Runtime = "../runc" }, "runtime"},
		"no args":                {func(s *Spec) { s.Args = nil }, "args"},
		"relative program":       {func(s *Spec) { s.Args = []string{"node"} }, "args"},
		"zero byte in args":      {func(s *Spec) { s.Args = append(s.Args, "a\x00b") }, "zero byte"},
		"no directory":           {func(s *Spec) { s.Dir = "" }, "working directory"},
		"unclean directory":      {func(s *Spec) { s.Dir = "/a/../b" }, "working directory"},
		"env without a value":    {func(s *Spec) { s.Env = append(s.Env, "SECRET") }, `"SECRET" must be KEY=value`},
		"env twice":              {func(s *Spec) { s.Env = append(s.Env, "HOME=/") }, `"HOME" is set twice`},
		"zero byte in env":       {func(s *Spec) { s.Env = append(s.Env, "A=b\x00") }, "zero byte"},
		"no HOME":                {func(s *Spec) { s.Env = []string{"A=b"} }, "HOME"},
		"no home label":          {func(s *Spec) { delete(s.Labels, LabelHome) }, "label ocmt.home must be set"},
		"no tenant label":        {func(s *Spec) { delete(s.Labels, LabelTenant) }, "label ocmt.tenant must be set"},
		"no instance label":      {func(s *Spec) { delete(s.Labels, LabelInstance) }, "label ocmt.instance must be set"},
		"no role label":          {func(s *Spec) { s.Labels[LabelRole] = "" }, "label ocmt.role must be set"},
		"label with an equals":   {func(s *Spec) { s.Labels["a=b"] = "c" }, `label "a=b"`},
		"label with a new line":  {func(s *Spec) { s.Labels[LabelPlugin] = "a\nb" }, "label ocmt.plugin"},
		"no seccomp":             {func(s *Spec) { s.Seccomp = nil }, "seccomp profile must be set"},
		"seccomp that is none":   {func(s *Spec) { s.Seccomp = []byte("unconfined") }, "seccomp profile is not valid"},
		"seccomp that allows":    {func(s *Spec) { s.Seccomp = []byte(`{"defaultAction":"SCMP_ACT_ALLOW"}`) }, "must refuse by default"},
		"seccomp without action": {func(s *Spec) { s.Seccomp = []byte(`{}`) }, "must refuse by default"},
		"negative grace":         {func(s *Spec) { s.StopGrace = -1 }, "stop grace"},
		"endless grace":          {func(s *Spec) { s.StopGrace = 24 * time.Hour }, "stop grace"},

		"relative source":        {mount("data", "/x"), "source \"data\""},
		"unclean source":         {mount("/a/", "/x"), "source \"/a/\""},
		"docker socket":          {mount("/var/run/docker.sock", "/x"), "engine's socket"},
		"renamed place":          {mount("/home/me/docker.sock", "/x"), "engine's socket"},
		"containerd socket":      {mount("/run/containerd/containerd.sock", "/x"), "engine's socket"},
		"below a socket":         {mount("/srv/docker.sock/x", "/x"), "engine's socket"},
		"root of the host":       {mount("/", "/x"), "give away the host"},
		"run":                    {mount("/run", "/x"), "give away the host"},
		"var run":                {mount("/var/run", "/x"), "give away the host"},
		"proc":                   {mount("/proc", "/x"), "give away the host"},
		"descriptor, no image":   {mount("/proc/1/fd/3", "/x"), "give away the host"},
		"device":                 {mount("/dev/sda", "/x"), "give away the host"},
		"proc as an image":       {image(Mount{Source: "/proc/1/root/x", Target: "/x", ReadOnly: true, Image: true}), "give away the host"},
		"writable image":         {image(Mount{Source: "/a", Target: "/x", Image: true}), "always read-only"},
		"relative target":        {mount("/a", "x"), "target \"x\""},
		"unclean target":         {mount("/a", "/x/../y"), "target \"/x/../y\""},
		"target root":            {mount("/a", "/"), "container's own"},
		"target proc":            {mount("/a", "/proc/self"), "container's own"},
		"target dev":             {mount("/a", "/dev"), "container's own"},
		"target of a tmpfs":      {mount("/a", "/tmp"), "target /tmp is used twice"},
		"target twice":           {func(s *Spec) { s.Mounts = append(s.Mounts, s.Mounts[0]) }, "target /run/ocmt is used twice"},
		"tmpfs without a size":   {tmpfs(Tmpfs{Target: "/t", Mode: 0o700}), "size 0"},
		"tmpfs with a bad size":  {tmpfs(Tmpfs{Target: "/t", Mode: 0o700, Size: -1}), "size -1"},
		"tmpfs beyond memory":    {tmpfs(Tmpfs{Target: "/t", Mode: 0o700, Size: 1 << 40}), "exceeds the memory limit"},
		"tmpfs without a mode":   {tmpfs(Tmpfs{Target: "/t", Size: 4096}), "mode"},
		"tmpfs that is set-user": {tmpfs(Tmpfs{Target: "/t", Size: 4096, Mode: 0o4755}), "mode"},

		"no memory":         {func(s *Spec) { s.Limits.Memory = 0 }, "limit memory: 0"},
		"unlimited memory":  {func(s *Spec) { s.Limits.Memory = -1 }, "limit memory: -1"},
		"absurd memory":     {func(s *Spec) { s.Limits.Memory = math.MaxInt64 }, "limit memory"},
		"tiny memory":       {func(s *Spec) { s.Limits.Memory = 4096 }, "limit memory"},
		"no cpus":           {func(s *Spec) { s.Limits.CPUs = 0 }, "limit cpus: 0"},
		"negative cpus":     {func(s *Spec) { s.Limits.CPUs = -0.5 }, "limit cpus: -0.5"},
		"cpus not a number": {func(s *Spec) { s.Limits.CPUs = math.NaN() }, "limit cpus: NaN"},
		"endless cpus":      {func(s *Spec) { s.Limits.CPUs = math.Inf(1) }, "limit cpus: +Inf"},
		"no pids":           {func(s *Spec) { s.Limits.PIDs = 0 }, "limit pids: 0"},
		"unlimited pids":    {func(s *Spec) { s.Limits.PIDs = -1 }, "limit pids: -1"},
		"no files":          {func(s *Spec) { s.Limits.OpenFiles = 0 }, "limit open files: 0"},
		"absurd files":      {func(s *Spec) { s.Limits.OpenFiles = math.MaxInt64 }, "limit open files"},
		"no log":            {func(s *Spec) { s.Limits.LogSize = 0 }, "limit log size: 0"},
		"negative log":      {func(s *Spec) { s.Limits.LogSize = -1 }, "limit log size: -1"},
		"unknown role's":    {func(s *Spec) { s.Limits = LimitsFor("nobody") }, "limit memory: 0"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := valid()
			c.spoil(&spec)
			err := spec.Validate()
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

// TestValidateRefusesOwnUID validates as the user of the container itself.
func TestValidateRefusesOwnUID(t *testing.T) {
	spec := valid()
	if os.Geteuid() == 0 {
		// The raw call changes this thread alone, which ends with the test
		// since nothing unlocks it.
		runtime.LockOSThread()
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(spec.UID), ^uintptr(0)); errno != 0 {
			t.Fatal(errno)
		}
	}
	other := spec.UID + 1
	spec.UID = uint32(os.Geteuid())
	if err := spec.Validate(); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "the orchestrator's own") {
		t.Errorf("uid %d: error %v", spec.UID, err)
	}
	spec.UID = other
	if err := spec.Validate(); err != nil {
		t.Errorf("uid %d: %v", other, err)
	}
}

func TestValidateReportsEverything(t *testing.T) {
	spec := valid()
	spec.UID, spec.Limits.PIDs, spec.Dir = 0, 0, ""
	err := spec.Validate()
	for _, part := range []string{"uid", "limit pids", "working directory"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not mention %s", err, part)
		}
	}
}

func TestCheckHost(t *testing.T) {
	limits := Limits{Memory: 2 << 30, CPUs: 4}
	for name, c := range map[string]struct {
		host Info
		says string
	}{
		"unknown host":    {Info{}, ""},
		"ample host":      {Info{CPUs: 4, Memory: 2 << 30}, ""},
		"too few cpus":    {Info{CPUs: 2, Memory: 2 << 30}, "limit cpus: 4 exceeds the host's 2"},
		"too little room": {Info{CPUs: 4, Memory: 1 << 30}, "limit memory: 2048 MiB exceeds the host's 1024 MiB"},
	} {
		err := limits.CheckHost(c.host)
		if c.says == "" && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if c.says != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
		if fitted := limits.Fit(c.host); fitted.CheckHost(c.host) != nil {
			t.Errorf("%s: fitted to %+v", name, fitted)
		}
	}
}

func TestCheckSources(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for name, c := range map[string]struct {
		mount Mount
		says  string
	}{
		"directory":          {Mount{Source: dir}, ""},
		"file":               {Mount{Source: file}, ""},
		"image":              {Mount{Source: file, Image: true}, ""},
		"missing":            {Mount{Source: dir + "/none"}, "no such file"},
		"link":               {Mount{Source: dir + "/link"}, "leads through a symlink"},
		"below a link":       {Mount{Source: dir + "/link/file"}, "leads through a symlink"},
		"socket":             {Mount{Source: dir + "/s"}, "neither a file nor a directory"},
		"device":             {Mount{Source: "/dev/null"}, "neither a file nor a directory"},
		"directory as image": {Mount{Source: dir, Image: true}, "is not an image file"},
		"closed descriptor":  {Mount{Source: "/proc/1/fd/999999", Image: true}, "cannot look at the source"},
		"linked image":       {Mount{Source: dir + "/link/file", Image: true}, "leads through a symlink"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := Spec{Mounts: []Mount{c.mount}}
			err := spec.CheckSources()
			if c.says == "" && err != nil {
				t.Error(err)
			}
			if c.says != "" && (!errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		})
	}
}

func TestHostname(t *testing.T) {
	for id, want := range map[string]string{
		"ocmt-1":                "ocmt-1",
		"Ocmt_A_b":              "ocmt-a-b",
		"trailing_":             "trailing",
		strings.Repeat("a", 63): strings.Repeat("a", 63),
	} {
		spec := Spec{ID: id}
		if got := spec.Hostname(); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
}
