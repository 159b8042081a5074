"""``nybble gpu``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.cuda import nvrtc
from nybble.backends.cuda.proof.cases import mixed_network
from nybble.backends.cuda.source import ENTRY, source_folder, source_hash
from nybble.backends.errors import EngineError
from nybble.cli import app
from nybble.graph import Conv2d, DType, Graph, Input, Preprocessing, Quantize, Tensor, write_graph


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # As on a machine without a GPU.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, "-m", "nybble", "gpu", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


@pytest.fixture
def every_layer(tmp_path: Path) -> Path:
    """A model of depthwise and grouped layers and a gate behind a first convolution, and a photo for it."""
    mixed = mixed_network()
    random = np.random.default_rng(0)
    weight = Tensor.from_array(DType.S8, random.integers(-128, 128, (24, 3, 3, 3)))
    stem = Conv2d(name="stem", inputs=("photo",), input_type=DType.S8, weight=weight)
    factor = Tensor.from_array(DType.U32, random.integers(1, 60, 24))
    codes = Quantize(name="x", inputs=("stem",), input_type=DType.S32, output_type=DType.U4, factor=factor, shift=16)
    preprocessing = Preprocessing(crop=(10, 8), resize=10, input_type=DType.S8)
    entry = Input(name="photo", dtype=DType.S8, shape=(3, 10, 8))
    write_graph(
        Graph([entry], [stem, codes, *mixed], mixed.outputs, preprocessing=preprocessing), tmp_path / "every_layer"
    )
    (tmp_path / "photos").mkdir()
    Image.fromarray(random.integers(0, 256, (20, 16, 3), np.uint8)).save(tmp_path / "photos" / "0.png")
    return tmp_path


@NEEDS_EMULATOR
@pytest.mark.parametrize("isa", ["sm_75", "sm_80", "sm_90"])
def test_verify_finds_no_difference_in_depthwise_grouped_and_gated_layers(every_layer: Path, isa: str) -> None:
    line = [str(every_layer / "every_layer"), "--images", str(every_layer / "photos"), "--layers", "--json"]
    found = CliRunner().invoke(app, ["verify", *line, "--device", "cuda-emulated", "--isa", isa])
    assert found.exit_code == 0, found.output
    result = json.loads(found.stdout)
    assert result["equal"] and result["steps"] >= 9


def test_info_says_what_is_there() -> None:
    done = run("info", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not any(row["ran"] for row in found["architectures"])
    assert found["gpus"] == []
    text = run("info")
    assert text.returncode == 0
    assert "NVRTC" in text.stdout
    assert text.stdout.startswith("device='cuda': ")


def test_without_nvrtc_compiling_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvrtc, "_LIBRARIES", ("nowhere",))
    nvrtc.find_nvrtc.cache_clear()
    with pytest.raises(EngineError, match=r"^NVRTC is not installed; pip install"):
        nvrtc.find_nvrtc()
    nvrtc.find_nvrtc.cache_clear()


def test_the_source_is_there_and_has_a_hash() -> None:
    assert (source_folder() / ENTRY).is_file()
    assert len(source_hash()) == 64
    assert source_hash() == source_hash()


def test_facts_are_read_from_the_assemblers_log() -> None:
    log = (
        "ptxas info    : Compiling entry function 'layer_a' for 'sm_75'\n"
        "ptxas         .     8 bytes stack frame, 16 bytes spill stores, 44 bytes spill loads\n"
        "ptxas info    : Used 64 registers, used 0 barriers, 8 bytes cumulative stack size\n"
    )
    assert nvrtc._facts(log) == (nvrtc.KernelFacts("layer_a", 64, 60),)


def test_a_bundle_of_the_network_in_the_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses a stand-in for machine code; the compiler has its own tests."""
    from typer.testing import CliRunner

    from nybble.backends.cuda import cubins
    from nybble.backends.cuda.proof.bundle import Bundle
    from nybble.cli.gpu import gpu
    from nybble.graph import write_graph
    from nybble.synthetic import bottleneck_resnet

    class Compiler:
        version = (13, 0)

        def architectures(self) -> list[int]:
            return [75, 80, 87]

    write_graph(bottleneck_resnet((1,), width=8, classes=5, image=8), tmp_path / "model")
    monkeypatch.setattr(nvrtc, "find_nvrtc", Compiler)
    monkeypatch.setattr(cubins, "cubin_for", lambda arch: f"cubin {arch}".encode())
    out = tmp_path / "small.bundle"
    done = CliRunner().invoke(gpu, ["bundle", str(tmp_path), "--out", str(out), "--limit", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["architectures"] == ["sm_75", "sm_80"] and found["inputs"] == "noise" and found["images"] == 2
    bundle = Bundle.load(out)
    assert out.stat().st_size == found["bytes"] and bundle.cubins == {75: b"cubin 75", 80: b"cubin 80"}
    refused = CliRunner().invoke(gpu, ["bundle", str(tmp_path), "--out", str(out), "--arch", "sm_70"])
    assert refused.exit_code
    assert "--arch sm_70: this NVRTC compiles for sm_75, sm_80, sm_87" in refused.output
