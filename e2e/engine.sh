#!/bin/sh
# Makes sure that the engines answer which the tests need:
#
#	engine.sh docker [containerd] [runsc]
#
# docker is a Docker engine, containerd the system's containerd, and runsc is
# gVisor's runtime, which Docker then knows as runsc. What answers already is
# left alone. What does not is installed from the distribution's packages and
# started, as root on Debian or Ubuntu: by the service manager where there is
# one, and else in the background. A daemon.json of one's own is never changed.
set -eu

dockerd_log=${OCMT_ENGINE_LOG:-/var/log/dockerd.log}
containerd_log=/var/log/containerd.log
containerd_socket=${CONTAINERD_ADDRESS:-/run/containerd/containerd.sock}
daemon_json=/etc/docker/daemon.json
wanted=" ${*:-docker} "

wants() { case $wanted in *" $1 "*) ;; *) return 1 ;; esac; }

fail() {
	echo "engine: $1" >&2
	echo "  hint: $2" >&2
	exit 1
}

docker_answers() { timeout 10 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

docker_knows_runsc() { timeout 10 docker info --format '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}' 2>/dev/null | grep -qw runsc; }

containerd_answers() { timeout 10 ctr --address "$containerd_socket" version >/dev/null 2>&1; }

# wait_until SECONDS COMMAND waits until the command succeeds.
wait_until() {
	tries=$(($1 * 2))
	while ! "$2"; do
		tries=$((tries - 1))
		[ "$tries" -gt 0 ] || return 1
		sleep 0.5
	done
}

need_root() { [ "$(id -u)" = 0 ] || fail "$1" "$2"; }

# install_packages installs those of the packages whose program is missing.
install_packages() {
	packages=
	if wants docker && ! command -v dockerd >/dev/null 2>&1 && ! docker_answers; then packages="docker.io iptables"; fi
	if wants containerd && ! { command -v containerd && command -v ctr; } >/dev/null 2>&1; then packages="$packages containerd"; fi
	if wants runsc && ! command -v runsc >/dev/null 2>&1; then packages="$packages runsc"; fi
	# ip(8) makes the network of the hostile attacks, which are run as root.
	if [ "$(id -u)" = 0 ] && ! command -v ip >/dev/null 2>&1; then packages="$packages iproute2"; fi
	[ -n "$packages" ] || return 0
	need_root "this needs packages that are not installed:$packages" "run as root: apt-get install $packages"
	command -v apt-get >/dev/null 2>&1 || fail "not installed, and no apt-get to install them with: $packages" \
		"install Docker Engine 20.10, containerd 1.6 and gVisor's runsc, or later ones, by your distribution's means"
	echo "engine: installing $packages"
	timeout 300 apt-get update -qq || fail "cannot fetch the list of packages" "look at the output of apt-get update"
	# shellcheck disable=SC2086 # several words
	DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -y -qq --no-install-recommends $packages ca-certificates >/dev/null ||
		fail "cannot install $packages" "look at the output of apt-get; gVisor's own packages: https://gvisor.dev/docs/user_guide/install/"
}

# runsc_config prints a daemon.json that knows runsc: without a network of its
# own, and able to use the sockets that are mounted into the container.
runsc_config() {
	uds=--fsgofer-host-uds
	if runsc flags 2>&1 | grep -q '^ *-host-uds'; then uds=--host-uds=open; fi
	printf '{"runtimes":{"runsc":{"path":"%s","runtimeArgs":["--network=none","%s"]}}}\n' "$(command -v runsc)" "$uds"
}

# offer_runsc writes daemon.json, where there is none or an earlier one of ours.
offer_runsc() {
	if [ -e "$daemon_json" ] && ! grep -qE '^\{"runtimes":\{"runsc":\{"path":"[^"]*","runtimeArgs":\["--network=none","[^"]*"\]\}\}\}$' "$daemon_json"; then
		fail "Docker does not know the runtime runsc, and $daemon_json is not ours to change" \
			"add to it: $(runsc_config | sed 's/^{//; s/}$//'), then: systemctl reload docker, or kill -HUP the dockerd"
	fi
	need_root "Docker does not know the runtime runsc" "run as root: sh e2e/engine.sh docker runsc"
	mkdir -p "$(dirname "$daemon_json")"
	runsc_config >"$daemon_json"
}

# reload_docker has a running dockerd read daemon.json again, which disturbs no
# container.
reload_docker() {
	if [ -d /run/systemd/system ]; then
		systemctl reload docker
	else
		kill -HUP "$(cat /var/run/docker.pid)"
	fi
	wait_until 20 docker_knows_runsc || fail "Docker does not know the runtime runsc after it was told to read $daemon_json" \
		"restart dockerd, and look at $dockerd_log"
}

start_docker() {
	if [ "$(id -u)" != 0 ]; then
		[ ! -S /var/run/docker.sock ] || fail "Docker's socket is there, but this user may not use it" \
			"have an administrator run: usermod -aG docker $(id -un), and log in again"
		fail "no Docker engine answers, and only root can start one" "run as root: sh e2e/engine.sh docker"
	fi
	if wants runsc; then offer_runsc; fi
	if docker_answers; then
		return # the package has started it
	elif [ -d /run/systemd/system ]; then
		systemctl start docker
	else
		# It takes a containerd of its own, which no test disturbs, unless the
		# system's socket is there.
		containerd_answers || rm -f "$containerd_socket"
		echo "engine: starting dockerd in the background (log: $dockerd_log)"
		rm -f /var/run/docker.pid
		setsid dockerd >"$dockerd_log" 2>&1 </dev/null &
	fi
	wait_until 60 docker_answers || {
		tail -n 20 "$dockerd_log" >&2 || true
		fail "dockerd does not answer after 60 s" "its log is $dockerd_log"
	}
}

start_containerd() {
	need_root "no containerd answers at $containerd_socket, or this user may not use it" \
		"run as root; or leave containerd's tests out: make test ENGINES=docker"
	if [ -d /run/systemd/system ]; then
		systemctl start containerd
	else
		echo "engine: starting containerd in the background (log: $containerd_log)"
		setsid containerd --address "$containerd_socket" >"$containerd_log" 2>&1 </dev/null &
	fi
	wait_until 30 containerd_answers || {
		tail -n 20 "$containerd_log" >&2 || true
		fail "containerd does not answer after 30 s" "its log is $containerd_log"
	}
}

install_packages
if wants docker; then
	docker_answers || start_docker
	echo "engine: Docker $(docker version --format '{{.Server.Version}}') answers"
	if wants runsc; then
		docker_knows_runsc || { offer_runsc && reload_docker; }
		echo "engine: Docker knows the runtime runsc"
	fi
fi
if wants containerd; then
	containerd_answers || start_containerd
	echo "engine: containerd $(ctr --address "$containerd_socket" version | awk '/^Server:/ {server = 1} server && /Version:/ {print $2; exit}') answers"
fi
