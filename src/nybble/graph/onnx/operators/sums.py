"""Add, Sub and Sum: of values of the network, or with constants."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.halves import simple_ratio
from nybble.graph.onnx.load import label
from nybble.graph.onnx.operators import affine
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.pooling import moves_halves_alone
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.values import Constant, Real, Value
from nybble.graph.ops import Add
from nybble.graph.types import Array

#: Factor by which a sum of two activations is finer than its inputs, so that the rounding of each is small.
ADDED_UNITS = 64


@reads("Add")
def add(importer: Importing, node: onnx.NodeProto) -> Value:
    """Add of two values, or of one and a constant."""
    for index in (0, 1):
        constant, other = importer.value(node, index), importer.value(node, 1 - index)
        if isinstance(constant, Constant):
            if isinstance(other, Real) and moves_halves_alone(importer.build, other, constant):
                return other
            return affine.add_constant(importer, node)
    return _sum(importer, node, importer.real(node, 0), importer.real(node, 1))


@reads("Sub")
def subtract(importer: Importing, node: onnx.NodeProto) -> Value:
    """Sub of two values, or with a constant on either side."""
    if any(isinstance(importer.value(node, index), Constant) for index in (0, 1)):
        return affine.subtract_constant(importer, node)
    right = importer.real(node, 1)
    return _sum(importer, node, importer.real(node, 0), affine.scaled(importer, node, right, -np.ones_like(right.unit)))


@reads("Sum")
def total(importer: Importing, node: onnx.NodeProto) -> Value:
    """Sum of any number of values."""
    made = importer.real(node, 0)
    for index in range(1, len(node.input)):
        made = _sum(importer, node, made, importer.real(node, index))
    return made


def _sum(importer: Importing, node: onnx.NodeProto, first: Real, second: Real) -> Real:
    build, name = importer.build, label(node)
    left, right = (build.settle(real, name) for real in (first, second))
    if build.types[left.value].shape != build.types[right.value].shape:
        shapes_of = " and ".join(str(("N", *build.types[real.value].shape)) for real in (left, right))
        raise OnnxImportError(
            f"adds values of the shapes {shapes_of}; only values of one shape can be added", node=name
        )
    if (left.flat, left.layout) != (right.flat, right.layout):
        raise OnnxImportError("adds values whose dimensions are in another order", node=name)
    sums = [real for real in (left, right) if real.is_sum]
    # A shortcut's Quantize makes a sum in the unit of the other; in files of somebody else the finer unit is kept.
    sums.sort(key=lambda real: real.through is not None if build.is_ours else float(np.median(real.unit)))
    unit = sums[0].unit if sums else _common(build.is_ours, left.unit, right.unit)
    sides = []
    for real, side in ((left, "left"), (right, "right")):
        # Both sides need names of their own where both are requantized.
        named = real if sums else replace(real, through=real.through or f"{name}_{side}")
        sides.append(build.to_sum(named, unit, name))
    made = build.add(Add(name=build.free(name), inputs=(sides[0], sides[1])))
    return Real(made, unit, True, flat=left.flat, layout=left.layout)


def _common(is_ours: bool, left: Array, right: Array) -> Array:
    """A unit for the sum of two activations: one that both are multiples of, else a fine one."""
    ratio = None if is_ours else simple_ratio(left, right)
    if ratio is not None and ratio.numerator <= ADDED_UNITS:
        return right / ratio.denominator
    return np.full(left.shape, max(left.max(), right.max()) / ADDED_UNITS)
