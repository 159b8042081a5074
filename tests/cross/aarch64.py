"""Pytest plugin: the tests of this run use the build for aarch64, on the processor that qemu-user emulates.

``run.sh`` beside this file loads it, names the folder of the build in ``NYBBLE_BUILD`` and the processor in
``QEMU_CPU``. ``NYBBLE_TEST_ISAS`` names instruction sets, separated by commas, whose kernels are tested; without it,
all that the processor has.
"""

from __future__ import annotations

import os
import platform

import pytest
from tested_build import SITE, use

#: The processor that qemu-user emulates.
CPU = os.environ["QEMU_CPU"]

use()

from nybble import _native  # noqa: E402

if platform.machine() != "aarch64":
    pytest.exit(f"this is {platform.machine()}, not aarch64", returncode=3)

TESTED = [isa for isa in _native.runnable_isas() if isa in (os.environ.get("NYBBLE_TEST_ISAS") or isa).split(",")]
_native.runnable_isas = lambda: list(TESTED)

# row_record says by this where rows ran.
os.environ["NYBBLE_ROWS_ON"] = f"{CPU} by qemu"


def pytest_report_header() -> str:
    """Name the build that is tested, the processor, and the instruction sets that are tested."""
    return f"{SITE} on {CPU} by qemu: {', '.join(TESTED)}"
