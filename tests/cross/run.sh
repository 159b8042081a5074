#!/usr/bin/env bash
# Builds the package for aarch64 with gcc, compiles it with clang, and runs tests of the engine by qemu-user on processors
# that it emulates: those of every kernel, of each instruction set on a processor that has no better one.
#
#   run.sh [PYTEST ARGUMENT...]
#
# Arguments replace the tests, and then every instruction set runs on each processor. CROSS_CPU='cortex-a72 max' names
# the processors, CROSS_COMPILER the compiler whose build is tested, CROSS_PYTHON the folder of the aarch64 Python,
# CROSS_JOBS the processes at a time. CROSS_CLANG=no leaves clang out.
# What is absent is skipped with a message, and fails with NYBBLE_REQUIRE_TOOLS=1; on Debian everything comes from
#   apt-get install g++-aarch64-linux-gnu clang qemu-user mmdebstrap
set -euo pipefail
cd "$(dirname "$0")/../.."

# Says what is missing; ends with an error where it has to be there.
missing() {
  echo "cross: $1"
  if [ "${NYBBLE_REQUIRE_TOOLS:-}" != 1 ]; then return; fi
  echo "cross: FAILED, as NYBBLE_REQUIRE_TOOLS=1 asks for it" >&2
  exit 1
}

export PATH=$PWD/.venv/bin:$PATH  # CMake and Ninja, where make brought them
for tool in cmake aarch64-linux-gnu-g++ qemu-aarch64 mmdebstrap; do
  if ! command -v $tool >/dev/null; then missing "SKIPPED, no $tool"; exit 0; fi
done

python=${CROSS_PYTHON:-$PWD/build/cross/python}
INSTALL="${INSTALL:-.venv/bin/python -m pip install --quiet --disable-pip-version-check}" \
  bash tests/cross/prepare.sh "$python"

tested=${CROSS_COMPILER:-aarch64-linux-gnu-g++}
bash tests/cross/build.sh "$tested" "build/cross/$tested" "$python"
if [ $# -eq 0 ] && [ "$tested" != clang++ ] && [ "${CROSS_CLANG:-}" != no ]; then
  # It uses the headers and the libraries of the gcc package.
  if command -v clang++ >/dev/null; then
    bash tests/cross/build.sh clang++ build/cross/compiled-by-clang "$python" only-compile
  else
    missing 'clang++ SKIPPED, not installed'
  fi
fi

# Bytecode is written, or every process would compile the library anew, emulated.
unset PYTHONDONTWRITEBYTECODE
# Every kernel, on small layers.
kernels=(tests/cross tests/engine/test_{rows,pool_kernels,move_kernels,point_kernels,engine_mul}.py
  tests/engine/test_engine_table.py::test_every_code_of_every_table)
# The instruction sets whose kernels are tested on a processor: what runs on a lesser one is tested there.
isas_of() {
  case $1 in
    max) echo scalar,neoni8mm ;;
    cortex-a76) echo neondot ;;
    *) echo neon ;;
  esac
}
rm -rf build/cross/rows
export NYBBLE_ROWS=$PWD/build/cross/rows
for cpu in ${CROSS_CPU:-max cortex-a76 cortex-a72}; do
  tests=("${kernels[@]}")
  export NYBBLE_TEST_ISAS
  NYBBLE_TEST_ISAS=$(isas_of "$cpu")
  if [ $# -gt 0 ]; then tests=("$@"); unset NYBBLE_TEST_ISAS; fi
  echo "cross: tests on $cpu, emulated"
  # OpenBLAS's kernels for SVE leave flags behind, emulated, which NumPy reports as a division by zero.
  QEMU_CPU=$cpu NYBBLE_BUILD=$PWD/build/cross/$tested \
  NYBBLE_OBJECTS=$PWD/build/cross/$tested/cmake \
  NYBBLE_HYPOTHESIS=${NYBBLE_HYPOTHESIS:-emulated} \
  OPENBLAS_CORETYPE=ARMV8 OPENBLAS_NUM_THREADS=1 \
  PYTHONPATH=$PWD/build/cross/$tested:$python/site:tests/cross:tests/builds \
    "$python/python3" -m pytest -p aarch64 -p no:cacheprovider -n "${CROSS_JOBS:-2}" --dist worksteal "${tests[@]}"
done
.venv/bin/python tests/row_report.py "$NYBBLE_ROWS"
