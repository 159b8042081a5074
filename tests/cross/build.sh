#!/usr/bin/env bash
# Compiles the Python module for aarch64, warnings as errors.
#
#   build.sh COMPILER FOLDER PYTHON [only-compile]
#
# FOLDER/nybble is then the package with that module; PYTHON is the folder that prepare.sh made. With `only-compile`
# there is no module: the native code is compiled for its warnings, with little optimization.
set -euo pipefail
compiler=$1 folder=$2 python=$(cd "$3" && pwd) purpose=${4:-}
cd "$(dirname "$0")/../.."

configure=(
  -DCMAKE_TOOLCHAIN_FILE="$PWD/tests/cross/aarch64.cmake"
  -DCMAKE_CXX_COMPILER="$(command -v "$compiler")" -DCMAKE_BUILD_TYPE=Release
  # x86 tests those of vector16; here they would take a fifth of the time.
  -DNYBBLE_ISAS=scalar,neon,neondot,neoni8mm
  -DNYBBLE_CROSS_INCLUDE="$(echo "$python"/rootfs/usr/include/python3.*)"
  -Dnanobind_DIR="$(.venv/bin/python -m nanobind --cmake_dir)"
)
target=_native
if [ "$purpose" = only-compile ]; then
  target=nybble_core
  configure+=(-DCMAKE_CXX_FLAGS_RELEASE=-O1)
fi
if command -v ninja >/dev/null; then configure+=(-G Ninja); fi
mkdir -p "$folder"
cmake -S tests/cross -B "$folder/cmake" "${configure[@]}" >"$folder/log" 2>&1 ||
  { cat "$folder/log"; echo "cross: $compiler FAILED to configure"; exit 1; }
cmake --build "$folder/cmake" --parallel 2 --target $target >>"$folder/log" 2>&1 ||
  { cat "$folder/log"; echo "cross: $compiler FAILED to compile"; exit 1; }
if [ "$purpose" = only-compile ]; then
  echo "cross: $compiler compiles it too"
  exit
fi

rm -rf "$folder/nybble"
mkdir "$folder/nybble"
tar -C src/nybble --exclude='*.so' --exclude=__pycache__ -cf - . | tar -C "$folder/nybble" -xf -
# The bundled model lies in models/ of the repository; of an installed package, in its data.
mkdir -p "$folder/nybble/data/models"
ln -s "$PWD/models/efficientnet-lite0" "$folder/nybble/data/models/efficientnet-lite0"
find "$folder/cmake" -name '_native*.so' -exec cp {} "$folder/nybble/" \;
echo "cross: compiled with $compiler"
