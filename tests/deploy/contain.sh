#!/usr/bin/env bash
# Runs a command as a container of the image `worker` would, without a container engine:
#
#     contain.sh PREFIX PACKAGES APP MODELS NAME=VALUE... COMMAND...
#
# In a mount namespace of its own: Python of PREFIX in /usr/local, an environment /venv with PACKAGES,
# the code APP in /app, the volume MODELS in /models; a read-only root, an empty /tmp, user 10001 without any capability, and no
# variables but those given. Needs to be root on Linux with overlay file systems.
set -euo pipefail

if [ "${CONTAINED:-}" = "" ]; then
    exec env CONTAINED=yes unshare --mount "$0" "$@"
fi
prefix=$1 packages=$2 app=$3 models=$4
shift 4

mount --make-rprivate /
room=$(mktemp --directory)
mount -t tmpfs tmpfs "$room"
mkdir "$room"/{upper,work,root}
root=$room/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$root"
mkdir -p "$root"/{app,archive,models,venv}
chown 10001:10001 "$root/archive" "$models"
mount --bind "$prefix" "$root/usr/local"
mount --bind "$app" "$root/app"
mount --bind "$models" "$root/models"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
chroot "$root" /usr/local/bin/python3 -m venv --without-pip /venv
mount --bind "$packages" "$(echo "$root"/venv/lib/python3.*/site-packages)"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -o remount,ro,bind "$root/usr/local"
mount -o remount,ro,bind "$root/app"
mount -o remount,ro "$root"

# It ends with the test that started it.
exec chroot "$root" setpriv --reuid=10001 --regid=10001 --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all --pdeathsig=TERM env --ignore-environment \
    --chdir=/app LD_LIBRARY_PATH=/usr/local/lib "$@"
