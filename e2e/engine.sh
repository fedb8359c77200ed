#!/bin/sh
# Makes sure that a Docker engine answers: does nothing when one does, and
# otherwise, as root on Debian or Ubuntu, installs the distribution's docker.io
# and starts it, by the service manager where there is one and else in the
# background.
set -eu

log=${OCMT_ENGINE_LOG:-/var/log/dockerd.log}

answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

fail() {
	echo "engine: $1" >&2
	echo "  hint: $2" >&2
	exit 1
}

if answers; then
	echo "engine: Docker $(docker version --format '{{.Server.Version}}') answers"
	exit 0
fi

if [ "$(id -u)" != 0 ]; then
	if [ -S /var/run/docker.sock ]; then
		fail "Docker's socket is there, but this user may not use it" \
			"have an administrator run: usermod -aG docker $(id -un), and log in again"
	fi
	fail "no Docker engine answers, and only root can install one" "run as root: apt-get install docker.io"
fi

if ! command -v dockerd >/dev/null 2>&1; then
	command -v apt-get >/dev/null 2>&1 || fail "no Docker engine, and no apt-get to install one with" \
		"install Docker Engine 20.10 or later by your distribution's means"
	echo "engine: installing docker.io"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		docker.io containerd iptables ca-certificates >/dev/null
fi

if answers; then :; elif [ -d /run/systemd/system ]; then
	systemctl start docker
else
	echo "engine: starting dockerd in the background (log: $log)"
	rm -f /var/run/docker.pid
	setsid dockerd >"$log" 2>&1 </dev/null &
fi

i=0
until answers; do
	i=$((i + 1))
	if [ "$i" -gt 120 ]; then
		tail -n 20 "$log" >&2 || true
		fail "dockerd does not answer after 60 s" "its log is $log"
	fi
	sleep 0.5
done
echo "engine: Docker $(docker version --format '{{.Server.Version}}') answers"
