"""Importing what ONNX Runtime's static quantizer makes, against ONNX Runtime itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saturation import saturates

from nybble.graph import Graph
from nybble.graph.types import Array
from nybble.reference import interpret

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - needs onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static  # noqa: E402

from nybble.graph.onnx import OnnxImportError, import_onnx  # noqa: E402

SIZE = 16
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}


class _Photos(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, photos: Array) -> None:
        self._feeds = iter([{"photo": photo[None]} for photo in photos])

    def get_next(self) -> Any:
        return next(self._feeds, None)


def _photos(count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 3, SIZE // 4, SIZE // 4)).repeat(4, axis=2).repeat(4, axis=3)
    photos: Array = (coarse + 0.3 * rng.normal(size=(count, 3, SIZE, SIZE))).astype(np.float32)
    return photos


def _float_network(rng: np.random.Generator, *, tail: str = "") -> Any:
    """Stem, a depthwise block with ReLU6 and a linear bottleneck, a grouped convolution, both adds, pools, Gemm."""
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, values: Array, dtype: type = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def conv(name: str, source: str, outputs: int, inputs: int, kernel: int, **attributes: Any) -> str:
        group = attributes.get("group", 1)
        fan = inputs // group * kernel * kernel
        weight = rng.normal(size=(outputs, inputs // group, kernel, kernel)) * np.sqrt(2 / fan)
        names = [constant(f"{name}.w", weight), constant(f"{name}.b", 0.1 * rng.normal(size=outputs))]
        pads = [kernel // 2] * 4
        nodes.append(helper.make_node("Conv", [source, *names], [name], name=name, pads=pads, **attributes))
        return name

    def node(op: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    value = node("Relu", "stem_relu", conv("stem", "photo", 8, 3, 3, strides=[2, 2]))
    shortcut = value = node("MaxPool", "pool", value, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    bounds = [constant("zero", 0.0), constant("six", 1.5)]
    value = node("Clip", "depth_clip", conv("depth", value, 8, 8, 3, group=8), *bounds)
    value = node("Add", "sum", conv("project", value, 8, 8, 1), shortcut)
    value = node("Relu", "grouped_relu", conv("grouped", value, 16, 8, 3, group=2, strides=[2, 2]))
    value = node("AveragePool", "average", value, kernel_shape=[2, 2], strides=[1, 1])
    value = node("GlobalAveragePool", "mean", value)
    if tail:
        value = node(tail, "tail", value)
    value = node("Flatten", "flat", value)
    weight, bias = constant("fc.w", rng.normal(size=(10, 16))), constant("fc.b", rng.normal(size=10))
    nodes.append(helper.make_node("Gemm", [value, weight, bias], ["logits"], name="fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "float",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _quantized(folder: Path, model: Any, **options: Any) -> Path:
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(model, source)
    options.setdefault("extra_options", SYMMETRIC)
    quantize_static(source, target, _Photos(_photos(16)), quant_format=QuantFormat.QDQ, **options)
    return target


def _logits(graph: Graph, scale: float, photos: Array) -> Array:
    entry = graph.inputs[0]
    low = -entry.dtype.maximum if entry.dtype.is_signed else 0
    codes = np.clip(np.rint(photos / np.float32(scale)), low, entry.dtype.maximum).astype(entry.dtype.storage)
    found: Array = interpret(graph, codes)[graph.outputs[0]]
    return found.reshape(len(photos), -1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activations", [QuantType.QInt8, QuantType.QUInt8], ids=["s8", "u8"])
def test_static_quantization_gives_the_same_logits(tmp_path: Path, per_channel: bool, activations: Any) -> None:
    path = _quantized(
        tmp_path,
        _float_network(np.random.default_rng(1)),
        per_channel=per_channel,
        activation_type=activations,
        weight_type=QuantType.QInt8,
    )
    made = import_onnx(path)
    photos = _photos(24, seed=1)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"photo": photos})[0]
    assert made.input_scale is not None
    found = _logits(made.graph, made.input_scale, photos)
    difference = np.abs(found - wanted)
    assert difference.mean() < wanted.std() / 30
    # Drawn weights give close races.
    top = np.sort(wanted, axis=1)
    clear = top[:, -1] - top[:, -2] > 2 * difference.max()
    assert clear.sum() > 5
    np.testing.assert_array_equal(found.argmax(axis=1)[clear], wanted.argmax(axis=1)[clear])
    assert made.largest is not None and made.largest.error <= 0.5


@pytest.mark.filterwarnings("ignore")
def test_relus_that_the_quantizer_has_folded(tmp_path: Path) -> None:
    """Unsigned types with zero point 0 by default, where nothing is negative: no ReLU is left in the file."""
    rng = np.random.default_rng(5)
    names = ["stem.w", "stem.b", "fc.w", "fc.b"]
    shapes = [(8, 3, 3, 3), (8,), (10, 8), (10,)]
    constants = [
        numpy_helper.from_array((0.3 * rng.normal(size=shape)).astype(np.float32), name)
        for name, shape in zip(names, shapes, strict=True)
    ]
    nodes = [
        helper.make_node("Conv", ["photo", *names[:2]], ["stem"], name="stem", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["stem"], ["relu"], name="relu"),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", *names[2:]], ["logits"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "folded",
        [helper.make_tensor_value_info("photo", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    source, path = tmp_path / "float.onnx", tmp_path / "quantized.onnx"
    onnx.save(model, source)
    quantize_static(
        source,
        path,
        _Photos(np.abs(_photos(16))),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
    )
    assert not [node for node in onnx.load(path).graph.node if node.op_type == "Relu"]
    made = import_onnx(path)
    assert [made.graph.values[name].dtype for name in ("photo", "relu_QuantizeLinear")] == ["u8", "u8"]
    photos = np.abs(_photos(24, seed=1))
    options = onnxruntime.SessionOptions()
    if saturates():
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"photo": photos})[0]
    assert made.input_scale is not None
    found = _logits(made.graph, made.input_scale, photos)
    np.testing.assert_allclose(found, wanted, atol=np.abs(wanted).max() / 50)


@pytest.mark.filterwarnings("ignore")
def test_asymmetric_zero_points_are_refused(tmp_path: Path) -> None:
    path = _quantized(tmp_path, _float_network(np.random.default_rng(1)), extra_options={})
    with pytest.raises(OnnxImportError, match=r"photo_QuantizeLinear: its zero point is -?\d+, .*ActivationSymmetric"):
        import_onnx(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("tail", "message"),
    [
        ("Sin", "tail: operator Sin is not supported: the engine has no such layer"),
        ("HardSwish", "flat: reads 'tail', a function of one activation, which was not quantized: put QuantizeLinear"),
    ],
)
def test_operators_that_are_not_there_are_named(tmp_path: Path, tail: str, message: str) -> None:
    path = _quantized(tmp_path, _float_network(np.random.default_rng(1), tail=tail))
    with pytest.raises(OnnxImportError, match=message):
        import_onnx(path)
