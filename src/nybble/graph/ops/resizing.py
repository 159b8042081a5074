"""The ONNX operator Resize: reads its size, and writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nybble.graph.errors import GraphError
from nybble.graph.nodes import Node, Pair
from nybble.graph.ops.forms import Form
from nybble.graph.ops.reading import OnnxNode
from nybble.graph.value_type import MAX_EXTENT, ValueType

#: The version of ONNX operators in which Resize can name its axes.
_AXES_SINCE = 18


def write_resize(
    form: Form, node: Node, source: str, output: str, size: Pair, grid: str, mode: Mapping[str, object]
) -> str:
    """Write a Resize of rows and columns to a size, for any batch; returns its output.

    Parameters
    ----------
    form : Form
    node : Node
    source, output : str
        ONNX values.
    size : Pair
    grid : str
        ``coordinate_transformation_mode``.
    mode : mapping
        Further attributes.
    """
    attributes: dict[str, object] = {"axes": [2, 3]}
    sizes = form.constant(f"{node.name}/size", list(size), np.int64)
    if form.opset < _AXES_SINCE:
        whole = form.constant(f"{node.name}/extents", [form.values[node.inputs[0]].shape[0], *size], np.int64)
        batch = form.node("Shape", [source], f"{node.name}/batch", start=0, end=1)
        attributes, sizes = {}, form.node("Concat", [batch, whole], f"{node.name}/sizes", axis=0)
    return form.node(
        "Resize",
        [source, "", "", sizes],
        output,
        name=node.name,
        coordinate_transformation_mode=grid,
        **mode,
        **attributes,
    )


def resized_to(node: OnnxNode, shape: Sequence[int]) -> Pair | None:
    """The rows and columns of the result of an ONNX Resize of images (C, H, W), ``None`` if they are not integers."""
    if len(shape) != 3:
        return None
    axes = list(node.attribute("axes", [0, 1, 2, 3]))
    extents = np.array([1, *shape])
    if sorted(axes) not in ([0, 1, 2, 3], [2, 3]):
        return None
    given = extents.astype(float)
    if node.inputs(4) == 4:
        made = node.constant(3, "sizes").reshape(-1)
    else:
        made = node.constant(2, "scales").reshape(-1)
        made = made * extents[axes] if made.size == len(axes) else made
    if made.size != len(axes):
        return None
    given[axes] = made
    if np.any(given != np.rint(given)) or given[1] != shape[0]:
        return None
    return Pair(int(given[2]), int(given[3])) if given[2:].min() >= 1 and given[2:].max() <= MAX_EXTENT else None


def scaled_size(name: str, size: Pair, before: ValueType, after: ValueType) -> Pair:
    """The size that a node resizes images of new extents to, by the factors that it had for the old ones.

    Raises
    ------
    GraphError
        If that is not an integer number of rows and columns.
    """
    made = []
    for extent, old, new in zip(size, before.shape[1:], after.shape[1:], strict=True):
        made.append(extent * new // old)
        if extent * new % old:
            raise GraphError(f"resizes {old} to {extent}, which gives no whole number for {new}", node=name)
    return Pair(*made)
