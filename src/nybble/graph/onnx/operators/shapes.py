"""Operators that only rearrange: Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Identity, Pad, Shape."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from nybble.graph.nodes import Padding
from nybble.graph.onnx.constants import MAX_RANK
from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Computed, Constant, Outside, Real, Stored, Value, dims_of
from nybble.graph.ops import Slice
from nybble.graph.value_type import MAX_EXTENT


@reads("Dropout", commutes=True, rearranges=True)
def pass_through(importer: Importing, node: onnx.NodeProto) -> Value:
    """Dropout and the like: the value itself."""
    return importer.value(node, 0)


@reads("Identity", commutes=True, rearranges=True)
def identity(importer: Importing, node: onnx.NodeProto) -> Value:
    """Identity, which may stand for a shortcut's Quantize."""
    found = importer.value(node, 0)
    if not isinstance(found, Real):
        return found
    return importer.build.through(replace(found, through=label(node)))


@reads("Cast", commutes=True, rearranges=True)
def cast(importer: Importing, node: onnx.NodeProto) -> Value:
    """Cast from one float type to another: nothing. Activations are not rounded to float16 on the way."""
    found = importer.value(node, 0)
    if attribute(node, "to", 0) not in (TensorProto.FLOAT, TensorProto.DOUBLE):
        raise OnnxImportError("Cast of an activation to another type than float is not supported", node=label(node))
    return found if isinstance(found, Outside) else importer.real(node, 0)


@reads("Shape")
def shape(importer: Importing, node: onnx.NodeProto) -> Value:
    """Shape of an activation: a constant, whose 0 stands for the batch where that is not fixed."""
    found = importer.value(node, 0)
    if isinstance(found, Computed):
        found = found.root
    if isinstance(found, Constant) or attribute(node, "start", 0) or any(e.name == "end" for e in node.attribute):
        raise OnnxImportError("Shape with start or end is not supported", node=label(node))
    dims = found.shape if isinstance(found, Outside) else _dims(importer, found)
    values = np.asarray([importer.batch or 0, *dims], np.int64)
    return Constant(values, int(TensorProto.INT64), is_symbolic=not importer.batch)


@reads("Flatten", commutes=True, rearranges=True)
def flatten(importer: Importing, node: onnx.NodeProto) -> Value:
    """Flatten."""
    found = _activation(importer, node)
    rank = 1 + len(_dims(importer, found))
    axis = attribute(node, "axis", 1)
    if axis + (rank if axis < 0 else 0) != 1:
        raise OnnxImportError("flattens the batch as well; only axis=1 is supported", node=label(node))
    return replace(found, flat=True)


@reads("Reshape", commutes=True, rearranges=True)
def reshape(importer: Importing, node: onnx.NodeProto) -> Value:
    """Reshape to one dimension an image, to 1x1 images, or to what it was."""
    found = _activation(importer, node)
    if attribute(node, "allowzero", 0) and np.any(importer.constant(node, 1, "shape").real == 0):
        raise OnnxImportError("reshapes to a dimension of 0 (allowzero=1)", node=label(node))
    target = integers(importer, node, 1, "shape")
    dims = _dims(importer, found)
    made = [dims[index - 1] if size == 0 and 1 <= index <= len(dims) else size for index, size in enumerate(target)]
    first, rest = (made[0], made[1:]) if made else (1, [])
    if rest.count(-1) == 1 and first != -1:
        known = math.prod(size for size in rest if size != -1)
        rest[rest.index(-1)] = math.prod(dims) // known if known > 0 else 0
    if first not in (-1, 0, 1, importer.batch) or min(rest, default=0) < 1 or math.prod(rest) != math.prod(dims):
        raise OnnxImportError(
            f"reshapes {(importer.batch or 'N', *dims)} to {target[:6]}; only (N, all) is supported", node=label(node)
        )
    return _reshaped(importer, node, found, tuple(rest))


