from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nybble.graph import read_graph


def test_json(run: Any, model: Path) -> None:
    report = json.loads(run("inspect", model, "--json").stdout)
    layers = {layer["name"]: layer for layer in report["layers"]}
    conv1 = layers["conv1"]
    assert (conv1["op"], conv1["input_types"], conv1["output_type"]) == ("Conv2d", ["s8"], "s32")
    assert (conv1["input_shapes"], conv1["output_shape"]) == ([[3, 32, 32]], [8, 16, 16])
    assert (conv1["weight_type"], conv1["weight_shape"]) == ("s8", [8, 3, 7, 7])
    assert conv1["macs"] == 8 * 16 * 16 * 3 * 7 * 7
    assert conv1["weight_bytes"] == 8 * 3 * 7 * 7
    # Two 4-bit weights share a byte.
    assert layers["layer1_0_conv1"]["weight_bytes"] == 8 * 8 // 2
    assert layers["layer1_0_add"]["inputs"] == ["layer1_0_conv3", "layer1_0_downsample_2"]
    for key in ("macs", "weight_bytes", "parameter_bytes"):
        assert report["totals"][key] == sum(layer[key] for layer in report["layers"])
    files = sum(path.stat().st_size for path in (model / "model" / "npdata").iterdir())
    assert report["totals"]["parameter_bytes"] == files


def test_table(run: Any, model: Path) -> None:
    lines = run("inspect", model).stdout.splitlines()
    (conv1,) = (line for line in lines if line.startswith("conv1 "))
    assert "s8 3x32x32" in conv1
    assert "stride 2, pad 3" in conv1
    assert f"{8 * 16 * 16 * 3 * 7 * 7:,}" in conv1
    assert lines[-1].startswith(f"{len(read_graph(model))} layers, ")


@pytest.mark.data
def test_the_published_network(run: Any, shared_data: Path) -> None:
    totals = json.loads(run("inspect", shared_data / "nvidia-resnet50-int4", "--json").stdout)["totals"]
    assert totals["macs"] == 4_089_184_256
    assert totals["weight_bytes"] == 13_780_160
