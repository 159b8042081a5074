"""Pytest plugin: the tests of this run use the wheel that ``run.sh`` beside this file has installed."""

from __future__ import annotations

from tested_build import SITE, use

use()


def pytest_report_header() -> str:
    """Name the build that is tested."""
    return f"the wheel in {SITE}"
