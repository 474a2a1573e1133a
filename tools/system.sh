#!/bin/sh
# tools/system.sh: installs what the fault rigs need of the system, and the shells whose completion
# is tried, where it is missing and can be installed: as root, with apt-get. It never fails: the
# tests say what they lack, and are skipped.
set -u

[ "$(id -u)" = 0 ] || exit 0
command -v apt-get >/dev/null 2>&1 || exit 0

missing=
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

PATH=$PATH:/usr/sbin:/sbin
need fusermount3 fuse3
need mkfs.ext4 e2fsprogs
need mkfs.xfs xfsprogs
need mkfs.btrfs btrfs-progs
need strace strace
need losetup mount
need mount mount
need zsh zsh
need fish fish
[ -n "$missing" ] || exit 0

install() {
    # shellcheck disable=SC2086 # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}

echo "installing for the tests:$missing" >&2
log=$(mktemp)
{ install || { apt-get update -q && install; }; } >"$log" 2>&1 || tail -n 5 "$log" >&2
rm -f "$log"
exit 0
