#!/bin/sh
# Receives a full and an incremental stream, and shows each command before it
# is run: as root, with btrfs-progs, into a new btrfs in a temporary file;
# otherwise into a plain directory.
#
#   demo.sh BTRFS-RECV-RS STREAMS
set -eu

# In a mount namespace of its own, if there can be one: then nobody else sees
# the mount, and it ends with this script, however that ends.
if [ -z "${DEMO_NAMESPACE:-}" ]; then
    export DEMO_NAMESPACE=tried
    private="unshare --mount --propagation private"
    if $private true 2>/dev/null; then
        exec $private sh "$0" "$@"
    fi
fi

PATH=$(dirname "$1"):$PATH
streams=$2
directory=$(mktemp -d "${TMPDIR:-/tmp}/btrfs-recv-rs-demo.XXXXXX")
trap '
    umount "$directory/btrfs" 2>/dev/null || :
    rm -rf "$directory"
' EXIT
trap 'exit 1' HUP INT PIPE TERM

run() {
    printf '\n$'
    for word; do
        printf ' %s' "$word"
    done
    printf '\n'
    "$@"
}

if [ "$(id -u)" != 0 ]; then
    missing="this is not run as root"
elif ! command -v mkfs.btrfs >/dev/null; then
    missing="mkfs.btrfs is not installed (package btrfs-progs)"
else
    missing=
fi

cd "$streams"
if [ -z "$missing" ]; then
    to=$directory/btrfs
    mkdir "$to"
    run truncate --size=256M "$directory/image"
    run mkfs.btrfs --quiet "$directory/image"
    run mount -o loop "$directory/image" "$to"
    run btrfs-recv-rs -f full.v2.stream "$to"
    run btrfs-recv-rs -f incr.v2.stream "$to"
    for subvolume in s1 s2; do
        run btrfs subvolume show "$to/$subvolume"
    done
else
    to=$directory
    echo "There is no btrfs to receive into: $missing."
    echo "The streams are extracted into a plain directory instead."
    run btrfs-recv-rs --extract -f full.v2.stream "$to"
    run btrfs-recv-rs --extract -f incr.v2.stream "$to"
fi
run ls -lARq "$to/s2"
printf '\n%s is removed again.\n' "$directory"
