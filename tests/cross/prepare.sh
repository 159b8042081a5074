#!/usr/bin/env bash
# An aarch64 Python that qemu-user runs, in a folder: rootfs (Debian's), site (wheels of the package index), python3
# (runs it, on the processor that QEMU_CPU names). Made once; made anew when this file changes.
#
#   INSTALL='...' prepare.sh FOLDER
#
# INSTALL is a command that installs packages, `pip install` or `uv pip install`.
set -euo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm  # its C library is no newer than that of the cross compiler may be
mirror=${CROSS_MIRROR:-http://deb.debian.org/debian}
packages=(numpy Pillow platformdirs pydantic rich typer hypothesis pytest pytest-xdist onnx ncnn)
stamp=$(sha256sum "$here/prepare.sh" | cut -c1-64)

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -rf "$folder/rootfs" "$folder/site"

echo "cross: an aarch64 Python from $mirror, $suite"
mmdebstrap --arch=arm64 --variant=extract --include=python3,libpython3-dev,libstdc++6 \
  "$suite" "$folder/rootfs" "$mirror" >"$folder/mmdebstrap.log" 2>&1 ||
  { tail -n 20 "$folder/mmdebstrap.log" >&2; echo "cross: mmdebstrap FAILED" >&2; exit 1; }
# qemu looks in the rootfs first: these are the machine's own.
rm -rf "$folder/rootfs/"{tmp,dev,proc,sys,run,var,root,home}
version=$(basename "$(readlink "$folder/rootfs/usr/bin/python3")")  # python3.11

echo "cross: wheels for aarch64: ${packages[*]}"
case " $INSTALL " in
  *"uv pip "*) platform=(--python-platform aarch64-manylinux_2_28 --only-binary :all:) ;;
  # pip takes no wheel for an older C library unless its name is listed.
  *) platform=(--implementation cp --only-binary=:all: --platform manylinux2014_aarch64)
     for minor in $(seq 17 36); do platform+=(--platform "manylinux_2_${minor}_aarch64"); done ;;
esac
$INSTALL --target "$folder/site" --python-version "${version#python}" "${platform[@]}" "${packages[@]}" \
  >"$folder/wheels.log" 2>&1 ||
  { tail -n 20 "$folder/wheels.log" >&2; echo "cross: the wheels FAILED to install" >&2; exit 1; }

# Processes that the tests start have to find this Python, not the file that only qemu can run.
cat >"$folder/site/sitecustomize.py" <<P
import sys

sys.executable = sys._base_executable = "$folder/python3"
P
cat >"$folder/python3" <<P
#!/bin/sh
exec qemu-aarch64 -L "$folder/rootfs" "$folder/rootfs/usr/bin/python3" "\$@"
P
chmod +x "$folder/python3"
echo "$stamp" >"$folder/stamp"
