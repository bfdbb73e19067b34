#!/bin/sh
# Installs with apt the programs that the sandbox tests drive, or says how; the Docker engine has a script of its own.
set -eu

packages="bubblewrap nftables iproute2 util-linux curl busybox-static gcc libc6-dev openssh-client perl zstd nodejs tmux"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "not a Debian system; install the equivalents of:$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        echo "packages are missing and this user may not install them; as root, run: apt-get install$missing" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # the list is words
    apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends $missing >/dev/null
    }
fi
sh "$(dirname "$0")/install-docker.sh"
