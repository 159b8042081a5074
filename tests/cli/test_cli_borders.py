"""Every command beside everything that can be wrong around it: a documented exit code, one line, no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nybble.cli.commands import COMMANDS as LISTED
from nybble.cli.commands import imported
from nybble.cli.exit_codes import ExitCode
from nybble.schemas import EVALUATE

# Commands in a form that is right: {in:...} are files and folders that are there, {out:...} those that are made.
COMMANDS = {
    "classify": "{in:model} {in:photo}",
    "convert": "{in:model} {out:model} --bits 8",
    "demo": "--model {in:model} --seconds 0 --threads 1 --out {out:html}",
    "evaluate": "{in:model} --images {in:photos} --predictions {out:csv} --threads 1",
    "doctor": "",
    "export": "{in:model} {out:onnx}",
    "gpu bundle": "{in:model} --images {in:photos} --limit 1 --arch sm_75 --out {out:bundle}",
    "gpu compile": "--arch sm_75",
    "gpu info": "",
    "fetch": "nvidia-resnet50-int4 --url http://127.0.0.1:9/",
    "import": "{in:onnx} {out:model}",
    "inspect": "{in:model}",
    "models": "",
    "pack": "{in:model} {out:zip}",
    "profile": "{in:model} --images {in:photos} --limit 1 --runs 1 --threads 1 --trace {out:json}",
    "tune": "{in:model} --images {in:photos} --limit 1 --seconds 1 --threads 1",
    "bench": "{in:model} --images {in:photos} --limit 1 --seconds 0 --batch 1 --threads 1 --no-dense -o {out:json}",
    "quantize": "{in:model} --images {in:photos} --out {out:new} --config {in:yaml}",
    "verify": "{in:model} --images {in:photos} --limit 1 --threads 1",
    "serve": "{in:model} --port 0 --grpc-port 0 --threads 1",
    "calibrate-ensemble": "{in:model} {in:model} --images {in:photos} --out {out:toml} --folds 2 --threads 1",
    "batch": "{in:model} {in:photos} --out {out:new} --format csv --threads 1",
    "predict": "{in:model} {in:photo}",
    "report": "{in:results} --out {out:html}",
    "mlperf run": "{in:model} --images {in:photos} --user-conf {in:conf} --conf {in:conf} --labels {in:labels} "
    "--out {out:folder}",
    "mlperf accuracy": "{in:log} --labels {in:labels}",
    "mlperf compare": "{in:log} {in:log}",
    "mlperf check": "{in:results}",
    "mlperf audit": "{in:results}",
}
# What a command ends with where all is right: others find nothing to work on in these small folders.
RIGHT = {"fetch": ExitCode.ERROR, "mlperf check": ExitCode.ERROR, "mlperf audit": ExitCode.ERROR}
# Too slow to run to the end once more.
SLOW = {"quantize", "bench", "mlperf run", "demo", "fetch", "gpu compile", "gpu bundle", "serve"}
NEEDS = {
    "export": "onnx",
    "import": "onnx",
    "quantize": "torch",
    "demo": "jinja2",
    "mlperf run": "mlperf_loadgen",
    "serve": "fastapi",
}

FOLDERS = {"model", "photos", "results"}
WRONG_INPUTS = ("missing", "other", "empty", "unreadable", "long", "no text", "loop")
WRONG_OUTPUTS = ("other", "no folder", "no writing", "long")


@dataclass(frozen=True)
class Place:
    """Where a command's argument comes in."""

    command: str
    key: str

    @property
    def kind(self) -> str:
        return self.key.strip("{}").partition(":")[2]


def places(way: str) -> list[Place]:
    found = []
    for command, line in COMMANDS.items():
        found += [Place(command, word) for word in dict.fromkeys(line.split()) if word.startswith(f"{{{way}:")]
    return found


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory, model: Path, photos: Path) -> dict[str, str]:
    """An argument for each kind of input."""
    folder = tmp_path_factory.mktemp("right")
    (folder / "yaml").write_text("bits: w8a8\n")
    (folder / "user.conf").write_text("*.*.min_duration = 100\n")
    answers = [{"seq_id": i, "qsl_idx": i, "data": f"{i:02x}000000"} for i in range(7)]
    (folder / "log.json").write_text(json.dumps(answers))
    (folder / "results").mkdir()
    evaluation = {"schema": EVALUATE, "model": "m", "folder": "f", "images": 9, "top1_right": 5, "top5_right": 7}
    evaluation |= {"batch": 8, "threads": 1, "isa": "avx2", "images_per_second": 1.0}
    evaluation |= {"images_per_second_with_decoding": 1.0}
    (folder / "results" / "evaluation.json").write_text(json.dumps(evaluation))
    if find_spec("onnx"):
        from nybble.graph import read_graph
        from nybble.graph.onnx import export_onnx

        export_onnx(read_graph(model), folder / "model.onnx")
    return {
        "model": str(model),
        "photos": str(photos),
        "photo": str(photos / "0.png"),
        "labels": str(photos / "labels.csv"),
        "onnx": str(folder / "model.onnx"),
        "yaml": str(folder / "yaml"),
        "conf": str(folder / "user.conf"),
        "log": str(folder / "log.json"),
        "results": str(folder / "results"),
    }


