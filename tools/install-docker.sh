#!/bin/sh
# Installs the Docker engine, what the egress gateway needs and what the test image is made of, with apt, or says how to.
set -eu

packages="docker.io nftables iproute2 busybox-static bash coreutils curl findutils gawk grep hostname netcat-openbsd perl-base procps python3 sed tar util-linux"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing="$missing $package"
done
# An engine that came some other way is as good.
if command -v dockerd >/dev/null && command -v docker >/dev/null; then
    missing=$(printf '%s' "$missing" | sed 's/docker\.io//')
fi
[ -n "$(printf '%s' "$missing" | tr -d ' ')" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "not a Debian system; install the Docker engine by hand: https://docs.docker.com/engine/install/" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "packages are missing and this user may not install them; as root, run: apt-get install$missing" >&2
    exit 1
fi

# A package's own start scripts would start a second engine, or fail where nothing manages services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # the list is words
apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1 || {
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
# Later Debian releases keep the client in a package of its own.
command -v docker >/dev/null || apt-get install -y -qq --no-install-recommends docker-cli >/dev/null
