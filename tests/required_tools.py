"""Where every tool has to be there, a test that is skipped for want of one fails.

``NYBBLE_REQUIRE_TOOLS=1``, as in continuous integration, asks for that. Skips that remain are those of the processor,
of the user who runs the tests, and of instrumented builds: their reasons are listed here.
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
            "this processor ",
            "root may read anything$",
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
        report.longrepr = f"skipped, where NYBBLE_REQUIRE_TOOLS=1 allows that for no missing tool: {reason}"


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