# Modules that each server imports; torch makes every fork slow.
SERVERS = {
    "light": (
        *("nybble.backends.cpu.tune", "nybble.reference", "nybble.bench", "nybble.graph.onnx", "nybble.report"),
        *("nybble.mlperf.audit", "nybble.demo", "rich.table"),
    ),
    "quantize": ("nybble.quantize.pipeline",),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    script = Path(__file__).with_name("border_server.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NYBBLE_TUNED": "0"}
    with ExitStack() as started:

        @cache
        def start(name: str) -> subprocess.Popen[str]:
            command = [sys.executable, script, *SERVERS[name]]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
            started.enter_context(process)
            assert process.stdin is not None
            started.callback(process.stdin.close)
            return process

        yield start


@pytest.fixture
def call(
    servers: Callable[[str], subprocess.Popen[str]], right: dict[str, str], tmp_path: Path
) -> Callable[..., tuple[int, str, list[str]]]:
    """Run a command with some arguments in others' place; the exit code, what is printed, and the lines of errors."""

    def run(command: str, changes: dict[str, str] | None = None, stdout: str = "pipe", **environment: str) -> Any:
        if command in NEEDS:
            pytest.importorskip(NEEDS[command])
        outputs = {
            "html": "page.html",
            "csv": "table.csv",
            "json": "result.json",
            "onnx": "made.onnx",
            "zip": "made.zip",
        }
        arguments = command.split()
        for word in COMMANDS[command].split():
            way, _, kind = word.strip("{}").partition(":")
            if word in (changes or {}):
                arguments.append((changes or {})[word])
            elif word.startswith("{"):
                arguments.append(right[kind] if way == "in" else str(tmp_path / outputs.get(kind, "made")))
            else:
                arguments.append(word)
        case = {"arguments": arguments, "stdout": stdout}
        case["environment"] = {"NYBBLE_CACHE": str(tmp_path / "cache"), **environment}
        server = servers("quantize" if command.startswith("quantize") else "light")
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(case) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        return answer["code"], answer["stdout"], answer["stderr"].splitlines()

    return run


def assert_one_line(code: int, lines: list[str], *codes: int) -> None:
    assert code in codes, lines
    assert not any("Traceback" in line for line in lines), lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: "), lines
    assert "mistake in nybble" not in lines[0]


def test_every_command_is_here() -> None:
    found = set()
    for name in LISTED:
        command = imported(name)
        found |= {f"{name} {inner}" for inner in command.commands} if hasattr(command, "commands") else {name}
    assert found == COMMANDS.keys()


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in SLOW])
def test_right_commands_end_well(call: Any, command: str) -> None:
    code, _, lines = call(command)
    assert code == RIGHT.get(command, ExitCode.DONE), lines


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        pytest.param(place, wrong, id=f"{place.command}-{place.kind}-{wrong}")
        for place in places("in")
        for wrong in WRONG_INPUTS
        # Without a line they say nothing that is wrong.
        if (place.kind, wrong) not in {("conf", "empty"), ("yaml", "empty")}
    ],
)
def test_wrong_inputs(call: Any, tmp_path: Path, place: Place, wrong: str) -> None:
    is_folder = place.kind in FOLDERS
    path = tmp_path / "given"
    match wrong:
        case "other" if is_folder:
            path.write_text("file, not folder\n")
        case "other":
            path.mkdir()
        case "empty" if is_folder:
            path.mkdir()
        case "empty":
            path.touch()
        case "unreadable":
            # A file that nobody can read, root included: there is nothing at address 0.
            path = Path("/proc/self/mem")
        case "long":
            path = tmp_path / ("x" * 300)
        case "no text":
            path = Path(os.fsdecode(bytes(tmp_path) + b"/\xff\xfe"))
        case "loop":
            path.symlink_to(path)
    code, printed, lines = call(place.command, {place.key: str(path)})
    if place.command in ("classify", "predict") and place.kind == "model" and wrong in ("other", "unreadable"):
        # A file that is not a model is one of several photos, and left out.
        assert code == ExitCode.LEFT_OUT and lines[0].startswith("warning: ") and len(lines) == 1
    else:
        assert_one_line(code, lines, ExitCode.ERROR)
        assert printed == ""
    name = "\\udcff\\udcfe" if wrong == "no text" else path.name[:40]
    assert name in lines[0] or "mem" in lines[0]