@reads("Squeeze", commutes=True, rearranges=True)
def squeeze(importer: Importing, node: onnx.NodeProto) -> Value:
    """Squeeze of rows and columns of 1x1 images."""
    found = _activation(importer, node)
    dims = _dims(importer, found)
    axes = integers(importer, node, 1, "axes")
    if not axes and importer.batch == 1:
        raise OnnxImportError("squeezes the batch as well; name its axes", node=label(node))
    if not axes:
        axes = [axis + 1 for axis, size in enumerate(dims) if size == 1]
    gone = {axis + (len(dims) + 1 if axis < 0 else 0) for axis in axes}
    if not all(1 <= axis <= len(dims) and dims[axis - 1] == 1 for axis in gone):
        raise OnnxImportError("squeezes something else than 1x1 images", node=label(node))
    return _reshaped(importer, node, found, tuple(size for axis, size in enumerate(dims, 1) if axis not in gone))


@reads("Unsqueeze", commutes=True, rearranges=True)
def unsqueeze(importer: Importing, node: onnx.NodeProto) -> Value:
    """Unsqueeze that makes 1x1 images again of what was flattened."""
    found = _activation(importer, node)
    dims = list(_dims(importer, found))
    axes = integers(importer, node, 1, "axes")
    rank = 1 + len(dims) + len(axes)
    for axis in sorted(axis + (rank if axis < 0 else 0) for axis in axes):
        if not 1 <= axis <= len(dims) + 1:
            raise OnnxImportError(f"axes {axes[:6]}: only behind the batch", node=label(node))
        dims.insert(axis - 1, 1)
    return _reshaped(importer, node, found, tuple(dims))


def _reshaped(importer: Importing, node: onnx.NodeProto, found: Real | Stored, dims: tuple[int, ...]) -> Value:
    old = importer.build.types[found.value].shape
    if dims == _dims(importer, found):
        return found
    if len(dims) == 1:
        return replace(found, flat=True)
    if len(old) == 3 and (dims == old and (found.layout is None or old[1:] == (1, 1))):
        # Back from one dimension.
        return replace(found, flat=False, layout=None)
    raise OnnxImportError(
        f"reshapes {_dims(importer, found)} to {dims}; only to one dimension is supported", node=label(node)
    )


@reads("Transpose", commutes=True, rearranges=True)
def transpose(importer: Importing, node: onnx.NodeProto) -> Value:
    """Transpose of images: recorded until a Flatten, behind which the weights are reordered.

    A Transpose that moves the last dimension of the input to the front means that the file takes channels last; the
    graph then takes them first.
    """
    found = importer.value(node, 0)
    if not isinstance(found, Outside):
        found = _activation(importer, node)
    dims = dims_of(found, found.shape) if isinstance(found, Outside) else _dims(importer, found)
    order = attribute(node, "perm", list(range(len(dims) + 1))[::-1])
    if sorted(order) != list(range(len(dims) + 1)) or order[0] != 0:
        raise OnnxImportError(f"Transpose by {order[:6]} mixes the batch with the images", node=label(node))
    if len(dims) != 3:
        return found
    if order == [0, 3, 1, 2] and found.layout is None:
        turned = _turned(importer, found)
        if turned is not None:
            return turned
    if not isinstance(found, Outside) and found.padding is not None:
        raise OnnxImportError("a Pad before Transpose is not supported", node=label(node))
    before = found.layout or (0, 1, 2)
    rows, columns, last = (before[axis - 1] for axis in order[1:])
    layout = (rows, columns, last)
    return replace(found, layout=None if layout == (0, 1, 2) else layout)


def _turned(importer: Importing, found: Outside | Stored | Real) -> Outside | Stored | Real | None:
    """The input with its channels first, if it is the input."""
    if isinstance(found, Outside):
        if len(importer.readers.get(found.name, [])) > 1:
            return None
        importer.channels_last.add(found.name)
        return replace(found, shape=(found.shape[2], *found.shape[:2]))
    entry = next((entry for entry in importer.build.inputs if entry.name == found.value), None)
    if entry is None or found.padding is not None or not importer.build.is_free(found.value):
        return None
    importer.channels_last.add(entry.name)
    shape = (entry.shape[2], *entry.shape[:2])
    importer.build.reshape_input(entry, shape)
    if isinstance(found, Stored):
        return found
    return replace(found, unit=np.full(shape[0], found.unit[0]))


