#!/bin/sh
# Usage: launch.sh GROUP IMAGE FOLDER NSPAWN_ARGUMENT...
#
# Becomes a systemd-nspawn that runs on an overlay of IMAGE, with its changes in FOLDER/changes, in the control groups
# GROUP. The mounts are in a namespace of their own: they vanish with the host's last process, however that ends.
set -eu

if [ "$1" != --mounted ]; then
    while read -r _ point type _; do
        case $type in
            cgroup | cgroup2) echo $$ >"$point/$1/cgroup.procs" ;;
        esac
    done </proc/self/mounts
    shift
    exec unshare --mount --propagation private -- /bin/sh "$0" --mounted "$@"
fi

image=$2 folder=$3
shift 3
# systemd-nspawn keeps its state here, which only a running systemd would have made ready.
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn
mount -t overlay -o "lowerdir=$image,upperdir=$folder/changes,workdir=$folder/work" overlay "$folder/root"
exec systemd-nspawn --quiet --directory="$folder/root" --register=no --keep-unit "$@" /bin/sh /etc/first-process
