"""A max pool as every ONNX runtime computes it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nybble.graph.infer import ValueType
from nybble.graph.nodes import MaxPool2d, Padding
from nybble.graph.onnx.writer import Writer


def max_pool(writer: Writer, node: MaxPool2d, source: str, values: Mapping[str, ValueType], output: str) -> str:
    """Write a MaxPool whose windows are padded explicitly: runtimes disagree about ceil mode.

    Padding that a runtime refuses, as wide as the kernel (a dilated one), becomes a Pad with the lowest float.
    """
    shape, made = values[node.inputs[0]].shape, values[node.name].shape
    after = []
    for axis, before, given in ((0, node.padding.top, node.padding.bottom), (1, node.padding.left, node.padding.right)):
        end = (made[axis + 1] - 1) * node.stride[axis] + node.dilation[axis] * (node.kernel_size[axis] - 1) + 1
        after.append(max(given, end - before - shape[axis + 1]))
    padding = Padding(node.padding.top, node.padding.left, *after)
    if any(pad >= kernel for pad, kernel in zip(padding, node.kernel_size * 2, strict=True)):
        pads = writer.constant(
            f"{node.name}/pads", [0, 0, padding.top, padding.left, 0, 0, padding.bottom, padding.right], np.int64
        )
        lowest = writer.constant(f"{node.name}/lowest", np.finfo(np.float32).min)
        source = writer.node("Pad", [source, pads, lowest], f"{node.name}/padded")
        padding = Padding()
    return writer.node(
        "MaxPool",
        [source],
        output,
        name=node.name,
        kernel_shape=list(node.kernel_size),
        strides=list(node.stride),
        pads=list(padding),
        dilations=list(node.dilation),
        ceil_mode=0,
    )
