# To be sourced: `compiler` is the one that sanitized builds use, empty where there is none.
# gcc first: its runtimes come with it, clang's are a package of their own. SANITIZE_CXX overrides.
compiler=${SANITIZE_CXX:-}
for name in g++ c++ clang++; do
  [ -n "$compiler" ] || compiler=$(command -v "$name" || true)
done
if [ -z "$compiler" ]; then echo "no C++ compiler found; install g++ or clang, or set SANITIZE_CXX" >&2; exit 1; fi

# The instruction sets that this processor runs: instrumented builds have kernels for these alone. One that another adds
# an instruction to has the same kernels as that, and the same accesses to memory; it is left out, since compiling and
# testing each takes ten minutes.
isas=$("${PYTHON:-python}" -c '
from nybble import _native
isas = _native.available_isas()
print(",".join(isa for isa in isas if isa not in map(_native.isa_like, isas)))
')
