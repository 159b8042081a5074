#!/usr/bin/env bash
# Compiles the engine for aarch64 with gcc and with clang, warnings as errors, and runs the smoke test under
# qemu-user. What is absent is skipped with a message, and fails with NYBBLE_REQUIRE_TOOLS=1; on Debian and Ubuntu everything comes from
#   apt-get install cmake g++-aarch64-linux-gnu clang qemu-user
set -euo pipefail
cd "$(dirname "$0")/../.."

# Says what is missing; ends with an error where it has to be there.
missing() {
  echo "cross: $1"
  if [ "${NYBBLE_REQUIRE_TOOLS:-}" = 1 ]; then echo "cross: FAILED, as NYBBLE_REQUIRE_TOOLS=1 asks for it" >&2; exit 1; fi
}

triple=aarch64-linux-gnu
PATH=$PWD/.venv/bin:$PATH  # CMake and Ninja, where make brought them
if ! command -v cmake >/dev/null; then missing "SKIPPED, no cmake"; exit 0; fi
# clang too uses the headers, the libraries and the linker of the gcc package.
if ! command -v $triple-g++ >/dev/null; then missing "SKIPPED, no $triple-g++"; exit 0; fi

emulator=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
[ -n "$emulator" ] || missing "no qemu-aarch64, so the smoke test is compiled and not run"

for compiler in $triple-g++ clang++; do
  if ! command -v $compiler >/dev/null; then missing "$compiler SKIPPED, not installed"; continue; fi
  build=build/cross/$compiler
  mkdir -p build/cross
  rm -rf "$build"
  cmake -S tests/cross -B "$build" -DCMAKE_TOOLCHAIN_FILE="$PWD/tests/cross/aarch64.cmake" \
    -DCMAKE_CXX_COMPILER=$compiler -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE=-O2 >"$build.log" 2>&1 ||
    { cat "$build.log"; echo "cross: $compiler FAILED to configure"; exit 1; }
  cmake --build "$build" --parallel 2 >>"$build.log" 2>&1 ||
    { cat "$build.log"; echo "cross: $compiler FAILED to compile"; exit 1; }
  echo "cross: compiled with $compiler"
  if [ -n "$emulator" ]; then "$emulator" -L /usr/$triple "$build/smoke"; fi
done
