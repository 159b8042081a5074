"""Processors whose untuned kernels differ, whatever the tests run on."""

from __future__ import annotations

import pytest

from nybble import _native

_ANSWERS = {"intel": ("GenuineIntel", 6, 143), "zen4": ("AuthenticAMD", 25, 17), "zen5": ("AuthenticAMD", 26, 2)}
PROCESSORS = list(_ANSWERS)


def pretend(processor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CPUID name one of :data:`PROCESSORS`."""
    monkeypatch.setattr(_native, "processor", lambda: _ANSWERS[processor])
