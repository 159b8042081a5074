"""What is wrong in a kernel, or beyond the interpreter."""

from __future__ import annotations


class PtxError(RuntimeError):
    """An access out of bounds, lanes that do not meet, an instruction that is not known."""
