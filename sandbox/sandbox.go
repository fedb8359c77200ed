// Package sandbox is the contract between the orchestrator and a container
// engine: what a sealed-off container is ([Spec]), what an engine must be able
// to do with it ([Engine]), and the hardened profile that every container of
// ours is made from ([Harden]).
//
// Implementations live below it (sandbox/docker, sandbox/containerd,
// sandbox/fake) and prove themselves by one call of sandboxtest.Run. Errors carry a
// github.com/containerd/errdefs class, so that callers ask errdefs.IsNotFound
// and never look at an engine's own error types.
package sandbox

import (
	"context"
	"io"
	"time"
)

// Labels that every container carries. A container without our own home's id
// in [LabelHome] is never touched.
const (
	LabelHome       = "ocmt.home"       // random id of the orchestrator's home
	LabelTenant     = "ocmt.tenant"     // tenant name
	LabelPlugin     = "ocmt.plugin"     // plugin id
	LabelInstance   = "ocmt.instance"   // unique per container
	LabelGeneration = "ocmt.generation" // decimal, grows with every start of the plugin
	LabelRole       = "ocmt.role"       // one of the roles below
)

// Roles are what containers are for; see [LimitsFor].
const (
	RolePlugin  = "plugin"  // runs a plugin
	RoleCheck   = "check"   // loads a plugin once, to see what it registers
	RoleInstall = "install" // resolves and fetches packages
	RoleClean   = "clean"   // removes files that a container's user owns
)

// Engine runs sandboxes. Containers are named by the caller; Stop and Remove
// are idempotent; every method honours its context and may be called from
// several goroutines. A call that ended with its context, or with Unavailable,
// may have had its effect all the same: List tells.
//
// The life of a container:
//
//	Create ──▶ created ──Start──▶ running ──(exits, or Stop)──▶ exited ──Remove──▶ gone
//
// An engine never restarts a container by itself: the supervisor owns that.
type Engine interface {
	// Info describes the engine. It fails with Unavailable when no engine
	// answers, and with FailedPrecondition when the engine is too old, naming
	// the version that is needed.
	Info(ctx context.Context) (Info, error)

	// EnsureImage makes img usable by Create. It does nothing when the engine
	// already holds an image whose configuration digest is img.Digest;
	// otherwise it loads img.Open, and fails with FailedPrecondition when the
	// archive holds another image, in which case nothing is loaded. NotFound
	// when the image is missing and img.Open is nil. progress, which may be
	// nil, is told the bytes sent so far.
	EnsureImage(ctx context.Context, img Image, progress func(sent int64)) error

	// Create makes a container that does not run yet. AlreadyExists when
	// spec.ID is taken, NotFound when the image is missing, InvalidArgument
	// when spec.Validate or spec.CheckSources fails, the limits exceed the
	// host, or the runtime is unknown; FailedPrecondition when the engine
	// cannot enforce a limit.
	Create(ctx context.Context, spec Spec) error

	// Start runs a created container, once: FailedPrecondition for one that
	// was started before. It returns when its first process was executed.
	// NotFound for an unknown id; a first process that cannot be executed is
	// an error here, never an exit.
	Start(ctx context.Context, id string) error

	// Wait blocks until the container's first process has ended and says how;
	// for one that was not started yet it waits for the start too. It returns
	// at once for one that already exited. NotFound when the container is
	// unknown or removed meanwhile.
	Wait(ctx context.Context, id string) (Exit, error)

	// Stop sends SIGTERM, and SIGKILL after grace. A grace of zero kills at
	// once. It returns when the container has ended; it does nothing, without
	// an error, for one that is not running or unknown.
	Stop(ctx context.Context, id string, grace time.Duration) error

	// Remove kills the container if need be and leaves nothing of it behind,
	// volumes and logs included. Unknown ids are no error.
	Remove(ctx context.Context, id string) error

	// List returns the containers, running or not, that carry all the labels
	// of match. match must hold LabelHome.
	List(ctx context.Context, match map[string]string) ([]Container, error)

	// Logs writes the container's output to w, oldest first, and returns at
	// its end, or with opts.Follow when the container has ended: as it was
	// printed, or with opts.JSON as a [LogLine] per line and Write. A container
	// that was never started has no output, followed or not. NotFound for an
	// unknown id.
	Logs(ctx context.Context, id string, opts LogOptions, w io.Writer) error
}

