"""Foreign QDQ models with something wrong in them: a graph or one error of ours, whatever was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import ModelProto, numpy_helper
from qdq_networks import Net

from nybble.graph import NybbleError
from nybble.graph.onnx import from_onnx, import_onnx
from nybble.graph.onnx.operators import known_operators


def _everything() -> Any:
    """A model with nearly every operator that is read."""
    net = Net((4, 8, 8), seed=1)
    value = net.node("Pad", net.input(), net.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), net.constant(0.0))
    value = net.conv(value, 6, 4, pads=[0, 0, 0, 0])
    names = [net.constant(net.rng.uniform(0.5, 2, 6)) for _ in range(4)]
    value = net.node("BatchNormalization", value, *names)
    value = net.node("Clip", net.node("Relu", value), net.constant(0.0), net.constant(3.0))
    value = net.qdq(net.node("MaxPool", value, kernel_shape=[2, 2], pads=[0, 0, 1, 1]), 0.03)
    left = net.conv(value, 6, 6, group=6)
    left = net.node("Min", net.constant(2.0), net.node("Max", left, net.constant([-1.0])))
    left = net.qdq(left, np.linspace(0.01, 0.02, 6))
    value = net.node("Sub", net.node("Neg", left), net.node("Mul", value, net.constant(np.ones((6, 1, 1)) * 0.7)))
    value = net.qdq(value, 0.04, clip=(-7, 7))
    value = net.node("Concat", value, net.qdq(net.node("Div", value, net.constant(1.5)), 0.02), axis=1)
    value = net.qdq(net.node("AveragePool", value, kernel_shape=[2, 2], strides=[2, 2]), 0.04)
    value = net.node("Identity", net.node("Dropout", net.node("Cast", value, to=1)))
    value = net.node("Add", net.conv(value, 6, 12, 1), net.constant(np.ones((1, 6, 1, 1))))
    value = net.node("GlobalAveragePool", value)
    value = net.node("Squeeze", net.node("Unsqueeze", net.node("Flatten", value), net.constant([2, 3], np.int64)))
    value = net.node("Reshape", net.qdq(value, 0.03), net.constant([0, -1], np.int64))
    weight = net.node("Transpose", net.weight(6, 10, axis=1), perm=[1, 0])
    value = net.node("Gemm", value, weight, net.constant(np.ones(10)), alpha=0.5, transB=1)
    return net.model(net.node("Softmax", value))


MODEL = _everything()
CONTENT = MODEL.SerializeToString()
NUMBERS = st.sampled_from(
    [-(1 << 63), -(1 << 31), -129, -3, -2, -1, 0, 1, 2, 3, 5, 7, 64, 65536, 1 << 31, (1 << 63) - 1]
)
FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.5, 1e-45, 1e-30, 3e38, -3e38, float("inf"), float("nan")])
DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.int8, np.uint8, np.int32, np.int64, np.bool_])


def test_the_model_that_is_changed_is_read() -> None:
    made = from_onnx(MODEL)
    assert set(made.operators) <= set(known_operators())
    assert len(made.operators) > 25


def _change(model: Any, data: st.DataObject) -> None:
    nodes, constants = model.graph.node, model.graph.initializer
    kind = data.draw(st.sampled_from(["attribute", "constant", "values", "wires", "operator", "input", "drop", "add"]))
    node = data.draw(st.sampled_from(list(nodes)))
    if kind == "attribute" and node.attribute:
        entry = data.draw(st.sampled_from(list(node.attribute)))
        if entry.ints and data.draw(st.booleans()):
            entry.ints[data.draw(st.integers(0, len(entry.ints) - 1))] = data.draw(NUMBERS)
        elif entry.ints:
            del entry.ints[:]
            entry.ints.extend(data.draw(st.lists(NUMBERS, max_size=9)))
        elif data.draw(st.booleans()):
            entry.i, entry.f = data.draw(NUMBERS), data.draw(FLOATS)
        else:
            entry.type = data.draw(st.integers(0, 14))
    elif kind == "add":
        name = data.draw(st.sampled_from(["axis", "axes", "to", "pads", "strides", "dilations", "auto_pad", "group"]))
        entry = node.attribute.add(name=name, type=data.draw(st.sampled_from([1, 2, 3, 7])))
        entry.i, entry.f, entry.s = data.draw(NUMBERS), 1.0, b"SAME_UPPER"
        entry.ints.extend(data.draw(st.lists(NUMBERS, max_size=5)))
    elif kind in ("constant", "values"):
        tensor = data.draw(st.sampled_from(list(constants)))
        values = numpy_helper.to_array(tensor)
        if kind == "values":
            values = values.copy().reshape(-1)
            number = data.draw(FLOATS) if values.dtype.kind == "f" else data.draw(NUMBERS)
            with np.errstate(all="ignore"):
                values[: data.draw(st.integers(1, 9))] = np.asarray(number).astype(values.dtype)
            values = values.reshape(tuple(tensor.dims))
        else:
            shape = data.draw(st.lists(st.integers(0, 7), max_size=5))
            values = np.ones(shape, data.draw(DTYPES))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif kind == "wires" and node.input:
        names = [name for other in nodes for name in (*other.input, *other.output)] + ["", "nothing"]
        node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(st.sampled_from(names))
    elif kind == "operator":
        node.op_type = data.draw(st.sampled_from([*known_operators(), "Constant", "Gather", "Pow", "Exp", "Nothing"]))
    elif kind == "input":
        entry = model.graph.input[0].type.tensor_type
        entry.elem_type = data.draw(st.sampled_from([1, 2, 3, 6, 10, 21, 22]))
        for dim in entry.shape.dim:
            if data.draw(st.booleans()):
                dim.dim_value = data.draw(NUMBERS)
    elif data.draw(st.booleans()) and node.input:
        del node.input[-1]
    else:
        nodes.remove(node)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(data=st.data())
def test_a_changed_model_gives_a_graph_or_one_error(tmp_path: Path, data: st.DataObject) -> None:
    model = ModelProto()
    model.ParseFromString(CONTENT)
    for _ in range(data.draw(st.integers(1, 3))):
        _change(model, data)
    is_checked = data.draw(st.booleans())
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    try:
        if is_checked:
            import_onnx(path)
        else:
            from_onnx(model)
    except NybbleError as error:
        assert len(str(error)) < 1200
        assert "\n" not in str(error)


@pytest.mark.parametrize("operator", known_operators())
@pytest.mark.parametrize("count", [0, 1])
def test_an_operator_without_its_inputs(operator: str, count: int) -> None:
    net = Net()
    value = net.node(operator, *[net.input()][:count])
    model = net.model(net.qdq(value, 0.1))
    try:
        made = from_onnx(model)
    except NybbleError:
        return
    # What needs no more than one input.
    assert count == 1
    assert len(made.graph.outputs) == 1


@pytest.mark.parametrize("operator", ["Concat", "Add"])
def test_a_small_file_cannot_ask_for_much_memory(operator: str) -> None:
    """Each node doubles what the one before made, or makes a square of it."""
    net = Net()
    value = net.constant(np.ones((4096, 1)))
    for _ in range(20):
        if operator == "Concat":
            value = net.node("Concat", value, value, axis=0)
        else:
            value = net.node("Add", value, net.node("Reshape", value, net.constant([1, -1], np.int64)))
    model = net.model(net.node("Add", net.input(), value))
    with pytest.raises(NybbleError, match="computes constants that are much larger than those it holds"):
        from_onnx(model)
