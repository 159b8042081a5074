"""PyTorch and ONNX have one vocabulary: what is taken from one is taken from the other, as the same network."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import float_networks
import pytest
import torch
import vocabulary_networks
from torch import Tensor, nn

pytest.importorskip("onnx", reason="needs onnx: pip install 'nybble[onnx]'")

from nybble.graph import Graph
from nybble.quantize.calibrate.calibration import calibrate
from nybble.quantize.config import QuantizeConfig
from nybble.quantize.ir.float_network import Affine, FloatNetwork, Norm, Op
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.convert import convert
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.sources.onnx import load_onnx
from nybble.quantize.sources.pytorch.capture import capture


def exported(module: nn.Module, x: Tensor, path: Path) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Batch norm as it is, not multiplied into weights by the exporter, in another rounding than ours.
        kept = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(module, (x,), str(path), opset_version=17, dynamo=False, training=kept)
    return load_onnx(path)


def integer(network: FloatNetwork, x: Tensor) -> Graph:
    prepared = prepare_captured(network, QuantizeConfig())
    calibrate(prepared, [x])
    return convert(prepared)[0]


def plain(network: FloatNetwork) -> list[dict[str, object]]:
    """Operations with all they have, values numbered instead of named, tensors as lists; functions by their values."""
    numbers = {"input": 0} | {op.name: place for place, op in enumerate(network, 1)}

    def described(value: object) -> object:
        if isinstance(value, Tensor):
            return value.tolist()
        if callable(value) and not isinstance(value, Op):
            # Front ends may spell them differently.
            return [f"{number:.4f}" for number in value(torch.linspace(-6.1, 6.1, 99).double()).tolist()]
        return described(dataclasses.asdict(value)) if dataclasses.is_dataclass(value) else value

    found = []
    for op in network:
        entry = {field.name: described(getattr(op, field.name)) for field in dataclasses.fields(op)}
        entry |= {"kind": type(op).__name__, "inputs": [numbers[name] for name in op.inputs]}
        if isinstance(entry.get("norm"), dict):
            entry["norm"] = {k: described(v) for k, v in entry["norm"].items() if k not in ("name", "place", "inputs")}
        found.append({key: value for key, value in entry.items() if key not in ("name", "place", "label")})
    return found


@pytest.mark.parametrize("name", vocabulary_networks.BODIES)
def test_both_front_ends_give_one_network(name: str, tmp_path: Path) -> None:
    module = vocabulary_networks.make(name)
    x = float_networks.images(vocabulary_networks.SHAPE)
    captured = fold(capture(module, vocabulary_networks.SHAPE))
    with torch.no_grad():
        expected = module(x)
    logits = captured(x).flatten(1)
    found = {"": logits, "softmax": logits.softmax(1), "log_softmax": logits.log_softmax(1)}[captured.ending]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not any(isinstance(op, Affine | Norm) for op in captured)

    loaded = exported(module, x[:1], tmp_path / "exported.onnx")
    read = fold(capture(loaded, vocabulary_networks.SHAPE))
    assert read.ending == captured.ending
    assert plain(read) == plain(captured)

    first, second = integer(captured, x), integer(read, x)
    assert [type(node) for node in first] == [type(node) for node in second]
    types = [
        [value for key, value in graph.values.items() if key in {n.name for n in graph}] for graph in (first, second)
    ]
    assert types[0] == types[1]
    for left, right in zip(first, second, strict=True):
        for field in dataclasses.fields(left):
            if field.name in ("name", "inputs"):
                continue
            ours, theirs = getattr(left, field.name), getattr(right, field.name)
            if hasattr(ours, "numpy"):
                assert ours.dtype is theirs.dtype and ours.numpy().tolist() == theirs.numpy().tolist()
            else:
                assert ours == theirs
