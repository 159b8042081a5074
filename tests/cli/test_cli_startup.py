"""What must not be imported before it is needed, and the list of commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nybble.cli.commands import COMMANDS, imported

#: Packages and modules that take long to import.
HEAVY = {"PIL", "matplotlib", "numpy", "onnx", "platformdirs", "pydantic", "rich", "torch"}


def _imported(*arguments: str) -> set[str]:
    """The packages that a Python process has imported at its end."""
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr)); "
        f"sys.argv = ['nybble', *{arguments!r}]; from nybble.__main__ import main; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    return set(found.stderr.splitlines())


def test_import_of_the_package_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import nybble; print(*(set(sys.modules) - before))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    modules = found.stdout.split()
    assert [name for name in modules if name.startswith("nybble")] == ["nybble"]
    assert not HEAVY & set(modules)


def test_the_list_of_commands_imports_no_command() -> None:
    modules = _imported("--help")
    assert not HEAVY & modules
    files = {entry.place.partition(":")[0] for entry in COMMANDS.values()}
    assert not {f"nybble.cli.{name}" for name in files} & modules


@pytest.mark.parametrize("name", [*COMMANDS, "gpu compile", "mlperf run"])
def test_help_of_a_command_imports_its_file_only(name: str) -> None:
    modules = _imported(*name.split(), "--help")
    assert not HEAVY & modules
    others = {entry.place.partition(":")[0] for other, entry in COMMANDS.items() if other != name.split()[0]}
    # Commands that share their way of naming photos.
    others -= {"classify"}
    assert not {f"nybble.cli.{other}" for other in others} & modules


def test_classifying_imports_neither_pydantic_nor_what_other_tasks_need(model: Path, photos: Path) -> None:
    modules = _imported("classify", str(model), str(photos / "0.png"))
    assert not {"pydantic", "torch", "onnx", "matplotlib", "nybble.report", "nybble.bench"} & modules


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_where_the_list_says(name: str, run: Any) -> None:
    assert imported(name).name == name
    entry = COMMANDS[name]
    assert len(entry.summary) <= 58 and entry.summary.endswith(".")
    assert entry.example.startswith(f"nybble {name}") or name in ("gpu", "mlperf")
    assert entry.summary in run("--help").stdout
    shown = " ".join(run(name, "--help").stdout.split())
    assert entry.example in shown


def test_all_help_fits_80_columns(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for arguments in ([], *([name] for name in COMMANDS)):
        lines = run(*arguments, "--help").stdout.splitlines()
        assert max(map(len, lines)) <= 80, arguments
        # Summaries of commands are not cut off.
        assert not any(line.endswith("...") for line in lines if line.startswith("  ")), arguments


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("clasify",), "error: No such command 'clasify'; did you mean classify? (see nybble --help)\n"),
        (("zzz",), "error: No such command 'zzz' (see nybble --help)\n"),
    ],
)
def test_a_command_that_is_almost_right(run: Any, arguments: tuple[str, ...], expected: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr == expected
