"""The workflow of GitHub Actions is valid, and what it calls is there."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"


def steps() -> list[str]:
    """The command of every step, once for each entry of its job's matrix."""
    yaml = pytest.importorskip("yaml")
    found = []
    for job in yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"].values():
        matrix: dict[str, list[Any]] = job.get("strategy", {}).get("matrix", {})
        for values in itertools.product(*matrix.values()):
            for step in job["steps"]:
                command = step.get("run", "")
                for name, value in zip(matrix, values, strict=True):
                    command = command.replace(f"${{{{ matrix.{name} }}}}", str(value))
                found.append(command)
    return sorted(set(filter(None, found)))


def test_the_schema_accepts_it() -> None:
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_commands_are_there() -> None:
    commands = steps()
    assert any(command.startswith("make wheels") for command in commands)
    parts = {command.removeprefix("bash .ci/tools ") for command in commands if command.startswith("bash ")}
    # The script knows each part.
    known = (ROOT / ".ci" / "tools").read_text(encoding="utf-8")
    assert parts == {"check", "sanitize", "emulated", "wheels"}
    assert all(part in known for part in parts)
    for command in commands:
        if command.startswith("make "):
            # Prints what would run; fails where there is no such target.
            done = subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        else:
            assert command.startswith("bash .ci/tools "), command


@pytest.mark.parametrize("script", sorted(ROOT.glob(".ci/*")), ids=lambda path: path.name)
def test_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
