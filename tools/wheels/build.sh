#!/usr/bin/env bash
# Builds the source distribution and, from it, wheels for Linux with the C library 2.17 or newer.
#
#   build.sh FOLDER [MACHINE-PYTHON...]
#
# MACHINE-PYTHON names a wheel: x86_64-cp311, x86_64-abi3, aarch64-cp311, aarch64-abi3; all of them by default. abi3 is
# for Python 3.12 and newer. FOLDER gets them; build/wheels keeps what a second run can use again.
# The compiler is clang, as the package ziglang brings it for any processor, with its C++ library linked in. .venv has
# what is needed (`make wheels` installs it), and a Python of each version is looked for by tools/find-python.sh.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/../.."
root=$PWD
work=$root/build/wheels
wheels=("$@")
if [ ${#wheels[@]} -eq 0 ]; then wheels=({x86_64,aarch64}-{cp311,abi3}); fi
libc=2.17  # manylinux2014
export PATH=$root/.venv/bin:$PATH
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}

# The compiler and its tools for a processor, as programs of CMake.
write_tools() {
  local machine=$1 tool
  mkdir -p "$work/zig-$machine"
  for tool in c++ ar ranlib; do
    {
      echo '#!/usr/bin/env bash'
      if [ $tool = c++ ]; then
        # zig takes features of ARM by -mcpu, which says the same as GCC's -march here.
        echo "exec '$root/.venv/bin/python' -m ziglang c++ -target $machine-linux-gnu.$libc \"\${@/#-march=armv8.2-a/-mcpu=generic}\""
      else
        echo "exec '$root/.venv/bin/python' -m ziglang $tool \"\$@\""
      fi
    } >"$work/zig-$machine/$tool"
    chmod +x "$work/zig-$machine/$tool"
  done
}

# An environment with the build's requirements, for a Python of these versions.
make_environment() {
  local environment=$1 python
  if [ -e "$environment/made" ]; then return; fi
  python=$(PYTHON='' VERSIONS=$2 bash tools/find-python.sh)
  rm -rf "$environment"
  "$python" -m venv "$environment"
  # shellcheck disable=SC2046
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check $(python tools/requirements.py build)
  touch "$environment/made"
}

mkdir -p "$work"
rm -rf "$work/sdist"
python -m build --sdist --no-isolation --outdir "$work/sdist" . >"$work.log" 2>&1 || { cat "$work.log" >&2; exit 1; }
sdist=$(ls "$work"/sdist/*.tar.gz)
echo "wheels: $(basename "$sdist")"
python tools/wheels/unpack.py "$sdist" "$work/source"

for wheel in "${wheels[@]}"; do
  machine=${wheel%-*}
  case $wheel in
    *-cp311) environment=$work/python-cp311 versions=3.11 ;;
    *) environment=$work/python-abi3 versions='3.12 3.13 3.14' ;;
  esac
  make_environment "$environment" "$versions"
  write_tools "$machine"
  # Both wheels of a processor share a folder: the engine, which knows no Python, is compiled once.
  settings=(
    build-dir="$work/cmake-$machine"
    install.strip=false  # The linker does.
    cmake.define.CMAKE_CXX_COMPILER="$work/zig-$machine/c++"
    cmake.define.CMAKE_AR="$work/zig-$machine/ar"
    cmake.define.CMAKE_RANLIB="$work/zig-$machine/ranlib"
    cmake.define.CMAKE_MODULE_LINKER_FLAGS=-s
    cmake.define.NYBBLE_GPU_EMULATOR=OFF
    cmake.define.NYBBLE_ISAS_FOR_TESTS=OFF
  )
  python=$environment/bin/python
  export _PYTHON_HOST_PLATFORM=linux-$machine
  export SETUPTOOLS_EXT_SUFFIX
  SETUPTOOLS_EXT_SUFFIX=.cpython-$("$python" -c 'import sys; print("%d%d" % sys.version_info[:2])')-$machine-linux-gnu.so
  if [ "$machine" != "$(uname -m)" ]; then
    # Debian has a pyconfig.h for each processor; those of 64-bit processors agree in what a module uses.
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    multiarch=$(dirname "$include")/$(uname -m)-linux-gnu/$(basename "$include")
    if [ -e "$multiarch" ]; then
      mkdir -p "$work/headers/$machine-linux-gnu"
      ln -sfn "$multiarch" "$work/headers/$machine-linux-gnu/"
      settings+=(cmake.define.CMAKE_CXX_FLAGS="-isystem $work/headers")
    fi
    settings+=(cmake.define.CMAKE_SYSTEM_NAME=Linux cmake.define.CMAKE_SYSTEM_PROCESSOR="$machine")
  fi
  rm -rf "$work/built"
  "$python" -m pip wheel --verbose --disable-pip-version-check --no-deps --no-build-isolation --no-cache-dir \
    --wheel-dir "$work/built" "${settings[@]/#/-C}" "$work/source" >"$work.log" 2>&1 ||
    { tail -n 60 "$work.log" >&2; echo "wheels: $wheel FAILED" >&2; exit 1; }
  unset _PYTHON_HOST_PLATFORM SETUPTOOLS_EXT_SUFFIX
  # Refuses a wheel that needs a newer C library, or another library; has nothing to repair. It takes names of platforms
  # of this processor only; for another one `auto` finds the oldest that fits, of which manylinux2014 is the first.
  platform=manylinux2014_$machine
  if [ "$machine" != "$(uname -m)" ]; then platform=auto; fi
  rm -f "$out"/*"${wheel##*-}"*"$machine".whl
  python -m auditwheel repair --only-plat --plat "$platform" --wheel-dir "$out" "$work"/built/*.whl
  if ! ls "$out"/*"${wheel##*-}"*"manylinux2014_$machine"*.whl >/dev/null 2>&1; then
    echo "wheels: $wheel needs a newer C library than 2.17" >&2
    exit 1
  fi
  echo "wheels: $(cd "$out" && ls -t -- *"$machine".whl | head -n 1)"
done
cp "$sdist" "$out"
