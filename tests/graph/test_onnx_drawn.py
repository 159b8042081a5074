"""Exported networks in ONNX Runtime beside the engine: drawn networks of all operations and activation types."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from drawn_networks import CLASSES, FEWEST, LAYERS, MOST, Drawn, draw
from saturation import REASON, saturates

from nybble.engine import Engine
from nybble.graph import AvgPool2d, Concat, Conv2d, DType, Linear, MaxPool2d, Quantize
from nybble.graph.types import ACTIVATIONS, Array
from nybble.reference import interpret

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from test_onnx_exact import LEVELS, run  # noqa: E402 - needs ONNX Runtime

from nybble.graph.onnx import from_onnx, to_onnx  # noqa: E402 - needs onnx

pytestmark = pytest.mark.slow

#: The networks: 200 of all operations and types.
SEEDS = range(200)
#: They are compared in parts, so that a failure names few.
PARTS = 8
PLAIN, OPTIMISED = LEVELS
#: Of the inputs whose two best logits differ: all networks together, and each.
ALL, EACH = 0.99, 0.9


@dataclass
class Compared:
    """Classes of a network's inputs without ties: the engine's and ONNX Runtime's."""

    engine: Array
    theirs: dict[Any, Array]


@cache
def drawn(seed: int) -> Drawn:
    return draw(seed)


@cache
def compared(seed: int) -> Compared:
    network = drawn(seed)
    with Engine(network.graph, threads=1, tuned=False) as engine:
        logits = engine.run_integer(network.inputs)
    two = np.sort(logits, axis=1)[:, -2:]
    is_clear = two[:, 1] > two[:, 0]
    model = to_onnx(network.graph).model
    photos = {"image": network.inputs.astype(np.float32)}
    theirs = {level: run(model, photos, level)[0].argmax(axis=1)[is_clear] for level in LEVELS}
    return Compared(logits.argmax(axis=1)[is_clear], theirs)


COUNTED = [
    pytest.param(PLAIN, id="plain"),
    pytest.param(OPTIMISED, id="optimised", marks=pytest.mark.skipif(saturates(), reason=REASON)),
]


def test_the_networks_hold_everything() -> None:
    networks = [drawn(seed) for seed in SEEDS]
    assert all(FEWEST <= network.layers <= MOST and len(network.inputs) == 64 for network in networks)
    assert all(network.logits.shape[1] == CLASSES for network in networks)
    nodes = [node for network in networks for node in network.graph]
    for kind in (MaxPool2d, AvgPool2d, Concat, Conv2d):
        assert {node.input_type for node in nodes if isinstance(node, kind)} == set(ACTIVATIONS), kind
    layers = {(node.input_type, node.weight.dtype) for node in nodes if isinstance(node, Conv2d | Linear)}
    assert layers == {(reads, weight) for reads in ACTIVATIONS for weight in (DType.S4, DType.S8)}
    shifts = {node.shift for node in nodes if isinstance(node, Quantize)}
    assert {0, 16} < shifts
    assert max(shifts) > 20


@pytest.mark.parametrize("level", COUNTED)
@pytest.mark.parametrize("part", range(PARTS))
def test_drawn_networks_answer_as_the_engine(part: int, level: Any) -> None:
    same = []
    for seed in SEEDS[part::PARTS]:
        found = compared(seed)
        agreed = found.theirs[level] == found.engine
        assert agreed.mean() >= EACH, f"seed {seed}: {agreed.mean():.3f}"
        same.append(agreed)
    assert np.concatenate(same).mean() >= ALL


@pytest.mark.parametrize("part", range(PARTS))
def test_the_exact_form_has_every_logit(part: int) -> None:
    for seed in SEEDS[part::PARTS]:
        network = drawn(seed)
        wanted = interpret(network.graph, network.inputs)["logits"]
        model = to_onnx(network.graph, "exact").model
        for level in LEVELS:
            (found,) = run(model, {"image": network.inputs}, level)
            np.testing.assert_array_equal(found, wanted, err_msg=f"seed {seed}")


@pytest.mark.parametrize("part", range(PARTS))
def test_drawn_networks_come_back_with_every_logit(part: int) -> None:
    for seed in SEEDS[part::PARTS]:
        network = drawn(seed)
        again = from_onnx(to_onnx(network.graph).model).graph
        wanted = interpret(network.graph, network.inputs)["logits"]
        found = interpret(again, network.inputs)[again.outputs[0]]
        np.testing.assert_array_equal(found, wanted, err_msg=f"seed {seed}")


@pytest.mark.parametrize("part", range(PARTS))
def test_as_a_file_of_somebody_else(part: int) -> None:
    """Without metadata an import has nothing but scales: factors and shifts are chosen anew."""
    same = []
    for seed in SEEDS[part::PARTS]:
        network = drawn(seed)
        model = to_onnx(network.graph).model
        del model.metadata_props[:]
        again = from_onnx(model).graph
        wanted = interpret(network.graph, network.inputs)["logits"]
        found = interpret(again, network.inputs)[again.outputs[0]]
        two = np.sort(wanted, axis=1)[:, -2:]
        agreed = (found.argmax(axis=1) == wanted.argmax(axis=1))[two[:, 1] > two[:, 0]]
        assert agreed.mean() >= EACH, f"seed {seed}: {agreed.mean():.3f}"
        same.append(agreed)
    assert np.concatenate(same).mean() >= ALL


@pytest.mark.parametrize("level", COUNTED)
@pytest.mark.parametrize("dtype", ACTIVATIONS)
@pytest.mark.parametrize("operation", LAYERS)
def test_every_operation_in_every_type(operation: str, dtype: DType, level: Any) -> None:
    """All logits: sums of these networks are exact in float32."""
    for seed in range(2):
        network = draw(1000 + seed, (dtype,), operation)
        wanted = interpret(network.graph, network.inputs)["logits"]
        (found,) = run(to_onnx(network.graph).model, {"image": network.inputs.astype(np.float32)}, level)
        same = np.all(found == wanted, axis=1)
        assert same.mean() >= EACH, f"{operation} of {dtype}: {same.mean():.3f}"
