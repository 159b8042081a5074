from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nybble.graph import Conv2d, DType, Linear, Quantize, read_graph


def test_it_writes_the_model_in_8_bits(run: Any, model: Path, tmp_path: Path) -> None:
    result = run("convert", model, tmp_path / "wide", "--bits", "8")
    assert result.exit_code == 0, result.output
    before, after = read_graph(model), read_graph(tmp_path / "wide")
    assert after.class_names == before.class_names
    assert after.preprocessing == before.preprocessing
    assert all(node.weight.dtype is DType.S8 for node in after if isinstance(node, Conv2d | Linear))
    lines = result.stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("layer1_0_conv2 "))
    assert "u4 s4 s32" in line and "u7 s8 s32" in line and "127/15" in line
    assert any(f" of {len(after)} layers changed" in line for line in lines)
    assert lines[-1] == f"in {tmp_path / 'wide'}"


def test_json(run: Any, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "wide"
    report = json.loads(run("convert", model, out, "--bits", 8, "--json").stdout)
    assert (report["model"], report["out"], report["bits"]) == (str(model), str(out), 8)
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert layers["maxpool"]["types_before"] == ["u4", "u4"]
    assert layers["maxpool"]["types_after"] == ["u7", "u7"]
    assert layers["maxpool"]["unit"] == "127/15"
    assert "conv1" not in layers
    totals = report["totals"]
    assert totals["changed"] == len(layers)
    assert totals["largest_error"] == max(layer["error"] or 0 for layer in report["layers"])
    assert totals["parameter_bytes"] == sum(path.stat().st_size for path in (out / "model" / "npdata").iterdir())
    assert totals["parameter_bytes_before"] < totals["parameter_bytes"]
    for name, layer in layers.items():
        assert layer["error"] is None or isinstance(read_graph(out)[name], Quantize)


def test_an_8_bit_model_is_copied(run: Any, model: Path, tmp_path: Path) -> None:
    run("convert", model, tmp_path / "wide", "--bits", "8")
    result = run("convert", tmp_path / "wide", tmp_path / "again", "--bits", "8")
    assert "copied as it is" in result.stdout
    for path in (tmp_path / "wide").rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(tmp_path / "wide")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("bits", "message"), [("4", "has 4 bits already"), ("6", "not to 6")])
def test_other_bits(run: Any, model: Path, tmp_path: Path, bits: str, message: str) -> None:
    result = run("convert", model, tmp_path / "out", "--bits", bits)
    assert result.exit_code == (2 if bits == "6" else 3)
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inner", ["", "model"])
def test_the_model_itself_is_not_replaced(run: Any, model: Path, inner: str) -> None:
    before = (model / "model" / "maxpool").read_bytes()
    result = run("convert", model, model / inner, "--bits", "8")
    assert result.exit_code == 3
    assert "name another folder" in result.stderr
    assert (model / "model" / "maxpool").read_bytes() == before
