"""Relu, Clip, Max and Min. Their bounds stay pending until the QuantizeLinear behind, which often implies them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.affine import per_channel
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Constant, Real, Stored, Value
from nybble.graph.types import Array


@reads("Relu", commutes=True)
def relu(importer: Importing, node: onnx.NodeProto) -> Value:
    """Relu, of real numbers or of integers."""
    return _between(importer, node, 0, np.zeros(()), None)


@reads("Clip", commutes=True)
def clip(importer: Importing, node: onnx.NodeProto) -> Value:
    """Clip with one bound or two, as inputs or attributes."""
    bounds: list[Array | None] = [None, None]
    for index, name in ((0, "min"), (1, "max")):
        if importer.has(node, index + 1):
            bounds[index] = importer.constant(node, index + 1, name).real
        elif any(entry.name == name for entry in node.attribute):
            bounds[index] = np.asarray(attribute(node, name, 0.0))
    return _between(importer, node, 0, *bounds)


@reads("Max", commutes=True)
def maximum(importer: Importing, node: onnx.NodeProto) -> Value:
    """Max of a value and constants."""
    index, bound = _operands(importer, node)
    return _between(importer, node, index, bound, None)


@reads("Min", commutes=True)
def minimum(importer: Importing, node: onnx.NodeProto) -> Value:
    """Min of a value and constants."""
    index, bound = _operands(importer, node)
    return _between(importer, node, index, None, bound)


def _operands(importer: Importing, node: onnx.NodeProto) -> tuple[int, Array | None]:
    """The place of the one operand that is not a constant, and the bound that the others make."""
    values = [importer.value(node, index) for index in range(len(node.input))]
    places = [index for index, value in enumerate(values) if not isinstance(value, Constant)]
    if len(places) != 1:
        raise OnnxImportError(
            f"{node.op_type} of {len(places)} values of the network is not supported, only of one and constants",
            node=label(node),
        )
    bounds = [value.real for value in values if isinstance(value, Constant)]
    if len(bounds) > 1 and any(bound.size != 1 for bound in bounds):
        raise OnnxImportError(f"{node.op_type} of several lists of bounds is not supported", node=label(node))
    if len(bounds) == 1:
        return places[0], bounds[0]
    numbers = [float(bound.reshape(-1)[0]) for bound in bounds]
    if not numbers:
        return places[0], None
    return places[0], np.asarray(max(numbers) if node.op_type == "Max" else min(numbers))


def _between(importer: Importing, node: onnx.NodeProto, index: int, low: Array | None, high: Array | None) -> Value:
    found = importer.value(node, index)
    if isinstance(found, Stored):
        return _integers(importer, node, found, index, low, high)
    real = importer.real(node, index)
    if low is not None:
        real = _raised(importer, node, real, low)
    return real if high is None else _lowered(importer, node, real, high)


def _integers(
    importer: Importing, node: onnx.NodeProto, found: Stored, index: int, low: Array | None, high: Array | None
) -> Stored:
    held = importer.build.types[found.value].dtype
    sides = []
    for bound, default in ((low, held.minimum), (high, held.maximum)):
        if bound is None:
            sides.append(default)
            continue
        if bound.size != 1 or bound.dtype.kind not in "iuf" or not np.all(np.isfinite(bound)):
            raise OnnxImportError("its bound is not one number", node=label(node))
        # Relu of integers clips at the integer 0, for any zero point.
        sides.append(int(bound.reshape(-1)[0]) - found.zero)
    is_only = importer.reads_only(node.input[index], node)
    return replace(found, value=importer.build.narrow(found.value, sides[0], sides[1], is_only, label(node)))


def _raised(importer: Importing, node: onnx.NodeProto, real: Real, bound: Array) -> Real:
    low = _bound(importer, node, real, bound, -np.inf)
    if low is None:
        return real
    high = None if real.high is None else np.maximum(real.high, low)
    before = np.zeros_like(low) if real.relu is not None else real.low
    least = low if before is None else np.maximum(low, before)
    if np.all(least == 0):
        return replace(real, relu=real.relu or label(node), low=None, high=high)
    return replace(real, relu=None, low=least, high=high, clip=label(node))


def _lowered(importer: Importing, node: onnx.NodeProto, real: Real, bound: Array) -> Real:
    high = _bound(importer, node, real, bound, np.inf)
    if high is None:
        return real
    least = np.zeros_like(high) if real.relu is not None and np.any(high < 0) else real.low
    low = None if least is None else np.minimum(least, high)
    relu = None if low is not None and np.any(low < 0) else real.relu
    most = high if real.high is None else np.minimum(high, real.high)
    return replace(real, high=most, low=low, relu=relu, clip=label(node))


def _bound(importer: Importing, node: onnx.NodeProto, real: Real, bound: Array, none: float) -> Array | None:
    """A bound as (channels); ``None`` if it bounds nothing."""
    if np.all(np.sign(none) * bound.astype(np.float64) >= np.finfo(np.float32).max):
        return None
    return per_channel(importer, node, real, bound)
