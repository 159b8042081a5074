from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model_server import CONTENTS, Server, manifest_of, running
from nybble import published


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running() as server:
        monkeypatch.setattr(published, "available", lambda: ["tiny"])
        monkeypatch.setattr(published, "read_manifest", lambda name: manifest_of(server))
        yield server


def test_fetches_into_the_cache(run: Any, server: Server, tmp_path: Path) -> None:
    result = run("fetch", "tiny")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("tiny: 3 files, 0.3 MB downloaded\n")
    assert result.stdout.endswith(f"in {tmp_path / 'cache' / 'tiny'}\n")
    assert all((tmp_path / "cache" / "tiny" / path).read_bytes() == data for path, data in CONTENTS.items())
    assert "all 3 files were there and are right" in run("fetch", "tiny").stdout
    found = json.loads(run("fetch", "tiny", "--json").stdout)
    assert (found["model"], found["downloaded"], found["kept"]) == ("tiny", 0, 3)
    assert "3 files, 0.3 MB downloaded" in run("fetch", "tiny", "--force").stdout


def test_from_a_mirror(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as mirror:
        assert run("fetch", "tiny", "--url", mirror.base + "/").exit_code == 0
        assert len(mirror.requests) == 3
    assert server.requests == []


def test_a_failure_is_one_line(run: Any, server: Server, tmp_path: Path) -> None:
    del server.contents["model/model"]
    result = run("fetch", "tiny")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr == f"error: {server.base}/model/model: the server answered 404 Not Found\n"
    assert not (tmp_path / "cache" / "tiny").exists()


def test_ctrl_c_ends_it_at_once_and_quietly(tmp_path: Path) -> None:
    with running() as silent:
        name = "nvidia-resnet50-int4"
        for file in published.read_manifest(name).files:
            silent.faults[file.path] = ["silent"]
        # A test run that a shell put into the background ignores interrupts, and so would the command.
        code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        code += "from nybble.cli import app; app()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, "fetch", name, "--url", silent.base],
            env={**os.environ, "NYBBLE_CACHE": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        while not silent.requests and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        # The server keeps silent for longer than that.
        assert process.communicate(timeout=15) == (b"", b"")
        assert process.returncode == 130
    assert not (tmp_path / name).exists()


def test_an_unknown_model(run: Any) -> None:
    result = run("fetch", "resnet")
    assert (result.exit_code, result.stderr) == (
        3,
        "error: there is no published model 'resnet'; known: nvidia-resnet50-int4\n",
    )


def test_a_fetched_model_is_found_by_its_name(
    run: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "nvidia-resnet50-int4").symlink_to(model)
    assert run("inspect", "nvidia-resnet50-int4").stdout == run("inspect", model).stdout
