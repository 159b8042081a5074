#!/usr/bin/env bash
# Is nybble right on the GPU of this machine, and how fast? At most eight minutes, on one bundle of `nybble gpu bundle`:
#   tests/gpu/on_device.sh resnet50.bundle --out on-device.json
# It needs Python 3.11 or later with NumPy, cuda-core and cuda-bindings, and nothing compiled of nybble. PYTHON names
# the interpreter. docs/gpu.md says more.
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

# The program keeps to its own time; this is for a kernel that never ends.
PYTHONPATH=$source${PYTHONPATH:+:$PYTHONPATH} exec timeout --kill-after=5 480 \
  "$python" -m nybble.backends.cuda.proof --sanitize "$@"
