"""Pytest plugin: the tests of this run use the sanitized build, and the sanitizers really watch.

``run.sh`` beside this file loads it and names the folder of the build in ``NYBBLE_BUILD``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections import Counter

import pytest
from tested_build import SITE, use

# One byte past a block of the C library's heap: the interceptors of AddressSanitizer stop the process.
OVERRUN = """
import ctypes
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
library.memset(library.malloc(8), 0, 9)
"""


def _check() -> None:
    binary = use()
    code = binary.read_bytes()
    for symbol in (b"__asan_report_", b"__ubsan_handle_"):
        if symbol not in code:
            pytest.exit(f"{binary} is not instrumented: it has no {symbol.decode()}", returncode=3)
    # Without the symbolizer: clang's is a process that outlives this one and keeps its pipes open.
    overrun = subprocess.run(
        [sys.executable, "-S", "-c", OVERRUN],
        env={**os.environ, "ASAN_OPTIONS": os.environ["ASAN_OPTIONS"] + ":symbolize=0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if overrun.returncode == 0 or "heap-buffer-overflow" not in overrun.stderr:
        said = overrun.stderr or "an overrun passed"
        pytest.exit(f"AddressSanitizer does not watch this process: {said}", returncode=3)


_check()


def pytest_report_header() -> str:
    """Name the build that is tested."""
    return f"sanitized build: {SITE}"


# What a test with many parameters varies is values, types and instruction sets; its accesses to memory are alike. Of
# more cases than this a third runs, chosen by a checksum of their names: all of them took half an hour.
FEW = 24


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out two thirds of the cases of tests with many, the same ones every time; all run without sanitizers."""

    def test_of(item: pytest.Item) -> str:
        return item.nodeid.partition("[")[0]

    cases = Counter(map(test_of, items))
    left_out = [item for item in items if cases[test_of(item)] > FEW and zlib.crc32(item.nodeid.encode()) % 3]
    if left_out and os.environ.get("NYBBLE_SANITIZE_ALL") != "1":
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


class _Passed:
    count = 0


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count what ran to its end."""
    _Passed.count += report.when == "call" and report.passed


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which every test was skipped: nothing was watched."""
    if exitstatus == pytest.ExitCode.OK and _Passed.count == 0:
        sys.stderr.write("sanitize: no test ran\n")
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