@reads("Pad")
def pad(importer: Importing, node: onnx.NodeProto) -> Value:
    """Pad of rows and columns, which is merged into the convolution or pool behind."""
    found = importer.value(node, 0)
    name = label(node)
    if (
        not isinstance(found, Real | Stored)
        or found.padding is not None
        or found.flat
        or found.layout is not None
        or attribute(node, "mode", b"constant") != b"constant"
    ):
        raise OnnxImportError("only a constant Pad of an activation is supported", node=name)
    filling = 0.0
    if importer.has(node, 2):
        values = importer.constant(node, 2, "filling").real
        if values.size != 1 or np.isnan(values).any():
            raise OnnxImportError("its filling is not one number", node=name)
        filling = float(values.reshape(-1)[0])
    elif any(entry.name == "value" for entry in node.attribute):
        filling = attribute(node, "value", 0.0)
    pads = _sides(importer, node)
    if any(pads[:2]) or any(pads[4:6]):
        raise OnnxImportError(f"pads {pads}: only rows and columns of images can be padded", node=name)
    if min(pads) < -MAX_EXTENT or max(pads) > MAX_EXTENT:
        raise OnnxImportError(f"pads {pads} are not in {-MAX_EXTENT}..{MAX_EXTENT}", node=name)
    if min(pads) < 0:
        found = _cut(importer, node, found, pads)
    if isinstance(found, Stored):
        filling -= found.zero
    around = Padding(*(max(0, pads[side]) for side in (2, 3, 6, 7)))
    return replace(found, padding=around, filling=filling) if any(around) else found


def _sides(importer: Importing, node: onnx.NodeProto) -> list[int]:
    """What a Pad adds before and behind each of the four axes."""
    pads = integers(importer, node, 1, "pads")
    axes = [axis % 4 for axis in integers(importer, node, 3, "axes")] if importer.has(node, 3) else [0, 1, 2, 3]
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise OnnxImportError(f"pads {pads[:8]}: not two sides for each axis", node=label(node))
    found = [0] * 8
    for place, axis in enumerate(axes):
        found[axis], found[axis + 4] = pads[place], pads[place + len(axes)]
    return found


def _cut(importer: Importing, node: onnx.NodeProto, found: Real | Stored, pads: list[int]) -> Real | Stored:
    """An activation without the rows and columns that a Pad by less than 0 cuts off."""
    build = importer.build
    kind = build.types[found.value]
    if len(kind.shape) != 3 or (isinstance(found, Real) and not found.is_stored):
        raise OnnxImportError("a Pad that cuts off must read a quantized image", node=label(node))
    start = (0, max(0, -pads[2]), max(0, -pads[3]))
    stop = (kind.shape[0], kind.shape[1] + min(0, pads[6]), kind.shape[2] + min(0, pads[7]))
    if any(first >= end for first, end in zip(start, stop, strict=True)):
        raise OnnxImportError(f"pads {pads} leave nothing of {kind.shape}", node=label(node))
    made = Slice(
        name=build.free(f"{label(node)}_cut"),
        inputs=(found.value,),
        input_type=kind.dtype,
        start=start,
        stop=stop,
        step=(1, 1, 1),
    )
    return replace(found, value=build.add(made))


def integers(importer: Importing, node: onnx.NodeProto, index: int, name: str) -> list[int]:
    """A short list of integers: an input, in older operator sets an attribute; empty if there is neither."""
    if not importer.has(node, index):
        return attribute(node, name, [0][:0])
    values = importer.constant(node, index, name).real
    if values.dtype.kind not in "iu" or values.size > MAX_RANK:
        raise OnnxImportError(f"its {name} is not a short list of integers", node=label(node))
    return [int(value) for value in values.reshape(-1)]


def _activation(importer: Importing, node: onnx.NodeProto) -> Real | Stored:
    found = importer.value(node, 0)
    return found if isinstance(found, Stored) else importer.real(node, 0)


def _dims(importer: Importing, found: Real | Stored) -> tuple[int, ...]:
    return dims_of(found, importer.build.types[found.value].shape)
