// Package report holds what the probe prints as JSON, for the probe and for
// the conformance suite that reads it. It imports nothing.
package report

// Process is what a process knows of itself without asking the kernel for
// more than its own description.
type Process struct {
	Args     []string `json:"args"`
	Env      []string `json:"env"`
	Dir      string   `json:"dir"`
	Hostname string   `json:"hostname"`
	UID      int      `json:"uid"`
	GID      int      `json:"gid"`
}

// Kernel is the sandbox seen from inside.
type Kernel struct {
	PID        int               `json:"pid"`
	Groups     []int             `json:"groups"`
	NoNewPrivs bool              `json:"noNewPrivs"`
	Status     map[string]string `json:"status"` // of /proc/self/status
	Interfaces []string          `json:"interfaces"`
	Core       [2]uint64         `json:"core"` // soft and hard limit
	OpenFiles  [2]uint64         `json:"openFiles"`
	Mounts     []Mount           `json:"mounts"`
	// Files are the contents of the files that were asked for, trimmed, by
	// path; what cannot be read is left out.
	Files map[string]string `json:"files"`
}

// Mount is a line of /proc/self/mountinfo.
type Mount struct {
	Target  string   `json:"target"`
	Type    string   `json:"type"`
	Options []string `json:"options"`
}

// Attempt is how something that may be refused went.
type Attempt struct {
	Error string `json:"error"` // name of the errno, or empty
	Count int64  `json:"count"` // bytes or processes until the error
	Text  string `json:"text"`
}
