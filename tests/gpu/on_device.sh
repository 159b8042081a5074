#!/usr/bin/env bash
# Tests the kernels on the GPU of this machine and measures their speed, in at most eight minutes. Usage:
#   tests/gpu/on_device.sh resnet50.bundle --out on-device.json
# `nybble gpu bundle` writes the bundle. Needs Python 3.11 or later with NumPy, cuda-core and cuda-bindings, but no
# compiled part of nybble. PYTHON names the interpreter. See docs/gpu.md.
set -euo pipefail
source=$(cd "$(dirname "$0")/../../src" && pwd)
python=${PYTHON:-python3}

"$python" - <<'EOF'
import importlib, sys
if sys.version_info < (3, 11):
    sys.exit(f"on_device.sh: Python 3.11 or later is needed, {sys.executable} is {sys.version.split()[0]}; set PYTHON")
for module, package in (("numpy", "numpy"), ("cuda.bindings", "cuda-bindings"), ("cuda.core", "cuda-core")):
    try:
        importlib.import_module(module)
    except ImportError as error:
        sys.exit(f"on_device.sh: {package} cannot be imported ({error}); pip install {package}")
EOF

# The program limits its own time; this stops a kernel that never ends.
PYTHONPATH=$source${PYTHONPATH:+:$PYTHONPATH} exec timeout --kill-after=5 480 \
  "$python" -m nybble.backends.cuda.proof --sanitize "$@"
