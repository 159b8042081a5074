"""Parts of an imported model's activations: Split."""

from __future__ import annotations

from dataclasses import replace

import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.operators.shapes import integers
from nybble.graph.onnx.values import Real, Value
from nybble.graph.ops import Slice


@reads("Split")
def split(importer: Importing, node: onnx.NodeProto) -> Value:
    """Split of channels, rows or columns: a Slice for each output that is read. The first is returned."""
    real = importer.activation(node, 0)
    shape = importer.build.types[real.value].shape
    if len(shape) != 3 or real.flat or real.layout is not None:
        raise OnnxImportError("splits something else than images (N, C, H, W)", node=label(node))
    axis = attribute(node, "axis", 0) % 4 - 1
    if axis < 0:
        raise OnnxImportError("splits the batch", node=label(node))
    sizes = integers(importer, node, 1, "split") or _even(shape[axis], len(node.output))
    if len(sizes) != len(node.output) or min(sizes) < 1 or sum(sizes) != shape[axis]:
        raise OnnxImportError(f"cannot split {shape[axis]} into parts of {sizes[:8]}", node=label(node))
    found: list[Real] = []
    first = 0
    for name, size in zip(node.output, sizes, strict=True):
        made = _part(importer, node, real, axis, range(first, first + size), bool(found))
        if len(importer.readers.get(name, [])) > 1 or name in importer.outputs:
            importer.build.shared.add(made.value)
        if name:
            importer.values[name] = made
        found.append(made)
        first += size
    return found[0]


def _even(extent: int, count: int) -> list[int]:
    """As many equal parts as there are outputs; the last may be smaller."""
    size = -(-extent // max(1, count))
    return [max(0, min(size, extent - first * size)) for first in range(count)]


def _part(importer: Importing, node: onnx.NodeProto, real: Real, axis: int, part: range, is_later: bool) -> Real:
    build = importer.build
    dtype, shape = build.types[real.value].dtype, build.types[real.value].shape
    start, stop = [0, 0, 0], list(shape)
    start[axis], stop[axis] = part.start, part.stop
    name = f"{label(node)}_{part.start}" if is_later else label(node)
    made = Slice(
        name=build.free(name),
        inputs=(real.value,),
        input_type=dtype,
        start=(start[0], start[1], start[2]),
        stop=(stop[0], stop[1], stop[2]),
        step=(1, 1, 1),
    )
    unit = real.unit[part.start : part.stop] if axis == 0 else real.unit
    return replace(real, value=build.add(made), unit=unit, through=None)
