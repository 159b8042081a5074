"""The float ONNX model as a PyTorch module. Loaded by the worker alone: nothing else here needs torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional

_TYPES = {onnx.TensorProto.FLOAT: torch.float32, onnx.TensorProto.INT32: torch.int32}


class OnnxModule(torch.nn.Module):
    """Runs the operators that :mod:`nybble.graph.onnx.float_form` writes, one after the other; made to be traced."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._graph = model.graph
        self._constants = {}
        for entry in self._graph.initializer:
            self._constants[entry.name] = torch.from_numpy(np.array(numpy_helper.to_array(entry)))
        self._arguments = [
            {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute} for node in self._graph.node
        ]

    def forward(self, photos: Any) -> Any:
        """Logits of float32 (N, C, H, W) photos."""
        values = {**self._constants, self._graph.input[0].name: photos}
        for node, arguments in zip(self._graph.node, self._arguments, strict=True):
            inputs = [values[name] for name in node.input]
            values[node.output[0]] = _run(node.op_type, inputs, arguments)
        return values[self._graph.output[0].name]


def load_onnx(path: str) -> OnnxModule:
    """Read a float model."""
    return OnnxModule(onnx.load(path))


def _run(op: str, inputs: list[Any], given: dict[str, Any]) -> Any:
    first = inputs[0]
    match op:
        case "Conv":
            padded, padding = _padded(first, given["pads"], 0.0)
            bias = inputs[2] if len(inputs) > 2 else None
            stride, dilation, groups = given["strides"], given["dilations"], given["group"]
            return functional.conv2d(padded, inputs[1], bias, stride, padding, dilation, groups)
        case "MaxPool":
            padded, padding = _padded(first, given["pads"], float("-inf"))
            kernel, stride, dilation = given["kernel_shape"], given["strides"], given["dilations"]
            return functional.max_pool2d(padded, kernel, stride, padding, dilation, bool(given["ceil_mode"]))
        case "AveragePool":
            top, left, bottom, right = given["pads"]
            if (top, left) != (bottom, right):
                raise ValueError("an average pool with uneven padding is not supported here")
            counted = bool(given["count_include_pad"])
            return functional.avg_pool2d(
                first, given["kernel_shape"], given["strides"], (top, left), count_include_pad=counted
            )
        case "Clip":
            return torch.clamp(first, float(inputs[1]), float(inputs[2]))
        case "Gemm":
            return torch.addmm(inputs[2], first, inputs[1])
        case "GlobalAveragePool":
            return first.mean((2, 3), keepdim=True)
        case _:
            simple = {
                "Add": lambda: first + inputs[1],
                "Concat": lambda: torch.cat(inputs, 1),
                "Mul": lambda: first * inputs[1],
                "Max": lambda: torch.maximum(first, inputs[1]),
                "Min": lambda: torch.minimum(first, inputs[1]),
                "Relu": lambda: torch.relu(first),
                "Round": lambda: torch.round(first),
                "Cast": lambda: first.to(_TYPES[given["to"]]),
                "Gather": lambda: first[inputs[1].long()],
                "Flatten": lambda: torch.flatten(first, 1),
                "Identity": lambda: first,
            }
            if op not in simple:
                raise ValueError(f"{op} is not supported here")
            return simple[op]()


def _padded(value: Any, pads: list[int], filling: float) -> tuple[Any, tuple[int, int]]:
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return value, (top, left)
    return functional.pad(value, (left, right, top, bottom), value=filling), (0, 0)
