"""How commands end when something is wrong: one line, the right exit code, no traceback."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import nybble
from nybble.engine import EngineError
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
    names = ("numpy", "PIL", "skimage", "torch", "nybble.reference", "nybble.engine", "nybble.graph")
    code = f"import sys, nybble, nybble.cli; print([name for name in {names} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_package_offers_its_names_when_they_are_used() -> None:
    import importlib

    assert set(nybble.__all__) <= set(dir(nybble))
    for name in nybble.__all__:
        assert getattr(nybble, name).__name__ == name
    assert nybble.graph is importlib.import_module("nybble.graph")
    with pytest.raises(AttributeError, match="module 'nybble' has no attribute 'lode'"):
        nybble.lode  # type: ignore[attr-defined]  # noqa: B018
    assert (Path(nybble.__file__).parent / "py.typed").is_file()


def test_a_missing_model_argument_says_where_to_get_one(run: Any) -> None:
    assert_error(run("convert"), 2, "MODEL", "`nybble fetch nvidia-resnet50-int4`", "nybble convert --help")


@pytest.mark.parametrize("command", ["classify", "evaluate", "verify", "inspect"])
def test_a_model_that_is_not_there(run: Any, photos: Path, command: str) -> None:
    rest = {"classify": ["x.jpg"], "inspect": []}.get(command, ["--images", photos])
    assert_error(
        run(command, "nowhere", *rest), 3, "nowhere: there is no such folder", "`nybble fetch nvidia-resnet50-int4`"
    )
    if command != "classify":
        assert_error(run(command, photos / "0.png", *rest), 3, "is not a model: a model is a folder")
    assert_error(run(command, "nvidia-resnet50-int4", *rest), 3, "run: nybble fetch nvidia-resnet50-int4")


def test_a_folder_that_is_no_model(run: Any, photos: Path) -> None:
    assert_error(run("inspect", photos), 3, str(photos))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("clasify",), "No such command 'clasify'"),
        (("evaluate", "m", "--images", "d", "--batch", "0"), "--batch"),
        (("evaluate", "m", "--images", "d", "--threads", "none"), "--threads"),
        (("evaluate", "m", "--images", "d", "--threads", "1025"), "--threads"),
        (("evaluate", "m"), "--images"),
        (("inspect", "m", "--wrong"), "--wrong"),
    ],
)
def test_wrong_usage(run: Any, arguments: tuple[str, ...], text: str) -> None:
    assert_error(run(*arguments), 2, text)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (EngineError("NYBBLE_ISA=sse9 is unknown"), "error: NYBBLE_ISA=sse9 is unknown\n"),
        (NybbleError("two\nlines"), "error: two lines\n"),
        (PermissionError(13, "Permission denied", "model/model"), "error: model/model: Permission denied\n"),
        (OSError(28, "No space left on device"), "error: No space left on device\n"),
        (MemoryError("Unable to allocate 9 EiB"), "error: there is not enough memory: Unable to allocate 9 EiB\n"),
        (UserWarning("old"), "error: old (PYTHONWARNINGS makes warnings errors)\n"),
        (
            ModuleNotFoundError("No module named 'torch.x'", name="torch.x"),
            "error: this needs the package torch: pip install 'nybble[quantize]'\n",
        ),
    ],
)
def test_errors_that_a_user_can_cause_are_one_line(
    run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(nybble, "load", load, raising=False)
    result = run("classify", model, photos / "0.png")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", text)
    monkeypatch.setenv("NYBBLE_TRACEBACK", "1")
    result = run("classify", model, photos / "0.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Traceback")
    assert result.stderr.endswith(text)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("odd"),
        ValueError("odd"),
        KeyError("odd"),
        AssertionError(),
        OSError("odd"),
        FileNotFoundError(2, "No such file", "/odd"),
        ModuleNotFoundError("No module named 'odd'", name="odd"),
        StopIteration(),
    ],
)
def test_a_mistake_of_ours_is_not_hidden(
    run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(nybble, "load", load, raising=False)
    result = run("classify", model, photos / "0.png")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("Traceback")
    assert f"{type(error).__name__}" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: this is a bug in nybble; please report it with the traceback above (nybble ")
    for part in (platform.python_version(), platform.platform(), f"nybble classify {model} {photos / '0.png'})"):
        assert part in last


def _import_error_of_a_library() -> None:
    """What NumPy and others make of an interrupt while they are imported."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    except KeyboardInterrupt as error:
        raise ImportError("numpy.core.multiarray failed to import") from error


def _interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT as in a terminal: shells let what they start in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("how", [_interrupt, _import_error_of_a_library])
def test_ctrl_c_is_quiet(
    run: Any, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]
) -> None:
    monkeypatch.setattr(nybble, "load", lambda *_, **__: how(), raising=False)
    result = run("classify", model, photos / "0.png")
    assert (result.exit_code, result.output) == (130, "")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_closed_pipe_is_quiet(model: Path, options: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", "from nybble.cli import app; app()", "inspect", str(model), *options]
    with os.fdopen(writer, "wb") as closed:
        result = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (3, b"")


def test_a_broken_photo_is_named(run: Any, engine: SimpleNamespace, model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    assert_error(run("classify", model, tmp_path / "broken.jpg"), 3, "broken.jpg")


@pytest.mark.parametrize("command", ["quantize", "tune", "inspect"])
@pytest.mark.parametrize("delay", [0.05, 0.2, 0.5, 1.2])
def test_ctrl_c_while_modules_are_imported_is_quiet(model: Path, tmp_path: Path, command: str, delay: float) -> None:
    rest = {
        "quantize": ["--images", tmp_path, "--out", tmp_path / "out", "--config", tmp_path / "fifo"],
        "tune": ["--seconds", "60"],
        "inspect": [],
    }[command]
    # What waits for ever where all is imported.
    os.mkfifo(tmp_path / "fifo")
    code = """if True:
        import signal, sys
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from nybble.__main__ import main
        print("started", flush=True)
        main()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, command, model, *rest], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        code_of_end = process.wait(30)
    assert told == ""
    # The quick ones may have come to their end, or be on their way out.
    assert code_of_end in ({130, 0, -signal.SIGINT} if command != "quantize" else {130})


def test_python_m_nybble(model: Path) -> None:
    command = [sys.executable, "-m", "nybble", "inspect", "nowhere", "--wrong"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: No such option: --wrong")
    assert result.stderr.endswith("(see nybble inspect --help)\n")


def test_python_m_nybble_knows_its_name() -> None:
    command = [sys.executable, "-m", "nybble", "--help"]
    assert "Usage: nybble " in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
