"""Torch is an extra: without it these tests are skipped, with a message, but not where they are required."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

try:
    import torch
except ImportError:
    if os.environ.get("CI") or os.environ.get("NYBBLE_REQUIRE_DATA") == "1":
        raise
    _HAS_TORCH = False
else:
    _HAS_TORCH = True


class _WithoutTorch(pytest.Module):
    """A file of tests that is not imported."""

    def collect(self) -> list[pytest.Item | pytest.Collector]:
        pytest.skip("needs torch: pip install 'nybble[quantize]'", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return None if _HAS_TORCH else _WithoutTorch.from_parent(parent, path=module_path)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: sums are then in one order, and tests leave the machine to others."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
