"""The report of kernel rows: what counts as run, and that a row which did not run makes it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from row_report import main

TABLE = [["scalar", "direct"], ["avx2", "direct"], ["avx2", "pair"], ["neon", "direct"]]


def record(folder: Path, name: str, *compared: tuple[str, str, str]) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"table": TABLE, "compared": compared}))


def test_a_row_that_did_not_run_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, "1", ("native", "scalar", "direct"), ("native", "avx2", "direct"))
    record(tmp_path, "2", ("emulated", "avx2", "pair"), ("sanitized", "neon", "direct"))
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--complete"]) == 1
    text = capsys.readouterr()
    assert "not at all: 1\n  neon (1): direct\nunder sanitizers: 1\n" in text.out
    assert "1 ran neither natively nor emulated" in text.err
    record(tmp_path, "3", ("emulated", "neon", "direct"))
    assert main([str(tmp_path), "--complete"]) == 0
    assert "not at all: 0\n  none\n" in capsys.readouterr().out


def test_records_of_several_folders_and_processors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / name for name in ("here", "arm")]
    for folder in folders:
        folder.mkdir()
    record(folders[0], "1", ("native", "scalar", "direct"), ("native", "avx2", "direct"), ("native", "avx2", "pair"))
    record(folders[1], "1", ("cortex-a72 by qemu", "neon", "direct"), ("max by qemu", "scalar", "direct"))
    assert main([str(folders[0]), "--complete"]) == 1
    assert main([*map(str, folders), "--complete"]) == 0
    text = capsys.readouterr().out
    assert (
        "on cortex-a72 by qemu: 1\n  neon (1): direct\non max by qemu: 1\n  scalar (1): direct\nnot at all: 0" in text
    )


def test_without_records_it_fails(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2


TESTS = """
import pytest
from row_record import compared_kernel

def test_passes():
    compared_kernel("scalar", "direct")

def test_fails():
    compared_kernel("scalar", "pool")
    assert False

def test_names_no_kernel():
    with pytest.raises(AssertionError, match="no kernel 'wide'"):
        compared_kernel("scalar", "wide")
"""


def test_only_what_a_passing_test_compared_counts(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    environment = {**os.environ, "NYBBLE_ROWS": str(tmp_path / "rows"), "PYTEST_ADDOPTS": ""}
    environment["PYTHONPATH"] = str(Path(__file__).parent)
    for name in ("NYBBLE_SANITIZED", "NYBBLE_ROWS_ON"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "row_record", "-p", "no:cacheprovider", tmp_path]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed" in done.stdout, done.stdout
    (file,) = (tmp_path / "rows").iterdir()
    assert json.loads(file.read_text())["compared"] == [["native", "scalar", "direct"]]
