#!/bin/sh
# Installs bubblewrap with the system's package manager, or says how to.
set -eu

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        echo "bubblewrap is missing and this user may not install packages; as root, run: $*" >&2
        exit 1
    fi
}

if command -v apt-get >/dev/null; then
    as_root apt-get install -y -qq bubblewrap >/dev/null 2>&1 || {
        as_root apt-get update -qq
        as_root apt-get install -y -qq bubblewrap >/dev/null
    }
elif command -v dnf >/dev/null; then
    as_root dnf install -y -q bubblewrap
elif command -v pacman >/dev/null; then
    as_root pacman -S --noconfirm bubblewrap
elif command -v apk >/dev/null; then
    as_root apk add --quiet bubblewrap
else
    echo "bubblewrap is missing; install it with the system's package manager" >&2
    exit 1
fi
