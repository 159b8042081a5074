#!/usr/bin/env bash
# Builds the engine and a small program with ThreadSanitizer and runs it. Where the compiler has no such runtime it is
# skipped with a message; in continuous integration (CI set) that fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

PATH=$PWD/.venv/bin:$PATH  # CMake and Ninja, where make brought them
. tests/sanitize/compiler.sh
build=build/threads
mkdir -p "$build"
if ! echo 'int main() {}' | "$compiler" -x c++ -fsanitize=thread -o "$build/probe" - 2>"$build/probe.log"; then
  echo "threads: SKIPPED, $compiler has no ThreadSanitizer" >&2
  [ -z "${CI:-}" ] || { echo "threads: that is a failure in continuous integration" >&2; exit 1; }
  exit 0
fi

echo "threads: building with $compiler"
# As in tests/sanitize/run.sh: the structure of the kernels at a bearable speed; the plain build has the warnings.
# Threads share the same memory whatever the kernels: the best ones are enough.
{
  cmake -S tests/threads -B "$build/cmake" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=Release -DNYBBLE_ISAS="scalar,${isas##*,}" \
    -DCMAKE_CXX_FLAGS=-w -DCMAKE_CXX_FLAGS_RELEASE=-O1 && cmake --build "$build/cmake" --parallel 2
} >"$build.log" 2>&1 || { cat "$build.log"; echo "threads: FAILED to compile"; exit 1; }
TSAN_OPTIONS=halt_on_error=1${TSAN_OPTIONS:+:$TSAN_OPTIONS} "$build/cmake/threads"
