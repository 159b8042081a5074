#!/usr/bin/env bash
# Builds the source distribution and wheels from it, installs each in an empty environment, classifies photos, and runs
# tests of the kernels on the one for this machine.
#
#   run.sh FOLDER [all]
#
# FOLDER gets the files. By default two wheels: one for this machine and Python, and one for aarch64. With `all` those of
# every Python and processor, each installed for every Python that is found here.
# INSTALL is as in tests/cross/prepare.sh. What is absent is skipped with a message, and fails with
# NYBBLE_REQUIRE_TOOLS=1: a Python of another version with headers, and for aarch64 qemu-user and mmdebstrap.
set -euo pipefail
out=$1 extent=${2:-some}
cd "$(dirname "$0")/../.."
python=$PWD/.venv/bin/python
export PATH=$PWD/.venv/bin:$PATH
export INSTALL="${INSTALL:-$python -m pip install --quiet --disable-pip-version-check}"

missing() {
  echo "wheels: $1"
  if [ "${NYBBLE_REQUIRE_TOOLS:-}" != 1 ]; then return; fi
  echo "wheels: FAILED, as NYBBLE_REQUIRE_TOOLS=1 asks for it" >&2
  exit 1
}
find_python() { PYTHON='' VERSIONS=$1 bash tools/find-python.sh 2>/dev/null; }

if [ "$(uname -m)" != x86_64 ]; then missing "SKIPPED, this is $(uname -m), not x86_64"; exit 0; fi
case $("$python" -c 'import sys; print(sys.version_info[1])') in
  11) here=cp311 ;;
  *) here=abi3 ;;
esac
wheels=("x86_64-$here")
if find_python '3.12 3.13 3.14' >/dev/null; then
  wheels+=(aarch64-abi3)
  if [ "$extent" = all ]; then wheels+=(x86_64-abi3); fi
elif [ "$extent" = all ]; then
  missing 'abi3 SKIPPED, no Python 3.12 or newer with headers'
else
  wheels+=(aarch64-cp311)
fi
if [ "$extent" = all ]; then
  if find_python 3.11 >/dev/null; then wheels+=(x86_64-cp311 aarch64-cp311); else missing 'cp311 SKIPPED, no Python 3.11 with headers'; fi
fi
# x86_64 first, each once.
mapfile -t wheels < <(printf '%s\n' "${wheels[@]}" | sort -ru)
rm -rf "$out"
bash tools/wheels/build.sh "$out" "${wheels[@]}"

mapfile -t isas < <("$python" -c 'from nybble import _native; print(*_native.available_isas(), sep="\n")')
for wheel in "$out"/*manylinux*x86_64.whl; do
  case $wheel in *-cp311-*) versions=3.11 ;; *) versions='3.12 3.13 3.14' ;; esac
  for version in $versions; do
    if found=$(find_python "$version"); then bash tests/wheels/install.sh "$wheel" "$found" "${isas[@]}"; fi
  done
done

for wheel in "$out"/*manylinux*aarch64.whl; do
  for tool in qemu-aarch64 mmdebstrap; do
    if ! command -v $tool >/dev/null; then missing "$(basename "$wheel") not installed, no $tool"; continue 2; fi
  done
  # Python 3.11 and 3.13.
  case $wheel in *-cp311-*) suite=bookworm ;; *) suite=trixie ;; esac
  root=$PWD/build/wheels/$suite
  if [ ! -e "$root/made" ]; then
    mkdir -p "$root"
    bash tests/cross/rootfs.sh "$root" $suite python3 libstdc++6
    touch "$root/made"
  fi
  bash tests/wheels/install_aarch64.sh "$wheel" "$root"
done

# Kernels as zig's compiler makes them: their loops, and their results.
site=$PWD/build/wheels/site
rm -rf "$site"
mapfile -t wheel < <(ls "$out"/*"$here"*manylinux*x86_64.whl)
$INSTALL --no-deps --target "$site" "${wheel[0]}"
NYBBLE_BUILD=$site NYBBLE_OBJECTS=$PWD/build/wheels/cmake-x86_64 PYTHONPATH=tests/wheels:tests/builds \
  NYBBLE_HYPOTHESIS=quick "$python" -m pytest -p installed_wheel -p no:cacheprovider \
  tests/engine/test_native_loops.py tests/engine/test_native_structure.py tests/engine/test_rows.py \
  tests/engine/test_pool_kernels.py
