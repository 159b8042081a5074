"""Multiplications by constants, additions of constants, and BatchNormalization.

A positive factor only changes the unit, so it is exact. A negative one inverts the weights before it; a constant that
is added is merged into the bias. Both need a separate node if there is no convolution or matrix product to merge them
into.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from nybble.graph.onnx.errors import OnnxImportError
from nybble.graph.onnx.load import attribute, label
from nybble.graph.onnx.operators.importing import Importing
from nybble.graph.onnx.operators.registry import reads
from nybble.graph.onnx.splitting import moved
from nybble.graph.onnx.values import Constant, Real, Value, are_same, channel_axis
from nybble.graph.types import Array


@reads("Mul")
def multiply(importer: Importing, node: onnx.NodeProto) -> Value:
    """Mul by a constant, in either order."""
    index = 0 if isinstance(importer.value(node, 0), Constant) else 1
    factor = importer.constant(node, index, "factor").real
    real = importer.real(node, 1 - index)
    return scaled(importer, node, real, per_channel(importer, node, real, factor))


@reads("Div")
def divide(importer: Importing, node: onnx.NodeProto) -> Value:
    """Div by a constant."""
    divisor = importer.constant(node, 1, "divisor").real.astype(np.float64)
    if np.any(divisor == 0):
        raise OnnxImportError("divides by 0", node=label(node))
    real = importer.real(node, 0)
    made = scaled(importer, node, real, 1.0 / per_channel(importer, node, real, divisor))
    if (
        importer.build.hint(label(node)).other.get("scale") is True
        and not importer.build.types[made.value].dtype.is_float
    ):
        return importer.build.scaled(made, label(node))
    return made


@reads("Neg")
def negate(importer: Importing, node: onnx.NodeProto) -> Value:
    """Neg."""
    real = importer.real(node, 0)
    return scaled(importer, node, real, -np.ones_like(real.unit))


def add_constant(importer: Importing, node: onnx.NodeProto) -> Value:
    """Add of a constant, in either order."""
    index = 0 if isinstance(importer.value(node, 0), Constant) else 1
    constant = importer.constant(node, index, "summand")
    real = importer.real(node, 1 - index)
    if not real.is_cut and constant.integers is not None and constant.scale is not None:
        scale = per_channel(importer, node, real, constant.scale)
        if are_same(scale, real.unit):
            # A bias that counts in steps of the sums.
            steps = per_channel(importer, node, real, constant.integers)
            return _offset_steps(importer, node, real, steps)
    return offset(importer, node, real, per_channel(importer, node, real, constant.real))


def subtract_constant(importer: Importing, node: onnx.NodeProto) -> Value:
    """Sub with a constant on either side."""
    index = 0 if isinstance(importer.value(node, 0), Constant) else 1
    real = importer.real(node, 1 - index)
    number = per_channel(importer, node, real, importer.constant(node, index, "operand").real)
    if index == 1:
        return offset(importer, node, real, -number)
    return offset(importer, node, scaled(importer, node, real, -np.ones_like(number)), number)


@reads("BatchNormalization")
def batch_normalization(importer: Importing, node: onnx.NodeProto) -> Value:
    """BatchNormalization as it is used: a factor and a summand for each channel."""
    real = importer.real(node, 0)
    shape = importer.build.types[real.value].shape
    if attribute(node, "training_mode", 0) or channel_axis(real, shape) != 1:
        raise OnnxImportError("is in training mode, or not over channels: export it in eval mode", node=label(node))
    names = ("scale", "bias", "mean", "variance")
    given = [importer.constant(node, index, name).real.astype(np.float64) for index, name in enumerate(names, 1)]
    if any(values.shape != (shape[0],) or not np.all(np.isfinite(values)) for values in given):
        raise OnnxImportError(f"its parameters are not {shape[0]} finite numbers each", node=label(node))
    gain, bias, mean, variance = given
    deviation = variance + attribute(node, "epsilon", 1e-5)
    if np.any(deviation <= 0):
        raise OnnxImportError("its variance is not above 0", node=label(node))
    factor = gain / np.sqrt(deviation)
    made = scaled(importer, node, real, factor)
    return offset(importer, node, made, bias - mean * factor)


def scaled(importer: Importing, node: onnx.NodeProto, real: Real, factor: Array) -> Real:
    """A value times one factor per channel."""
    build, name = importer.build, label(node)
    is_last = not importer.readers.get(node.output[0]) and np.all(factor != 0)
    if np.all(factor > 0) or is_last:
        if real.is_cut and not build.is_ours and not is_last:
            # The bounds stay pending.
            high = None if real.high is None else real.high * factor
            low = None if real.low is None else real.low * factor
            return replace(real, unit=real.unit * factor, high=high, low=low, through=name)
        settled = build.settle(real, name)
        return build.through(replace(settled, unit=settled.unit * factor, through=name))
    settled = build.settle(real, name)
    turned = moved(build, settled, np.sign(factor).astype(np.int64), np.zeros_like(factor), name)
    return replace(turned, unit=alive(turned.unit * np.abs(factor)))


def offset(importer: Importing, node: onnx.NodeProto, real: Real, number: Array) -> Real:
    """A value plus one number per channel."""
    if not np.any(number):
        return real
    return _offset_steps(importer, node, real, number / real.unit)


def _offset_steps(importer: Importing, node: onnx.NodeProto, real: Real, steps: Array) -> Real:
    build, name = importer.build, label(node)
    if real.padding is not None:
        raise OnnxImportError("a Pad before it is not supported", node=name)
    if real.is_cut:
        # Adding after a clip equals clipping, at moved bounds, after adding.
        number = steps * real.unit
        bottom = np.zeros_like(number) if real.relu is not None else real.low
        low = None if bottom is None else bottom + number
        high = None if real.high is None else real.high + number
        free = replace(real, relu=None, low=None, high=None, clip=None)
        return replace(_offset_steps(importer, node, free, steps), low=low, high=high, clip=real.clip or real.relu)
    return moved(build, real, np.ones(len(steps), np.int64), steps * real.unit, name)


def alive(unit: Array) -> Array:
    """The units, with a non-zero one for channels of unit 0, which are always 0 or their bias."""
    if np.all(unit > 0):
        return unit
    return np.where(unit > 0, unit, float(np.median(unit[unit > 0])) if np.any(unit > 0) else 1.0)


def per_channel(importer: Importing, node: onnx.NodeProto, real: Real, constant: Array) -> Array:
    """A constant operand as float64 (channels)."""
    shape = importer.build.types[real.value].shape
    values = constant.astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise OnnxImportError("its constant holds NaN or infinity", node=label(node))
    if values.size and np.all(values == values.reshape(-1)[0]) and values.ndim <= 4 and values.size <= shape[0]:
        # Whatever axis it lies along, as ONNX's checker has seen that it fits.
        return np.full(shape[0], float(values.reshape(-1)[0]))
    rank = 2 if real.flat or len(shape) == 1 else 4
    axis = channel_axis(real, shape)
    aligned = (1,) * (rank - values.ndim) + values.shape
    if axis is None or len(aligned) != rank or aligned[axis] != shape[0] or values.size != shape[0]:
        raise OnnxImportError(
            f"its constant of shape {constant.shape} is neither one number nor one per channel", node=label(node)
        )
    return values.reshape(-1)
