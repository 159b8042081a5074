#!/usr/bin/env bash
# Builds the package with AddressSanitizer and libFuzzer's coverage into a folder of its own, for the target `native`.
#
#   INSTALL='pip install' DIR=build/fuzz/native-build PYTHON=.venv/bin/python build_native.sh
#
# Needs clang: atheris brings the runtime of both.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$PWD/$DIR
mkdir -p "$dir"
. tests/sanitize/compiler.sh
# With -O1 as in tests/sanitize/run.sh, and for the same reasons.
CXX=clang++ $INSTALL --no-deps --no-build-isolation --target "$dir/site" --upgrade . \
  -C build-dir="$dir/cmake" \
  -C cmake.define.NYBBLE_SANITIZE=address,fuzzer-no-link \
  -C cmake.define.NYBBLE_ISAS="$isas" \
  -C cmake.define.NYBBLE_GPU_EMULATOR=OFF \
  -C cmake.define.CMAKE_CXX_FLAGS="-w" \
  -C cmake.define.CMAKE_CXX_FLAGS_RELEASE="-O1"
