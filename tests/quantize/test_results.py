"""Networks that are not classifiers: from ONNX files and modules with results of any shape to the engine."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nybble import Engine
from nybble.graph import Graph, read_graph, write_graph
from nybble.graph.ops import operation_of
from nybble.graph.types import Array
from nybble.quantize import QuantizeConfig, calibrate, convert, prepare
from nybble.quantize.errors import CaptureError
from nybble.quantize.fake.network import QuantizedNetwork
from nybble.quantize.ir.fold import fold
from nybble.quantize.lower.agreement import input_codes
from nybble.quantize.prepare.prepare import prepare_captured
from nybble.quantize.sources.onnx.model import read_onnx
from nybble.quantize.sources.onnx.network import build
from nybble.quantize.sources.pytorch.capture import capture
from nybble.reference import interpret

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

ROWS, COLUMNS = 12, 8


class Heads(nn.Module):
    """A detector in small: a shuffle of channels, an upsampled level, and heads that end in functions and views."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.down = nn.Conv2d(4, 8, 3, 2, 1)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)
        self.norm = nn.BatchNorm2d(4).eval()
        self.slopes = nn.PReLU(4)
        self.box = nn.Conv2d(20, 4, 1)
        self.score = nn.Conv2d(20, 3, 1)
        nn.init.uniform_(self.slopes.weight, -0.2, 0.4)
        nn.init.uniform_(self.norm.running_mean, -0.5, 0.5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Decoded boxes and scores (1, cells, 7), and the map of scores as it is."""
        y = functional.relu(self.stem(x))
        # As exporters write it for one image.
        shuffled = y.reshape(4, 2, ROWS // 2 * COLUMNS // 2).permute(1, 0, 2).reshape(2, 1, 4, ROWS // 2, COLUMNS // 2)
        small = functional.relu(self.down(shuffled[1]))
        raised = self.slopes(self.norm(self.up(small)))
        joined = torch.cat([shuffled[0], raised, functional.interpolate(small, scale_factor=2), y[:, ::2]], 1)
        score = self.score(joined)
        both = torch.cat([self.box(joined), score.softmax(1)], 1)
        return both.reshape(1, 7, -1).permute(0, 2, 1), score


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("heads") / "heads.onnx"
    names = ["decoded", "scores"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, ROWS, COLUMNS),)
        torch.onnx.export(Heads().eval(), example, str(file), output_names=names, dynamo=False)
    return file


def images(count: int) -> Tensor:
    return torch.randn(count, 3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def quantized(path: Path) -> tuple[QuantizedNetwork, Graph]:
    model = read_onnx(path)
    network = prepare_captured(fold(build(model, (ROWS, COLUMNS))), QuantizeConfig(bits="w8a8"))
    calibrate(network, [images(16)])
    return network, convert(network)[0]


def floats(network: QuantizedNetwork, x: Tensor) -> dict[str, Array]:
    with torch.no_grad():
        found = {label: value.numpy() for label, value in network.results(x).items()}
    for node in network.tail:
        operation = operation_of(node)
        assert operation is not None
        found[node.name] = operation.compute(node, [], [found[name] for name in node.inputs])
    return {name: found[name] for name in network.outputs}


def test_what_is_captured_answers_as_onnx_runtime(path: Path, quantized: tuple[QuantizedNetwork, Graph]) -> None:
    network, _ = quantized
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    mode = network.mode
    network.set_mode("float")
    try:
        for x in images(3).split(1):
            wanted = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            found = floats(network, x)
            assert list(found) == ["decoded", "scores"]
            for value, expected in zip(found.values(), wanted, strict=True):
                np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    finally:
        network.set_mode(mode)


def test_the_engine_equals_the_reference_and_is_near(quantized: tuple[QuantizedNetwork, Graph], tmp_path: Path) -> None:
    network, graph = quantized
    write_graph(graph, tmp_path)
    graph = read_graph(tmp_path)
    assert [graph.values[name].shape for name in graph.outputs] == [(24, 7), (3, 6, 4)]
    x = images(5)
    codes = input_codes(network, x)
    expected = interpret(graph, codes, keep=None)
    with Engine(graph, threads=2) as engine:
        found, taps = engine.run(codes, integers=True), engine.tap(codes)
    for name, value in {**taps, **found}.items():
        np.testing.assert_array_equal(value, expected[name])
    network.set_mode("float")
    for value, wanted in zip(found.values(), floats(network, x).values(), strict=True):
        noise = np.mean((value - wanted) ** 2) / np.mean((wanted - wanted.mean()) ** 2)
        assert noise < 0.01
    network.set_mode("quantize")


def test_a_module_that_returns_an_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 1, 3, padding=1)).eval()
    x = torch.randn(6, 1, 9, 7, generator=torch.Generator().manual_seed(2))
    network = prepare(module, (1, 9, 7), QuantizeConfig(bits="w8a8"))
    calibrate(network, [x])
    graph, _ = convert(network)
    codes = input_codes(network, x)
    with Engine(graph, threads=1) as engine:
        (found,) = engine.run(codes, integers=True).values()
    np.testing.assert_array_equal(found, interpret(graph, codes)[graph.outputs[0]])
    with torch.no_grad():
        wanted = module(x).numpy()
    assert found.shape == wanted.shape
    assert np.mean((found - wanted) ** 2) < 0.01 * np.mean(wanted**2)


class Levels(Heads):
    """The same heads as a module returns them: views of several levels, joined, and one value twice."""

    def forward(self, x: Tensor) -> dict[str, Any]:  # type: ignore[override]
        y = functional.relu(self.stem(x))
        small = functional.relu(self.down(y[:, 1::2]))
        raised = functional.interpolate(small, size=y.shape[2:], mode="bilinear", align_corners=False)
        joined = torch.cat([y, raised, y[:, ::2]], 1)
        score = self.score(joined)
        flat = [score.flatten(2).transpose(1, 2), self.box(joined).view(len(x), 1, 4, -1).permute(0, 3, 1, 2)[:, :, 0]]
        return {"maps": [small, score], "again": score, "scores": torch.cat([flat[0].softmax(-1)] * 2, 1)}


def test_a_module_that_returns_several_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Levels().eval()
    x = images(6)
    network = prepare(module, (3, ROWS, COLUMNS), QuantizeConfig(bits="w8a8"))
    calibrate(network, [x])
    graph, _ = convert(network)
    write_graph(graph, tmp_path)
    graph = read_graph(tmp_path)
    codes = input_codes(network, x)
    expected = interpret(graph, codes, keep=None)
    with Engine(graph, threads=1) as engine:
        found = engine.run(codes, integers=True)
    with torch.no_grad():
        returned = module(x)
    wanted = [*returned["maps"], returned["again"], returned["scores"]]
    assert list(found) == ["maps_0", "maps_1", "again", "scores"]
    for name, value in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].shape == value.shape
        assert np.mean((found[name] - value.numpy()) ** 2) < 0.01 * np.mean((value - value.mean()).numpy() ** 2)


def test_all_outputs_are_taken_where_none_or_an_asterisk_says_so() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = self.layer(x)
            return y.mean((2, 3)), y.amax((2, 3))

    with pytest.raises(CaptureError, match=r"or all values by output='\*'"):
        capture(Two().eval(), (3, 8, 8))
    module = Two().eval()
    network = capture(module, (3, 8, 8), output="*")
    assert network.outputs == ("0", "1")
    x = torch.randn(3, 3, 8, 8)
    for found, wanted in zip(network.returned(x).values(), module(x), strict=True):
        torch.testing.assert_close(found, wanted.detach())
