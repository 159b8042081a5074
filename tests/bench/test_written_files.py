"""INT8 files that are written here for engines without a quantizer of their own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs ONNX: pip install 'nybble[bench]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install 'nybble[bench]'")

from onnx import helper, numpy_helper  # noqa: E402

from nybble.bench.engines.layers import read_network, symmetric  # noqa: E402
from nybble.graph.types import Array  # noqa: E402

SIZE = 15
ENGINES = {"litert": "ai_edge_litert", "ncnn": "ncnn"}


def constants(rng: np.random.Generator, **shapes: Sequence[int]) -> list[Any]:
    return [
        numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name) for name, shape in shapes.items()
    ]


def model(nodes: list[Any], held: list[Any], channels: int = 3) -> Any:
    """A float model from ``x`` to ``y``."""
    entry = helper.make_tensor_value_info("x", 1, ["N", channels, SIZE, SIZE])
    graph = helper.make_graph(nodes, "g", [entry], [helper.make_tensor_value_info("y", 1, None)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def conv(source: str, name: str, *, pads: Sequence[int], stride: int, kernel: int, group: int = 1) -> Any:
    inputs = [source, f"{name}_w", f"{name}_b"]
    return helper.make_node(
        "Conv",
        inputs,
        [name],
        pads=list(pads),
        strides=[stride] * 2,
        kernel_shape=[kernel] * 2,
        dilations=[1, 1],
        group=group,
    )


def network(rng: np.random.Generator) -> Any:
    """Every kind of layer: padding as LiteRT has it and another, depthwise, a sum of two uses, pools, both clips."""
    limits = [numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("six", 6), ("m", -2))]
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "dilations": [1, 1], "ceil_mode": 0}
    nodes = [
        conv("x", "a", pads=(1, 1, 1, 1), stride=2, kernel=3),
        helper.make_node("Clip", ["a", "zero", "six"], ["ac"]),
        helper.make_node("MaxPool", ["ac"], ["p"], pads=[1, 1, 1, 1], **pool),
        conv("p", "b", pads=(0, 0, 1, 1), stride=2, kernel=3),
        conv("p", "d", pads=(1, 1, 1, 1), stride=1, kernel=3, group=8),
        helper.make_node("Relu", ["d"], ["dr"]),
        conv("dr", "e", pads=(0, 0, 0, 0), stride=2, kernel=1),
        helper.make_node("Clip", ["e", "m", "six"], ["ec"]),
        helper.make_node("Add", ["b", "ec"], ["s"]),
        helper.make_node("Relu", ["s"], ["sr"]),
        helper.make_node("GlobalAveragePool", ["sr"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "h_w", "h_b"], ["y"]),
    ]
    held = constants(rng, a_w=(8, 3, 3, 3), a_b=(8,), b_w=(8, 8, 3, 3), b_b=(8,), d_w=(8, 1, 3, 3), d_b=(8,))
    held += constants(rng, e_w=(8, 8, 1, 1), e_b=(8,), h_w=(8, 10), h_b=(10,))
    return model(nodes, [*held, *limits])


def flattened(rng: np.random.Generator) -> Any:
    """An image of several rows and columns that becomes a vector."""
    limits = [numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("three", 3))]
    nodes = [
        conv("x", "a", pads=(1, 1, 1, 1), stride=2, kernel=3),
        helper.make_node("Clip", ["a", "zero", "three"], ["ac"]),
        helper.make_node(
            "MaxPool", ["ac"], ["p"], pads=[0, 0, 0, 0], kernel_shape=[4, 3], strides=[2, 2], dilations=[1, 1]
        ),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "h_w", "h_b"], ["y"]),
    ]
    return model(nodes, [*constants(rng, a_w=(8, 3, 3, 3), a_b=(8,), h_w=(72, 10), h_b=(10,)), *limits])


def gated(rng: np.random.Generator) -> Any:
    """Activation functions, a gate, a concatenation of two scales, a convolution in groups, a mean and a slice."""
    cut = [numpy_helper.from_array(np.array([value], dtype=np.int64), f"cut{value}") for value in (0, 1, 16)]
    nodes = [
        conv("x", "a", pads=(1, 1, 1, 1), stride=2, kernel=3),
        helper.make_node("HardSwish", ["a"], ["ah"]),
        helper.make_node("GlobalAveragePool", ["ah"], ["g"]),
        conv("g", "s", pads=(0,) * 4, stride=1, kernel=1),
        helper.make_node("Relu", ["s"], ["sr"]),
        conv("sr", "e", pads=(0,) * 4, stride=1, kernel=1),
        helper.make_node("HardSigmoid", ["e"], ["eh"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["ah", "eh"], ["m"]),
        conv("m", "b", pads=(0,) * 4, stride=1, kernel=1),
        helper.make_node("Sigmoid", ["b"], ["bs"]),
        helper.make_node("Mul", ["b", "bs"], ["bm"]),
        helper.make_node("Concat", ["m", "bm"], ["c"], axis=1),
        helper.make_node("Slice", ["c", "cut0", "cut16", "cut1"], ["cs"]),
        conv("cs", "d", pads=(1, 1, 1, 1), stride=1, kernel=3, group=4),
        helper.make_node("Constant", [], ["d_b"], value=numpy_helper.from_array(np.full(8, 0.1, np.float32))),
        helper.make_node("LeakyRelu", ["d"], ["dr"], alpha=0.1),
        helper.make_node("ReduceMean", ["dr"], ["r"], axes=[2, 3], keepdims=1),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Identity", ["h_w"], ["h_same"]),
        helper.make_node("Gemm", ["f", "h_same", "h_b"], ["y"]),
    ]
    # Constants stand before what reads them.
    nodes.insert(0, nodes.pop(14))
    held = constants(rng, a_w=(8, 3, 3, 3), a_b=(8,), s_w=(4, 8, 1, 1), s_b=(4,), e_w=(8, 4, 1, 1), e_b=(8,))
    held += constants(rng, b_w=(8, 8, 1, 1), b_b=(8,), d_w=(8, 4, 3, 3), h_w=(8, 10), h_b=(10,))
    return model(nodes, [*held, *cut])


NETWORKS = {"layers": network, "flattened": flattened, "gated": gated}
#: What each engine's writer knows.
CASES = [("litert", "layers"), ("litert", "flattened"), ("litert", "gated"), ("ncnn", "layers"), ("ncnn", "flattened")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_they_compute_the_float_network(name: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip(ENGINES[name], reason=f"needs {ENGINES[name]}: pip install 'nybble[bench]'")
    rng = np.random.default_rng(3)
    path = tmp_path / "float.onnx"
    onnx.save(NETWORKS[kind](rng), str(path))
    photos = rng.normal(0, 1, (24, 3, SIZE, SIZE)).astype(np.float32)
    engine = importlib.import_module(f"nybble.bench.engines.{name}").ENGINE
    (made,) = engine.make_int8(path, tmp_path, photos).values()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"x": photos})[0]
    spread = wanted.std()
    fed: Array = np.ascontiguousarray(photos.transpose(0, 2, 3, 1)) if engine.layout == "nhwc" else photos
    for mode in engine.modes:
        run_all, about = engine.open({"model": str(made), "mode": mode, "threads": 1, "shape": (SIZE, SIZE, 3)})
        assert about["version"]
        seconds, found = run_all([fed[:1], fed[1:8], fed[8:]])
        assert len(seconds) == 3
        errors = np.concatenate(found).reshape(wanted.shape) - wanted
        # Eight bits: a few steps of 1/256 of a range. A layer that is misread is wrong by the spread itself.
        assert np.abs(errors).mean() < 0.06 * spread
    # What was made is kept.
    assert engine.make_int8(tmp_path / "is not read", tmp_path, photos) == {"s8s8": made}


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([helper.make_node("Relu", ["x"], ["y"])], "a Relu that stands alone"),
        ([helper.make_node("Tanh", ["x"], ["y"])], "no layer for Tanh"),
        ([helper.make_node("HardSigmoid", ["x"], ["y"])], "a HardSigmoid that stands alone"),
        ([helper.make_node("Gemm", ["x", "x"], ["y"])], "no layer for Gemm without constant weights"),
        ([helper.make_node("Add", ["x", "a_b"], ["y"])], "no layer for Add with a constant"),
    ],
)
def test_what_is_not_known_is_refused(nodes: list[Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    rng = np.random.default_rng(3)
    onnx.save(model(nodes, constants(rng, a_b=(1,))), str(path))
    with pytest.raises(ValueError, match=reason):
        read_network(path, np.zeros((1, 3, SIZE, SIZE), dtype=np.float32))


def test_ncnn_refuses_a_convolution_in_groups(tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    held = constants(np.random.default_rng(3), y_w=(8, 2, 1, 1), y_b=(8,))
    onnx.save(model([conv("x", "y", pads=(0,) * 4, stride=1, kernel=1, group=2)], held, 4), str(path))
    engine = importlib.import_module("nybble.bench.engines.ncnn").ENGINE
    with pytest.raises(ValueError, match="in 2 groups"):
        engine.make_int8(path, tmp_path, np.ones((1, 4, SIZE, SIZE), dtype=np.float32))


def test_ncnn_refuses_a_gate(tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    onnx.save(gated(np.random.default_rng(3)), str(path))
    engine = importlib.import_module("nybble.bench.engines.ncnn").ENGINE
    with pytest.raises(ValueError, match=r"no layer for HardSwish \(ah\)"):
        engine.make_int8(path, tmp_path, np.ones((2, 3, SIZE, SIZE), dtype=np.float32))


def test_symmetric_codes_end_at_the_largest_weight() -> None:
    weights = np.array([[0.5, -1.0], [0.0, 0.0], [3.0, 1.5]], dtype=np.float32)
    codes, scales = symmetric(weights)
    assert codes.tolist() == [[64, -127], [0, 0], [127, 64]]
    np.testing.assert_allclose(scales, [1 / 127, 1 / 127, 3 / 127], rtol=1e-6)
