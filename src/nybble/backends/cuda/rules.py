"""Decides which fast paths the kernels may use for a step's sums: 32-bit rounding, codes of 0 to 15, projections."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nybble.backends.cuda.kernels import QUICK, types_of
from nybble.backends.cuda.layout import Form, Stored
from nybble.graph import PReLU, Quantize
from nybble.graph.types import Array
from nybble.lower import Conv, Step

#: The largest code of 4 bits without a sign.
_MOST_CODE = 15
_LIMIT = 1 << 31


def is_narrow(step: Step) -> bool:
    """Whether a step's sums, times their factors, are rounded within 32 bits."""
    quantize = step.quantize
    return quantize is not None and step.negative_factor is None and fits(_bounds(step), quantize)


def fits(most: int | Array, quantize: Quantize | PReLU) -> bool:
    """Whether values up to a magnitude, or one per channel, times their factors, are rounded within 32 bits."""
    half = (1 << quantize.shift) >> 1
    return all(int(product) + half < _LIMIT for product in np.atleast_1d(most * quantize.factor.numpy().astype(object)))


def gives_codes(step: Step, values: Mapping[str, Stored]) -> bool:
    """Whether the quick epilogue suffices to turn a convolution's sums into codes of 0 to 15."""
    if not _ends_in_codes(step, values):
        return False
    if step.shortcut is None:
        return True
    is_code = values[step.shortcut.name].form is Form.NIBBLES and not step.shortcut.dtype.is_signed
    return is_code and (step.shortcut_quantize is None or fits(_MOST_CODE, step.shortcut_quantize))


def projection_of(step: Step, steps: Mapping[str, Step], values: Mapping[str, Stored]) -> Step | None:
    """The convolution whose result a step adds, if one kernel can compute both, else ``None``.

    Parameters
    ----------
    step : Step
    steps : mapping
        Those whose result one other step reads, by that result.
    values : mapping
        By name, as they are stored.
    """
    projection = None if step.shortcut is None else steps.get(step.shortcut.name)
    if projection is None or step.source == projection.output or not _ends_in_codes(step, values):
        return None
    is_plain = projection.add is None and projection.table is None and projection.negative_factor is None
    has_maximum = projection.relu is not None and projection.relu.maximum is not None
    if not (is_plain and not has_maximum and _is_point(step, values) and _is_point(projection, values)):
        return None
    if projection.quantize is not None and not is_narrow(projection):
        return None
    rescaling = step.shortcut_quantize
    if rescaling is not None and not fits(projection.result.magnitude, rescaling):
        return None
    # From 9.0 on sums are 16 times as large.
    return projection if step.sum_bound < _LIMIT // 16 else None


def _bounds(step: Step) -> int | Array:
    """The largest magnitude of a step's sums: of each channel for a convolution."""
    if step.conv is None:
        return max(step.sum_bound, *(value.magnitude for value in step.inputs))
    bounds = _products(step.conv) * step.input.magnitude
    if step.conv.bias is not None:
        bounds = bounds + np.abs(step.conv.bias.numpy().astype(object))
    if step.shortcut is not None and step.shortcut_quantize is None:
        bounds = bounds + step.shortcut.magnitude
    elif step.shortcut is not None and step.shortcut_quantize is not None:
        factor, shift = step.shortcut_quantize.factor.numpy().astype(object), step.shortcut_quantize.shift
        bounds = bounds + ((step.shortcut.magnitude * factor + ((1 << shift) >> 1)) >> shift)
    return bounds


def _products(conv: Conv) -> Array:
    """The sum of the weights' magnitudes, of each channel."""
    found: Array = np.abs(conv.weights().astype(np.int64)).sum(axis=(1, 2, 3)).astype(object)
    return found


def _ends_in_codes(step: Step, values: Mapping[str, Stored]) -> bool:
    """Whether a convolution ends in unsigned nibbles, requantized in 32 bits, and its ReLU cuts off no large sums."""
    quantize = step.quantize
    if step.conv is None or step.conv.groups > 1 or quantize is None or step.table is not None:
        return False
    maximum = None if step.relu is None else step.relu.maximum
    is_code = values[step.output].form is Form.NIBBLES and not quantize.output_type.is_signed
    return is_code and (maximum is None or maximum >= step.sum_bound) and is_narrow(step)


def _is_point(step: Step, values: Mapping[str, Stored]) -> bool:
    """Whether a step is a convolution of single pixels, all of them inside, by a kernel with the quick epilogue."""
    conv = step.conv
    if conv is None or conv.groups > 1 or types_of(values[step.source]) not in QUICK:
        return False
    return tuple(conv.window.kernel_size) == (1, 1) and not any(conv.window.padding)
