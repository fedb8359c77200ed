package hostile

// filesGroup reaches for files.
func filesGroup() group {
	return group{name: "files", attacks: []attack{
		{
			name:   "write-outside",
			aims:   "leave a program or a setting that others use",
			layer:  "read-only root and payload, own uid, read-only /proc and /sys",
			varies: true,
			want:   map[string]string{"": "EROFS|EACCES|EPERM|ENOENT"},
		},
	}}
}
