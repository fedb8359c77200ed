package v1

// ProfileRow is one control of the sandbox that a plugin runs in.
type ProfileRow struct {
	Name    string `json:"name" example:"capabilities"`
	Setting string `json:"setting" example:"none"`
	Against string `json:"against,omitempty" doc:"what it stops"`
	Note    string `json:"note,omitempty" doc:"what is weaker on this host, and the like"`
}

// StateUse tells of the directory that a plugin keeps its state in.
type StateUse struct {
	Kind string `json:"kind" doc:"how its size is held: by a file system of that size, or by a look at the directory now and then" example:"ext4 image"`
	Max  int64  `json:"max" doc:"bytes; 0 if it is not bounded"`
	Used int64  `json:"used" doc:"bytes"`
}

// Levels of trust in a plugin, by where it came from; the sandbox's defaults
// depend on it.
const (
	TrustBuiltIn  = "built-in"
	TrustVerified = "verified"
	TrustNPM      = "npm"
	TrustPath     = "path"
	TrustArchive  = "archive"
)
