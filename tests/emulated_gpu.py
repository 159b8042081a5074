"""Whether the build has an emulated GPU: one without (NYBBLE_GPU_EMULATOR=OFF) skips the tests that run on it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDS_EMULATOR = pytest.mark.skipif(
    find_spec("nybble._gpu_emulator") is None, reason="this build has no emulated GPU (nybble._gpu_emulator)"
)