// Info describes an engine and what this host's instance of it can do.
type Info struct {
	Name     string   // "docker", "containerd", "fake"
	Version  string   // as the engine prints it
	Runtime  string   // the OCI runtime containers run with, for example "runc"
	Runtimes []string // every runtime the engine knows
	Rootless bool     // the engine itself runs without root
	CgroupV2 bool
	AppArmor string // the profile that containers get; empty where there is none
	SELinux  bool   // the engine labels containers
	CPUs     int    // of the engine's host; 0 when unknown
	Memory   int64  // bytes, of the engine's host; 0 when unknown
	// ImageMounts says that Mount.Image works: the engine can mount a sealed
	// EROFS image by itself, which a daemon without root needs.
	ImageMounts bool
	// MountFlags says that the engine applies Mount.NoExec, nosuid and nodev
	// itself. Where it is false, they are the caller's to set on the source. A
	// writable mount then has all flags of its source; one with ReadOnly has
	// them if the source is mounted read-only, nosuid and nodev, and else none
	// but read-only, since runc remounts it with the flags that it was told.
	MountFlags bool
	// Warnings are sentences about protections that this engine or its host
	// does not offer, for people.
	Warnings []string
}

// Image is a container image known by its content.
type Image struct {
	// Digest is the digest of the image's configuration, "sha256:<hex>": the
	// one name for an image that Docker and containerd compute alike.
	Digest string
	// Open returns the image as a `docker save` archive. It may be nil when
	// the image must already be there.
	Open func() (io.ReadCloser, error)
	// Size of what Open returns, in bytes, for the progress display.
	Size int64
}

// Spec says all there is to say about one container. Make it with [Harden];
// what the zero value of a field means is never "unlimited".
type Spec struct {
	ID    string   // 2-63 of [a-zA-Z0-9_-], a letter or digit first
	Image string   // configuration digest, see Image.Digest
	Args  []string // the first is the absolute path of the program
	// Env is the whole environment, KEY=value; nothing is inherited from the
	// image or the engine. It must set HOME, or the runtime would make one up.
	Env    []string
	Dir    string // working directory, absolute
	UID    uint32 // never 0, nor the user that this process runs as
	GID    uint32 // never 0
	Labels map[string]string
	Mounts []Mount
	Tmpfs  []Tmpfs
	Limits Limits
	// Seccomp is the profile as JSON in the form of the OCI runtime
	// specification's linux.seccomp, which is Docker's too; never empty.
	Seccomp []byte
	// Runtime names an OCI runtime of the engine; empty is its default.
	Runtime string
	// StopGrace is what the engine is told as a stop timeout for stops that
	// it starts itself (its own shutdown).
	StopGrace time.Duration
}

// Mount puts a host file or directory into the container, without what is
// mounted below it, and private: later mounts do not travel. A target that the
// engine would fill itself, as /etc/hosts, is the mount's. Where nosuid and
// nodev are missing, see Info.MountFlags, no-new-privileges and the device
// rules of the profile stand in for them.
type Mount struct {
	// Source is an absolute path on the host without symlinks in it: a file or
	// a directory, never a socket. With Image it may be /proc/PID/fd/N, so that
	// a descriptor that was verified is the one that is mounted; it must stay
	// open until Start has returned.
	Source   string
	Target   string // absolute path in the container
	ReadOnly bool
	NoExec   bool
	// Image says that Source is a sealed EROFS image file to be mounted by the
	// engine, read-only. Only for engines with Info.ImageMounts.
	Image bool
}

// Tmpfs is a memory file system: always nosuid, nodev and noexec.
type Tmpfs struct {
	Target string
	Size   int64 // bytes
	Mode   uint32
}

// Limits bounds what a container may use. All of them must be set.
type Limits struct {
	Memory    int64   // bytes, swap included: there is none beyond it
	CPUs      float64 // cores
	PIDs      int64
	OpenFiles int64 // per process
	LogSize   int64 // bytes kept per log file, at LogFiles files
}

// State of a container.
type State string

// The states that engines report.
const (
	StateCreated State = "created"
	StateRunning State = "running"
	StateExited  State = "exited"
)

// Container is what an engine knows of a container.
type Container struct {
	ID        string
	Labels    map[string]string
	State     State
	StartedAt time.Time // zero before the first start
	PID       int       // of the first process on the host; 0 when not running
	Exit      Exit      // valid in StateExited
}

// Exit says how a container ended.
type Exit struct {
	// Code of the first process; 128+n when signal n ended it.
	Code int
	// OOMKilled says that the memory limit ended a process of the container.
	OOMKilled bool
	At        time.Time
}

// LogOptions selects output.
type LogOptions struct {
	Follow bool
	Since  time.Time // zero: from the beginning
	Tail   int       // last lines; 0: all
	JSON   bool      // every line as a LogLine in JSON
}
