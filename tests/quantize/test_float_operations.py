"""Every registered float operation on its examples: from both front ends to the engine, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from converted_examples import EXAMPLES, converted, images
from exported_networks import export

from nybble import Engine
from nybble.graph import read_graph, write_graph
from nybble.quantize import convert, from_graph, load_source
from nybble.quantize.lower.agreement import input_codes
from nybble.quantize.ops import operations
from nybble.quantize.ops.examples import FloatExample
from nybble.quantize.sources.pytorch.capture import capture
from nybble.reference import interpret


def test_operations_of_the_float_ir_have_examples() -> None:
    assert not [type(operation).__name__ for operation in operations() if operation.ops and not [*operation.examples()]]


@pytest.mark.parametrize("example", EXAMPLES)
def test_from_pytorch_to_the_engine_and_back(example: FloatExample, tmp_path: Path) -> None:
    network, graph = converted(example)
    write_graph(graph, tmp_path / "model")
    graph = read_graph(tmp_path / "model")
    codes = input_codes(network, images(example))
    expected = interpret(graph, codes)[graph.outputs[0]]
    with Engine(graph, threads=1) as engine:
        np.testing.assert_array_equal(engine.run_integer(codes), expected)
    network.set_mode("quantize")
    with torch.no_grad():
        fake = network(images(example)).numpy()
    # Results that lie on a half may be rounded the other way in float32, and two activations are added in finer steps.
    assert np.mean(np.abs(fake - expected.reshape(fake.shape))) < 0.01 * np.abs(expected).max()
    again, _ = convert(from_graph(graph))
    np.testing.assert_allclose(interpret(again, codes)[again.outputs[0]], expected, rtol=1e-5)


@pytest.mark.parametrize("default", [True, False], ids=["default", "older"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_both_front_ends_capture_the_same(example: FloatExample, default: bool, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    export(example.module, path, opset=18 if default else 17, batch=None, default=default, shape=example.shape)
    module = load_source(str(path)).module
    assert module is not None
    x = images(example, 2)
    captured, read = (capture(source, example.shape) for source in (example.module, module))
    torch.testing.assert_close(captured(x), read(x), rtol=1e-4, atol=1e-5)
