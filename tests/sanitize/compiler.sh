# To be sourced: `compiler` is the one that sanitized builds use, empty where there is none.
# gcc first: its runtimes come with it, clang's are a package of their own. SANITIZE_CXX overrides.
compiler=${SANITIZE_CXX:-}
for name in g++ c++ clang++; do
  [ -n "$compiler" ] || compiler=$(command -v "$name" || true)
done
if [ -z "$compiler" ]; then echo "no C++ compiler found; install g++ or clang, or set SANITIZE_CXX" >&2; exit 1; fi

# The instruction sets that this processor runs: instrumented builds have kernels for these alone.
isas=$("${PYTHON:-python}" -c 'from nybble import _native; print(",".join(_native.available_isas()))')
