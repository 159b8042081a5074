"""How commands end when something is wrong: one line, the right exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nybble
from nybble.graph import NybbleError

COMMANDS = ("classify", "convert", "demo", "evaluate", "fetch", "inspect", "verify")


def assert_error(result: Any, code: int, *texts: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for text in texts:
        assert text in result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(run: Any, command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: nybble {command}" in result.stdout


def test_help_lists_the_commands(run: Any) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        result = run(*arguments)
        assert result.exit_code == 0
        assert all(command in result.stdout for command in COMMANDS)


def test_version(run: Any) -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"nybble {version('nybble')}\n"


def test_start_up_loads_nothing_heavy() -> None:
    code = "import sys, {}; print([m for m in ('numpy', 'PIL', 'skimage', 'nybble.reference') if m in sys.modules])"
    loaded, anyway = (
        subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True).stdout
        for module in ("nybble.cli", "nybble")
    )
    assert loaded == anyway


def test_a_missing_model_argument_says_where_to_get_one(run: Any) -> None:
    assert_error(run("convert"), 2, "MODEL", "`nybble fetch nvidia-resnet50-int4`", "nybble convert --help")


@pytest.mark.parametrize("command", ["classify", "evaluate", "verify", "inspect"])
def test_a_model_that_is_not_there(run: Any, photos: Path, command: str) -> None:
    rest = {"classify": ["x.jpg"], "inspect": []}.get(command, ["--images", photos])
    assert_error(
        run(command, "nowhere", *rest), 1, "nowhere: there is no such folder", "`nybble fetch nvidia-resnet50-int4`"
    )
    if command != "classify":
        assert_error(run(command, photos / "0.png", *rest), 1, "a model is a folder, this is a file")
    assert_error(run(command, "nvidia-resnet50-int4", *rest), 1, "run: nybble fetch nvidia-resnet50-int4")


def test_a_folder_that_is_no_model(run: Any, photos: Path) -> None:
    assert_error(run("inspect", photos), 1, str(photos))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("clasify",), "No such command 'clasify'"),
        (("evaluate", "m", "--images", "d", "--batch", "0"), "--batch"),
        (("evaluate", "m", "--images", "d", "--threads", "none"), "--threads"),
        (("evaluate", "m"), "--images"),
        (("inspect", "m", "--wrong"), "--wrong"),
    ],
)
def test_wrong_usage(run: Any, arguments: tuple[str, ...], text: str) -> None:
    assert_error(run(*arguments), 2, text)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("NYBBLE_ISA=sse9 is unknown"), "error: NYBBLE_ISA=sse9 is unknown\n"),
        (NybbleError("two\nlines"), "error: two lines\n"),
        (PermissionError(13, "Permission denied", "model/model"), "error: model/model: Permission denied\n"),
        (OSError("odd"), "error: odd\n"),
    ],
)
def test_errors_of_the_engine_are_one_line(
    run: Any, model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(nybble, "load", load, raising=False)
    result = run("classify", model, "x.jpg")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", text)
    monkeypatch.setenv("NYBBLE_TRACEBACK", "1")
    assert run("classify", model, "x.jpg").exception is error


def test_a_mistake_of_ours_is_not_hidden(run: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nybble, "load", None, raising=False)
    assert isinstance(run("classify", model, "x.jpg").exception, TypeError)


def test_ctrl_c_is_quiet(run: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(nybble, "load", load, raising=False)
    result = run("classify", model, "x.jpg")
    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_pipe_is_quiet(model: Path, options: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from nybble.cli import app; app()", "inspect", str(model), *options]
    with os.fdopen(writer, "wb") as closed:
        result = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (1, b"")


def test_a_broken_photo_is_named(run: Any, engine: SimpleNamespace, model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    assert_error(run("classify", model, tmp_path / "broken.jpg"), 1, "broken.jpg")
