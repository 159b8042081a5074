#!/usr/bin/env bash
# Installs a wheel for aarch64 in an empty folder and lets an emulated Python classify photos with it, on processors with
# and without the newer instructions.
#
#   INSTALL='pip install' install_aarch64.sh WHEEL ROOT
#
# ROOT is a folder that tests/cross/rootfs.sh made. INSTALL is as in tests/cross/prepare.sh.
set -euo pipefail
wheel=$(realpath "$1") root=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
version=$(basename "$(readlink "$root/rootfs/usr/bin/python3")")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
. "$here/../cross/platform.sh"
started=$SECONDS
$INSTALL --target "$folder/site" --python-version "${version#python}" "${platform[@]}" "$wheel" >"$folder/log" 2>&1 ||
  { cat "$folder/log" >&2; exit 1; }
installed=$((SECONDS - started))
cd "$folder"
unset NYBBLE_MODEL NYBBLE_ISA
for cpu in max cortex-a72; do
  isas=(scalar neon)
  if [ $cpu = max ]; then isas+=(neondot neoni8mm); fi
  # OpenBLAS's kernels for SVE leave flags behind, emulated, which NumPy reports as a division by zero.
  answer=$(QEMU_CPU=$cpu OPENBLAS_CORETYPE=ARMV8 OPENBLAS_NUM_THREADS=1 PYTHONPATH=$folder/site \
    "$root/python3" "$here/installed.py" "$folder/site" "${isas[@]}")
  echo "wheels: $(basename "$wheel"), installed in $installed s; $cpu by qemu, $answer"
done
