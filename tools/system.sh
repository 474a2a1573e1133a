#!/bin/sh
# tools/system.sh: install the system tools of the fault rigs, the shells of the completion tests, the
# clients of the server tests and the reader of packets, if they are missing. This needs root and
# apt-get. The script never fails: tests without their tools are skipped and report the missing tool.
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
need curl curl
need ab apache2-utils
need socat socat
need tshark tshark
[ -n "$missing" ] || exit 0

install() {
    # shellcheck disable=SC2086 # Each package is one word.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
}

echo "installing for the tests:$missing" >&2
log=$(mktemp)
{ install || { apt-get update -q && install; }; } >"$log" 2>&1 || tail -n 5 "$log" >&2
rm -f "$log"
exit 0
