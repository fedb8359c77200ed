#!/bin/sh
# Says what to do when Go is missing, or older than the first release that
# fetches the toolchain which go.mod asks for.
set -eu
hint() {
	echo "$1" >&2
	arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
	echo "  hint: curl -fsSL https://go.dev/dl/go1.26.0.linux-$arch.tar.gz | tar -C /usr/local -xz && export PATH=\$PATH:/usr/local/go/bin" >&2
	exit 1
}
command -v go >/dev/null 2>&1 || hint "Go is not installed; ocmt is built with Go 1.26 (1.21 and later fetch it by themselves)"
version=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
major=${version%%.*}
minor=${version#*.}
minor=${minor%%.*}
if [ "$major" -lt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -lt 21 ]; }; then
	hint "Go $version is too old; ocmt is built with Go 1.26 (1.21 and later fetch it by themselves)"
fi
