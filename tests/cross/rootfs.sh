#!/usr/bin/env bash
# An aarch64 Python of Debian in a folder: rootfs, and python3, which runs it by qemu-user on the processor that QEMU_CPU
# names.
#
#   rootfs.sh FOLDER SUITE PACKAGE...
set -euo pipefail
folder=$1 suite=$2
shift 2
mirror=${CROSS_MIRROR:-http://deb.debian.org/debian}

rm -rf "$folder/rootfs"
echo "cross: an aarch64 Python from $mirror, $suite"
mmdebstrap --arch=arm64 --variant=extract --include="$(IFS=,; echo "$*")" \
  "$suite" "$folder/rootfs" "$mirror" >"$folder/mmdebstrap.log" 2>&1 ||
  { tail -n 20 "$folder/mmdebstrap.log" >&2; echo "cross: mmdebstrap FAILED" >&2; exit 1; }
# Since Debian 13 a package makes this link only as it is configured.
if [ ! -e "$folder/rootfs/lib" ]; then ln -s usr/lib "$folder/rootfs/lib"; fi
# qemu looks in the rootfs first: these are the machine's own.
rm -rf "$folder/rootfs/"{tmp,dev,proc,sys,run,var,root,home}
cat >"$folder/python3" <<P
#!/bin/sh
exec qemu-aarch64 -L "$folder/rootfs" "$folder/rootfs/usr/bin/python3" "\$@"
P
chmod +x "$folder/python3"
