"""Networks of several outputs, of images and vectors, and with real numbers computed on the host."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nybble
from emulated_gpu import NEEDS_EMULATOR
from nybble.backends.errors import EngineError
from nybble.backends.reference.interpreter import ReferenceBackend
from nybble.engine import Engine, available_isas
from nybble.graph import (
    Conv2d,
    DType,
    Graph,
    Input,
    MaxPool2d,
    Node,
    Padding,
    Pair,
    Preprocessing,
    Quantize,
    Scale,
    Tensor,
)
from nybble.graph.ops import RealConcat, RealReshape, RealSigmoid, RealTranspose
from nybble.graph.types import Array
from nybble.reference import interpret

CHANNELS, ROWS, COLUMNS = 5, 6, 7
CODES, MAXIMA, HEAD, DECODED = "codes", "maxima", "head", "decoded"


def two_headed() -> Graph:
    """Codes, their maxima, real sums of an image, and a function of these in another shape."""
    random = np.random.default_rng(0)
    weight = Tensor.from_array(DType.S4, random.integers(-8, 7, (CHANNELS, 3, 3, 3), endpoint=True))
    factor = Tensor.from_array(DType.U16, random.integers(1, 30, CHANNELS))
    scales = Tensor.from_array(DType.F32, random.uniform(50, 90, CHANNELS).astype(np.float32))
    nodes: list[Node] = [
        Conv2d(name="conv", inputs=("x",), input_type=DType.S8, weight=weight, padding=Padding(1, 1, 1, 1)),
        Quantize(name=CODES, inputs=("conv",), input_type=DType.S32, output_type=DType.U7, factor=factor, shift=8),
        MaxPool2d(name=MAXIMA, inputs=(CODES,), input_type=DType.U7, kernel_size=Pair(2, 2), stride=Pair(2, 2)),
        Scale(name=HEAD, inputs=("conv",), out_scale=scales),
        RealSigmoid(name="likely", inputs=(HEAD,)),
        RealConcat(name="both", inputs=("likely", HEAD), axis=0),
        RealReshape(name="flat", inputs=("both",), shape=(2 * CHANNELS, ROWS * COLUMNS)),
        RealTranspose(name=DECODED, inputs=("flat",), order=(1, 0)),
    ]
    entry = Input(name="x", dtype=DType.S8, shape=(3, ROWS, COLUMNS))
    preprocessing = Preprocessing(resize=8, crop=(ROWS, COLUMNS))
    return Graph([entry], nodes, [CODES, DECODED, HEAD, MAXIMA], preprocessing=preprocessing)


def photos(count: int) -> Array:
    return np.random.default_rng(1).integers(0, 256, (count, ROWS, COLUMNS, 3)).astype(np.uint8)


def integers(graph: Graph, count: int) -> Array:
    assert graph.preprocessing is not None
    normalised = graph.preprocessing.normalise(photos(count))
    return np.ascontiguousarray(graph.preprocessing.quantize(normalised).transpose(0, 3, 1, 2))


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_every_output_is_the_reference_s(isa: str, threads: int, count: int) -> None:
    graph = two_headed()
    codes = integers(graph, count)
    expected = interpret(graph, codes) if count else {}
    with Engine(graph, threads, isa) as engine:
        for found in (engine.run(codes, integers=True), engine.run(photos(count))):
            assert list(found) == list(graph.outputs)
            for name, value in found.items():
                kind = graph.values[name]
                assert (value.shape, value.dtype) == ((count, *kind.shape), kind.dtype.storage)
                if count:
                    np.testing.assert_array_equal(value, expected[name])


def test_taps_hold_what_the_host_computes() -> None:
    graph = two_headed()
    codes = integers(graph, 3)
    expected = interpret(graph, codes, keep=None)
    with Engine(graph, 1) as engine:
        taps = engine.tap(codes)
    assert {CODES, HEAD, "likely", "both", "flat", DECODED} <= taps.keys()
    for name, value in taps.items():
        np.testing.assert_array_equal(value, expected[name])


def test_the_reference_as_a_backend_returns_the_same() -> None:
    graph = two_headed()
    with Engine(graph, device="reference") as reference, Engine(graph, 1) as engine:
        found, wanted = reference.run(photos(5)), engine.run(photos(5))
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, wanted[name])


def test_a_call_needs_one_output() -> None:
    graph = two_headed()
    with Engine(graph, 1) as engine:
        for attempt in (lambda: engine(photos(1)), lambda: engine.run_integer(integers(graph, 1))):
            with pytest.raises(EngineError, match=r"has the outputs codes, decoded, head, maxima; Engine\.run returns"):
                attempt()
    single = Graph(graph.inputs, graph.nodes, [DECODED], preprocessing=graph.preprocessing)
    with Engine(single, 1) as engine:
        np.testing.assert_array_equal(engine(photos(2)), engine.run(photos(2))[DECODED])


def test_the_directory_keeps_them(tmp_path: Path) -> None:
    graph = two_headed()
    nybble.graph.write_graph(graph, tmp_path)
    again = nybble.graph.read_graph(tmp_path)
    assert again.outputs == graph.outputs
    assert "version=3" in (tmp_path / "model" / "format_version").read_text()
    codes = integers(graph, 2)
    for name, value in interpret(again, codes).items():
        np.testing.assert_array_equal(value, interpret(graph, codes)[name])


@NEEDS_EMULATOR
def test_the_emulated_gpu_returns_them_all() -> None:
    graph = two_headed()
    codes = integers(graph, 2)
    with Engine(graph, device="cuda-emulated") as engine, Engine(graph, 1) as other:
        found, expected = engine.run(codes, integers=True), other.run(codes, integers=True)
    assert list(found) == list(expected)
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_device_of_one_output_refuses_several_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceBackend, "takes_several_outputs", False)
    with pytest.raises(EngineError, match=r"^device='reference' runs networks of one output; this one has 3$"):
        Engine(two_headed(), device="reference")
