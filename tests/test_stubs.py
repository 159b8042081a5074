"""The committed types of the native modules are those that nanobind's generator finds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nybble

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("nanobind")
    folder = tmp_path_factory.mktemp("stubs")
    subprocess.run([sys.executable, ROOT / "tools" / "stubs.py", folder], check=True)
    return folder


def meaning(path: Path) -> str:
    """Without layout and comments, which a newer nanobind may change."""
    return ast.dump(ast.parse(path.read_text(encoding="utf-8")), indent=1)


@pytest.mark.parametrize("name", ["_native", "_gpu_emulator"])
def test_committed_stubs_are_the_generated_ones(generated: Path, name: str) -> None:
    committed = Path(nybble.__file__).parent / f"{name}.pyi"
    assert meaning(committed) == meaning(generated / f"{name}.pyi"), "run: make stubs"


def test_types_are_announced() -> None:
    assert (Path(nybble.__file__).parent / "py.typed").is_file()
