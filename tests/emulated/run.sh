#!/usr/bin/env bash
# Builds the package with the kernels of x86 emulated, into a folder of its own, and runs tests on it: every row of the
# table then runs on any processor.
#
#   INSTALL='pip install' DIR=build/emulated PYTHON=.venv/bin/python run.sh TEST...
#
# NYBBLE_EMULATE=avx512vnni,avx2 runs only these instruction sets. Where SIMDe is not installed the run is skipped with a
# message; in continuous integration (CI set) that fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# -eq 0 ]; then echo "emulated: no tests named" >&2; exit 2; fi
dir=$PWD/$DIR
mkdir -p "$dir"

compiler=${CXX:-}
for name in c++ g++ clang++; do
  [ -n "$compiler" ] || compiler=$(command -v "$name" || true)
done
if [ -z "$compiler" ]; then echo "no C++ compiler found; install g++ or clang, or set CXX" >&2; exit 1; fi
if ! echo '#include <simde/x86/avx512.h>' | $compiler -x c++ -fsyntax-only - 2>/dev/null; then
  echo "emulated: SKIPPED, SIMDe is not installed (on Debian and Ubuntu: apt-get install libsimde-dev)" >&2
  [ -z "${CI:-}" ] || { echo "emulated: that is a failure in continuous integration" >&2; exit 1; }
  exit 0
fi

# What is supplied where SIMDe lacks it, beside the instructions themselves.
flags=$(sed -n 's/^flags[^:]*://p;T;q' /proc/cpuinfo 2>/dev/null || true)
lacking=
for flag in fma avx512f avx512bw avx512vl avx512dq; do [[ " $flags " = *" $flag "* ]] || lacking="$lacking $flag"; done
if [ -n "$lacking" ]; then
  echo "emulated: supplied.h is not compared with the instructions, this processor lacks$lacking"
else
  # The intrinsics' own headers trip two warnings (GCC bug 105593); templates of vector types, a third.
  $compiler -std=c++20 -O1 -Wall -Wextra -Werror -Wno-maybe-uninitialized -Wno-uninitialized -Wno-ignored-attributes -ffp-contract=off \
    -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq tests/emulated/supplied.cpp -o "$dir/supplied"
  "$dir/supplied"
fi

echo "emulated: building with $compiler"
if [ "$(cat "$dir/compiler" 2>/dev/null)" != "$compiler" ]; then rm -rf "$dir/cmake"; fi
echo "$compiler" > "$dir/compiler"
rm -rf "$dir/site"
CXX=$compiler $INSTALL --no-deps --no-build-isolation --target "$dir/site" . \
  -C build-dir="$dir/cmake" \
  -C cmake.define.NYBBLE_EMULATE=ON

NYBBLE_HYPOTHESIS=emulated \
NYBBLE_BUILD="$dir/site" \
PYTHONPATH=tests/emulated:tests/builds \
PYTHONDONTWRITEBYTECODE=1 \
  "$PYTHON" -m pytest -p emulated -p no:cacheprovider "$@"
