package plugin

// Permissions is what a plugin asks for, in its manifest, and what
// plugins.entries.<id>.permissions of config.json narrows it to. Make it with
// [ParsePermissions], which leaves it normalised: lower-case ASCII hosts,
// sorted lists, nothing twice.
type Permissions struct {
	Network   []Network              `json:"network,omitempty"`
	Workspace string                 `json:"workspace,omitempty"` // "none", "ro" or "rw"
	State     StateLimit             `json:"state,omitzero"`
	Secrets   []string               `json:"secrets,omitempty"`
	Env       []string               `json:"env,omitempty"`
	Config    []string               `json:"config,omitempty"` // dot paths into config.json
	Hooks     map[string][]HookRight `json:"hooks,omitempty"`  // by event
	Host      []string               `json:"host,omitempty"`   // host.* methods without the prefix
	Resources Resources              `json:"resources,omitzero"`
}

// Network is a destination.
type Network struct {
	Host  string   `json:"host"` // a name, or "*.name" for one label
	Ports []uint16 `json:"ports"`
	// Rules are method and path patterns for inspected connections.
	Rules     []string `json:"rules,omitempty"`
	Plaintext bool     `json:"plaintext,omitempty"` // no TLS needed
}

// StateLimit bounds the plugin's own directory.
type StateLimit struct {
	Max int64 `json:"max,omitempty"` // bytes
}

// Resources are limits of the container; a zero field asks for nothing.
type Resources struct {
	Memory int64   `json:"memory,omitempty"` // bytes
	CPUs   float64 `json:"cpus,omitempty"`
	PIDs   int64   `json:"pids,omitempty"`
}
