"""What ONNX Runtime computes exactly on this processor."""

from __future__ import annotations

from functools import cache
from pathlib import Path

#: A reason that tests/required_tools.py allows.
REASON = "this processor has no VNNI: ONNX Runtime's products of unsigned and signed bytes saturate"


@cache
def saturates() -> bool:
    """Whether ONNX Runtime's products of unsigned and signed bytes saturate here: on x86 without VNNI, as documented.

    Then only what it computes without graph optimisations can be compared.
    """
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx2" in flags and not ("avx512_vnni" in flags or "avx_vnni" in flags)
