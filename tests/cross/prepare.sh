#!/usr/bin/env bash
# An aarch64 Python that qemu-user runs, in a folder: rootfs (Debian's), site (wheels of the package index), python3
# (runs it, on the processor that QEMU_CPU names). Made once; made anew when this file or rootfs.sh changes.
#
#   INSTALL='...' prepare.sh FOLDER
#
# INSTALL is a command that installs packages, `pip install` or `uv pip install`.
set -euo pipefail
folder=$1
here=$(cd "$(dirname "$0")" && pwd)
suite=bookworm  # its C library is no newer than that of the cross compiler may be
packages=(numpy Pillow platformdirs pydantic rich typer hypothesis pytest pytest-xdist onnx ncnn)
stamp=$(cat "$here/prepare.sh" "$here/rootfs.sh" | sha256sum | cut -c1-64)

mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ "$(cat "$folder/stamp" 2>/dev/null)" = "$stamp" ]; then exit 0; fi
rm -rf "$folder/site"

bash "$here/rootfs.sh" "$folder" "$suite" python3 libpython3-dev libstdc++6
version=$(basename "$(readlink "$folder/rootfs/usr/bin/python3")")  # python3.11

echo "cross: wheels for aarch64: ${packages[*]}"
. "$here/platform.sh"
$INSTALL --target "$folder/site" --python-version "${version#python}" "${platform[@]}" "${packages[@]}" \
  >"$folder/wheels.log" 2>&1 ||
  { tail -n 20 "$folder/wheels.log" >&2; echo "cross: the wheels FAILED to install" >&2; exit 1; }

# Processes that the tests start have to find this Python, not the file that only qemu can run.
cat >"$folder/site/sitecustomize.py" <<P
import sys

sys.executable = sys._base_executable = "$folder/python3"
P
echo "$stamp" >"$folder/stamp"
