"""With ``NYBBLE_REQUIRE_TOOLS=1``, as in continuous integration, a test that is skipped for lack of a tool fails.

Skips that no installation can avoid stay skips: those of the processor, of the C library, of the user who runs the
tests, and of instrumented builds. Their reasons are listed here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

#: Reasons that no installation changes.
ALLOWED = re.compile(
    "|".join(
        (
            r"\S+ has no \S+ kernel$",
            "needs lists$",
            # Parametrized over the instruction sets of this processor.
            r"got empty parameter set (for \(isa\)|\['isa'\])",
            "this processor ",
            "root may read anything$",
            "the C library is not glibc$",
            "not under the sanitizers$",
            "sanitizers (bring an allocator|take memory) of their own$",
        )
    )
)


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return str(text).removeprefix("Skipped: ")


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("NYBBLE_REQUIRE_TOOLS") != "1" or report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    reason = _reason(report.longrepr)
    if not ALLOWED.match(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, which NYBBLE_REQUIRE_TOOLS=1 does not allow for this reason: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse(report)
    return report
