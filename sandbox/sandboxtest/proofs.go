package sandboxtest

// Proofs returns what proves each control of sandbox.Table, by its name: rows of
// this suite, as "group/row", and tests of packages below the module's root, as
// "folder.TestName".
func Proofs() map[string][]string {
	return map[string][]string{
		"network":              {"hardening/seen from inside", "hardening/seen from outside"},
		"ipc":                  {"hardening/seen from outside", "hardening/read-only root"},
		"processes":            {"hardening/seen from inside", "hardening/seen from outside"},
		"mounts":               {"hardening/seen from outside", "mounts/propagation is private"},
		"host name":            {"process/as the spec says", "hardening/seen from outside"},
		"control groups":       {"hardening/seen from inside", "hardening/seen from outside"},
		"user name space":      {"hardening/seen from outside"},
		"user and group":       {"process/as the spec says", "hardening/seen from inside"},
		"capabilities":         {"hardening/seen from inside"},
		"no new privileges":    {"hardening/seen from inside", "mounts/set-user-ID programs"},
		"environment":          {"process/as the spec says", "process/environment that replaces the image's"},
		"seccomp":              {"hardening/system calls", "hardening/system calls of other architectures", "sandbox/seccomp.TestNamesExist"},
		"AppArmor":             {"sandbox/containerd.TestAppArmor", "sandbox/docker.TestCIS"},
		"SELinux":              {"sandbox/docker.TestCIS"},
		"masked paths":         {"hardening/masked and read-only paths"},
		"read-only paths":      {"hardening/masked and read-only paths"},
		"kernel settings":      {"hardening/privileged ports on the loopback device", "hardening/system calls"},
		"devices":              {"mounts/devices", "sandbox/containerd.TestRecordedSpec", "sandbox/docker.TestCIS"},
		"root file system":     {"hardening/read-only root"},
		"mounted files":        {"mounts/read-only", "mounts/read-write", "mounts/noexec", "mounts/flags of the source stay", "mounts/what is mounted below the source stays outside"},
		"memory file systems":  {"limits/tmpfs size", "limits/tmpfs noexec", "limits/tmpfs mount options"},
		"programs from memory": {"hardening/programs from memory"},
		"engine's socket":      {"sandbox.TestValidateRefuses", "sandbox.TestCheckSources"},
		"memory":               {"limits/memory", "hardening/seen from outside"},
		"heap":                 {"orchestrator/instance.TestLimits"},
		"cpu time":             {"hardening/seen from outside"},
		"process count":        {"limits/pids", "hardening/seen from outside"},
		"open files":           {"limits/open files"},
		"core dumps":           {"hardening/crash without a core dump", "hardening/system calls", "sandbox/seccomp.TestCoreLimit"},
		"message queues":       {"hardening/read-only root"},
		"out-of-memory score":  {"hardening/seen from outside"},
		"output":               {"logs/size is bounded"},
		"restart policy":       {"sandbox/docker.TestHostConfig", "sandbox/containerd.TestRecordedSpec"},
		"end":                  {"life/stop within the grace", "life/kill after the grace"},
		"image's own settings": {"process/as the spec says", "sandbox/docker.TestHostConfig", "sandbox/docker.TestImageVolumes"},
	}
}

// Rows returns the names of all rows, as "group/row".
func Rows() []string {
	var names []string
	for _, g := range groups() {
		for _, r := range g.rows {
			names = append(names, g.name+"/"+r.name)
		}
	}
	return names
}
