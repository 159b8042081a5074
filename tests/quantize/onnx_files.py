"""ONNX files of small classifiers, written node by node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nybble.graph.types import Array

#: (C, H, W) of the images.
SHAPE = (3, 13, 12)


class File:
    """A graph under construction; ``last`` is the value that the next node reads."""

    def __init__(self, seed: int = 0, opset: int = 17, shape: Sequence[int | str] = ("N", *SHAPE)) -> None:
        self.random = np.random.default_rng(seed)
        self.opset = opset
        self.shape = list(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = "image"
        self.rank = 4

    def constant(self, values: object, kind: type = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, kind), name))
        return name

    def drawn(self, *shape: int, low: float = -0.5, high: float = 0.5) -> str:
        return self.constant(self.random.uniform(low, high, shape))

    def node(self, op: str, *inputs: str, first: bool = True, **attributes: object) -> str:
        """A node that reads the last value before its other inputs, or only those; it makes the last value."""
        name = f"{op.lower()}{len(self.nodes)}"
        sources = [self.last, *inputs] if first else list(inputs)
        self.nodes.append(helper.make_node(op, sources, [f"{name}_out"], name=name, **attributes))
        self.last = f"{name}_out"
        if op in ("Flatten", "Reshape", "Squeeze", "Gemm", "MatMul") or attributes.get("keepdims") == 0:
            self.rank = 2
        return self.last

    def conv(self, inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), **attributes: object) -> str:
        groups = attributes.get("group", 1)
        weight = self.drawn(outputs, inputs // groups, *kernel)  # type: ignore[operator]
        return self.node("Conv", weight, self.drawn(outputs), **attributes)

    def head(self, features: int, classes: int = 5) -> None:
        """Flattening and a layer."""
        self.node("Flatten")
        self.node("Gemm", self.drawn(classes, features), self.drawn(classes), transB=1)

    def proto(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "drawn",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [f"d{i}" for i in range(self.rank)])],
            self.constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def save(self, path: Path) -> Path:
        onnx.save(self.proto(), str(path))
        return path


def images(count: int = 3, shape: Sequence[int] = SHAPE) -> Array:
    """(count, C, H, W) float32."""
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)
