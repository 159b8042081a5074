"""Pytest plugin: the tests of this run use the build whose vectors are emulated.

``run.sh`` beside this file loads it and names the folder of the build in ``NYBBLE_BUILD``. ``NYBBLE_EMULATE`` names
instruction sets, separated by commas, that the tests run; without it, all.
"""

from __future__ import annotations

import os

import pytest
from tested_build import SITE, use

use()

from nybble import _native  # noqa: E402

if not _native.EMULATED:
    pytest.exit(f"the build in {SITE} emulates nothing", returncode=3)

if wanted := os.environ.get("NYBBLE_EMULATE"):
    names = wanted.split(",")
    if unknown := [name for name in names if name not in _native.built_isas()]:
        known = ", ".join(_native.built_isas())
        pytest.exit(f"NYBBLE_EMULATE: {unknown[0]!r} is not an instruction set of this build: {known}", returncode=4)

    # The scalar kernels are what the others are compared with. They need nothing, nor do vectors of 16 bytes.
    def wanted_of(isas: list[str]) -> list[str]:
        return [isa for isa in isas if isa in names or not _native.isa_needs(isa)]

    available, runnable = wanted_of(_native.available_isas()), wanted_of(_native.runnable_isas())
    _native.available_isas = lambda: list(available)
    _native.runnable_isas = lambda: list(runnable)


def pytest_report_header() -> str:
    """Name the build that is tested."""
    return f"emulated build: {SITE}"
