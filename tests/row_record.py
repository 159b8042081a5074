"""Which kernels of the native tables ran in the tests, with results that a test compared with an oracle.

Tests call :func:`compared` after the comparison; a test that fails has compared nothing. With ``NYBBLE_ROWS``, the
name of a folder, every process leaves a file there. ``python tests/row_report.py FOLDER`` reads them all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nybble.engine import Engine

Row = tuple[str, str]

_in_this_test: set[Row] = set()
_compared: set[Row] = set()


def compared(engine: Engine) -> None:
    """Every kernel that the plan of an engine names gave what the oracle gives."""
    _in_this_test.update(used(engine))


def compared_kernel(isa: str, name: str) -> None:
    """The same of one kernel, where a test runs steps without an engine."""
    assert (isa, name) in table(), f"{isa} has no kernel {name!r}"
    _in_this_test.add((isa, name))


def used(engine: Engine) -> set[Row]:
    """Kernels that a network runs through: (instruction set, name)."""
    plan = engine.plan
    names = {kernel.method for kernel in plan.kernels.values()}
    if plan.lists:
        names.add("lists")
    names |= {step.kind for step in plan.steps if step.kind == "pool"}
    return {(plan.isa, name) for name in names}


def table() -> set[Row]:
    """Every kernel of this build: convolutions by their rows, all else by the operation."""
    from nybble import _native

    isas = _native.built_isas()
    rows = {(isa, row.name) for isa in isas for row in _native.kernel_rows(isa)}
    return rows | {(isa, name) for isa in isas for name in _native.operations_with_kernels(isa) if name != "conv"}


def how(isa: str) -> str:
    """``sanitized``, ``emulated``, ``native``, or the processor that ``NYBBLE_ROWS_ON`` names."""
    from nybble import _native

    if processor := os.environ.get("NYBBLE_ROWS_ON"):
        return processor
    if "NYBBLE_SANITIZED" in os.environ:
        return "sanitized"
    needs = _native.kernel_rows(isa)[0].needs
    return "emulated" if _native.EMULATED and needs else "native"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what a test that passed has compared."""
    report = yield
    if report.when == "call":
        if report.passed:
            _compared.update(_in_this_test)
        _in_this_test.clear()
    return report


def pytest_sessionfinish() -> None:
    """Leave a file in the folder that ``NYBBLE_ROWS`` names."""
    folder = os.environ.get("NYBBLE_ROWS")
    if not folder or not _compared:
        return
    record = {"table": sorted(table()), "compared": sorted((how(isa), isa, name) for isa, name in _compared)}
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{os.getpid()}.json").write_text(json.dumps(record))
