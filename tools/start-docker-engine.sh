#!/bin/sh
# Starts a Docker engine of one's own in FOLDER and prints its address; `--stop` ends it and removes the folder.
#
#     DOCKER_HOST=$(sh tools/start-docker-engine.sh /tmp/engine)
#     sh tools/start-docker-engine.sh --stop /tmp/engine
#
# It has no bridge and touches no firewall rule: sandboxes have no network of Docker's.
set -eu

usage() {
    echo "usage: start-docker-engine.sh [--stop] FOLDER" >&2
    exit 2
}

stop=
if [ "${1:-}" = --stop ]; then
    stop=yes
    shift
fi
[ $# -eq 1 ] || usage
folder=$1

gone() {
    [ ! -d "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null
}

if [ -n "$stop" ]; then
    if [ -s "$folder/pid" ]; then
        pid=$(cat "$folder/pid")
        kill "$pid" 2>/dev/null || true
        waited=0
        until gone "$pid"; do
            waited=$((waited + 1))
            [ "$waited" -le 300 ] || kill -9 "$pid" 2>/dev/null || true
            sleep 0.1
        done
    fi
    # What an engine that was killed has left: its containers' keepers with the containers, and mounts.
    for command in $(grep -lsF "$folder/" /proc/[0-9]*/cmdline); do
        process=${command%/cmdline}
        process=${process#/proc/}
        [ "$process" != $$ ] || continue
        grep -qsE '^(containerd|containerd-shim|dockerd)' "/proc/$process/comm" || continue
        # shellcheck disable=SC2046  # process ids
        kill -9 $(cat "/proc/$process/task/"*/children 2>/dev/null) "$process" 2>/dev/null || true
    done
    { grep -oE " $folder/[^ ]+" /proc/self/mounts || true; } | sort -r | while read -r place; do
        umount -l "$place" 2>/dev/null || true
    done
    rm -rf "$folder"
    exit 0
fi

sh "$(dirname "$0")/install-docker.sh"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# containerd's sockets lie below, and a socket's path has 107 bytes.
if [ ${#folder} -gt 60 ]; then
    echo "the folder's path is too long for sockets, use one of at most 60 characters: $folder" >&2
    exit 1
fi
address="unix://$folder/s.sock"
if docker -H "$address" version >/dev/null 2>&1; then
    echo "$address"
    exit 0
fi

# A machine without systemd may have no cgroups mounted at all.
if ! grep -q ' cgroup2\{0,1\} ' /proc/self/mounts; then
    mount -t cgroup2 none /sys/fs/cgroup
fi
rm -f "$folder/pid"
# A dead containerd that nobody has buried would be taken for a living one.
keeper=$folder/exec/containerd/containerd.pid
if [ -s "$keeper" ] && gone "$(cat "$keeper")"; then
    rm -f "$keeper"
fi
nohup dockerd --data-root "$folder/data" --exec-root "$folder/exec" -H "$address" -p "$folder/pid" \
    --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
    >"$folder/log" 2>&1 </dev/null &
started=$!

waited=0
until docker -H "$address" version >/dev/null 2>&1; do
    waited=$((waited + 1))
    if gone "$started" || [ "$waited" -gt 600 ]; then
        echo "the Docker engine did not start; its log ends:" >&2
        tail -n 20 "$folder/log" >&2
        exit 1
    fi
    sleep 0.1
done
echo "$address"
