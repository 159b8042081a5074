"""The examples of ``examples/`` run as they stand, on tiny photos."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if os.environ.get("CI") or os.environ.get("NYBBLE_REQUIRE_DATA") == "1":
    import torch
else:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'nybble[quantize]'")

from sources_to_quantize import INPUT, small, stripes

from nybble.graph import read_graph

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stripes(tmp_path_factory.mktemp("images"), 40)


def test_own_loop(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / "quantize_own_loop.py"))
    # Everything but the network, for want of time.
    example["main"].__globals__["float_network"] = lambda classes: (small(), INPUT)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        example["main"](str(images), str(tmp_path / "out"), 2)
    finally:
        torch.set_num_threads(threads)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 layers, 2 activations"
    assert lines[1].startswith("calibrated: ") and lines[2].startswith("epoch 1: loss ")
    assert lines[-2].startswith("integers:   the same class on ") and "kind" in lines[-1]
    assert read_graph(tmp_path / "out").class_names == ("kind0", "kind1", "kind2", "kind3")


def test_own_loop_names_a_network_that_is_there() -> None:
    example: dict[str, Any] = runpy.run_path(str(EXAMPLES / "quantize_own_loop.py"))
    with pytest.warns(UserWarning, match="torchvision:resnet18 has random weights"):
        module, preprocessing = example["float_network"](5)
    assert module.fc.out_features == 5 and preprocessing.crop == (64, 64)


def test_command(images: Path, tmp_path: Path) -> None:
    """With a ``nybble`` that has no TensorBoard, as its import takes a second."""
    program = tmp_path / "nybble"
    program.write_text(
        f"#!{sys.executable}\n"
        "import sys; sys.modules['torch.utils.tensorboard'] = None\n"
        "import nybble.cli\n"
        "if sys.argv[1] == 'quantize':\n"
        "    from nybble.quantize.pipeline import measure; measure._SECONDS = 0.001\n"
        "nybble.cli.app()\n"
    )
    program.chmod(0o755)
    settings = tmp_path / "settings.yaml"
    settings.write_text("calibration: {workers: 0}\ntraining: {epochs: 1, batch: 8, workers: 0}\n")
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    script, out = EXAMPLES / "quantize_command.sh", tmp_path / "out"
    command = [script, "sources_to_quantize:small", images, out, "--config", settings, "--threads", "1"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert found.returncode == 0, found.stderr
    assert "bits: w4a4\nmethod: lsq\n" in found.stdout
    assert found.stdout.count("\ninteger engine  ") == 2
    assert (out / "report" / "layers.png").is_file() and (out / "work" / "training" / "metrics.csv").is_file()
    assert len(read_graph(out / "w8a8")) == len(read_graph(out / "w4a4"))
    usage = subprocess.run([script], capture_output=True, text=True, check=False)
    assert usage.returncode == 2 and "SOURCE IMAGES OUT" in usage.stderr
