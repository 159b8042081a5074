"""A tiny network, photos, short confs, and LoadGen where it is installed."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from nybble.cli import app
from nybble.graph import write_graph
from nybble.mlperf import extra
from nybble.synthetic import bottleneck_resnet

CLASSES = 10
PHOTOS = 12


@pytest.fixture(scope="session")
def loadgen() -> Any:
    """LoadGen; without it the test is skipped, in continuous integration it fails."""
    if not extra.is_there():
        message = "LoadGen is not installed: pip install 'nybble[mlperf]'"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return extra.loadgen()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_graph(bottleneck_resnet(blocks=(1, 1, 1), width=8, image=32, classes=CLASSES), folder)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(7)
    with (folder / "labels.csv").open("w", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(("file", "label"))
        for i in range(PHOTOS):
            file = f"ILSVRC2012_val_{3 * i + 1:08}.png"
            Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / file)
            writer.writerow((file, i % CLASSES))
    return folder


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user.conf for a machine that does other things besides."""
    path = tmp_path_factory.mktemp("conf") / "user.conf"
    lines = (
        *("*.*.min_duration = 200", "*.Offline.min_query_count = 50", "*.Server.min_query_count = 459"),
        *("*.SingleStream.min_query_count = 64", "*.Server.target_latency = 5000", "*.Server.target_qps = 300"),
    )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(autouse=True, scope="session")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NYBBLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("NYBBLE_MODEL", raising=False)
        patch.setenv("NYBBLE_TUNED", "0")
        yield


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    """Run the command in this process: ``run("mlperf", "check", folder).stdout``."""

    def call(*arguments: object) -> Any:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return call


@pytest.fixture(scope="session")
def offline(
    loadgen: Any, run: Callable[..., Any], model: Path, photos: Path, short: Path, tmp_path_factory: Any
) -> Path:
    """The folder of a whole Offline run, accuracy and performance; tests copy it before they change it."""
    out: Path = tmp_path_factory.mktemp("offline") / "out"
    options = ("--images", photos, "--user-conf", short, "--mode", "submission", "--threads", 1, "--system", "box")
    result = run("mlperf", "run", model, *options, "--out", out)
    assert result.exit_code == 0, result.output
    assert "VALID" in result.stdout
    return out
