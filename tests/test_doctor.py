"""What ``nybble doctor`` finds."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nybble import _native
from nybble.cli import app
from nybble.doctor import EXTRAS, examine

#: Extras for those who work on nybble, and the twin of cuda13.
_OTHERS = {
    "dev",
    "docs",
    "cuda12",
    "fuzz",
    "wheels",
    *(f"test-{name}" for name in ("gpu", "networks", "serve", "tasks")),
}


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["doctor", *words])


def test_it_lists_what_is_here() -> None:
    found = json.loads(run("--json").stdout)
    assert found["instruction_sets"]["available"] == [
        isa for isa in _native.available_isas() if not _native.is_for_tests(isa)
    ]
    assert all(found["instruction_sets"]["missing"].values())
    assert found["extras"]["serve"]["missing"] == [] or "fastapi" in found["extras"]["serve"]["missing"]
    text = run().stdout
    assert all(isa in text for isa in found["instruction_sets"]["available"])
    assert all(name in text for name in EXTRAS)


def test_every_extra_is_known() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert EXTRAS.keys() == project["optional-dependencies"].keys() - _OTHERS


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "serve", ("nybble serve", ("no_such_module", "no_such.module")))
    assert examine()["extras"]["serve"]["missing"] == ["no_such_module", "no_such.module"]
    assert "serve (nybble serve): missing no_such_module, no_such.module; pip install 'nybble[serve]'" in run().stdout


def test_problems_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NYBBLE_MODEL", str(tmp_path / "nothing"))
    result = run()
    assert result.exit_code == 0
    assert f"PROBLEM    NYBBLE_MODEL: {tmp_path / 'nothing'}" in result.stdout


def test_without_the_compiled_part_it_fails() -> None:
    code = "import sys; sys.modules['nybble._native'] = None; from nybble.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "doctor"], capture_output=True, text=True)
    assert done.returncode == 3
    assert "PROBLEM    the compiled part cannot be loaded" in done.stdout
    assert done.stderr.startswith("error: the compiled part cannot be loaded")
