#!/bin/sh
# Makes the root file system that container tests run in, a tar of about 30 MB, and prints its path. Arguments are
# more Debian packages that it shall hold.
#
# It is put together from the installed Debian packages below and all that they depend on, in seconds and without
# a network. The name holds the packages' versions, so that a cached tar is never of other ones.
set -eu

cache=${TUMBLER_CACHE:-$HOME/.cache/tumbler}
wanted="bash coreutils curl dash findutils gawk grep hostname netcat-openbsd perl-base procps python3 sed tar util-linux $*"

sh "$(dirname "$0")/install-docker.sh" >&2

packages=$(
    # shellcheck disable=SC2086  # the list is words
    apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances $wanted | grep -E '^[a-z0-9]' | sort -u | while read -r name; do
        case $name in adduser | apt | cdebconf | debconf* | dpkg | init-system-helpers | passwd | perl | libperl5*) continue ;; esac
        dpkg-query -W -f '${Status} ${Package}:${Architecture} ${Package}\n' "$name" 2>/dev/null |
            sed -n 's/^install ok installed \(.*\):all .*/\1/p; s/^install ok installed \([^ ]*\) .*/\1/p' | head -n 1
    done | sort -u
)
# shellcheck disable=SC2086
versions=$(dpkg-query -W -f '${Package}=${Version}\n' $packages | cat - "$0" | sha256sum | cut -c 1-16)
image=$cache/test-image-$versions.tar
if [ -s "$image" ]; then
    echo "$image"
    exit 0
fi

mkdir -p "$cache"
root=$(mktemp -d "$cache/root-XXXXXX")
trap 'rm -rf "$root" "$root".*' EXIT

for name in bin sbin lib lib64; do
    mkdir -p "$root/usr/$name"
    ln -s "usr/$name" "$root/$name"
done
mkdir -p "$root/etc" "$root/root" "$root/tmp" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/var/tmp" "$root/home"
chmod 1777 "$root/tmp" "$root/var/tmp"
# shellcheck disable=SC2086
dpkg -L $packages | sort -u |
    grep -vE '^/(usr/share/(doc|man|locale|info|lintian|bug|bash-completion|zoneinfo|pixmaps|menu|applications|gcc)|usr/include|etc/(init|cron|rc)|lib/systemd|usr/lib/systemd|var|usr/lib/[a-z0-9_-]+/(gconv|audit))(/|$)' |
    grep -vE '/(test|tests|idlelib|lib2to3|ensurepip|distutils|__pycache__)(/|$)' |
    while read -r path; do
        if [ -L "$path" ] || [ -f "$path" ]; then printf '%s\n' "${path#/}"; fi
    done >"$root.list"
# Some packages list /bin/x, where the link leads to usr/bin.
sed -E 's#^(bin|sbin|lib|lib64)/#usr/\1/#' "$root.list" | sort -u >"$root.files"
tar -C / -c --no-recursion -T "$root.files" 2>/dev/null | tar -C "$root" -x
rm -f "$root.list" "$root.files"
# Links that package scripts make.
for link in /usr/bin/awk /usr/bin/nc /usr/bin/sh; do
    [ -e "$root$link" ] || [ ! -e "$link" ] || ln -s "$(basename "$(readlink -f "$link")")" "$root$link"
done
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'hosts: files dns\npasswd: files\ngroup: files\n' >"$root/etc/nsswitch.conf"
ldconfig -r "$root" 2>/dev/null || cp /etc/ld.so.cache "$root/etc/"
if [ -d /etc/ssl/certs ]; then
    mkdir -p "$root/etc/ssl/certs"
    [ ! -f /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi

# The parts fit together. Perl wants something to be there.
: >"$root/dev/null"
LC_ALL=C chroot "$root" /bin/bash -c '
    set -e
    ls /; python3 -c "import json, socket, ssl"; perl -e 1; curl --version; nc -h; echo | awk 1 | grep -c ""
' >"$root.out" 2>&1 </dev/null || {
    cat "$root.out" >&2
    exit 1
}
rm "$root/dev/null"
tar -C "$root" -c --sort=name --mtime=@0 --numeric-owner --owner=0 --group=0 -f "$image.part" .
mv "$image.part" "$image"
echo "$image"
