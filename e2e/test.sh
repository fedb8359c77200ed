#!/bin/sh
# Runs all tests on the first engine, and the end-to-end tests on each of the
# others too, and prints what `go test -json` does, for gotestsum:
#
#	test.sh docker [containerd] [docker+runsc] [containerd+runsc] [-- docker+runsc]
#
# What stands after + is another OCI runtime than the engine's default. The
# further runs make those of the hostile attacks that depend on engine or
# runtime, or all of them with E2E_HOSTILE=full; what stands after -- is for the
# attacks alone, whose summaries are in the file $E2E_SUMMARY. The packages of the further runs are called e2e[ENGINE]. It ends
# with 1 if any of the runs failed, after all of them.
set -u

package=$(go list ./e2e) || exit 1
failed=0

# on ENGINE[+RUNTIME] PACKAGES... runs tests on an engine.
on() {
	E2E_ENGINE=${1%%+*} E2E_RUNTIME=
	case $1 in *+*) E2E_RUNTIME=${1#*+} ;; esac
	export E2E_ENGINE E2E_RUNTIME
	shift
	go test -json -timeout 15m "$@"
}

# The end-to-end tests come after the others and one package at a time: they
# have deadlines of their own.
on "$1" $(go list ./... | grep -v "^$package") || failed=1
on "$1" -p 1 ./e2e/... || failed=1
shift
E2E_HOSTILE=${E2E_HOSTILE:-varying}
export E2E_HOSTILE
packages="./e2e ./e2e/hostile"
exec 4>&1
for engine in "$@"; do
	if [ "$engine" = -- ]; then
		packages=./e2e/hostile
		continue
	fi
	# The exit code of the first in the pipe comes by a descriptor of its own.
	code=$({
		{
			on "$engine" -p 1 $packages
			echo $? >&3
		} | sed -u "s|\"Package\":\"$package\(/hostile\)\{0,1\}\"|\"Package\":\"$package\1[$engine]\"|" >&4
	} 3>&1)
	[ "$code" = 0 ] || failed=1
done
if [ -s "${E2E_SUMMARY:-}" ]; then
	cat "$E2E_SUMMARY" >&2 # so that the runner's own line is the last one
fi
exit "$failed"
