"""On the processors that qemu-user emulates, the engine finds the instruction sets that these have."""

from __future__ import annotations

import os
import platform

import pytest

from nybble import _native

#: Of the processors that run.sh names: the Cortex-A72 is ARMv8.0, the A76 has dot products, "max" all that qemu has.
HAS = {
    "cortex-a53": {"neon"},
    "cortex-a72": {"neon"},
    "cortex-a76": {"neon", "neondot"},
    "max": {"neon", "neondot", "neoni8mm"},
}


@pytest.mark.skipif(os.environ.get("QEMU_CPU") not in HAS, reason="this processor is not emulated by qemu-user")
def test_it_has_its_instruction_sets() -> None:
    assert platform.machine() == "aarch64"
    of_arm = {isa for isa in _native.built_isas() if isa.startswith("neon")}
    available = set(_native.available_isas())
    assert available - {"scalar"} == of_arm & HAS[os.environ["QEMU_CPU"]]
