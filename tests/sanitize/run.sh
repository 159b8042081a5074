#!/usr/bin/env bash
# Builds the package with AddressSanitizer and UndefinedBehaviorSanitizer into a folder of its own and runs tests on it.
#
#   INSTALL='pip install' DIR=build/sanitize PYTHON=.venv/bin/python run.sh TEST...
#
# Of tests with many cases a third of them run; NYBBLE_SANITIZE_ALL=1 runs all.
# Where the compiler has no sanitizer runtime it is skipped with a message; in continuous integration (CI set) that
# fails.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ $# -eq 0 ]; then echo "sanitize: no tests named" >&2; exit 2; fi
dir=$PWD/$DIR
mkdir -p "$dir"

. tests/sanitize/compiler.sh

# The interpreter is not instrumented, so the runtimes have to be in the process before it. libstdc++ goes with
# them: otherwise AddressSanitizer looks for __cxa_throw before it is there, and the first exception aborts.
runtime() { local found; found=$("$compiler" -print-file-name="$1"); [[ $found = /* ]] && readlink -f "$found"; }
if "$compiler" --version | grep -qi clang; then
  wanted=("libclang_rt.asan-$(uname -m).so" libstdc++.so.6)
else
  wanted=(libasan.so libubsan.so libstdc++.so.6)
fi
preload=()
for library in "${wanted[@]}"; do
  if ! found=$(runtime "$library"); then
    echo "sanitize: SKIPPED, $compiler has no $library" >&2
    [ -z "${CI:-}" ] || { echo "sanitize: that is a failure in continuous integration" >&2; exit 1; }
    exit 0
  fi
  preload+=("$found")
done

echo "sanitize: building with $compiler"
# A cache made by another compiler would be kept silently.
if [ "$(cat "$dir/compiler" 2>/dev/null)" != "$compiler" ]; then rm -rf "$dir/cmake"; fi
echo "$compiler" > "$dir/compiler"
rm -rf "$dir/site"
# -O1 keeps the kernels' structure at a bearable speed; no -DNDEBUG, so asserts count too. Instrumented code makes
# gcc warn of things that are not there, and the plain build has the warnings as errors already. Only the
# instruction sets that this processor runs, and none of those for tests, which no engine chooses.
CXX=$compiler $INSTALL --no-deps --no-build-isolation --target "$dir/site" . \
  -C build-dir="$dir/cmake" \
  -C cmake.define.NYBBLE_SANITIZE=address,undefined \
  -C cmake.define.NYBBLE_ISAS="$isas" \
  -C cmake.define.CMAKE_CXX_FLAGS="-w" \
  -C cmake.define.CMAKE_CXX_FLAGS_RELEASE="-O1"

# Leaks are not looked for: the interpreter keeps what it allocates until the process ends. Objects of Python come
# from malloc so that running past one is seen.
ASAN_OPTIONS=detect_leaks=0:abort_on_error=0:allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS} \
UBSAN_OPTIONS=print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS} \
PYTHONMALLOC=malloc \
NYBBLE_HYPOTHESIS=sanitize \
NYBBLE_SANITIZED=1 \
NYBBLE_BUILD="$dir/site" \
PYTHONPATH=tests/sanitize:tests/builds \
PYTHONDONTWRITEBYTECODE=1 \
  env LD_PRELOAD="$(IFS=:; echo "${preload[*]}")" "$PYTHON" -m pytest -p sanitized -p no:cacheprovider "$@"
