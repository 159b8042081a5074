"""Small QDQ models as other tools write them, and their codes in ONNX Runtime and as imported graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from saturation import saturates

from nybble.engine import Engine
from nybble.graph.onnx import Import, from_onnx
from nybble.graph.types import Array
from nybble.reference import interpret

#: The ONNX name of a type: NumPy's type, least and largest value.
TYPES: dict[str, tuple[type[np.generic], int, int]] = {"u8": (np.uint8, 0, 255), "s8": (np.int8, -128, 127)}
INPUT_SCALE = 1 / 48
#: Without and with graph optimisations, where the latter can be compared.
LEVELS = (False,) if saturates() else (False, True)


class Net:
    """A model being written: every method returns the name of what it makes."""

    def __init__(
        self, shape: tuple[int, ...] = (4, 8, 8), *, seed: int = 0, batch: int | str = "N", opset: int = 17
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.batch, self.opset = shape, batch, opset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: Any, dtype: Any = np.float32, *, as_node: bool = False) -> str:
        """An initializer, or a Constant node."""
        name = f"c{len(self.constants) + len(self.nodes)}"
        tensor = numpy_helper.from_array(np.asarray(values, dtype), name)
        if as_node:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.constants.append(tensor)
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{name}_node", **attributes))
        return name

    def qdq(
        self, value: str, scale: Any, kind: str = "s8", *, clip: tuple[int, int] | None = None, axis: int = 1
    ) -> str:
        """QuantizeLinear, perhaps Clip, DequantizeLinear."""
        dtype = TYPES[kind][0]
        scales = np.asarray(scale, np.float32)
        names = [self.constant(scales), self.constant(np.zeros_like(scales), dtype)]
        options = {"axis": axis} if scales.ndim else {}
        stored = self.node("QuantizeLinear", value, *names, **options)
        if clip is not None:
            stored = self.node("Clip", stored, *(self.constant(bound, dtype) for bound in clip))
        return self.node("DequantizeLinear", stored, *names, **options)

    def input(self, kind: str = "s8") -> str:
        return self.qdq("input", INPUT_SCALE, kind)

    def weight(self, *shape: int, axis: int = 0, limit: int = 127, scale: Any = None) -> str:
        """Integers with a scale for each output channel."""
        integers = self.rng.integers(-limit, limit + 1, shape)
        scales = self.rng.uniform(0.5, 1.5, shape[axis]) / limit / 3 if scale is None else scale
        names = [self.constant(integers, np.int8), self.constant(scales), self.constant(np.zeros(shape[axis]), np.int8)]
        return self.node("DequantizeLinear", *names, axis=axis)

    def conv(self, value: str, outputs: int, inputs: int, kernel: int = 3, *, bias: bool = True, **options: Any) -> str:
        group = options.get("group", 1)
        names = [value, self.weight(outputs, inputs // group, kernel, kernel)]
        if bias:
            names.append(self.constant(self.rng.normal(size=outputs) * 0.3))
        options.setdefault("pads", [kernel // 2] * 4)
        return self.node("Conv", *names, **options)

    def model(self, *outputs: str) -> Any:
        entry = helper.make_tensor_value_info("input", TensorProto.FLOAT, [self.batch, *self.shape])
        found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", [entry], found, self.constants)
        opset = helper.make_opsetid("", self.opset)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="test")

    def photos(self, count: int = 6) -> Array:
        count = self.batch if isinstance(self.batch, int) else count
        # Channels differ, so that averages do.
        middle = np.linspace(-1, 1, self.shape[0]).reshape(-1, *(1,) * (len(self.shape) - 1))
        photos: Array = (self.rng.normal(size=(count, *self.shape)) + middle).astype(np.float32)
        return photos


def in_onnxruntime(model: Any, photos: Array, *, is_optimised: bool) -> Array:
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if is_optimised else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"input": photos})[0]
    return found


def imported(model: Any, photos: Array) -> tuple[Array, Import]:
    """The first output of the imported graph, and what the import says."""
    made = from_onnx(model)
    (entry,) = made.graph.inputs
    assert made.input_scale is not None
    codes = np.clip(np.rint(photos / np.float32(made.input_scale)), entry.dtype.minimum, entry.dtype.maximum)
    stored = codes.astype(entry.dtype.storage)
    found = interpret(made.graph, stored)[made.graph.outputs[0]]
    with Engine(made.graph, threads=1, tuned=False) as engine:
        np.testing.assert_array_equal(engine.run_integer(stored).reshape(found.shape), found)
    return found.reshape(len(photos), -1), made


def assert_same_codes(
    model: Any, photos: Array, scale: Any, *, most: float = 0.02, levels: tuple[bool, ...] = LEVELS, by: int = 1
) -> Import:
    """Codes are those of ONNX Runtime, but for ``most`` of them by one rounding.

    ``scale`` is that of the last QuantizeLinear.
    """
    found, made = imported(model, photos)
    for is_optimised in levels:
        wanted = in_onnxruntime(model, photos, is_optimised=is_optimised)
        steps = np.asarray(scale, np.float64)
        if steps.ndim:
            steps = np.broadcast_to(steps.reshape(-1, *(1,) * (wanted.ndim - 2)), wanted.shape[1:]).reshape(-1)
        wanted = wanted.reshape(len(photos), -1)
        assert len(np.unique(wanted)) > 4, "the test says nothing"
        difference = np.abs(np.rint(found / steps) - np.rint(wanted / steps))
        assert difference.max() <= by, (is_optimised, difference.max(), made.roundings)
        assert np.mean(difference > 0) <= most, (is_optimised, np.mean(difference > 0), made.roundings)
    return made
