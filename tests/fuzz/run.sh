#!/usr/bin/env bash
# Fuzzes targets one after the other; ends at the first input that fails.
#
#   PYTHON=.venv/bin/python INSTALL='pip install' run.sh INPUTS [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/../.."

inputs=$1
shift
if [ $# -eq 0 ]; then
  readarray -t targets < <("$PYTHON" -c 'import sys; sys.path.insert(0, "tests/fuzz"); from fuzz_targets import TARGETS; print(*TARGETS, sep="\n")')
  set -- "${targets[@]}"
fi

for target in "$@"; do
  echo "fuzz: $target, $inputs inputs"
  mkdir -p build/fuzz
  log=build/fuzz/$target.log
  environment=()
  if [ "$target" = native ]; then
    command -v clang++ >/dev/null || { echo "fuzz: native needs clang++ (on Debian and Ubuntu: apt-get install clang)" >&2; exit 1; }
    DIR=build/fuzz/native-build bash tests/fuzz/build_native.sh
    # AddressSanitizer has to be in the process before the interpreter, and libstdc++ with it (tests/sanitize/run.sh).
    runtime=$("$PYTHON" -c 'import atheris; print(atheris.path())')/asan_with_fuzzer.so
    environment=(
      LD_PRELOAD="$runtime:$(readlink -f "$(clang++ -print-file-name=libstdc++.so.6)")"
      ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_abort=1
      NYBBLE_BUILD="$PWD/build/fuzz/native-build/site"
    )
  fi
  if ! env "${environment[@]}" "$PYTHON" tests/fuzz/run_fuzz.py "$target" --inputs "$inputs" >"$log" 2>&1; then
    grep -v 'leaked' "$log" | tail -n 40 >&2
    echo "fuzz: $target failed; the input is in build/fuzz/$target-failed, all of the output in $log" >&2
    exit 1
  fi
  grep -E 'stat::number_of_executed_units|stat::peak_rss_mb' "$log"
done