@pytest.mark.parametrize("wrong", WRONG_OUTPUTS)
@pytest.mark.parametrize("place", places("out"), ids=lambda place: f"{place.command}-{place.kind}")
def test_wrong_outputs(call: Any, tmp_path: Path, place: Place, wrong: str) -> None:
    is_folder = place.kind in {"model", "new", "folder"}
    path = tmp_path / "taken"
    match wrong:
        case "other":
            # Of what is there nothing may be lost.
            if is_folder and place.kind != "folder":
                path.mkdir()
            file = path / "photo.jpg" if path.is_dir() else path
            file.write_bytes(b"\xff\xd8\xff\xe0 precious")
        case "no folder":
            (tmp_path / "file").touch()
            path = tmp_path / "file" / "in it"
        case "no writing":
            path = Path("/proc/self/nothing")
        case "long":
            path = tmp_path / ("x" * 300)
    code, _, lines = call(place.command, {place.key: str(path)})
    if wrong == "other":
        assert file.read_bytes() == b"\xff\xd8\xff\xe0 precious"
        assert [entry.name for entry in tmp_path.iterdir() if entry.name != "cache"] == ["taken"]
    if (place.kind, wrong) == ("model", "other"):
        assert code == ExitCode.DONE  # The folder takes a `model/` besides what is there.
        return
    assert_one_line(code, lines, ExitCode.ERROR)


@pytest.mark.parametrize("place", places("out"), ids=lambda place: f"{place.command}-{place.kind}")
def test_a_folder_is_no_file(call: Any, tmp_path: Path, place: Place) -> None:
    if place.kind in {"model", "new", "folder"}:
        return
    code, _, lines = call(place.command, {place.key: str(tmp_path)})
    assert_one_line(code, lines, ExitCode.ERROR)
    assert "is a folder; name a file" in lines[0]


@pytest.mark.parametrize("stdout", ["closed", "full", "gone"])
@pytest.mark.parametrize("command", [*sorted(COMMANDS.keys() - SLOW - {"tune"}), "quantize --help", "--help"])
def test_standard_output_that_takes_nothing(call: Any, command: str, stdout: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(COMMANDS, command, COMMANDS.get(command, ""))
    code, _, lines = call(command, stdout=stdout)
    if stdout == "gone" and not lines:
        assert code == ExitCode.ERROR
        return
    assert_one_line(code, lines, ExitCode.ERROR)


@pytest.mark.parametrize("command", ["classify", "evaluate", "inspect", "verify", "profile", "convert", "export"])
def test_names_that_are_no_text(call: Any, tmp_path: Path, right: dict[str, str], command: str) -> None:
    strange = Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    strange.mkdir()
    shutil.copytree(right["model"], strange / "model here")
    photos = Path(os.fsdecode(bytes(strange) + b"/\xfe"))
    shutil.copytree(right["photos"], photos)
    changes = {
        "{in:model}": strange / "model here",
        "{in:photos}": photos,
        "{in:photo}": photos / "0.png",
        "{out:csv}": strange / "table.csv",
        "{out:json}": strange / "trace.json",
        "{out:model}": strange / "made",
        "{out:onnx}": strange / "made.onnx",
    }
    code, _, lines = call(command, {key: str(path) for key, path in changes.items()})
    assert (code, lines) == (ExitCode.DONE, [])


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in SLOW])
def test_a_cache_that_cannot_be_written(call: Any, command: str) -> None:
    code, _, lines = call(command, NYBBLE_CACHE="/proc/nothing")
    if command == "tune":
        assert_one_line(code, lines, ExitCode.ERROR)
        assert "NYBBLE_CACHE names another folder" in lines[0]
    else:
        assert code == RIGHT.get(command, ExitCode.DONE), lines


@pytest.mark.parametrize("command", ["inspect", "classify", "profile"])
def test_no_home(call: Any, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, lines = call(command, HOME="", NYBBLE_CACHE="", XDG_CACHE_HOME="")
    assert (code, lines) == (ExitCode.DONE, [])


def test_a_user_without_home_is_one_line(run: Any, model: Path, tmp_path: Path) -> None:
    for arguments in (("inspect", "~nobody-of-that-name/model"), ("classify", model, "~nobody-of-that-name/x.jpg")):
        result = run(*arguments)
        assert_one_line(result.exit_code, result.stderr.splitlines(), ExitCode.ERROR)


def test_more_memory_than_there_is_is_one_line(run: Any, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nybble

    monkeypatch.setattr(nybble, "load", lambda *_, **__: np.empty((1 << 30, 1 << 20)))
    result = run("profile", model)
    assert_one_line(result.exit_code, result.stderr.splitlines(), ExitCode.ERROR)
    assert "there is not enough memory: Unable to allocate" in result.stderr
