"""Faults of a kernel, and code that the interpreter does not support."""

from __future__ import annotations


class PtxError(RuntimeError):
    """An access out of bounds, lanes that do not meet, an unknown instruction."""
