"""What an importer knows of an ONNX value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nybble.graph.nodes import Padding
from nybble.graph.types import Array, DType

#: Scales that differ by less than this part are the same: a few roundings of float32.
SAME = 2.0**-20


@dataclass(frozen=True)
class Constant:
    """A constant, as real values; where it was dequantized, the integers and their scale too.

    ``scale`` is (channels) along ``axis``, or one number for all (``axis`` is ``None``).
    """

    real: Array
    integers: Array | None = None
    dtype: DType | None = None
    scale: Array | None = None
    axis: int | None = None


@dataclass(frozen=True)
class Outside:
    """A float input that nobody has quantized yet."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """An activation of the graph as integers; ONNX's are larger by ``zero``."""

    value: str
    zero: int = 0
    flat: bool = False
    padding: Padding | None = None
    filling: float = 0.0


@dataclass(frozen=True)
class Real:
    """A value of the graph as real numbers, ``unit`` a step, and what ONNX nodes have done to it since.

    Attributes
    ----------
    value : str
        The graph's value: an activation, or a sum where ``is_sum``.
    unit : array
        float64 (channels).
    relu : str or None
        Name of the node that cuts off below 0.
    high, low : array or None
        Real bounds (channels) that it is clipped to.
    clip : str or None
        Name of the node that does.
    through : str or None
        Name of a Mul or Identity that it went through: what a Quantize into a sum is called.
    flat : bool
        Whether (C, H, W) is read as one dimension.
    padding : Padding or None
        What a Pad has put around images, filled with ``filling``.
    """

    value: str
    unit: Array
    is_sum: bool
    relu: str | None = None
    high: Array | None = None
    low: Array | None = None
    clip: str | None = None
    through: str | None = None
    flat: bool = False
    padding: Padding | None = None
    filling: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether it is an activation as it is stored."""
        return not self.is_sum and not self.is_cut and bool(np.all(self.unit == self.unit[0]))

    @property
    def is_cut(self) -> bool:
        """Whether a ReLU or a clip is still to be done."""
        return self.relu is not None or self.high is not None or self.low is not None


Value = Constant | Outside | Stored | Real


def are_same(left: Array, right: Array | float) -> bool:
    """Whether scales agree, up to the rounding of float32."""
    return bool(np.all(np.abs(left - right) <= SAME * np.abs(right)))
