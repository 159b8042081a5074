"""Functions of one activation that other producers spell out in operators: each becomes one Table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_onnx_exact import LEVELS, run

from nybble.graph import Conv2d, DType, Mul, Quantize, Table
from nybble.graph.types import Array
from nybble.reference import interpret

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - needs onnx

from nybble.graph.onnx import OnnxImportError, from_onnx  # noqa: E402

KINDS = {"s8": TensorProto.INT8, "u8": TensorProto.UINT8}


class Model:
    """A QDQ model in the making."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def stored(self, value: str, scale: float, kind: str = "s8") -> str:
        zero = f"zero_{kind}"
        self.constants[zero] = TensorProto(name=zero, data_type=KINDS[kind], raw_data=b"\0")
        step = self.constant(scale)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", value, step, zero), step, zero)

    def made(self, output: str, shape: tuple[int, ...], opset: int = 21) -> Any:
        self.nodes.append(helper.make_node("Identity", [output], ["y"], name="end"))
        entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])
        end = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "C", "H", "W"])
        graph = helper.make_graph(self.nodes, "g", [entry], [end], list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        onnx.checker.check_model(model)
        return model


Build = Callable[[Model, str], str]


def _silu(model: Model, x: str) -> str:
    return model.node("Mul", x, model.node("Sigmoid", x))


def _silu_turned(model: Model, x: str) -> str:
    return model.node("Mul", model.node("Sigmoid", x), x)


def _hard_swish(model: Model, x: str) -> str:
    raised = model.node("Add", x, model.constant(3.0))
    clipped = model.node("Clip", raised, model.constant(0.0), model.constant(6.0))
    return model.node("Div", model.node("Mul", x, clipped), model.constant(6.0))


def _hard_swish_relu6(model: Model, x: str) -> str:
    raised = model.node("Add", model.constant(3.0), x)
    clipped = model.node("Min", model.node("Relu", raised), model.constant([6.0]))
    return model.node("Mul", model.node("Mul", clipped, model.constant(1 / 6)), x)


def _gelu_erf(model: Model, x: str) -> str:
    inner = model.node("Erf", model.node("Div", x, model.constant(2**0.5)))
    half = model.node("Mul", x, model.node("Add", inner, model.constant(1.0)))
    return model.node("Mul", half, model.constant(0.5))


def _mish(model: Model, x: str) -> str:
    return model.node("Mul", x, model.node("Tanh", model.node("Softplus", x)))


def _mish_logs(model: Model, x: str) -> str:
    inner = model.node("Log", model.node("Add", model.node("Exp", x), model.constant(1.0)))
    return model.node("Mul", x, model.node("Tanh", inner))


def _squared(model: Model, x: str) -> str:
    return model.node("Mul", x, x)


def _power(model: Model, x: str) -> str:
    return model.node("Pow", x, model.constant(2.0))


def _folded_gather(model: Model, x: str) -> str:
    """A table by somebody else: values between 0 and 1 by whole numbers."""
    index = model.node("Cast", model.node("Abs", model.node("Mul", x, model.constant(19.8))), to=TensorProto.INT64)
    return model.node("Gather", model.constant(np.linspace(0, 1, 256)), index)


def one(op: str, **attributes: Any) -> Build:
    return lambda model, x: model.node(op, x, **attributes)


#: Name, what it is made of, what the graph calls it. The scale of the input is 0.05.
FUNCTIONS: list[tuple[str, Build, str]] = [
    ("Sigmoid", one("Sigmoid"), "Sigmoid"),
    ("SiLU", _silu, "SiLU"),
    ("SiLU, turned", _silu_turned, "SiLU"),
    ("HardSigmoid", one("HardSigmoid", alpha=1 / 6), "HardSigmoid"),
    ("HardSigmoid of ONNX", one("HardSigmoid"), ""),
    ("HardSwish", one("HardSwish"), "HardSwish"),
    ("HardSwish in parts", _hard_swish, "HardSwish"),
    ("HardSwish by ReLU and Min", _hard_swish_relu6, "HardSwish"),
    ("LeakyReLU", one("LeakyRelu", alpha=0.1), "LeakyReLU(0.1)"),
    ("PReLU", lambda model, x: model.node("PRelu", x, model.constant([0.25])), "LeakyReLU(0.25)"),
    ("GELU", one("Gelu"), "GELU"),
    ("GELU by tanh", one("Gelu", approximate="tanh"), "GELU(tanh)"),
    ("GELU in parts", _gelu_erf, "GELU"),
    ("ELU", one("Elu"), "ELU"),
    ("ELU of 0.5", one("Elu", alpha=0.5), ""),
    ("CELU", one("Celu", alpha=2.0), ""),
    ("SELU", one("Selu"), ""),
    ("Tanh", one("Tanh"), "Tanh"),
    ("Softplus", one("Softplus"), "Softplus"),
    ("Softsign", one("Softsign"), "Softsign"),
    ("Mish", one("Mish"), "Mish"),
    ("Mish in parts", _mish, "Mish"),
    ("Mish by Exp and Log", _mish_logs, "Mish"),
    ("ThresholdedRelu", one("ThresholdedRelu", alpha=0.7), ""),
    ("square", _squared, ""),
    ("power", _power, ""),
    ("Abs", one("Abs"), ""),
    ("Gather", _folded_gather, ""),
]
NAMES = [name for name, _, _ in FUNCTIONS]


def every_code(kind: str) -> Array:
    low, high = (-128, 128) if kind == "s8" else (0, 256)
    return np.arange(low, high).reshape(1, 1, 16, 16)


@pytest.mark.parametrize("level", LEVELS, ids=["as it is", "optimised"])
@pytest.mark.parametrize("kind", ["s8", "u8"])
@pytest.mark.parametrize(("name", "build", "called"), FUNCTIONS, ids=NAMES)
def test_each_becomes_one_table(name: str, build: Build, called: str, kind: str, level: Any) -> None:
    model = Model()
    x = model.stored("x", 0.05, kind)
    y = model.stored(build(model, x), 0.031, "s8")
    made = model.made(y, (1, 16, 16))
    graph = from_onnx(made).graph
    tables = [node for node in graph if isinstance(node, Table)]
    assert [node.op for node in graph] == ["Table", "Quantize", "Scale"]
    assert tables[0].function == (called if kind == "s8" else "")
    codes = every_code(kind)
    photos = codes.astype(np.float32) * np.float32(0.05)
    try:
        (expected,) = run(made, {"x": photos}, level)
    except Exception as error:
        assert "NOT_IMPLEMENTED" in str(error)
        pytest.skip("ONNX Runtime lacks this operator on the CPU: a bug of its own")
    found = interpret(graph, codes.astype("i1" if kind == "s8" else "u1"))[graph.outputs[0]]
    steps = np.rint(expected / np.float32(0.031))
    difference = np.abs(np.rint(found / 0.031) - steps)
    # What float32 computes of exponentials may differ in the last place, which matters beside a half.
    assert difference.max() <= 1
    assert np.count_nonzero(difference) <= 1


def test_a_value_that_others_read_too_is_their_own() -> None:
    """What is between is read by a convolution as well, through a QuantizeLinear of its own."""
    model = Model()
    x = model.stored("x", 0.05)
    raised = model.node("Add", x, model.constant(1.0))
    function = model.stored(model.node("Mul", raised, model.node("Sigmoid", raised)), 0.04)
    other = model.stored(raised, 0.06)
    weight = model.constant(np.full((1, 1, 1, 1), 0.5))
    step = model.constant(0.5)
    quantized = model.node("DequantizeLinear", model.node("QuantizeLinear", weight, step), step)
    model.nodes[-2].input.append("zero_s8")
    model.nodes[-1].input.append("zero_s8")
    layer = model.stored(model.node("Conv", other, quantized), 0.05)
    made = model.made(model.stored(model.node("Add", layer, function), 0.1), (1, 16, 16))
    graph = from_onnx(made).graph
    kinds = [node.op for node in graph]
    assert kinds.count("Table") == 1
    assert sum(isinstance(node, Conv2d) for node in graph) >= 1
    (table,) = (node for node in graph if isinstance(node, Table))
    assert table.inputs == (graph.inputs[0].name,)
    codes = every_code("s8")
    (expected,) = run(made, {"x": codes.astype(np.float32) * np.float32(0.05)}, LEVELS[0])
    found = interpret(graph, codes.astype(np.int8))[graph.outputs[0]]
    assert np.abs(np.rint(found / 0.1) - np.rint(expected / 0.1)).max() <= 1


def test_two_dequantizers_of_one_value_are_one() -> None:
    model = Model()
    x = model.stored("x", 0.05)
    again = model.node("DequantizeLinear", *model.nodes[-1].input)
    made = model.made(model.stored(model.node("Mul", x, model.node("Sigmoid", again)), 0.04), (1, 16, 16))
    assert next(node.op for node in from_onnx(made).graph) == "Table"


@pytest.mark.parametrize("turned", [False, True])
def test_a_gate(turned: bool) -> None:
    """Squeeze and excitation as static quantizers write it, with QuantizeLinear behind every operator."""
    model = Model()
    x = model.stored("x", 0.05)
    mean = model.stored(model.node("GlobalAveragePool", x), 0.02)
    gate = model.stored(model.node("Sigmoid", mean), 1 / 255, "u8")
    product = model.node("Mul", *((gate, x) if turned else (x, gate)))
    made = model.made(model.stored(product, 0.04), (3, 4, 4))
    graph = from_onnx(made).graph
    (node,) = (node for node in graph if isinstance(node, Mul))
    assert [graph.values[name].shape for name in node.inputs] == [(3, 4, 4), (3, 1, 1)]
    assert isinstance(graph.consumers()[node.name][0], Quantize)
    codes = np.random.default_rng(1).integers(-128, 128, (5, 3, 4, 4))
    for level in LEVELS:
        (expected,) = run(made, {"x": codes.astype(np.float32) * np.float32(0.05)}, level)
        found = interpret(graph, codes.astype(np.int8))[graph.outputs[0]]
        difference = np.abs(np.rint(found / 0.04) - np.rint(expected / 0.04))
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 0.02 * difference.size


def test_narrowed_codes_narrow_the_table() -> None:
    model = Model()
    y = model.stored(model.node("Sigmoid", model.stored("x", 0.05)), 1 / 15, "u8")
    quantized, step, zero = model.nodes[-1].input
    clipped = model.node("Clip", quantized, model.constant(0, np.uint8), model.constant(15, np.uint8))
    del y
    made = model.made(model.node("DequantizeLinear", clipped, step, zero), (1, 16, 16))
    (table,) = (node for node in from_onnx(made).graph if isinstance(node, Table))
    assert table.output_type is DType.U4


def refused(model: Model, output: str, why: str, shape: tuple[int, ...] = (1, 16, 16)) -> None:
    with pytest.raises(OnnxImportError, match=why):
        from_onnx(model.made(output, shape))


def test_what_is_refused() -> None:
    model = Model()
    refused(model, model.node("Sigmoid", model.stored("x", 0.05)), "function of one activation that was not quantized")
    model = Model()
    x = model.stored("x", 0.05)
    weight = model.node("DequantizeLinear", model.constant(np.ones((1, 1, 1, 1)), np.int8), model.constant(1.0))
    summed = model.node("Conv", x, weight)
    refused(
        model, model.stored(model.node("Sigmoid", summed), 0.1), r"Sigmoid_\d+: operator Sigmoid is not supported: "
    )
    model = Model()
    x = model.stored("x", 0.05)
    refused(model, model.stored(model.node("Log", x), 0.1), "is not a number for some codes")
    model = Model()
    x = model.stored("x", 0.05)
    product = model.node("Mul", x, model.node("GlobalAveragePool", x))
    refused(
        model, model.stored(product, 0.1), "which was not quantized: put QuantizeLinear and DequantizeLinear before it"
    )
    model = Model()
    x = model.stored("x", 0.05)
    index = model.node("Cast", model.node("Mul", x, model.constant(20.0)), to=TensorProto.INT64)
    refused(
        model, model.stored(model.node("Gather", model.constant(np.ones(100)), index), 0.1), "gathers beyond its 100"
    )
    model = Model()
    half = model.node("Cast", model.stored("x", 0.05), to=TensorProto.INT32)
    refused(model, model.stored(model.node("MaxPool", half, kernel_shape=[2, 2]), 0.1), "a function of one activation")
